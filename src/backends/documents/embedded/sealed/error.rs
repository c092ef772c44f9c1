//! What can be wrong with a sealed file, in words of the catalogue.

use crate::base::fault::Fault;
use std::{fmt, io};

#[derive(Debug)]
pub enum Error {
    /// Another process (or handle) holds the file.
    Locked {
        path: String,
    },
    /// There is already a file where one was to be created.
    Exists {
        path: String,
    },
    /// No sealed file at all: neither head has the magic number.
    Foreign,
    /// Written by a later release.
    Version {
        found: u32,
        known: u32,
    },
    /// A data key version that was not given.
    KeyMissing {
        version: u32,
    },
    /// The data key of that version is not the one the file was sealed with.
    KeyWrong {
        version: u32,
    },
    /// The file belongs to another instance or environment.
    Stamp,
    /// A page fails its tag, or one that was written is gone. Never served.
    Page {
        page: u64,
    },
    /// The file as a whole does not hold together.
    Damaged {
        what: &'static str,
    },
    /// Epochs or key versions are used up: the file must be rewritten under a new id.
    Exhausted {
        what: &'static str,
    },
    /// A write failed earlier: nothing more is written or acknowledged until the file is reopened.
    Broken {
        cause: String,
    },
    /// Used after it was closed.
    Closed,
    /// An access the format does not know (not page by page, or behind the end).
    Access {
        offset: u64,
        length: u64,
    },
    Io(io::Error),
}

impl Error {
    /// The sealed file's own error behind one that came back through redb, if it is one. Every error type of redb
    /// converts into [`redb::Error`].
    pub fn behind(error: &redb::Error) -> Option<&Self> {
        match error {
            redb::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
            _ => None,
        }
    }

    /// Damage: what is stored fails its own checks.
    pub fn corrupt(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Damaged { .. })
    }

    /// No room was left, even with the reserve given up.
    pub fn full(&self) -> bool {
        matches!(self, Self::Io(error) if out_of_space(error))
    }

    pub fn fault(&self) -> Fault {
        match self {
            Self::Locked { path } => Fault::new("sealed.locked").at(path),
            Self::Exists { path } => Fault::new("sealed.exists").at(path),
            Self::Foreign => Fault::new("sealed.foreign"),
            Self::Version { found, known } => Fault::new("sealed.version").with("found", found).with("known", known),
            Self::KeyMissing { version } => Fault::new("sealed.key_missing").with("version", version),
            Self::KeyWrong { version } => Fault::new("sealed.key_wrong").with("version", version),
            Self::Stamp => Fault::new("sealed.stamp"),
            Self::Page { page } => Fault::new("sealed.page").with("page", page),
            Self::Damaged { what } => Fault::new("sealed.damaged").with("what", what),
            Self::Exhausted { what } => Fault::new("sealed.exhausted").with("what", what),
            Self::Broken { cause } => Fault::new("sealed.broken").with("cause", cause),
            Self::Closed => Fault::new("sealed.closed"),
            Self::Access { offset, length } => {
                Fault::new("sealed.access").with("offset", offset).with("length", length)
            }
            Self::Io(error) => Fault::new("sealed.io").with("cause", error),
        }
    }
}

/// ENOSPC, or the quota's like.
pub(super) fn out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for io::Error {
    /// Keeps the error within, where [`Error::behind`] finds it again.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io(error) => error.kind(),
            Error::Page { .. } | Error::Damaged { .. } => io::ErrorKind::InvalidData,
            Error::Access { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

pub(super) type Result<T> = std::result::Result<T, Error>;
