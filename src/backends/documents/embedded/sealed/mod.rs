//! The sealed file: redb's storage, encrypted and proven page by page in one file.
//!
//! redb sees a flat file; what lies on the medium are 4 KiB pages under AES-256-GCM, each bound to its file, its
//! place and its epoch. All numbers are little-endian. This is **format 1**: it must open forever.
//!
//! ```text
//! physical page   0            1            2           3 … 130      131         132 … 259
//!                 head slot A  head slot B  tag page 0  pages 0–127  tag page 1  pages 128–255  …
//! ```
//!
//! Logical page `p` stands at physical page `2 + (p / 128) * 129 + 1 + p % 128`. Its place in group 0 is never
//! used by page 0: the first 512 bytes of the logical space live in the head.
//!
//! **Tag page**: 128 entries of 32 bytes, one per page of the group: nonce (12), tag (16), epoch (4). An entry of
//! zeros is a page never written. The associated data of a page is file id (16), page number (8), epoch (4).
//! The nonce is 8 random bytes drawn at each epoch and a counter (4): a copy of the file opened twice elsewhere
//! takes other nonces.
//!
//! **Head slot** (4,096 bytes), written by turns; of two right ones the higher generation counts:
//!
//! ```text
//!  0   8  magic 89 "DASEAL" 0A              56   8  key check: the first bytes of
//!  8   4  format version, 1                         HKDF(data key, file id, "debrouille sealed check 1")
//! 12   4  epoch that seals this head        64  16  tag
//! 16   4  data key version of the epoch     80  16  zero
//! 20  12  nonce                             96 4000 sealed body; associated data: bytes 0–63 and
//! 32  16  file id, random                           FF×8 where a page has its number
//! 48   8  generation
//! body:  0  8  logical length               16  512  the first bytes of logical space: redb's header
//!        8  2  bytes of stamp              528  256  stamp: instance and environment, given by the caller
//!       10  2  number of takeovers         784 2048  takeovers: first epoch (4), data key version (4)
//!       12  1  unswept                          …    zero to the end
//!       13  3  zero
//! ```
//!
//! **Keys**: the page key of an epoch is HKDF-SHA256 (RFC 5869) of the data key in force, salt the file id, info
//! `"debrouille sealed page 1"` and the epoch (4). The epoch is raised, durably and before the first write, at
//! every opening and every 2³¹ writes. A takeover says from which epoch on which data key version seals.
//!
//! # What redb 4.6.0 does with its file
//! Read from its source (`page_manager.rs`, `cached_file.rs`, `header.rs`, `db.rs`); the dependency is pinned to
//! that version, and these lines are to be read again before it moves.
//! - Bytes 0–319 are the only ones rewritten in place: header without magic, then with it (creation); at opening
//!   (recovery flag set), at every commit, at closing. File format 3 has no region headers and keeps the allocator
//!   state in an ordinary table. Every other write is one or more whole pages nobody durable points to.
//! - A commit is: pages and header in any order, then one sync; with two phases: pages and the header's second
//!   slot, sync, then the header's flags, sync. Growth is `set_len`, then a sync, before the header tells of it.
//!   Shrinking is `set_len` after the commit's sync, without one of its own.
//! - The header's flags say how the last commit was. If it was a two-phase one (as the one at closing always is)
//!   redb trusts the pages it reads; if not, it checks the checksums of every page reachable, and falls back to the
//!   commit before. The recovery flag does not decide this: a cut during a repair leaves it cleared.
//!   Only in that last case, and only until [`Sealed::opened`], a wrong tag reads as zeros here, so that the
//!   checksums fail and the fallback happens. Everywhere else a wrong tag is [`Error::Page`].
//! - redb never reads a page it has not written. Once it is past its checks, an unwritten page asked for is
//!   therefore a lost one, and refused as well: zeroed tags do not turn into documents of zeros.
//! - A file whose header has no magic was never finished: it reads as empty, and redb starts it again.
//!
//! # What holds, and what does not
//! A lost, torn or misplaced write before a sync only hits pages nobody points to, entries of such pages, or the
//! head slot that was not the last one synced. Tag pages are rewritten with living entries in them: their bytes do
//! not change, so this asks of the medium what every database asks, that a sector of 512 bytes being written holds
//! old or new bytes and none but its own. Left open: a page put back with its own earlier entry, or the whole file
//! with an earlier one, opens (the journal's anchors tell); and after a crash, damage to what the last commit wrote
//! cannot be told from a commit that never finished: redb falls back to the one before.

mod disk;
mod error;
mod head;
mod keys;
mod layout;
mod overlay;
mod pending;
mod scrub;
mod tags;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use head::STAMP;
pub use keys::{DataKeys, KEY};
pub use scrub::Scrub;

use crate::base::random;
use disk::{Disk, FileDisk};
use error::Result;
use head::{HEADER, Head, SLOTS, TAKEOVERS};
use keys::PageKeys;
use layout::{Entry, PAGE, PAGE_BYTES, physical_len};
use overlay::Overlay;
use pending::Pending;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};
use tags::Tags;

/// Writes under one epoch before the next is opened.
const WRITES: u32 = 1 << 31;

/// A handle on the file. Clones are the same file: one goes to redb, one stays with the engine.
#[derive(Debug, Clone)]
pub struct Sealed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Box<dyn Disk>,
    keys: PageKeys,
    tags: Tags,
    pending: RwLock<Pending>,
    /// Present when nothing is to be written to the disk.
    overlay: Option<Overlay>,
    writer: Mutex<Writer>,
    /// Bytes redb sees.
    length: AtomicU64,
    /// The newest epoch; entries beyond it are wrong.
    epoch: AtomicU32,
    /// Wrong pages read as zeros: redb is checking by its own checksums.
    lenient: AtomicBool,
    /// One head slot was unreadable at opening.
    fell_back: bool,
    /// Why nothing is written any more.
    broken: OnceLock<String>,
    closed: AtomicBool,
    /// [`WRITES`], less in tests.
    writes_per_epoch: u32,
}

/// What only one thread at a time may touch.
#[derive(Debug)]
struct Writer {
    data: DataKeys,
    /// As it stands in memory.
    head: Head,
    /// As it was synced last.
    synced: Head,
    /// The slot synced last: not to be touched before the other one is.
    slot: u64,
    head_changed: bool,
    /// Something went to the disk since the last sync.
    unsynced: bool,
    /// First bytes of the nonces of this epoch.
    session: [u8; 8],
    sealed: u32,
}

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

    fn create_on(disk: Box<dyn Disk>, keys: DataKeys, stamp: &[u8]) -> Result<Self> {
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
            takeovers: vec![(1, keys.current())],
            stamp: stamp.to_vec(),
            header: [0; HEADER],
        };
        let sealed = Self::over(disk, keys, head, 1, None, false);
        let mut writer = sealed.0.writer();
        // Both slots, so that from now on a slot that cannot be read is a damaged one.
        sealed.0.write_head(&mut writer)?;
        sealed.0.write_head(&mut writer)?;
        drop(writer);
        Ok(sealed)
    }

    fn open_on(disk: Box<dyn Disk>, keys: DataKeys, stamp: &[u8]) -> Result<Self> {
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
        if physical != physical_len(pages) {
            inner.disk.set_len(physical_len(pages))?;
        }
        inner.tags.truncate(&*inner.disk, pages)?;
        inner.raise(&mut writer)?;
        drop(writer);
        Ok(sealed)
    }

    fn open_overlay_on(disk: Box<dyn Disk>, keys: DataKeys, stamp: &[u8], until: Option<u64>) -> Result<Self> {
        let Found { head, slot, fell_back } = Found::read(&*disk, &keys, until)?;
        if head.stamp != stamp {
            return Err(Error::Stamp);
        }
        if disk.len()? < physical_len(head.length / PAGE_BYTES) {
            return Err(Error::Damaged { what: "length" });
        }
        let overlay = Overlay::over(head.length / PAGE_BYTES);
        Ok(Self::over(disk, keys, head, slot, Some(overlay), fell_back))
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
            pending: RwLock::default(),
            overlay,
            length: AtomicU64::new(head.length),
            epoch: AtomicU32::new(head.epoch),
            lenient: AtomicBool::new(head.redb_verifies()),
            fell_back,
            broken: OnceLock::new(),
            closed: AtomicBool::new(false),
            writes_per_epoch: WRITES,
            writer: Mutex::new(Writer {
                data,
                synced: head.clone(),
                head,
                slot,
                head_changed: false,
                unsynced: false,
                session: random::array(),
                sealed: 0,
            }),
        }))
    }

    /// To be called once redb has opened its database: from here on no wrong page is let through.
    pub fn opened(&self) {
        self.0.lenient.store(false, Ordering::Release);
    }

    /// One of the two heads could not be read at opening: a crash while it was written (nothing acknowledged is
    /// lost), or a failing medium (the last commit may be).
    pub fn fell_back(&self) -> bool {
        self.0.fell_back
    }

    /// Bytes that may still be written before the reserve is touched; 0 when the reserve is not whole. Ask before
    /// a commit, and answer Full below what it may take.
    pub fn headroom(&self) -> Result<u64> {
        Ok(self.0.disk.headroom()?)
    }

    /// Bytes the file takes on the medium.
    pub fn stored(&self) -> Result<u64> {
        Ok(self.0.disk.stored()?)
    }

    /// Why nothing is written any more, if so: drop redb's database, and reopen by
    /// [`Sealed::open_read_overlay`] up to [`Sealed::acknowledged`].
    pub fn broken(&self) -> Option<&str> {
        self.0.broken.get().map(String::as_str)
    }

    /// The last state synced.
    pub fn acknowledged(&self) -> u64 {
        self.0.writer().synced.generation
    }

    /// Takes other data keys: an epoch under the current version opens at once, pages follow as they are written.
    pub fn set_keys(&self, keys: DataKeys) -> Result<()> {
        let mut writer = self.0.writer();
        self.0.alive()?;
        self.0.keys.replace(keys.clone());
        writer.data = keys;
        if self.0.overlay.is_some() { Ok(()) } else { self.0.raise(&mut writer) }
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
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match self.broken.get() {
            Some(cause) => Err(Error::Broken { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Notes that a write failed: what is on the medium is unknown, so nothing more is written or acknowledged.
    fn fail<E: Into<Error>>(&self, error: E) -> Error {
        let error = error.into();
        let _ = self.broken.set(error.to_string());
        error
    }

    fn pages(&self) -> u64 {
        self.length.load(Ordering::Acquire) / PAGE_BYTES
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let length = self.length.load(Ordering::Acquire);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > length) {
            return Err(Error::Access { offset, length: out.len() as u64 });
        }
        let (mut offset, mut out) = (offset, out);
        while !out.is_empty() {
            let page = offset / PAGE_BYTES;
            let within = usize::try_from(offset % PAGE_BYTES).expect("less than a page");
            let (part, rest) = out.split_at_mut((PAGE - within).min(out.len()));
            if part.len() == PAGE {
                self.read_page(page, part)?;
            } else {
                let mut whole = [0; PAGE];
                self.read_page(page, &mut whole)?;
                part.copy_from_slice(&whole[within..within + part.len()]);
            }
            offset += part.len() as u64;
            out = rest;
        }
        Ok(())
    }

    fn read_page(&self, page: u64, out: &mut [u8]) -> Result<()> {
        if page == 0 {
            out.fill(0);
            out[..HEADER].copy_from_slice(&self.writer().head.header);
            return Ok(());
        }
        let mut entry = Entry::default();
        match &self.overlay {
            Some(overlay) if overlay.read(page, out) => return Ok(()),
            Some(overlay) if overlay.hides(page) => {}
            _ => entry = self.tags.get(&*self.disk, page)?,
        }
        if !entry.unwritten() && self.open_page(page, &entry, out)? {
            return Ok(());
        }
        out.fill(0);
        if self.lenient.load(Ordering::Acquire) { Ok(()) } else { Err(Error::Page { page }) }
    }

    /// Reads and opens a page; `false`: its tag is wrong.
    fn open_page(&self, page: u64, entry: &Entry, out: &mut [u8]) -> Result<bool> {
        let mut sealed = [0; PAGE];
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        match pending.get(page) {
            Some(bytes) => sealed.copy_from_slice(bytes),
            None => {
                drop(pending);
                self.disk.read_at(layout::data_page(page) * PAGE_BYTES, &mut sealed)?;
            }
        }
        self.keys.open(page, entry, &sealed, out, self.epoch.load(Ordering::Acquire))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.alive()?;
        let refused = Error::Access { offset, length: data.len() as u64 };
        let Some(end) = offset.checked_add(data.len() as u64) else { return Err(refused) };
        if end > self.length.load(Ordering::Acquire) {
            return Err(refused);
        }
        let mut writer = self.writer();
        if end <= HEADER as u64 {
            let start = usize::try_from(offset).expect("less than a page");
            writer.head.header[start..start + data.len()].copy_from_slice(data);
            writer.head_changed = true;
            return Ok(());
        }
        let (whole, rest) = data.as_chunks::<PAGE>();
        let first = offset / PAGE_BYTES;
        if first == 0 || !offset.is_multiple_of(PAGE_BYTES) || !rest.is_empty() {
            return Err(refused);
        }
        for (page, bytes) in (first..).zip(whole) {
            match &self.overlay {
                Some(overlay) => overlay.write(page, bytes),
                None => self.write_page(&mut writer, page, bytes)?,
            }
        }
        Ok(())
    }

    fn write_page(&self, writer: &mut Writer, page: u64, bytes: &[u8; PAGE]) -> Result<()> {
        if writer.sealed >= self.writes_per_epoch {
            self.raise(writer)?;
        }
        let mut sealed = *bytes;
        let nonce = writer.nonce();
        let entry = self.keys.seal(page, writer.head.epoch, nonce, &mut sealed)?;
        self.tags.set(&*self.disk, page, &entry).map_err(|error| self.fail(error))?;
        let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
        pending.put(page, &sealed);
        let full = pending.full();
        drop(pending);
        if full { self.flush(writer, &[]) } else { Ok(()) }
    }

    /// Hands the gathered pages, and these tag pages, to the disk.
    fn flush(&self, writer: &mut Writer, tags: &[(u64, Box<[u8; PAGE]>)]) -> Result<()> {
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        writer.unsynced = true;
        pending.write(&*self.disk, tags).map_err(|error| self.fail(error))?;
        drop(pending);
        self.pending.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.alive()?;
        if self.overlay.is_some() {
            return Ok(());
        }
        let mut writer = self.writer();
        let tags = self.tags.changed();
        if !tags.is_empty() || !self.pending.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.flush(&mut writer, &tags)?;
        }
        if writer.head_changed {
            self.write_head(&mut writer)?;
        } else if writer.unsynced {
            self.disk.sync().map_err(|error| self.fail(error))?;
        }
        writer.unsynced = false;
        self.tags.written();
        Ok(())
    }

    /// Writes the head as it stands to the slot not synced last, and syncs.
    fn write_head(&self, writer: &mut Writer) -> Result<()> {
        let mut head = writer.head.clone();
        head.generation = writer.synced.generation + 1;
        self.write_slot(writer, head)?;
        writer.head.generation = writer.synced.generation;
        writer.head_changed = false;
        Ok(())
    }

    fn write_slot(&self, writer: &mut Writer, head: Head) -> Result<()> {
        let slot = (writer.slot + 1) % SLOTS;
        let nonce = writer.nonce();
        let bytes = head.seal(&writer.data, nonce)?;
        self.disk
            .write_at(slot * PAGE_BYTES, &[&bytes[..]])
            .and_then(|()| self.disk.sync())
            .map_err(|error| self.fail(error))?;
        writer.slot = slot;
        writer.synced = head;
        Ok(())
    }

    /// Opens the next epoch, durably. What redb has not synced yet stays unsaid: the head written is the last
    /// synced one, only older in nothing but its epoch.
    fn raise(&self, writer: &mut Writer) -> Result<()> {
        let mut next = writer.synced.clone();
        next.generation += 1;
        next.epoch = next.epoch.checked_add(1).ok_or(Error::Exhausted { what: "epochs" })?;
        if next.version()? != writer.data.current() {
            if next.takeovers.len() >= TAKEOVERS {
                return Err(Error::Exhausted { what: "takeovers" });
            }
            next.takeovers.push((next.epoch, writer.data.current()));
        }
        writer.session = random::array();
        writer.sealed = 0;
        self.keys.set_takeovers(next.takeovers.clone());
        self.write_slot(writer, next)?;
        writer.head.generation = writer.synced.generation;
        writer.head.epoch = writer.synced.epoch;
        writer.head.takeovers = writer.synced.takeovers.clone();
        self.epoch.store(writer.head.epoch, Ordering::Release);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.alive()?;
        if !length.is_multiple_of(PAGE_BYTES) {
            return Err(Error::Access { offset: length, length: 0 });
        }
        let mut writer = self.writer();
        let pages = length / PAGE_BYTES;
        if let Some(overlay) = &self.overlay {
            overlay.truncate(pages);
        } else {
            // A file shorter than its head says is a damaged one, so the head never runs ahead of the file.
            if length < writer.head.length {
                self.pending.write().unwrap_or_else(PoisonError::into_inner).truncate(pages);
                self.tags.truncate(&*self.disk, pages).map_err(|error| self.fail(error))?;
                let mut shorter = writer.synced.clone();
                shorter.generation += 1;
                shorter.length = length;
                self.write_slot(&mut writer, shorter)?;
            }
            writer.unsynced = true;
            let grown = length > writer.head.length;
            self.disk
                .set_len(physical_len(pages))
                .and_then(|()| if grown { self.disk.sync() } else { Ok(()) })
                .map_err(|error| self.fail(error))?;
        }
        writer.head.length = length;
        writer.head_changed = true;
        self.length.store(length, Ordering::Release);
        Ok(())
    }

    /// After a clean end both slots say the same, so that either alone will do.
    fn close(&self) -> Result<()> {
        let ended = {
            let mut writer = self.writer();
            let settled = !writer.head_changed && !writer.unsynced && writer.head.clean();
            if settled && self.overlay.is_none() && self.broken.get().is_none() {
                self.write_head(&mut writer)
            } else {
                Ok(())
            }
        };
        self.closed.store(true, Ordering::Release);
        self.disk.unlock();
        ended
    }
}

impl Writer {
    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.session);
        nonce[8..].copy_from_slice(&self.sealed.to_le_bytes());
        self.sealed += 1;
        nonce
    }
}

impl redb::StorageBackend for Sealed {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.length.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        Ok(self.0.read(offset, out)?)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Ok(self.0.set_len(length)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(self.0.sync()?)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Ok(self.0.write(offset, data)?)
    }

    fn close(&self) -> io::Result<()> {
        Ok(self.0.close()?)
    }
}
