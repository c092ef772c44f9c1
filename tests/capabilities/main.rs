//! One file per capability, through the real router over the real embedded engine; no socket between.

mod access;
mod audit;
mod auth;
mod backups;
mod collections;
mod directory;
mod documents;
mod drills;
mod error;
#[path = "../house/mod.rs"]
mod house;
mod identities;
mod invitations;
mod keys;
mod limits;
mod lines;
mod machines;
mod memberships;
mod mfa;
mod oidc;
mod organizations;
mod passkeys;
mod policies;
mod recovery;
mod sealing;
mod secrets;
mod sessions;
mod subjects;
mod throttle;
mod trust;
