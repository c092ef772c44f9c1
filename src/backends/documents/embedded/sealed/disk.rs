//! The raw file beneath: reads, writes, length, sync, lock and the reserve against a full disk.

use super::error::{Error, Result, out_of_space};
use crate::base::files::{UNLINKED, adopt};
use rustix::{
    fs::{Advice, FallocateFlags, FlockOperation, fadvise, fallocate, fdatasync, flock, fstatvfs},
    io::retry_on_intr,
};
use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What the sealed file needs of the storage beneath it.
pub(super) trait Disk: Send + Sync + fmt::Debug {
    fn len(&self) -> io::Result<u64>;
    /// Reads as much as there is; behind the end is zeros.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// May be lost or torn at any 512-byte border until [`Disk::sync`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Everything written before is on the medium when it returns.
    fn sync(&self) -> io::Result<()>;
    /// Drops what the system keeps in memory, so that reads show what is on the medium.
    fn forget(&self) {}
    /// Bytes that may still be written before the reserve is touched; 0 while the reserve is not whole.
    fn headroom(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    /// The same for what lets go of more than it takes: half the reserve may be drawn on.
    fn relief(&self) -> io::Result<u64> {
        self.headroom()
    }
    /// Bytes it takes on the medium.
    fn stored(&self) -> io::Result<u64> {
        self.len()
    }
    fn unlock(&self) {}
}

/// Bytes kept aside in a file of their own: given up when the disk is full, so that the commit that met the end
/// still passes and the next one is refused in good order.
const RESERVE: u64 = 32 << 20;
/// Step in which the file is given its blocks, ahead of the writes.
const STEP: u64 = 4 << 20;

/// A file of the system, locked.
pub(super) struct FileDisk {
    file: File,
    /// `None`: opened for reading only.
    space: Option<Mutex<Space>>,
}

struct Space {
    reserve: PathBuf,
    whole: bool,
    /// One bit per [`STEP`] known to have its blocks; empty once the file system cannot say.
    given: Vec<bool>,
    ahead: bool,
}

impl fmt::Debug for FileDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileDisk")
    }
}

impl FileDisk {
    /// A new, empty, locked file, which is to be renamed to `path` once it holds something.
    pub fn create(unfinished: &Path, path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(UNLINKED);
        let file = options.open(unfinished)?;
        lock(&file, unfinished, FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(0)?;
        Ok(Self::writable(file, path))
    }

    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        lock(&file, path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self::writable(file, path))
    }

    /// For reading: beside other readers, never beside a writer.
    pub fn open_read(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).open(path)?;
        lock(&file, path, FlockOperation::NonBlockingLockShared)?;
        Ok(Self { file, space: None })
    }

    fn writable(file: File, path: &Path) -> Self {
        let mut reserve = path.as_os_str().to_owned();
        reserve.push(".reserve");
        let reserve = PathBuf::from(reserve);
        // One from before counts at once: the disk may have filled up meanwhile.
        let whole = reserve.metadata().is_ok_and(|reserve| reserve.blocks() * 512 >= RESERVE);
        let space = Space { reserve, whole, given: Vec::new(), ahead: true };
        Self { file, space: Some(Mutex::new(space)) }
    }

    /// Gives the blocks of a range before it is written, step by step, so that a full disk shows here and not
    /// when the system writes back. Where the file system cannot, the reserve alone has to do.
    fn give(&self, space: &mut Space, offset: u64, length: u64) -> io::Result<()> {
        for step in offset / STEP..(offset + length).div_ceil(STEP) {
            let index = usize::try_from(step).map_err(io::Error::other)?;
            if !space.ahead || space.given.get(index).is_some_and(|given| *given) {
                continue;
            }
            match retry_on_intr(|| fallocate(&self.file, FallocateFlags::KEEP_SIZE, step * STEP, STEP)) {
                Ok(()) => {
                    if space.given.len() <= index {
                        space.given.resize(index + 1, false);
                    }
                    space.given[index] = true;
                }
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => space.ahead = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Space {
    /// Makes the reserve whole again.
    fn refill(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(UNLINKED);
        let mut file = options.open(&self.reserve)?;
        if let Some(folder) = self.reserve.parent() {
            adopt(&file, folder)?;
        }
        let filled = match retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, RESERVE)) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = vec![0; 1 << 20];
                let parts = RESERVE / zeros.len() as u64;
                (0..parts).try_for_each(|_| file.write_all(&zeros)).and_then(|()| file.sync_data())
            }
            other => other.map_err(io::Error::from),
        };
        match filled {
            Ok(()) => self.whole = true,
            // Part of it may have been given.
            Err(_) => file.set_len(0)?,
        }
        filled
    }

    /// Gives the reserve up. `false`: there was none left.
    fn release(&mut self) -> bool {
        let had = std::mem::take(&mut self.whole);
        had && File::options()
            .write(true)
            .custom_flags(UNLINKED)
            .open(&self.reserve)
            .and_then(|file| file.set_len(0).and_then(|()| file.sync_all()))
            .is_ok()
    }
}

fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<()> {
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path: path.display().to_string() }),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

impl Disk for FileDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.read_at(bytes, offset) {
                Ok(0) => {
                    bytes.fill(0);
                    return Ok(());
                }
                Ok(read) => {
                    offset += read as u64;
                    bytes = &mut bytes[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let Some(space) = &self.space else { return Err(io::ErrorKind::ReadOnlyFilesystem.into()) };
        let mut space = space.lock().unwrap_or_else(PoisonError::into_inner);
        // A page at a time: gathered writes were measured slower, as ext4 then keeps large folios, and later
        // writes of single pages within them cost more than the calls saved.
        let write = |space: &mut Space| {
            self.give(space, offset, bytes.len() as u64)?;
            self.file.write_all_at(bytes, offset)
        };
        match write(&mut space) {
            Err(error) if out_of_space(&error) && space.release() => write(&mut space),
            other => other,
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let Some(space) = &self.space else { return Err(io::ErrorKind::ReadOnlyFilesystem.into()) };
        let mut space = space.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = usize::try_from(length / STEP).unwrap_or(usize::MAX);
        space.given.truncate(keep);
        self.file.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    fn forget(&self) {
        // Advice only: where it is not taken, reads show what the system would write anyway.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    fn headroom(&self) -> io::Result<u64> {
        let Some(space) = &self.space else { return Ok(0) };
        let mut space = space.lock().unwrap_or_else(PoisonError::into_inner);
        if !space.whole {
            match space.refill() {
                Ok(()) => {}
                Err(error) if out_of_space(&error) => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        let system = fstatvfs(&self.file)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }

    fn relief(&self) -> io::Result<u64> {
        let headroom = self.headroom()?;
        let whole = self.space.as_ref().is_some_and(|space| space.lock().unwrap_or_else(PoisonError::into_inner).whole);
        Ok(headroom + if whole { RESERVE / 2 } else { 0 })
    }

    fn stored(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn unlock(&self) {
        // Closing the file does it too, once the last handle is gone.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}
