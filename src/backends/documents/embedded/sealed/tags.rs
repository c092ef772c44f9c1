//! The tag pages in memory: read when needed, changed here, written before the sync that makes them count.

use super::{
    disk::Disk,
    layout::{ENTRY, Entry, GROUP, PAGE, PAGE_BYTES, group, tag_page},
};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

const SHARDS: usize = 16;
/// Clean tag pages a shard keeps: 16 shards of 128 tell of 1 GiB in 8 MiB.
const KEPT: usize = 128;

#[derive(Debug)]
struct TagPage {
    bytes: Box<[u8; PAGE]>,
    dirty: bool,
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

#[derive(Debug, Default)]
pub(super) struct Tags {
    shards: [RwLock<HashMap<u64, TagPage>>; SHARDS],
    dirty: Mutex<BTreeSet<u64>>,
}

impl Tags {
    fn shard(&self, group: u64) -> &RwLock<HashMap<u64, TagPage>> {
        &self.shards[usize::try_from(group % SHARDS as u64).expect("less than 16")]
    }

    pub fn get(&self, disk: &dyn Disk, page: u64) -> io::Result<Entry> {
        let group = group(page);
        let shard = self.shard(group);
        if let Some(found) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&group) {
            found.used.store(true, Ordering::Relaxed);
            return Ok(found.entry(page));
        }
        // Under the lock: read without it, a tag page could be changed, written and dropped meanwhile, and its
        // old bytes put back here.
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        Ok(load(&mut shard, disk, group)?.entry(page))
    }

    pub fn set(&self, disk: &dyn Disk, page: u64, entry: &Entry) -> io::Result<()> {
        let group = group(page);
        let mut shard = self.shard(group).write().unwrap_or_else(PoisonError::into_inner);
        let found = load(&mut shard, disk, group)?;
        entry.write(&mut found.bytes.as_chunks_mut::<ENTRY>().0[place(page)]);
        if !found.dirty {
            found.dirty = true;
            self.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(group);
        }
        Ok(())
    }

    /// Forgets everything from `pages` on: later pages of the last group become unwritten ones.
    pub fn truncate(&self, disk: &dyn Disk, pages: u64) -> io::Result<()> {
        let whole = pages.div_ceil(GROUP);
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|group, _| *group < whole);
        }
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner).split_off(&whole);
        for page in pages..whole * GROUP {
            if !self.get(disk, page)?.unwritten() {
                self.set(disk, page, &Entry::default())?;
            }
        }
        Ok(())
    }

    /// Copies of the changed tag pages, by physical page; they stay marked until [`Tags::written`].
    pub fn changed(&self) -> Vec<(u64, Box<[u8; PAGE]>)> {
        let dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let copy = |group| {
            let shard = self.shard(group).read().unwrap_or_else(PoisonError::into_inner);
            shard.get(&group).map(|found| (tag_page(group), found.bytes.clone()))
        };
        dirty.into_iter().filter_map(copy).collect()
    }

    pub fn written(&self) {
        let groups = std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        for group in groups {
            let mut shard = self.shard(group).write().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = shard.get_mut(&group) {
                found.dirty = false;
            }
        }
    }
}

fn load<'a>(shard: &'a mut HashMap<u64, TagPage>, disk: &dyn Disk, group: u64) -> io::Result<&'a mut TagPage> {
    if !shard.contains_key(&group) {
        let mut bytes = Box::new([0; PAGE]);
        disk.read_at(tag_page(group) * PAGE_BYTES, &mut bytes[..])?;
        if shard.len() >= KEPT {
            evict(shard);
        }
        shard.insert(group, TagPage { bytes, dirty: false, used: AtomicBool::new(false) });
    }
    Ok(shard.get_mut(&group).expect("inserted above"))
}

/// Drops clean tag pages nobody read since the last time.
fn evict(shard: &mut HashMap<u64, TagPage>) {
    shard.retain(|_, found| found.dirty || found.used.swap(false, Ordering::Relaxed));
}
