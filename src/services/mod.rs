//! Use cases: one file or folder per capability, the only place with rules.

pub mod access;
pub mod backups;
pub mod certificates;
pub mod collections;
pub mod documents;
pub mod error;
pub mod health;
pub mod identities;
pub mod instance;
pub mod invitations;
pub mod journal;
pub mod keyring;
pub mod memberships;
pub mod organizations;
mod scope;
pub mod sessions;

pub use error::{Error, Result};
