//! What can go wrong beneath, told in the port's words.

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
