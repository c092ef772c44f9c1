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
pub mod journal;
pub mod keyring;
pub mod policies;
pub mod sealing;
pub mod sessions;
pub mod subjects;

pub use error::{Error, Result};
