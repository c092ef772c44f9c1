//! Pages sealed anew under the key in use, where they stand, beside readers and the writer.
//!
//! Only here is a page written over that somebody points to. So what is to stand there is first synced behind the end
//! of the file, and after a crash put where it belongs. It counts beside the head it names alone: with the next one
//! all of it is in place.
//!
//! ```text
//! physical page   end … end + 3                                     end + 4 …
//!                 blocks as the log's: their cycle is the head's    the pages, as sealed, in the order of the items
//!                 generation, their place 512 and on
//! ```

use super::{
    Inner, Sealed,
    error::{Error, Result},
    file::Writer,
    head::Head,
    keys::Takeovers,
    layout::{Entry, LOG, PAGE, PAGE_BYTES, data_page, physical_len},
    log,
};
use std::{collections::BTreeMap, io, ops::Range};

/// Of a move, which holds commits up for two syncs: 404 pages, 1.6 MiB written twice.
const BLOCKS: usize = 4;
const MOST: usize = BLOCKS * log::ITEMS;
/// Not worth a look at every tag.
const KEPT_TAKEOVERS: usize = 8;
/// Tags looked at under one lock.
const LOOKED_AT: u64 = 4096;

struct Moved {
    page: u64,
    entry: Entry,
    sealed: Box<[u8; PAGE]>,
}

impl Sealed {
    /// Seals anew those of these pages that another key seals than the one in use. Answers how many. A damaged page
    /// stays as it is. Between two moves `pause` is called, with the file free for others.
    pub fn reseal(&self, pages: Range<u64>, pause: &mut dyn FnMut()) -> Result<u64> {
        let inner = &self.0;
        let (mut moved, mut page) = (0, pages.start.max(1));
        loop {
            let mut writer = inner.active()?;
            let end = pages.end.min(inner.pages());
            if page >= end {
                inner.cut_spare(&mut writer)?;
                drop(writer);
                if page >= inner.pages() {
                    inner.forget_takeovers()?;
                }
                return Ok(moved);
            }
            if inner.overlay.is_some() {
                return Err(Error::Io(io::ErrorKind::ReadOnlyFilesystem.into()));
            }
            let found = inner.under_other_keys(&writer, &mut page, end)?;
            if !found.is_empty() {
                moved += inner.move_over(&mut writer, &found)?;
                drop(writer);
                pause();
            }
        }
    }

    /// Pages by the version of the key that seals them, by their tags: one no page uses opens nothing any more.
    pub fn key_versions(&self) -> Result<BTreeMap<u32, u64>> {
        let inner = &self.0;
        let mut versions = BTreeMap::new();
        let mut page = 1;
        while page < inner.pages() {
            let entry = inner.tags.get(&*inner.disk, page)?;
            if !entry.unwritten() {
                *versions.entry(inner.keys.version(entry.epoch).unwrap_or_default()).or_default() += 1;
            }
            page += 1;
        }
        Ok(versions)
    }
}

impl Inner {
    /// The next ones, with their entries; `page` moves on.
    fn under_other_keys(&self, writer: &Writer, page: &mut u64, end: u64) -> Result<Vec<(u64, Entry)>> {
        let mut found = Vec::new();
        let last = end.min(*page + LOOKED_AT);
        while *page < last && found.len() < MOST {
            let entry = self.tags.get(&*self.disk, *page)?;
            if !entry.unwritten() && self.keys.version(entry.epoch) != Some(writer.data.current()) {
                found.push((*page, entry));
            }
            *page += 1;
        }
        Ok(found)
    }

    fn move_over(&self, writer: &mut Writer, found: &[(u64, Entry)]) -> Result<u64> {
        if self.disk.headroom()? < (2 * MOST * PAGE) as u64 {
            return Err(Error::Io(io::ErrorKind::StorageFull.into()));
        }
        let most = u32::try_from(2 * MOST).expect("some hundreds");
        if writer.sealed.saturating_add(most) >= self.writes_per_epoch {
            self.raise(writer)?;
        }
        if writer.head.length != writer.synced.length {
            // The file is as long, durably, before the head says so: where its end is must not change under a move.
            let head = Head { length: writer.head.length, ..writer.synced.clone() };
            self.checkpoint(writer, head)?;
        }
        if writer.beside != writer.synced.cycle {
            // Moves are in the log of this cycle, which whichever head is read must name.
            self.write_slot(writer, writer.synced.clone())?;
        }
        let mut moved = Vec::with_capacity(found.len());
        for (page, entry) in found {
            let mut bytes = Box::new([0; PAGE]);
            if !self.open_page(*page, entry, &mut bytes[..])? {
                // Half written and in free space, or damaged: sealed anew it would pass for sound.
                if !writer.head.unswept {
                    self.damaged(*page);
                }
                continue;
            }
            let nonce = writer.nonce();
            let entry = self.keys.seal(*page, writer.head.epoch, nonce, &mut bytes)?;
            moved.push(Moved { page: *page, entry, sealed: bytes });
        }
        self.write_spare(writer, &moved)?;
        for Moved { page, entry, sealed } in &moved {
            self.disk.write_at(data_page(*page) * PAGE_BYTES, &sealed[..]).map_err(|error| self.fail(error))?;
            self.tags.set(*page, *entry);
            writer.unlogged.insert(*page, *entry);
            writer.unsynced = true;
        }
        self.settle(writer)?;
        Ok(moved.len() as u64)
    }

    /// Nothing is in place yet: where this fails, nothing was moved.
    fn write_spare(&self, writer: &mut Writer, moved: &[Moved]) -> Result<()> {
        writer.spare = true;
        let start = physical_len(self.pages()) / PAGE_BYTES;
        let entries: Vec<(u64, Entry)> = moved.iter().map(|moved| (moved.page, moved.entry)).collect();
        for (place, items) in (0..).zip(entries.chunks(log::ITEMS)) {
            let (nonce, generation) = (writer.nonce(), writer.synced.generation);
            let block = log::seal(&self.keys, generation, LOG + place, writer.head.epoch, nonce, items)?;
            self.disk.write_at((start + place) * PAGE_BYTES, &block[..])?;
        }
        for (place, moved) in (start + BLOCKS as u64..).zip(moved) {
            self.disk.write_at(place * PAGE_BYTES, &moved.sealed[..])?;
        }
        // It takes along what redb wrote and has not synced: where it fails, that may be lost.
        self.disk.sync().map_err(|error| self.fail(error))
    }

    /// Makes what was written durable, with its entries, and not a word of what redb has not synced.
    fn settle(&self, writer: &mut Writer) -> Result<()> {
        let blocks = log::blocks(writer.unlogged.len());
        if writer.logged + blocks > self.log_blocks {
            return self.checkpoint(writer, writer.synced.clone());
        }
        self.log(writer)?;
        self.disk.sync().map_err(|error| self.fail(error))?;
        writer.unlogged.clear();
        writer.logged += blocks;
        writer.unsynced = false;
        Ok(())
    }

    /// Lets go of takeovers by keys that seal no page any more: a head has room for so many only.
    fn forget_takeovers(&self) -> Result<()> {
        let all = self.writer().synced.takeovers.clone();
        if all.len() <= KEPT_TAKEOVERS {
            return Ok(());
        }
        let (mut used, mut page) = (vec![false; all.len()], 1);
        while page < self.pages() {
            let epoch = self.tags.get(&*self.disk, page)?.epoch;
            if let Some(at) = all.iter().rposition(|(first, _)| *first <= epoch) {
                used[at] = true;
            }
            page += 1;
        }
        // The last one is in use, whatever it has sealed.
        used[all.len() - 1] = true;
        let mut writer = self.active()?;
        if writer.synced.takeovers != all {
            return Ok(());
        }
        let kept: Takeovers =
            all.into_iter().zip(used).filter_map(|(takeover, used)| used.then_some(takeover)).collect();
        writer.head.takeovers.clone_from(&kept);
        self.keys.set_takeovers(kept.clone());
        let head = Head { takeovers: kept, ..writer.synced.clone() };
        self.checkpoint(&mut writer, head)
    }

    /// What lies behind the end must not become pages when the file grows.
    pub fn cut_spare(&self, writer: &mut Writer) -> Result<()> {
        if std::mem::take(&mut writer.spare) {
            self.disk.set_len(physical_len(self.pages())).map_err(|error| self.fail(error))?;
        }
        Ok(())
    }

    /// On opening: puts what a crash cut short where it belongs. Durable with the next checkpoint.
    pub fn take_spare(&self, writer: &mut Writer) -> Result<()> {
        let pages = self.pages();
        let start = physical_len(pages) / PAGE_BYTES;
        if self.disk.len()? <= start * PAGE_BYTES {
            return Ok(());
        }
        for place in 0..BLOCKS as u64 {
            let mut block = Box::new([0; PAGE]);
            self.disk.read_at((start + place) * PAGE_BYTES, &mut block[..])?;
            let items = log::open(&self.keys, writer.head.generation, LOG + place, writer.head.epoch, &block)?;
            let first = start + BLOCKS as u64 + place * log::ITEMS as u64;
            for (at, (page, entry)) in (first..).zip(items) {
                let (mut sealed, mut plain) = (Box::new([0; PAGE]), Box::new([0; PAGE]));
                self.disk.read_at(at * PAGE_BYTES, &mut sealed[..])?;
                // Left by an earlier move, or torn before anything was put in place.
                if page >= pages || !self.keys.open(page, &entry, &sealed[..], &mut plain[..], writer.head.epoch)? {
                    continue;
                }
                match &self.overlay {
                    Some(overlay) => overlay.write(page, &plain),
                    None => {
                        self.disk.write_at(data_page(page) * PAGE_BYTES, &sealed[..])?;
                        self.tags.set(page, entry);
                        writer.unlogged.insert(page, entry);
                    }
                }
            }
        }
        Ok(())
    }
}
