//! Objects from afar, kept here as far as they were read: a second reading takes them from here, one after a cut goes
//! on where it ended. That the bytes are right is for whoever reads them to prove.

use crate::{
    base::files,
    ports::{
        Error, Result,
        objects::{Object, Objects, Upload, named},
    },
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub struct Fetched {
    remote: Arc<dyn Objects>,
    folder: PathBuf,
}

impl Fetched {
    pub fn new(remote: Arc<dyn Objects>, folder: &Path) -> Self {
        Self { remote, folder: folder.to_owned() }
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        named(name)?;
        Ok(self.folder.join(name))
    }
}

impl Objects for Fetched {
    fn place(&self) -> String {
        self.remote.place()
    }

    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        Arc::new(Self { remote: self.remote.beneath(name), folder: self.folder.join(name) })
    }

    fn put_new(&self, name: &str) -> Result<Box<dyn Upload>> {
        self.remote.put_new(name)
    }

    fn get(&self, name: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>> {
        if from > 0 {
            return self.remote.get(name, from);
        }
        let Some(size) = self.remote.size(name)? else { return Ok(None) };
        files::private_folder(&self.folder)?;
        let path = self.path(name)?;
        let mut options = OpenOptions::new();
        let kept = options.append(true).create(true).mode(0o600).open(&path)?;
        if kept.metadata()?.len() > size {
            kept.set_len(0)?;
        }
        let here = kept.metadata()?.len();
        let read = File::open(&path)?;
        let (remote, name) = (self.remote.clone(), name.to_owned());
        Ok(Some(Box::new(Tee { read, here, kept, at: 0, size, remote, name, coming: None })))
    }

    fn list(&self) -> Result<Vec<Object>> {
        self.remote.list()
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        self.remote.size(name)
    }

    fn delete(&self, name: &str) -> Result<bool> {
        self.remote.delete(name)
    }
}

/// First what is here, then what comes, kept as it passes.
struct Tee {
    read: File,
    here: u64,
    kept: File,
    at: u64,
    size: u64,
    remote: Arc<dyn Objects>,
    name: String,
    coming: Option<Box<dyn Read + Send>>,
}

impl Read for Tee {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at < self.here {
            let most = usize::try_from(self.here - self.at).unwrap_or(usize::MAX).min(out.len());
            let length = self.read.read(out.get_mut(..most).unwrap_or_default())?;
            self.at += length as u64;
            return Ok(length);
        }
        if self.at >= self.size || out.is_empty() {
            return Ok(0);
        }
        let coming = match &mut self.coming {
            Some(coming) => coming,
            none => {
                let found = self.remote.get(&self.name, self.at).map_err(io::Error::other)?;
                let gone = || io::Error::other(Error::Unavailable(format!("{} is gone", self.name)));
                none.insert(found.ok_or_else(gone)?)
            }
        };
        let length = coming.read(out)?;
        self.kept.write_all(out.get(..length).unwrap_or_default())?;
        self.at += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::objects::folder::Folder;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Counts the bytes that come, and cuts the line after some.
    struct Far(Folder, Arc<AtomicU64>, u64);
    struct Line(Box<dyn Read + Send>, Arc<AtomicU64>, u64);

    impl Read for Line {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let most = out.len().min(1000);
            if self.1.load(Ordering::Relaxed) >= self.2 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let length = self.0.read(&mut out[..most])?;
            self.1.fetch_add(length as u64, Ordering::Relaxed);
            Ok(length)
        }
    }

    impl Objects for Far {
        fn place(&self) -> String {
            "s3://far".to_owned()
        }
        fn beneath(&self, name: &str) -> Arc<dyn Objects> {
            self.0.beneath(name)
        }
        fn put_new(&self, name: &str) -> Result<Box<dyn Upload>> {
            self.0.put_new(name)
        }
        fn get(&self, name: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>> {
            let line = |line| -> Box<dyn Read + Send> { Box::new(Line(line, self.1.clone(), self.2)) };
            Ok(self.0.get(name, from)?.map(line))
        }
        fn list(&self) -> Result<Vec<Object>> {
            self.0.list()
        }
        fn size(&self, name: &str) -> Result<Option<u64>> {
            self.0.size(name)
        }
        fn delete(&self, name: &str) -> Result<bool> {
            self.0.delete(name)
        }
    }

    #[test]
    fn nothing_is_fetched_twice_however_often_the_line_is_cut() {
        let (far, near) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(far.path().join("a.backup"), &bytes).unwrap();
        let came = Arc::new(AtomicU64::new(0));
        let mut tries = 0;
        let read = loop {
            tries += 1;
            let remote = Far(Folder::at(far.path()), came.clone(), tries * 30_000);
            let fetched = Fetched::new(Arc::new(remote), near.path());
            let mut all = Vec::new();
            match fetched.get("a.backup", 0).unwrap().unwrap().read_to_end(&mut all) {
                Ok(_) => break all,
                Err(_) => assert!(tries < 10),
            }
        };
        assert!(read == bytes && tries == 4);
        assert_eq!(came.load(Ordering::Relaxed), bytes.len() as u64);
        let remote = Far(Folder::at(far.path()), came.clone(), 0);
        let fetched = Fetched::new(Arc::new(remote), near.path());
        let mut all = Vec::new();
        fetched.get("a.backup", 0).unwrap().unwrap().read_to_end(&mut all).unwrap();
        assert!(all == bytes && fetched.get("b.backup", 0).unwrap().is_none());
        // Another, shorter object under the name is not taken for it.
        std::fs::write(far.path().join("a.backup"), b"short").unwrap();
        let remote = Far(Folder::at(far.path()), came, u64::MAX);
        let mut all = Vec::new();
        Fetched::new(Arc::new(remote), near.path()).get("a.backup", 0).unwrap().unwrap().read_to_end(&mut all).unwrap();
        assert_eq!(all, b"short");
    }
}
