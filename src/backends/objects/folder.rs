//! Objects as files of one folder: a disk, a stick, a network share.

use crate::{
    base::{fault::Fault, files, random},
    ports::{
        Error, Result,
        objects::{Object, Objects, Upload, named},
    },
};
use rustix::fs::{Advice, CWD, FlockOperation, RenameFlags};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

const PARTIAL: &str = ".partial-";
/// So many bytes go to the disk together: what gathers in memory for long holds up whoever syncs next, on the same disk.
const AT_ONCE: usize = 8 << 20;

pub struct Folder {
    path: PathBuf,
    /// Made when its parent is there.
    makes: bool,
}

impl Folder {
    /// One that must be there already.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let folder = Self::at(path);
        folder.there()?;
        Ok(folder)
    }

    /// One that must be there whenever it is used: a missing one may be a disk that is not mounted.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), makes: false }
    }

    fn there(&self) -> Result<()> {
        let fault = |key| Error::Rejected(Fault::new(key).at(self.path.display().to_string()));
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(fault("objects.not_a_folder")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(fault("objects.no_folder")),
            Err(error) => Err(error.into()),
        }
    }

    fn make(&self) -> Result<()> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        Self::at(parent).there()?;
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        files::adopt(&File::open(&self.path)?, parent)?;
        Ok(files::sync_folder(&self.path)?)
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        named(name)?;
        Ok(self.path.join(name))
    }

    /// A file of its own beside the one it becomes, under a lock that says its writer lives.
    fn partial(&self, target: &Path, over: bool) -> Result<Box<dyn Upload>> {
        self.sweep()?;
        loop {
            let partial = self.path.join(format!("{PARTIAL}{}", hex::encode(random::array::<12>())));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
            let upload = PartialFile { file, partial, target: target.to_owned(), over, unsynced: 0 };
            match rustix::fs::flock(&upload.file, FlockOperation::NonBlockingLockExclusive) {
                // Another writer that sweeps came between the two, and holds it or took its name.
                Err(rustix::io::Errno::WOULDBLOCK) => continue,
                locked => locked.map_err(io::Error::from)?,
            }
            if upload.file.metadata()?.nlink() > 0 {
                files::adopt(&upload.file, &self.path)?;
                return Ok(Box::new(upload));
            }
        }
    }

    /// Removes what writers that died left behind: a living one holds a lock on its file.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                continue;
            }
            let Ok(file) = File::open(entry.path()) else { continue };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            match fs::remove_file(entry.path()) {
                // Its writer was done meanwhile, or another swept it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}

impl Objects for Folder {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        Arc::new(Self { path: self.path.join(name), makes: true })
    }

    fn put_new(&self, name: &str) -> Result<Box<dyn Upload>> {
        if self.makes && !self.path.try_exists()? {
            self.make()?;
        }
        self.there()?;
        let target = self.file(name)?;
        if target.try_exists()? {
            return Err(exists(&target));
        }
        self.partial(&target, false)
    }

    fn put_over(&self, name: &str) -> Result<Box<dyn Upload>> {
        self.there()?;
        let target = self.file(name)?;
        if !target.try_exists()? {
            return Err(Error::Rejected(Fault::new("objects.gone").at(target.display().to_string())));
        }
        self.partial(&target, true)
    }

    fn get(&self, name: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>> {
        match File::open(self.file(name)?) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(from))?;
                Ok(Some(Box::new(file)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self) -> Result<Vec<Object>> {
        // Not made yet: what it lies in must be there all the same.
        if self.makes && !self.path.try_exists()? {
            Self::at(self.path.parent().unwrap_or(Path::new("/"))).there()?;
            return Ok(Vec::new());
        }
        self.there()?;
        let mut objects = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if self.file(&name).is_err() {
                continue;
            }
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_file() => objects.push(Object { name, bytes: metadata.len() }),
                Ok(_) => {}
                // Deleted since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        match fs::metadata(self.file(name)?) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn delete(&self, name: &str) -> Result<bool> {
        let path = self.file(name)?;
        match fs::remove_file(&path) {
            Ok(()) => {
                files::sync_folder(&path)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

struct PartialFile {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    /// What bears the name is replaced.
    over: bool,
    unsynced: usize,
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.unsynced += count;
        if self.unsynced >= AT_ONCE {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Upload for PartialFile {
    fn reread(&mut self) -> Result<Option<Box<dyn Read + Send>>> {
        self.file.sync_all()?;
        let file = File::open(&self.partial)?;
        // What the disk holds, not what memory remembers; a file system may decline.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        Ok(Some(Box::new(file)))
    }

    fn publish(self: Box<Self>) -> Result<()> {
        self.file.sync_all()?;
        if self.over {
            fs::rename(&self.partial, &self.target)?;
            return Ok(files::sync_folder(&self.target)?);
        }
        match rustix::fs::renameat_with(CWD, &self.partial, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(exists(&self.target)),
            // Network file systems that cannot: a link is as exclusive, and dropping removes the other name.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => fs::hard_link(&self.partial, &self.target)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => exists(&self.target),
                    _ => error.into(),
                })?,
            Err(error) => return Err(io::Error::from(error).into()),
        }
        files::sync_folder(&self.target)?;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After a rename there is nothing of this name.
        let _ = fs::remove_file(&self.partial);
    }
}

fn exists(target: &Path) -> Error {
    Error::Rejected(Fault::new("objects.exists").at(target.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &Folder, name: &str, bytes: &[u8]) -> Result<()> {
        let mut upload = folder.put_new(name)?;
        upload.write_all(bytes).unwrap();
        let mut back = Vec::new();
        upload.reread()?.unwrap().read_to_end(&mut back).unwrap();
        assert_eq!(back, bytes);
        upload.publish()
    }

    fn key(error: Error) -> &'static str {
        match error {
            Error::Rejected(fault) => fault.key,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn objects_appear_whole_and_once() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        put(&folder, "a", b"first").unwrap();
        put(&folder, "b.c", b"").unwrap();
        assert_eq!(key(put(&folder, "a", b"second").unwrap_err()), "objects.exists");
        let mut bytes = Vec::new();
        folder.get("a", 2).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"rst");
        assert_eq!(folder.size("a").unwrap(), Some(5));
        let listed: Vec<_> = folder.list().unwrap().into_iter().map(|object| (object.name, object.bytes)).collect();
        assert_eq!(listed, [("a".to_owned(), 5), ("b.c".to_owned(), 0)]);
        assert!(folder.delete("a").unwrap());
        assert!(!folder.delete("a").unwrap());
        assert!(folder.get("a", 0).unwrap().is_none());
        assert_eq!(folder.size("a").unwrap(), None);
    }

    #[test]
    fn two_writers_of_one_name_leave_the_first() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let mut slow = folder.put_new("a").unwrap();
        slow.write_all(b"slow").unwrap();
        put(&folder, "a", b"quick").unwrap();
        assert_eq!(key(slow.publish().unwrap_err()), "objects.exists");
        let mut bytes = Vec::new();
        folder.get("a", 0).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"quick");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_takes_the_place_of_another_whole() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        assert_eq!(key(folder.put_over("a").err().unwrap()), "objects.gone");
        put(&folder, "a", b"old").unwrap();
        let mut given_up = folder.put_over("a").unwrap();
        given_up.write_all(b"half").unwrap();
        drop(given_up);
        let mut new = folder.put_over("a").unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"old");
        new.publish().unwrap();
        assert_eq!(fs::read(place.path().join("a")).unwrap(), b"new");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn unfinished_ones_leave_nothing_and_the_dead_are_swept() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let mut living = folder.put_new("a").unwrap();
        living.write_all(b"x").unwrap();
        assert!(folder.list().unwrap().is_empty());
        fs::write(place.path().join(".partial-dead"), b"left by a killed process").unwrap();
        drop(folder.put_new("b").unwrap());
        assert!(!place.path().join(".partial-dead").exists());
        living.publish().unwrap();
        assert_eq!(folder.list().unwrap().len(), 1);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn names_stay_within_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        for name in ["", ".", "..", "../a", "a/b", "/a", ".hidden", "a\0b", "é", &"a".repeat(201)] {
            assert_eq!(key(folder.put_new(name).err().unwrap()), "objects.name", "{name}");
            assert!(folder.get(name, 0).is_err() && folder.delete(name).is_err() && folder.size(name).is_err());
        }
        assert_eq!(key(Folder::open(place.path().join("absent")).err().unwrap()), "objects.no_folder");
        fs::write(place.path().join("file"), b"").unwrap();
        assert_eq!(key(Folder::open(place.path().join("file")).err().unwrap()), "objects.not_a_folder");
    }
}
