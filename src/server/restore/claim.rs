//! The directory a restore fills: claimed while it is empty, marked until it is whole, and taken up again by the same
//! command where one was cut short.

use crate::{
    base::{fault::Fault, files},
    server::problem::{Kind, Problem},
    services::instance::{Stamp, StampError, UNFINISHED, is_of_the_disk},
};
use rustix::fs::FlockOperation;
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// What the restore under way was told, in the marker's folder.
pub const MARKER: &str = "restore.json";

pub struct Claim {
    data: PathBuf,
    /// Held: nobody else fills the same directory.
    _lock: File,
}

impl Claim {
    /// `told`: what makes it the same command. What an earlier one left is cleared, but for the files it fetched. One
    /// that is whole is only said to be so, unless it still waits for its place, where nobody has served it.
    pub fn take(data: &Path, told: &Value, waiting: bool) -> Result<Self, Problem> {
        let failed = |error: std::io::Error| Problem::file(data.display(), error);
        files::private_folder(data).map_err(failed)?;
        let folder = data.join(UNFINISHED);
        free(data, told, waiting, false)?;
        files::private_folder(&folder).map_err(failed)?;
        let lock = File::open(&folder).map_err(failed)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Problem::new(Kind::Unavailable, fault("restore.under_way", data)));
        }
        // Another may have finished between the look and the lock.
        if let Err(problem) = free(data, told, waiting, true) {
            // Made just now, unless it holds something.
            let _ = fs::remove_dir(&folder);
            return Err(problem);
        }
        let claim = Self { data: data.to_owned(), _lock: lock };
        claim.clear().map_err(failed)?;
        files::replace(&folder.join(MARKER), told.to_string().as_bytes()).map_err(failed)?;
        files::sync_folder(&folder).map_err(failed)?;
        Ok(claim)
    }

    /// Where fetched files are kept.
    pub fn folder(&self) -> PathBuf {
        self.data.join(UNFINISHED)
    }

    /// Everything but the marker's folder, and what a file system brings along, goes.
    fn clear(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.data)? {
            let entry = entry?;
            if !is_ours(&entry) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// After a failure: nothing stays, but what was fetched from afar where another try may go on from it.
    pub fn give_up(self, keep: bool) {
        let cleared = self.clear().and_then(|()| if keep { Ok(()) } else { remove(&self.folder()) });
        if let Err(error) = cleared {
            tracing::warn!(path = %self.data.display(), %error, "left behind by a failed restore");
        }
    }

    /// It is whole.
    pub fn finish(self) -> Result<(), Problem> {
        unmark(&self.data)
    }
}

/// What the restore under way there was told, or the last one.
pub fn told(data: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(data.join(UNFINISHED).join(MARKER)).ok()?).ok()
}

/// Whether nothing is there that another would miss.
fn free(data: &Path, told: &Value, waiting: bool, locked: bool) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::file(data.display(), error);
    let known = self::told(data);
    let filled = fs::read_dir(data).map_err(failed)?.flatten().any(|entry| !is_ours(&entry));
    match known {
        // What another fetched alone is no loss.
        Some(known) if known != *told && filled => {
            Err(Problem::new(Kind::Refused, fault("restore.other_unfinished", data)))
        }
        // Only under the lock: who fills it may still check it.
        Some(_) if locked && !waiting && Stamp::read(data, None).is_ok() => {
            unmark(data)?;
            Err(StampError::Occupied(data.to_owned()).into())
        }
        None if filled => Err(StampError::Occupied(data.to_owned()).into()),
        _ => Ok(()),
    }
}

/// The marker's folder, or what a new file system of its own holds.
fn is_ours(entry: &fs::DirEntry) -> bool {
    entry.file_name() == UNFINISHED || is_of_the_disk(entry)
}

pub fn unmark(data: &Path) -> Result<(), Problem> {
    let folder = data.join(UNFINISHED);
    let removed = match remove(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    let removed = removed.and_then(|()| files::sync_folder(&folder));
    removed.map_err(|error| Problem::file(folder.display(), error))
}

fn remove(path: &Path) -> std::io::Result<()> {
    // A link is removed, not what it leads to.
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn fault(key: &'static str, data: &Path) -> Fault {
    Fault::new(key).at(data.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{clock::Timestamp, environment::Environment};
    use serde_json::json;

    fn key(taken: Result<Claim, Problem>) -> &'static str {
        taken.err().map_or("", |problem| problem.fault.key)
    }

    #[test]
    fn a_directory_is_claimed_once_and_taken_up_by_the_same_command_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let claim = Claim::take(&data, &json!({ "a": 1 }), false).unwrap();
        assert!(claim.folder().join(MARKER).exists());
        assert_eq!(key(Claim::take(&data, &json!({ "a": 1 }), false)), "restore.under_way");
        fs::write(claim.folder().join("x.backup"), b"fetched").unwrap();
        fs::write(data.join("documents.sealed"), b"half").unwrap();
        drop(claim);
        assert_eq!(key(Claim::take(&data, &json!({ "a": 2 }), false)), "restore.other_unfinished");
        assert!(data.join("documents.sealed").exists());
        let claim = Claim::take(&data, &json!({ "a": 1 }), false).unwrap();
        assert!(!data.join("documents.sealed").exists() && claim.folder().join("x.backup").exists());
        claim.give_up(true);
        // Nothing but what was fetched is there: another command may begin.
        let other = Claim::take(&data, &json!({ "a": 2 }), false).unwrap();
        assert!(other.folder().join("x.backup").exists());
        other.give_up(true);
        Claim::take(&data, &json!({ "a": 1 }), false).unwrap().give_up(false);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
        // Cut short before it was marked: empty all the same.
        fs::create_dir(data.join(UNFINISHED)).unwrap();
        fs::write(data.join(UNFINISHED).join(MARKER), b"{").unwrap();
        fs::create_dir(data.join("lost+found")).unwrap();
        let claim = Claim::take(&data, &json!({ "a": 3 }), false).unwrap();
        // Whole, and killed before that was said: never cleared, for it may have served since.
        Stamp::new(Environment::Staging, Timestamp(1)).write(&data).unwrap();
        fs::write(data.join("documents.sealed"), b"alive").unwrap();
        drop(claim);
        Claim::take(&data, &json!({ "a": 3 }), true).unwrap();
        assert!(!data.join("documents.sealed").exists(), "it waited for its place");
        Stamp::new(Environment::Staging, Timestamp(1)).write(&data).unwrap();
        fs::write(data.join("documents.sealed"), b"alive").unwrap();
        assert_eq!(key(Claim::take(&data, &json!({ "a": 3 }), false)), "instance.occupied");
        assert!(data.join("documents.sealed").exists() && !data.join(UNFINISHED).exists());
        fs::remove_file(data.join("instance.json")).unwrap();
        fs::remove_file(data.join("documents.sealed")).unwrap();
        Claim::take(&data, &json!({ "a": 3 }), false).unwrap().finish().unwrap();
        assert!(data.join("lost+found").exists());
        fs::write(data.join("something"), b"").unwrap();
        assert_eq!(key(Claim::take(&data, &json!({ "a": 3 }), false)), "instance.occupied");
    }
}
