//! The backup file, version 1, as `docs/backup-format.md` draws it: header, key slots, body, manifest.

mod buffer;
mod header;
mod manifest;
mod reader;
mod slots;
mod stream;
mod writer;

pub use header::{Header, Kind, VERSION};
pub use manifest::{Manifest, Signing, Trust};
pub use reader::{Backup, Content, manifest_at_end};
pub use slots::FileKey;
pub use writer::Writer;

use crate::{
    base::fault::Fault,
    services::{Error, Result},
};
use std::io::{self, Read};

/// Reads exactly `length` bytes, which the caller has bounded.
fn exactly(input: &mut impl Read, length: usize, part: &'static str) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => truncated(part),
        _ => failed(error),
    })?;
    Ok(bytes)
}

fn truncated(part: &'static str) -> Error {
    Error::Damaged(Fault::new("backups.truncated").with("part", part))
}

fn damaged(part: &'static str) -> Error {
    Error::Damaged(Fault::new("backups.damaged").with("part", part))
}

/// What an I/O error means: damage found on the way travels inside as a [`Fault`]; only the system's own
/// errors carry a number, and what a target says of itself is no damage; all others come from decoding.
fn failed(error: io::Error) -> Error {
    let error = match error.downcast::<crate::ports::Error>().map(Error::from).or_else(io::Error::downcast) {
        Ok(told) => return told,
        Err(error) => error,
    };
    if error.raw_os_error().is_some() {
        return crate::ports::Error::from(error).into();
    }
    match error.downcast::<Fault>() {
        Ok(fault) => Error::Damaged(fault),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => truncated("body"),
        Err(error) => Error::Damaged(Fault::new("backups.text").with("why", error)),
    }
}

/// The way back, for what must pass through [`Read`] and [`io::Write`].
fn through(error: Error) -> io::Error {
    match error {
        Error::Damaged(fault) => io::Error::new(io::ErrorKind::InvalidData, fault),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
