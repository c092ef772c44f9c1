//! MongoDB's archive, as `mongodump --archive` writes it and `mongorestore` reads it, after its specification
//! (<https://github.com/mongodb/mongo-tools/blob/master/common/archive/spec.md>): collections' metadata, then blocks of
//! their documents in any order, each collection ended by a checksum over all its documents.

mod frames;
mod metadata;
mod reader;
mod writer;

pub use frames::{Document, Documents};
pub use metadata::{Beyond, Index, Metadata};
pub use reader::{Part, Reader};
pub use writer::Writer;

use crate::{base::fault::Fault, services::Error};
use std::{fmt, io};

const MAGIC: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();
const TERMINATOR: [u8; 4] = [0xff; 4];
const FORMAT: &str = "0.1";
/// Go's `crc64.ECMA`, which the tools use, is what catalogues of checksums call XZ's.
const CRC: crc::Crc<u64> = crc::Crc::<u64>::new(&crc::CRC_64_XZ);
/// The largest document a mongod keeps, what it adds of its own included.
const LARGEST: usize = 16 * 1024 * 1024 + 16 * 1024;

/// A collection in a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    pub database: String,
    pub collection: String,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

/// A collection an archive speaks of.
#[derive(Debug, Clone)]
pub struct Collection {
    pub namespace: Namespace,
    /// `collection`, `view`, `timeseries`; older tools say nothing.
    pub kind: String,
    /// Extended JSON: options and indexes.
    pub metadata: String,
}

/// Damage, and the byte it was found at, of what was decompressed.
fn damaged(key: &'static str, at: u64) -> Error {
    Error::Damaged(Fault::new(key).with("at", at))
}

/// The system's own errors carry a number; all others come from decoding.
fn failed(error: io::Error, at: u64) -> Error {
    if error.raw_os_error().is_some() {
        return crate::ports::Error::from(error).into();
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("archive.cut", at),
        _ => Error::Damaged(Fault::new("archive.unreadable").with("at", at).with("why", error)),
    }
}

#[cfg(test)]
mod tests;
