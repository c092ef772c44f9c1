//! Use cases: one file or folder per capability, the only place with rules.

pub mod access;
pub mod error;
pub mod health;
pub mod instance;
pub mod keyring;

pub use error::{Error, Result};
