//! The newest metadata seen, on disk. tough writes its files in place: a full disk or a fall would leave half a file, which
//! it forgets, and with it what it had seen. So it works in a folder beside, and what it proved there is taken over file by
//! file, each whole or not at all.

use crate::{
    base::files,
    ports::{Error, Result},
};
use serde_json::Value;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const ROOT: &str = "root.json";
/// tough drops these after a rotation of their keys, so that versions may begin anew.
const REPLACEABLE: [&str; 2] = ["timestamp.json", "snapshot.json"];
const TARGETS: &str = "targets.json";
/// The machine's time at the last good look.
const TIME: &str = "latest_known_time.json";
/// The digest of the trusted root that the rest follows from.
const ANCHOR: &str = "anchor";
const WORK: &str = "work";

pub struct Seen {
    folder: PathBuf,
}

impl Seen {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder tough works in, with what is known in it.
    pub fn prepare(&self) -> Result<PathBuf> {
        let work = self.folder.join(WORK);
        remove(&work)?;
        fs::create_dir_all(&work)?;
        for name in [ROOT, TARGETS, TIME].iter().chain(&REPLACEABLE) {
            match fs::copy(self.folder.join(name), work.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(work)
    }

    /// Takes over what was proven; the time only where all of it was, because what is listed then vouches for it: a clock
    /// that once ran years ahead would else refuse every later look.
    pub fn keep(&self, whole: bool) -> Result<()> {
        let work = self.folder.join(WORK);
        let time = if whole { Some(TIME) } else { None };
        for name in [ROOT, TARGETS].into_iter().chain(REPLACEABLE).chain(time) {
            let own = self.folder.join(name);
            let known = read(&own)?;
            match read(&work.join(name))? {
                Some(bytes) if known.as_ref() == Some(&bytes) => {}
                Some(bytes) if serde_json::from_slice::<Value>(&bytes).is_ok() => files::replace(&own, &bytes)?,
                // Half written.
                Some(_) => {}
                None if REPLACEABLE.contains(&name) && known.is_some() => fs::remove_file(&own)?,
                None => {}
            }
        }
        remove(&work)
    }

    /// The root to begin with: the newest seen, as long as it follows from the one that is trusted; else that one.
    pub fn root(&self, trusted: &[u8]) -> Result<Vec<u8>> {
        let path = self.folder.join(ANCHOR);
        let newest = match read(&path)? {
            Some(anchor) if anchor == digest(trusted).into_bytes() => read(&self.folder.join(ROOT))?,
            // What comes to lie here may follow from the other, until one of the two has led to the end.
            Some(_) => {
                fs::remove_file(&path)?;
                files::sync_folder(&path)?;
                None
            }
            None => None,
        };
        Ok(newest.unwrap_or_else(|| trusted.to_vec()))
    }

    /// From now on what is here follows from this one.
    pub fn anchor(&self, trusted: &[u8]) -> Result<()> {
        let (path, anchor) = (self.folder.join(ANCHOR), digest(trusted).into_bytes());
        match read(&path)? {
            Some(known) if known == anchor => Ok(()),
            _ => Ok(files::replace(&path, &anchor)?),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from(error)),
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
