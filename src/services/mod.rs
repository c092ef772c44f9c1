//! Use cases: one file or folder per capability, the only place with rules.

pub mod access;
pub mod archive;
pub mod audit;
pub mod backups;
mod bench;
pub mod certificates;
pub mod collections;
pub mod directory;
pub mod documents;
pub mod error;
pub mod export;
pub mod health;
pub mod identities;
pub mod instance;
pub mod invitations;
pub mod journal;
pub mod keyring;
pub mod keys;
pub mod limits;
pub mod machines;
pub mod memberships;
pub mod mfa;
pub mod oidc;
pub mod organizations;
pub mod policies;
pub mod recovery;
mod scope;
pub mod sealing;
pub mod sessions;
pub mod subjects;
pub mod throttle;
pub mod trust;
pub mod verification;

pub use error::{Error, Result};
