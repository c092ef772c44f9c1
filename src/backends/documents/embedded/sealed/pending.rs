//! Sealed pages not yet handed to the disk, gathered so that neighbours go out in one write.

use super::{
    disk::Disk,
    layout::{PAGE, PAGE_BYTES, data_page},
};
use std::{collections::HashMap, io};

/// Pages gathered at most before they are written: 4 MiB.
pub(super) const GATHERED: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Pending {
    places: HashMap<u64, usize>,
    bytes: Vec<u8>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn full(&self) -> bool {
        self.places.len() >= GATHERED
    }

    pub fn get(&self, page: u64) -> Option<&[u8]> {
        let at = *self.places.get(&page)?;
        self.bytes.get(at..at + PAGE)
    }

    pub fn put(&mut self, page: u64, sealed: &[u8; PAGE]) {
        match self.places.get(&page) {
            Some(at) => self.bytes[*at..*at + PAGE].copy_from_slice(sealed),
            None => {
                self.places.insert(page, self.bytes.len());
                self.bytes.extend_from_slice(sealed);
            }
        }
    }

    pub fn clear(&mut self) {
        self.places.clear();
        self.bytes.clear();
    }

    /// Writes all, neighbours in one go.
    pub fn write(&self, disk: &dyn Disk) -> io::Result<()> {
        let places = self.places.iter().map(|(page, at)| (data_page(*page), *at));
        let mut all: Vec<(u64, &[u8])> = places.map(|(page, at)| (page, &self.bytes[at..at + PAGE])).collect();
        all.sort_unstable_by_key(|(page, _)| *page);
        for run in all.chunk_by(|one, next| one.0 + 1 == next.0) {
            let slices: Vec<&[u8]> = run.iter().map(|(_, bytes)| *bytes).collect();
            disk.write_at(run[0].0 * PAGE_BYTES, &slices)?;
        }
        Ok(())
    }
}
