//! A release's file brought here: gone on with after a cut, proven before it bears its name.

use super::place::Place;
use crate::{
    base::{fault::Fault, files},
    domain::release::Release,
    ports::{Error, Result},
};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Tries after a cut without anything new in between, and the pause before the second; each later one is twice as long.
const TRIES: usize = 4;
const PAUSE: Duration = Duration::from_secs(1);
const PART: usize = 64 * 1024;

/// What came so far of a file, beside its place.
pub fn partial(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".partial");
    name.into()
}

pub fn fetch(place: &dyn Place, release: &Release, file: &Path, progress: &dyn Fn(u64)) -> Result<()> {
    if file.try_exists()? {
        return Err(Error::Rejected(Fault::new("updates.exists").at(file.display().to_string())));
    }
    let partial = partial(file);
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true).truncate(false).mode(0o644).custom_flags(files::UNLINKED);
    let mut coming = Coming { place, release, file: options.open(&partial)?, hash: Sha256::new(), at: 0 };
    let done = coming.all(progress).and_then(|()| coming.prove()).and_then(|()| Ok(coming.file.sync_all()?));
    match done {
        Ok(()) => {
            // A name that came to be meanwhile is not taken.
            fs::hard_link(&partial, file)?;
            fs::remove_file(&partial)?;
            Ok(files::sync_folder(file)?)
        }
        // Wrong to the end: another try would go on from the same. So would one that has not begun.
        Err(error) => {
            if coming.at == 0 || matches!(error, Error::Rejected(_) | Error::Full(_)) {
                fs::remove_file(&partial)?;
            }
            Err(error)
        }
    }
}

struct Coming<'a> {
    place: &'a dyn Place,
    release: &'a Release,
    file: File,
    hash: Sha256,
    at: u64,
}

impl Coming<'_> {
    fn all(&mut self, progress: &dyn Fn(u64)) -> Result<()> {
        self.resume()?;
        progress(self.at);
        let (mut tries, mut pause, mut from) = (0, PAUSE, self.at);
        while self.at < self.release.bytes {
            match self.some(progress) {
                Ok(()) => {}
                Err(error @ Error::OutOfReach(_)) => {
                    (tries, pause) = if self.at > from { (1, PAUSE) } else { (tries + 1, pause * 2) };
                    if tries >= TRIES {
                        return Err(error);
                    }
                    from = self.at;
                    std::thread::sleep(pause);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads again what an earlier try brought.
    fn resume(&mut self) -> Result<()> {
        if self.file.metadata()?.len() > self.release.bytes {
            self.file.set_len(0)?;
        }
        let mut part = vec![0; PART];
        loop {
            match self.file.read(&mut part)? {
                0 => return Ok(()),
                count => self.take(part.get(..count).unwrap_or_default()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
    }

    /// As much as one connection brings; never more than is listed, however much is sent.
    fn some(&mut self, progress: &dyn Fn(u64)) -> Result<()> {
        let Release { file: name, sha256, bytes: length, .. } = self.release;
        let path = format!("targets/{sha256}.{name}");
        let fault = |key| Fault::new(key).with("place", self.place.name()).with("file", name);
        let broken = |why: &dyn std::fmt::Display| {
            Error::OutOfReach(Fault::new("updates.out_of_reach").with("place", self.place.name()).with("why", why))
        };
        let Some(source) = self.place.open(&path, self.at)? else {
            return Err(Error::Rejected(fault("updates.missing")));
        };
        // One byte more tells a file that is too long.
        let mut source = source.take(length - self.at + 1);
        let mut part = vec![0; PART];
        loop {
            let count = match source.read(&mut part) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(&error)),
            };
            let came = part.get(..count).unwrap_or_default();
            if self.at + count as u64 > *length {
                return Err(Error::Rejected(fault("updates.file_differs")));
            }
            match count {
                0 if self.at == *length => return Ok(()),
                0 => return Err(Error::Rejected(fault("updates.file_short"))),
                _ => {}
            }
            self.file.write_all(came)?;
            self.take(came);
            progress(self.at);
        }
    }

    fn prove(&mut self) -> Result<()> {
        self.file.rewind()?;
        let found = hex::encode(self.hash.clone().finalize());
        if found == self.release.sha256 && self.at == self.release.bytes {
            return Ok(());
        }
        let fault = Fault::new("updates.file_differs").with("place", self.place.name());
        Err(Error::Rejected(fault.with("file", &self.release.file)))
    }
}

/// Whether a file that is here is the one that is listed.
pub fn is(release: &Release, file: &Path) -> io::Result<bool> {
    let mut here = OpenOptions::new().read(true).custom_flags(files::UNLINKED).open(file)?;
    if here.metadata()?.len() != release.bytes {
        return Ok(false);
    }
    let mut hash = Sha256::new();
    let mut part = vec![0; PART];
    loop {
        match here.read(&mut part)? {
            0 => return Ok(hex::encode(hash.finalize()) == release.sha256),
            count => hash.update(part.get(..count).unwrap_or_default()),
        }
    }
}
