//! Creating and opening: which head counts, what it says against the file, the next epoch.

use super::{
    DataKeys, Sealed,
    disk::{Disk, FileDisk},
    error::{Error, Result},
    file::{Inner, WRITES, Writer},
    head::{HEADER, Head, STAMP},
    keys::PageKeys,
    layout::{Entry, LOG, PAGE, PAGE_BYTES, SLOTS, physical_len},
    log,
    overlay::Overlay,
    tags::Tags,
};
use crate::base::random;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64},
    },
};

impl Sealed {
    /// A new file, empty and durable when this returns. `stamp` (at most [`STAMP`] bytes) names the instance and
    /// environment it belongs to; no other opens it.
    pub fn create(path: &Path, keys: DataKeys, stamp: &[u8]) -> Result<Self> {
        if path.try_exists()? {
            return Err(Error::Exists { path: path.display().to_string() });
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let disk = FileDisk::create(&unfinished, path)?;
        let sealed = Self::create_on(Box::new(disk), keys, stamp)?;
        match renameat_with(CWD, &unfinished, CWD, path, RenameFlags::NOREPLACE) {
            // A file system without that flag; the lock keeps other creators out meanwhile.
            Err(rustix::io::Errno::INVAL) => std::fs::rename(&unfinished, path)?,
            other => other.map_err(io::Error::from)?,
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok(sealed)
    }

    /// An existing file, for reading and writing: locked, its epoch raised.
    pub fn open(path: &Path, keys: DataKeys, stamp: &[u8]) -> Result<Self> {
        Self::open_on(Box::new(FileDisk::open(path)?), keys, stamp)
    }

    /// An existing file for reading; what redb writes stays in memory and is gone at the end. `until` is the
    /// [`Sealed::acknowledged`] of a handle that broke: whatever its failed write left behind is not looked at.
    pub fn open_read_overlay(path: &Path, keys: DataKeys, stamp: &[u8], until: Option<u64>) -> Result<Self> {
        Self::open_overlay_on(Box::new(FileDisk::open_read(path)?), keys, stamp, until)
    }

    pub(super) fn create_on(disk: Box<dyn Disk>, keys: DataKeys, stamp: &[u8]) -> Result<Self> {
        if stamp.len() > STAMP {
            return Err(Error::Damaged { what: "stamp" });
        }
        disk.set_len(physical_len(0))?;
        let head = Head {
            file: random::array(),
            generation: 0,
            epoch: 1,
            length: 0,
            unswept: false,
            cycle: random_cycle(),
            takeovers: vec![(1, keys.current())],
            stamp: stamp.to_vec(),
            header: [0; HEADER],
        };
        let sealed = Self::over(disk, keys, head, 1, None, false);
        let mut writer = sealed.0.writer();
        // Both slots, so that from now on a slot that cannot be read is a damaged one.
        for _ in 0..SLOTS {
            let head = writer.head.clone();
            sealed.0.write_slot(&mut writer, head)?;
        }
        drop(writer);
        Ok(sealed)
    }

    pub(super) fn open_on(disk: Box<dyn Disk>, keys: DataKeys, stamp: &[u8]) -> Result<Self> {
        let mut found = Found::read(&*disk, &keys, None)?;
        if !found.head.clean() {
            // After a crash, judge what is on the medium, not what the system still holds in memory.
            disk.sync()?;
            disk.forget();
            found = Found::read(&*disk, &keys, None)?;
        }
        let Found { mut head, slot, fell_back } = found;
        if head.stamp != stamp {
            return Err(Error::Stamp);
        }
        if !head.initialised() {
            head.length = 0;
            head.header = [0; HEADER];
        }
        let pages = head.length / PAGE_BYTES;
        let physical = disk.len()?;
        if physical < physical_len(pages) {
            return Err(Error::Damaged { what: "length" });
        }
        head.unswept |= !head.clean() && head.initialised();
        let sealed = Self::over(disk, keys, head, slot, None, fell_back);
        let inner = &sealed.0;
        let mut writer = inner.writer();
        inner.recall(&mut writer)?;
        inner.take_spare(&mut writer)?;
        for page in inner.tags.behind(&*inner.disk, pages)? {
            inner.tags.set(page, Entry::default());
        }
        inner.raise(&mut writer)?;
        if physical != physical_len(pages) {
            inner.disk.set_len(physical_len(pages))?;
        }
        drop(writer);
        Ok(sealed)
    }

    pub(super) fn open_overlay_on(
        disk: Box<dyn Disk>,
        keys: DataKeys,
        stamp: &[u8],
        until: Option<u64>,
    ) -> Result<Self> {
        let Found { head, slot, fell_back } = Found::read(&*disk, &keys, until)?;
        if head.stamp != stamp {
            return Err(Error::Stamp);
        }
        if disk.len()? < physical_len(head.length / PAGE_BYTES) {
            return Err(Error::Damaged { what: "length" });
        }
        let overlay = Overlay::over(head.length / PAGE_BYTES);
        let sealed = Self::over(disk, keys, head, slot, Some(overlay), fell_back);
        let mut writer = sealed.0.writer();
        sealed.0.recall(&mut writer)?;
        sealed.0.take_spare(&mut writer)?;
        drop(writer);
        Ok(sealed)
    }

    fn over(
        disk: Box<dyn Disk>,
        data: DataKeys,
        head: Head,
        slot: u64,
        overlay: Option<Overlay>,
        fell_back: bool,
    ) -> Self {
        Self(Arc::new(Inner {
            disk,
            keys: PageKeys::new(head.file, data.clone(), head.takeovers.clone()),
            tags: Tags::default(),
            overlay,
            length: AtomicU64::new(head.length),
            epoch: AtomicU32::new(head.epoch),
            lenient: AtomicBool::new(head.redb_verifies()),
            fell_back,
            read: AtomicU64::new(0),
            broken: OnceLock::new(),
            damage: OnceLock::new(),
            closed: AtomicBool::new(false),
            writes_per_epoch: WRITES,
            log_blocks: LOG,
            writer: Mutex::new(Writer {
                data,
                synced: head.clone(),
                head,
                slot,
                beside: 0,
                unlogged: BTreeMap::new(),
                logged: 0,
                head_changed: false,
                unsynced: false,
                spare: false,
                session: random::array(),
                sealed: 0,
            }),
        }))
    }
}

/// The head that counts.
struct Found {
    head: Head,
    slot: u64,
    fell_back: bool,
}

impl Found {
    fn read(disk: &dyn Disk, keys: &DataKeys, until: Option<u64>) -> Result<Self> {
        if disk.len()? < SLOTS * PAGE_BYTES {
            return Err(Error::Damaged { what: "length" });
        }
        let mut right: Vec<(Head, u64)> = Vec::new();
        let mut wrong = Vec::new();
        for slot in 0..SLOTS {
            let mut bytes = [0; PAGE];
            disk.read_at(slot * PAGE_BYTES, &mut bytes)?;
            match Head::open(&bytes, keys) {
                Ok(head) if until.is_none_or(|until| head.generation <= until) => right.push((head, slot)),
                Ok(_) => {}
                Err(error) => wrong.push((error, Head::claimed_generation(&bytes))),
            }
        }
        if let [(one, _), (other, _)] = &right[..]
            && one.file != other.file
        {
            return Err(Error::Damaged { what: "heads" });
        }
        let newest = right.into_iter().max_by_key(|(head, _)| head.generation);
        let generation = newest.as_ref().map_or(0, |(head, _)| head.generation);
        let fell_back = !wrong.is_empty();
        // A newer head that needs another key or release is not to be passed over for an older one.
        let barred = |(error, claimed): &(Error, u64)| {
            matches!(error, Error::Version { .. } | Error::KeyMissing { .. } | Error::KeyWrong { .. })
                && *claimed > generation
                && until.is_none()
        };
        if let Some(at) = wrong.iter().position(barred) {
            return Err(wrong.swap_remove(at).0);
        }
        match newest {
            Some((head, slot)) => Ok(Self { head, slot, fell_back }),
            None => Err(if wrong.iter().all(|(error, _)| matches!(error, Error::Foreign)) {
                Error::Foreign
            } else {
                Error::Damaged { what: "heads" }
            }),
        }
    }
}

impl Inner {
    /// Takes the log's entries into memory.
    fn recall(&self, writer: &mut Writer) -> Result<()> {
        let pages = writer.head.length / PAGE_BYTES;
        for (page, entry) in log::read(&*self.disk, &self.keys, writer.head.cycle, writer.head.epoch)? {
            if page < pages {
                self.tags.set(page, entry);
            }
        }
        Ok(())
    }
}

/// Names a cycle of the log: random, so that no block of another cycle can pass for one of this.
pub(super) fn random_cycle() -> u64 {
    u64::from_le_bytes(random::array())
}
