//! Why an instance cannot be made, opened or restored: in the words of the catalogue, with what to do next.

use crate::{
    backends::keys::local::KeyFileError,
    base::fault::Fault,
    ports,
    services::{self, instance::StampError, keyring::KeyringError},
};

/// What a script should make of it; the command line gives each an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed,
    /// For safety: another environment, a directory in use, a file others can read.
    Refused,
    NotFound,
    /// What is stored fails its own checks.
    Integrity,
    /// Locked, full, out of reach.
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct Problem {
    pub kind: Kind,
    pub fault: Fault,
    /// Others found at the same time.
    pub more: Vec<Fault>,
}

impl Problem {
    pub fn new(kind: Kind, fault: Fault) -> Self {
        Self { kind, fault, more: Vec::new() }
    }

    /// Several at once; `faults` holds at least one.
    pub fn all(kind: Kind, mut faults: Vec<Fault>) -> Self {
        let more = faults.split_off(1.min(faults.len()));
        let fault = faults.pop().unwrap_or_else(|| Fault::new("instance.store"));
        Self { kind, fault, more }
    }

    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        std::iter::once(&self.fault).chain(&self.more)
    }

    /// A file or folder the system would not let us use.
    pub fn file(path: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Failed, Fault::new("instance.file").at(path.to_string()).with("why", error))
    }
}

impl From<StampError> for Problem {
    fn from(error: StampError) -> Self {
        let fault = |key: &'static str, path: &std::path::Path| Fault::new(key).at(path.display().to_string());
        match &error {
            StampError::Absent(path) => Self::new(Kind::NotFound, fault("instance.absent", path)),
            StampError::Unfinished(path) => Self::new(Kind::Refused, fault("instance.unfinished", path)),
            StampError::Occupied(path) => Self::new(Kind::Refused, fault("instance.occupied", path)),
            StampError::Unreadable { path, source } => Self::file(path.display(), source),
            StampError::Malformed { path } => Self::new(Kind::Integrity, fault("instance.malformed", path)),
            StampError::Newer { path, found } => {
                Self::new(Kind::Refused, fault("instance.newer", path).with("format", found))
            }
            StampError::Foreign { path, found, wanted } => Self::new(
                Kind::Refused,
                fault("instance.environment", path).with("found", found).with("wanted", wanted),
            ),
        }
    }
}

impl From<KeyFileError> for Problem {
    fn from(error: KeyFileError) -> Self {
        match &error {
            KeyFileError::Unreadable { path, source } => Self::new(
                Kind::Unavailable,
                Fault::new("instance.root_key_unreadable").at(path.display().to_string()).with("why", source),
            ),
            KeyFileError::Exposed { path, mode } => Self::new(
                Kind::Refused,
                Fault::new("instance.root_key_exposed")
                    .at(path.display().to_string())
                    .with("mode", format!("{mode:03o}")),
            ),
            KeyFileError::Malformed { path } => {
                Self::new(Kind::Integrity, Fault::new("instance.root_key_malformed").at(path.display().to_string()))
            }
        }
    }
}

impl From<KeyringError> for Problem {
    fn from(error: KeyringError) -> Self {
        use ports::Error::{OutOfReach, Rejected};
        let fault = |key: &'static str, path: &std::path::Path| Fault::new(key).at(path.display().to_string());
        match &error {
            // In words for people already.
            KeyringError::Root(OutOfReach(fault)) => Self::new(Kind::Unavailable, fault.clone()),
            KeyringError::Root(Rejected(fault)) => Self::new(Kind::Refused, fault.clone()),
            KeyringError::Unreadable { path, source } => Self::file(path.display(), source),
            KeyringError::Malformed(path) => Self::new(Kind::Integrity, fault("instance.malformed", path)),
            KeyringError::Newer { path, found } => {
                Self::new(Kind::Refused, fault("instance.newer", path).with("format", found))
            }
            KeyringError::Foreign(path) => Self::new(Kind::Refused, fault("instance.keyring_foreign", path)),
            KeyringError::WrongRoot { path, source_tried } => {
                Self::new(Kind::Integrity, fault("instance.wrong_root", path).with("source", source_tried))
            }
            KeyringError::Incomplete(purpose) => Self::new(
                Kind::Integrity,
                Fault::new("instance.keyring_incomplete").with("purpose", format!("{purpose:?}")),
            ),
            KeyringError::Root(error) => {
                Self::new(Kind::Unavailable, Fault::new("instance.root_out_of_reach").with("why", error))
            }
        }
    }
}

fn full() -> Problem {
    Problem::new(Kind::Unavailable, Fault::new("instance.full"))
}

impl From<ports::Error> for Problem {
    fn from(error: ports::Error) -> Self {
        let kind = match &error {
            ports::Error::Corrupt(what) => {
                let what = what.trim_end_matches('.');
                return Self::new(Kind::Integrity, Fault::new("instance.damaged").with("why", what));
            }
            ports::Error::Full(_) => return full(),
            ports::Error::Unavailable(_) => Kind::Unavailable,
            // Somebody else has it open: not for ever.
            ports::Error::Rejected(fault) if fault.key == "sealed.locked" => {
                return Self::new(Kind::Unavailable, fault.clone());
            }
            ports::Error::OutOfReach(fault) => return Self::new(Kind::Unavailable, fault.clone()),
            ports::Error::Rejected(fault) => return Self::new(Kind::Refused, fault.clone()),
            ports::Error::Conflict(_) | ports::Error::Backend(_) => Kind::Failed,
        };
        Self::new(kind, Fault::new("instance.store").with("why", error))
    }
}

impl From<services::Error> for Problem {
    fn from(error: services::Error) -> Self {
        use services::Error;
        let kind = match &error {
            Error::Refused(fault)
            | Error::Unreadable(fault)
            | Error::Invalid(fault)
            | Error::Gone(fault)
            | Error::Conflict(fault)
            | Error::Precondition(fault) => {
                return Self::new(Kind::Refused, fault.clone());
            }
            Error::OutOfReach(fault) => return Self::new(Kind::Unavailable, fault.clone()),
            Error::Damaged(fault) => return Self::new(Kind::Integrity, fault.clone()),
            Error::NotFound(fault) => return Self::new(Kind::NotFound, fault.clone()),
            Error::Full => return full(),
            Error::Unavailable(_) | Error::RateLimit { .. } => Kind::Unavailable,
            Error::Corrupt(_) => Kind::Integrity,
            _ => Kind::Failed,
        };
        Self::new(kind, Fault::new("instance.store").with("why", error))
    }
}
