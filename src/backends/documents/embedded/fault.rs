//! What can go wrong beneath, told in the port's words.

use super::sealed;
use crate::{
    base::fault::Fault,
    ports::{Error, documents::Conflict},
};

/// Why a batch does not go in.
#[derive(Debug)]
pub enum Refusal {
    /// The batch alone is turned away.
    Batch(Error),
    /// The store failed: everything in the transaction is lost.
    Store(redb::Error),
}

impl Refusal {
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Batch(Error::Corrupt(what.into()))
    }
}

impl Refusal {
    /// Names the operation at fault; that a batch is too large is no one operation's.
    pub fn of(self, operation: usize) -> Self {
        match self {
            Self::Batch(Error::Rejected(fault))
                if fault.key != "documents.batch_bytes"
                    && fault.params.iter().all(|(name, _)| *name != "operation") =>
            {
                Self::Batch(Error::Rejected(fault.with("operation", operation)))
            }
            other => other,
        }
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Self::Batch(Error::Conflict(conflict))
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Batch(Error::Rejected(fault))
    }
}

impl From<redb::StorageError> for Refusal {
    fn from(error: redb::StorageError) -> Self {
        Self::Store(error.into())
    }
}

impl From<redb::Error> for Refusal {
    fn from(error: redb::Error) -> Self {
        Self::Store(error)
    }
}

/// A failure of the store in the port's words.
pub fn failed(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    match sealed::Error::behind(&error) {
        Some(inner) if inner.corrupt() => return Error::Corrupt(inner.to_string()),
        Some(inner) if inner.full() => return Error::Full(inner.to_string()),
        _ => {}
    }
    match error {
        redb::Error::Corrupted(what) => Error::Corrupt(what),
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => Error::Full(error.to_string()),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => Error::Unavailable(error.to_string()),
        other => Error::Backend(Box::new(other)),
    }
}
