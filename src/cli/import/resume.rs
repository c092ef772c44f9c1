//! How far an import went, kept when it ended too, so that nothing is imported twice: a small file in the data
//! directory, named after the collection and the file imported.

use super::Counted;
use crate::{
    base::files,
    cli::failure::{Failure, unreadable, unwritable},
};
use sha2::{Digest, Sha256};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Everything up to here is durable or reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    pub lines: u64,
    pub bytes: u64,
    /// SHA-256 of these bytes: a file that changed there is not continued.
    pub digest: String,
    pub created: u64,
    pub updated: u64,
    pub failed: u64,
}

impl Mark {
    pub fn advance(&mut self, lines: u64, bytes: u64, digest: String, counted: &Counted) {
        self.lines += lines;
        self.bytes += bytes;
        self.digest = digest;
        self.created += counted.created;
        self.updated += counted.updated;
        self.failed += counted.failed;
    }
}

pub fn path(data: &Path, collection: &str, file: &Path) -> PathBuf {
    let name =
        Sha256::new().chain_update(collection).chain_update([0]).chain_update(file.as_os_str().as_encoded_bytes());
    data.join("imports").join(format!("{}.json", hex::encode(&name.finalize()[..16])))
}

/// `None`: nothing to continue.
pub fn read(path: &Path) -> Result<Option<Mark>, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(path.display(), error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path.display(), error)),
    }
}

pub fn write(path: &Path, mark: &Mark) -> Result<(), Failure> {
    let failed = |error: io::Error| unwritable(path.display(), error);
    if let Some(folder) = path.parent() {
        files::private_folder(folder).map_err(failed)?;
        if let Some(data) = folder.parent() {
            std::fs::File::open(folder).and_then(|folder| files::adopt(&folder, data)).map_err(failed)?;
        }
    }
    let bytes = serde_json::to_vec(mark).map_err(|error| unwritable(path.display(), error))?;
    files::replace(path, &bytes).map_err(failed)
}
