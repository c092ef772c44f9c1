//! The one vocabulary of what can go wrong in a use case; `http/error.rs` alone maps it to codes and statuses.

use crate::{base::fault::Fault, ports};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No valid proof of identity was given.
    #[error("no proof of identity")]
    Unauthorized,
    /// A proof that does not verify: forged, expired, revoked, of another audience or environment.
    #[error("invalid proof: {0}")]
    InvalidProof(&'static str),
    /// The first factor was right, a second is owed.
    #[error("second factor owed")]
    SecondFactor(Box<super::mfa::Owed>),
    /// Identified, not allowed.
    #[error("not allowed")]
    Forbidden,
    /// Identified, not allowed this part of it, which is told.
    #[error("not allowed: {0}")]
    Barred(Fault),
    /// What was sent cannot be read (400).
    #[error("unreadable: {0}")]
    Unreadable(Fault),
    /// Readable, against the rules (422).
    #[error("invalid: {0}")]
    Invalid(Fault),
    /// No such thing, or not visible to the caller.
    #[error("not found: {0}")]
    NotFound(Fault),
    /// A link or code that was used or has ended.
    #[error("gone: {0}")]
    Gone(Fault),
    #[error("conflict: {0}")]
    Conflict(Fault),
    /// `If-Match` does not hold.
    #[error("precondition failed: {0}")]
    Precondition(Fault),
    #[error("too large: {0}")]
    TooLarge(Fault),
    #[error("too many requests")]
    RateLimit { retry_after: u64 },
    #[error("storage is full")]
    Full,
    /// Turned away for safety: another environment, live data, a later format.
    #[error("refused: {0}")]
    Refused(Fault),
    /// What was given or stored fails its own integrity checks.
    #[error("damaged: {0}")]
    Damaged(Fault),
    /// The store met pages that fail its checks: what it found is for the log alone.
    #[error("corrupt: {0}")]
    Corrupt(String),
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// As above, in words for people.
    #[error("out of reach: {0}")]
    OutOfReach(Fault),
    /// A bug or a fault beneath: its cause is for the log alone.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// The same error, its fault seen from further out: under a longer path, without a parameter.
    pub fn map_fault(self, change: impl FnOnce(Fault) -> Fault) -> Self {
        match self {
            Self::Unreadable(fault) => Self::Unreadable(change(fault)),
            Self::Barred(fault) => Self::Barred(change(fault)),
            Self::Invalid(fault) => Self::Invalid(change(fault)),
            Self::NotFound(fault) => Self::NotFound(change(fault)),
            Self::Gone(fault) => Self::Gone(change(fault)),
            Self::Conflict(fault) => Self::Conflict(change(fault)),
            Self::Precondition(fault) => Self::Precondition(change(fault)),
            Self::TooLarge(fault) => Self::TooLarge(change(fault)),
            Self::Refused(fault) => Self::Refused(change(fault)),
            Self::Damaged(fault) => Self::Damaged(change(fault)),
            other => other,
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

impl From<ports::Error> for Error {
    /// Conflicts here are the plain reading; a use case that knows better maps its own first.
    fn from(error: ports::Error) -> Self {
        use ports::documents::Conflict;
        match error {
            ports::Error::Conflict(conflict) => match conflict {
                Conflict::Exists { operation, id } => {
                    Self::Conflict(Fault::new("documents.exists").with("operation", operation).with("id", id))
                }
                Conflict::Missing { operation, id } => {
                    Self::NotFound(Fault::new("documents.missing").with("operation", operation).with("id", id))
                }
                Conflict::Revision { operation, id, expected, actual } => Self::Precondition(
                    Fault::new("documents.revision")
                        .with("operation", operation)
                        .with("id", id)
                        .with("expected", expected)
                        .with("actual", actual),
                ),
                // The other document's id stays inside: it may be hidden from the caller.
                Conflict::Unique { operation, index, id, .. } => Self::Conflict(
                    Fault::new("documents.unique").with("operation", operation).with("index", index).with("id", id),
                ),
                Conflict::Reused { .. } => Self::Conflict(Fault::new("documents.idempotency_reused")),
                Conflict::Unknown { collection, .. } => {
                    Self::NotFound(Fault::new("collections.unknown").with("collection", collection))
                }
            },
            ports::Error::Rejected(fault) => Self::Invalid(fault),
            ports::Error::Unavailable(why) => Self::Unavailable(why),
            ports::Error::OutOfReach(fault) => Self::OutOfReach(fault),
            ports::Error::Full(_) => Self::Full,
            ports::Error::Corrupt(what) => Self::Corrupt(what),
            other @ ports::Error::Backend(_) => Self::Internal(Box::new(other)),
        }
    }
}

impl From<crate::domain::json::Error> for Error {
    fn from(error: crate::domain::json::Error) -> Self {
        use crate::domain::json;
        match error {
            json::Error::Unreadable(fault) => Self::Unreadable(fault),
            json::Error::Invalid(fault) => Self::Invalid(fault),
        }
    }
}
