//! The file at work: pages read and sealed, syncs, checkpoints, epochs, length, end.

use super::{
    DataKeys,
    disk::Disk,
    error::{Error, Result},
    head::{HEADER, Head, TAKEOVERS},
    keys::PageKeys,
    layout::{Entry, PAGE, PAGE_BYTES, SLOTS, data_page, physical_len},
    log,
    open::random_cycle,
    overlay::Overlay,
    tags::Tags,
};
use crate::base::random;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

/// Writes under one epoch before the next is opened.
pub(super) const WRITES: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Inner {
    pub disk: Box<dyn Disk>,
    pub keys: PageKeys,
    pub tags: Tags,
    /// Present when nothing is to be written to the disk.
    pub overlay: Option<Overlay>,
    pub writer: Mutex<Writer>,
    /// Bytes redb sees.
    pub length: AtomicU64,
    /// The newest epoch; entries beyond it are wrong.
    pub epoch: AtomicU32,
    /// Wrong pages read as zeros: redb is checking by its own checksums.
    pub lenient: AtomicBool,
    /// One head slot was unreadable at opening.
    pub fell_back: bool,
    /// Pages redb asked for.
    pub read: AtomicU64,
    /// Why nothing is written any more.
    pub broken: OnceLock<String>,
    /// The first page found damaged.
    pub damage: OnceLock<u64>,
    pub closed: AtomicBool,
    /// [`WRITES`], less in tests.
    pub writes_per_epoch: u32,
    /// [`super::layout::LOG`], less in tests.
    pub log_blocks: u64,
}

/// What only one thread at a time may touch.
#[derive(Debug)]
pub(super) struct Writer {
    pub data: DataKeys,
    /// As it stands in memory.
    pub head: Head,
    /// As it was synced last.
    pub synced: Head,
    /// The slot synced last: not to be touched before the other one is.
    pub slot: u64,
    /// The cycle that the other one names; 0: unknown.
    pub beside: u64,
    /// Entries changed since the last sync.
    pub unlogged: BTreeMap<u64, Entry>,
    /// Blocks of the log in use.
    pub logged: u64,
    pub head_changed: bool,
    /// Something went to the disk since the last sync.
    pub unsynced: bool,
    /// Something lies behind the end of the file.
    pub spare: bool,
    /// First bytes of the nonces of this epoch.
    pub session: [u8; 8],
    pub sealed: u32,
}

impl Inner {
    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn alive(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match self.broken.get() {
            Some(cause) => Err(Error::Broken { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// The writer, if anything is still to be written.
    pub fn active(&self) -> Result<MutexGuard<'_, Writer>> {
        let writer = self.writer();
        self.alive()?;
        Ok(writer)
    }

    /// Notes that a write failed: what is on the medium is unknown, so nothing more is written or acknowledged.
    pub fn fail<E: Into<Error>>(&self, error: E) -> Error {
        let error = error.into();
        let _ = self.broken.set(error.to_string());
        error
    }

    pub fn pages(&self) -> u64 {
        self.length.load(Ordering::Acquire) / PAGE_BYTES
    }

    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
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

    pub fn read_page(&self, page: u64, out: &mut [u8]) -> Result<()> {
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
        // An entry that was found a moment too early may not even name a key any more: that is no damage yet.
        if !entry.unwritten() && (matches!(self.open_page(page, &entry, out), Ok(true)) || self.opens_now(page, out)?) {
            return Ok(());
        }
        out.fill(0);
        if self.lenient.load(Ordering::Acquire) {
            return Ok(());
        }
        self.damaged(page);
        Err(Error::Page { page })
    }

    /// Whether a page opens while nobody writes: meanwhile it may have been sealed anew, or written.
    fn opens_now(&self, page: u64, out: &mut [u8]) -> Result<bool> {
        let _writer = self.writer();
        let entry = self.tags.get(&*self.disk, page)?;
        Ok(!entry.unwritten() && self.open_page(page, &entry, out)?)
    }

    /// Notes and tells, once, that a page is damaged.
    pub fn damaged(&self, page: u64) {
        if self.damage.set(page).is_ok() {
            tracing::error!(page, "a page of the database is damaged; restore the last backup before a restart");
        }
    }

    /// Reads and opens a page; `false`: its tag is wrong.
    pub fn open_page(&self, page: u64, entry: &Entry, out: &mut [u8]) -> Result<bool> {
        let mut sealed = [0; PAGE];
        self.disk.read_at(data_page(page) * PAGE_BYTES, &mut sealed)?;
        self.keys.open(page, entry, &sealed, out, self.epoch.load(Ordering::Acquire))
    }

    pub fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut writer = self.active()?;
        let refused = Error::Access { offset, length: data.len() as u64 };
        let Some(end) = offset.checked_add(data.len() as u64) else { return Err(refused) };
        if end > self.length.load(Ordering::Acquire) {
            return Err(refused);
        }
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

    pub fn write_page(&self, writer: &mut Writer, page: u64, bytes: &[u8; PAGE]) -> Result<()> {
        if writer.sealed >= self.writes_per_epoch {
            self.raise(writer)?;
        }
        let mut sealed = *bytes;
        let nonce = writer.nonce();
        let entry = self.keys.seal(page, writer.head.epoch, nonce, &mut sealed)?;
        self.tags.set(page, entry);
        writer.unlogged.insert(page, entry);
        writer.unsynced = true;
        self.disk.write_at(data_page(page) * PAGE_BYTES, &sealed).map_err(|error| self.fail(error))?;
        if log::blocks(writer.unlogged.len()) >= self.log_blocks {
            // A transaction larger than the log: its pages are nobody's yet, so their entries may go ahead of it.
            self.checkpoint(writer, writer.synced.clone())?;
        }
        Ok(())
    }

    pub fn sync(&self) -> Result<()> {
        let mut writer = self.active()?;
        if self.overlay.is_some() {
            return Ok(());
        }
        if writer.sealed >= self.writes_per_epoch {
            self.raise(&mut writer)?;
        }
        let blocks = log::blocks(writer.unlogged.len());
        if writer.logged + blocks > self.log_blocks {
            let head = writer.head.clone();
            self.checkpoint(&mut writer, head)?;
            writer.head_changed = false;
            return Ok(());
        }
        self.log(&mut writer)?;
        if writer.head_changed {
            let head = writer.head.clone();
            self.write_slot(&mut writer, head)?;
            writer.head_changed = false;
        } else if writer.unsynced {
            self.disk.sync().map_err(|error| self.fail(error))?;
        }
        writer.unlogged.clear();
        writer.logged += blocks;
        writer.unsynced = false;
        Ok(())
    }

    /// Writes the entries changed since the last sync to the next blocks of the log.
    pub fn log(&self, writer: &mut Writer) -> Result<()> {
        if writer.unlogged.is_empty() {
            return Ok(());
        }
        let entries: Vec<(u64, Entry)> = writer.unlogged.iter().map(|(page, entry)| (*page, *entry)).collect();
        for (place, items) in (writer.logged..).zip(entries.chunks(log::ITEMS)) {
            let nonce = writer.nonce();
            let block = log::seal(&self.keys, writer.synced.cycle, place, writer.head.epoch, nonce, items)?;
            writer.unsynced = true;
            self.disk.write_at(log::position(place), &block[..]).map_err(|error| self.fail(error))?;
        }
        Ok(())
    }

    /// Takes all entries to their tag pages and empties the log. `head` is what is to be durable with them.
    pub fn checkpoint(&self, writer: &mut Writer, mut head: Head) -> Result<()> {
        self.tags.write(&*self.disk).and_then(|()| self.disk.sync()).map_err(|error| self.fail(error))?;
        head.cycle = random_cycle();
        self.write_slot(writer, head)?;
        self.tags.settle();
        writer.unlogged.clear();
        writer.logged = 0;
        writer.unsynced = false;
        Ok(())
    }

    /// Writes a head to the slot not synced last, and syncs.
    pub fn write_slot(&self, writer: &mut Writer, mut head: Head) -> Result<()> {
        head.generation = writer.synced.generation + 1;
        let slot = (writer.slot + 1) % SLOTS;
        let nonce = writer.nonce();
        let bytes = head.seal(&writer.data, nonce)?;
        self.disk
            .write_at(slot * PAGE_BYTES, &bytes[..])
            .and_then(|()| self.disk.sync())
            .map_err(|error| self.fail(error))?;
        writer.slot = slot;
        writer.beside = writer.synced.cycle;
        writer.head.generation = head.generation;
        writer.head.epoch = head.epoch;
        writer.head.cycle = head.cycle;
        writer.synced = head;
        Ok(())
    }

    /// Opens the next epoch, durably. What redb has not synced yet stays unsaid: the head written is the last
    /// synced one in all but its epoch.
    pub fn raise(&self, writer: &mut Writer) -> Result<()> {
        let mut next = writer.synced.clone();
        next.epoch = next.epoch.checked_add(1).ok_or(Error::Exhausted { what: "epochs" })?;
        if next.version()? != writer.data.current() {
            match next.takeovers.len() < TAKEOVERS {
                true => next.takeovers.push((next.epoch, writer.data.current())),
                // Better the key before than no database; sealing anew makes room.
                false => tracing::warn!("the file has had too many keys: it goes on under the one before"),
            }
        }
        writer.session = random::array();
        writer.sealed = 0;
        let epoch = next.epoch;
        self.keys.set_takeovers(next.takeovers.clone());
        writer.head.takeovers.clone_from(&next.takeovers);
        self.checkpoint(writer, next)?;
        self.epoch.store(epoch, Ordering::Release);
        Ok(())
    }

    pub fn set_len(&self, length: u64) -> Result<()> {
        let mut writer = self.active()?;
        if !length.is_multiple_of(PAGE_BYTES) {
            return Err(Error::Access { offset: length, length: 0 });
        }
        let pages = length / PAGE_BYTES;
        if let Some(overlay) = &self.overlay {
            overlay.truncate(pages);
        } else {
            // A file shorter than its head says is a damaged one, so the head never runs ahead of the file.
            if length < writer.head.length {
                // Nothing of what is cut off may come back by the log.
                let synced = writer.synced.clone();
                self.checkpoint(&mut writer, Head { length, ..synced })?;
                self.tags.truncate(pages);
                for page in self.tags.behind(&*self.disk, pages)? {
                    self.tags.set(page, Entry::default());
                    writer.unlogged.insert(page, Entry::default());
                }
            }
            self.cut_spare(&mut writer)?;
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
    pub fn close(&self) -> Result<()> {
        let ended = {
            let mut writer = self.writer();
            let settled = !writer.head_changed && !writer.unsynced && writer.head.clean();
            if settled && self.overlay.is_none() && self.broken.get().is_none() {
                let head = writer.head.clone();
                self.checkpoint(&mut writer, head)
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
    pub fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.session);
        nonce[8..].copy_from_slice(&self.sealed.to_le_bytes());
        self.sealed += 1;
        nonce
    }
}
