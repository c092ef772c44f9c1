//! One file per capability, through the real router over the real embedded engine; no socket between.

mod access;
mod audit;
mod auth;
mod backups;
mod collections;
mod documents;
mod error;
#[path = "../house/mod.rs"]
mod house;
mod limits;
mod lines;
mod mfa;
mod passkeys;
mod policies;
mod sessions;
mod throttle;
mod trust;
