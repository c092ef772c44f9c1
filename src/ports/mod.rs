//! The traits the services speak to, and their one error type.

pub mod appliance;
pub mod certificates;
pub mod collector;
pub mod directory;
pub mod documents;
pub mod installation;
pub mod keys;
pub mod mail;
pub mod notices;
pub mod objects;
pub mod releases;
pub mod web;

use crate::base::fault::Fault;

/// What a port can answer beside its result. Absence is an `Option`, never an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another state than the one assumed: the batch changed nothing.
    #[error("conflict: {0}")]
    Conflict(documents::Conflict),
    /// The operation itself is wrong against what is stored (a rule, a type, a limit): the batch changed nothing.
    #[error("rejected: {0}")]
    Rejected(Fault),
    /// Not now: starting, draining, or a dependency is down.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// Out of reach for now, said in words for people.
    #[error("out of reach: {0}")]
    OutOfReach(Fault),
    /// No room for more writes; reads go on.
    #[error("storage is full: {0}")]
    Full(String),
    /// What is stored fails its own checks; never served.
    #[error("corrupt: {0}")]
    Corrupt(String),
    #[error("{0}")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        // One of ours that had to pass through `Read` or `Write`.
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Full(error.to_string())
            }
            _ => Self::Backend(Box::new(error)),
        }
    }
}
