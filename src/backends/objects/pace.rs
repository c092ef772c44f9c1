//! No more bytes a second than a weak link has to spare: for what is sent and what is fetched.

use crate::{
    base::clock::Stopwatch,
    ports::{
        Result,
        objects::{Object, Objects, Upload},
    },
};
use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// As many at once: short against a second, so that others on the link are not held up.
const AT_ONCE: usize = 16 * 1024;

/// A limit that all who hold it share.
pub struct Pace {
    bytes_per_second: u64,
    since: Stopwatch,
    /// When what was let through so far will have passed.
    free: Mutex<Duration>,
}

impl Pace {
    pub fn new(bytes_per_second: u64) -> Arc<Self> {
        Arc::new(Self { bytes_per_second: bytes_per_second.max(1), since: Stopwatch::start(), free: Mutex::default() })
    }

    /// Waits until the bytes before these have passed.
    fn pass(&self, bytes: usize) {
        let now = self.since.elapsed();
        let turn = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*free).max(now);
            *free = turn + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            turn
        };
        std::thread::sleep(turn.saturating_sub(now));
    }
}

/// Bytes that are read no faster than the limit.
pub struct PacedReader<R> {
    inner: R,
    pace: Option<Arc<Pace>>,
}

impl<R: Read> PacedReader<R> {
    pub fn new(inner: R, pace: Option<Arc<Pace>>) -> Self {
        Self { inner, pace }
    }
}

impl<R: Read> Read for PacedReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(pace) = &self.pace else { return self.inner.read(into) };
        let most = into.len().min(AT_ONCE);
        let count = self.inner.read(&mut into[..most])?;
        pace.pass(count);
        Ok(count)
    }
}

/// Objects whose link is limited.
pub struct Paced {
    inner: Arc<dyn Objects>,
    pace: Arc<Pace>,
}

impl Paced {
    pub fn new(inner: Arc<dyn Objects>, pace: Arc<Pace>) -> Self {
        Self { inner, pace }
    }

    fn reader(&self, inner: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(PacedReader::new(inner, Some(self.pace.clone())))
    }
}

impl Objects for Paced {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn beneath(&self, name: &str) -> Arc<dyn Objects> {
        Arc::new(Self { inner: self.inner.beneath(name), pace: self.pace.clone() })
    }

    fn put_new(&self, name: &str) -> Result<Box<dyn Upload>> {
        Ok(Box::new(PacedUpload { inner: self.inner.put_new(name)?, pace: self.pace.clone() }))
    }

    fn put_over(&self, name: &str) -> Result<Box<dyn Upload>> {
        Ok(Box::new(PacedUpload { inner: self.inner.put_over(name)?, pace: self.pace.clone() }))
    }

    fn get(&self, name: &str, from: u64) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(self.inner.get(name, from)?.map(|bytes| self.reader(bytes)))
    }

    fn list(&self) -> Result<Vec<Object>> {
        self.inner.list()
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        self.inner.size(name)
    }

    fn delete(&self, name: &str) -> Result<bool> {
        self.inner.delete(name)
    }
}

struct PacedUpload {
    inner: Box<dyn Upload>,
    pace: Arc<Pace>,
}

impl Write for PacedUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(&bytes[..bytes.len().min(AT_ONCE)])?;
        self.pace.pass(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for PacedUpload {
    fn reread(&mut self) -> Result<Option<Box<dyn Read + Send>>> {
        let pace = self.pace.clone();
        Ok(self.inner.reread()?.map(|bytes| -> Box<dyn Read + Send> { Box::new(PacedReader::new(bytes, Some(pace))) }))
    }

    fn publish(self: Box<Self>) -> Result<()> {
        self.inner.publish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::objects::folder::Folder;

    #[test]
    fn a_limit_holds_for_all_who_share_it_and_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let pace = Pace::new(200 * 1024);
        let paced = Paced::new(Arc::new(Folder::open(place.path()).unwrap()), pace);
        let bytes: Vec<u8> = (0..30 * 1024_u32).map(|n| n as u8).collect();
        let watch = Stopwatch::start();
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let (paced, bytes) = (&paced, &bytes);
                scope.spawn(move || {
                    let mut upload = paced.put_new(name).unwrap();
                    upload.write_all(bytes).unwrap();
                    upload.publish().unwrap();
                });
            }
        });
        // Sixty KiB, of which the last piece need not be waited for.
        assert!(watch.elapsed() > Duration::from_millis(200), "{:?}", watch.elapsed());
        let mut back = Vec::new();
        let watch = Stopwatch::start();
        paced.get("a", 0).unwrap().unwrap().read_to_end(&mut back).unwrap();
        assert!(watch.elapsed() > Duration::from_millis(60), "{:?}", watch.elapsed());
        assert_eq!(back, bytes);
        // What takes another's place does too.
        let watch = Stopwatch::start();
        let mut upload = paced.put_over("a").unwrap();
        upload.write_all(&bytes.repeat(2)).unwrap();
        upload.publish().unwrap();
        assert!(watch.elapsed() > Duration::from_millis(200), "{:?}", watch.elapsed());
        assert_eq!(std::fs::read(place.path().join("a")).unwrap(), bytes.repeat(2));
    }
}
