//! The entries in memory: tag pages read when needed, and over them the entries changed since the last checkpoint.

use super::{
    disk::Disk,
    layout::{ENTRY, Entry, GROUP, PAGE, PAGE_BYTES, group, tag_page},
};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

const SHARDS: usize = 16;
/// Tag pages a shard keeps: 16 shards of 128 tell of 1 GiB in 8 MiB.
const KEPT: usize = 128;

#[derive(Debug)]
struct TagPage {
    bytes: Box<[u8; PAGE]>,
    /// Read since eviction last looked.
    used: AtomicBool,
}

impl TagPage {
    fn entry(&self, page: u64) -> Entry {
        Entry::read(&self.bytes.as_chunks::<ENTRY>().0[place(page)])
    }
}

/// A page's place in its tag page.
fn place(page: u64) -> usize {
    usize::try_from(page % GROUP).expect("less than 128")
}

type Shard = HashMap<u64, TagPage>;

#[derive(Debug, Default)]
pub(super) struct Tags {
    recent: RwLock<HashMap<u64, Entry>>,
    shards: [RwLock<Shard>; SHARDS],
}

impl Tags {
    fn shard(&self, group: u64) -> &RwLock<Shard> {
        &self.shards[usize::try_from(group % SHARDS as u64).expect("less than 16")]
    }

    pub fn get(&self, disk: &dyn Disk, page: u64) -> io::Result<Entry> {
        if let Some(entry) = self.recent.read().unwrap_or_else(PoisonError::into_inner).get(&page) {
            return Ok(*entry);
        }
        let group = group(page);
        let shard = self.shard(group);
        if let Some(found) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&group) {
            found.used.store(true, Ordering::Relaxed);
            return Ok(found.entry(page));
        }
        // Read under the lock: otherwise a checkpoint could change, write and release the page meanwhile, and its
        // old bytes be put back here.
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        Ok(load(&mut shard, disk, group)?.entry(page))
    }

    /// In memory only, until the log or a checkpoint writes it.
    pub fn set(&self, page: u64, entry: Entry) {
        self.recent.write().unwrap_or_else(PoisonError::into_inner).insert(page, entry);
    }

    /// Entries of the last group that lie behind the end: to be made unwritten.
    pub fn behind(&self, disk: &dyn Disk, pages: u64) -> io::Result<Vec<u64>> {
        let mut left = Vec::new();
        for page in pages..pages.next_multiple_of(GROUP) {
            if !self.get(disk, page)?.unwritten() {
                left.push(page);
            }
        }
        Ok(left)
    }

    /// Forgets everything of the groups wholly behind the end.
    pub fn truncate(&self, pages: u64) {
        let whole = pages.div_ceil(GROUP);
        self.recent.write().unwrap_or_else(PoisonError::into_inner).retain(|page, _| group(*page) < whole);
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|group, _| *group < whole);
        }
    }

    /// Writes every entry changed since the last checkpoint to its tag page. They count as recent until
    /// [`Tags::settle`], once the disk has synced.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut groups: BTreeMap<u64, Vec<(u64, Entry)>> = BTreeMap::new();
        for (page, entry) in &*self.recent.read().unwrap_or_else(PoisonError::into_inner) {
            groups.entry(group(*page)).or_default().push((*page, *entry));
        }
        for (group, entries) in groups {
            // Changed and written under one lock, so that nobody reads the old page from the disk in between.
            let mut shard = self.shard(group).write().unwrap_or_else(PoisonError::into_inner);
            let found = load(&mut shard, disk, group)?;
            for (page, entry) in entries {
                entry.write(&mut found.bytes.as_chunks_mut::<ENTRY>().0[place(page)]);
            }
            disk.write_at(tag_page(group) * PAGE_BYTES, &found.bytes[..])?;
        }
        Ok(())
    }

    pub fn settle(&self) {
        self.recent.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn load<'a>(shard: &'a mut Shard, disk: &dyn Disk, group: u64) -> io::Result<&'a mut TagPage> {
    if !shard.contains_key(&group) {
        let mut bytes = Box::new([0; PAGE]);
        disk.read_at(tag_page(group) * PAGE_BYTES, &mut bytes[..])?;
        if shard.len() >= KEPT {
            // Those nobody read since the last time.
            shard.retain(|_, found| found.used.swap(false, Ordering::Relaxed));
        }
        shard.insert(group, TagPage { bytes, used: AtomicBool::new(false) });
    }
    Ok(shard.get_mut(&group).expect("inserted above"))
}
