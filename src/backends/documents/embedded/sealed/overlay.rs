//! Writes kept in memory over a file that is only read.

use super::layout::PAGE;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

pub(super) struct Overlay {
    pages: RwLock<HashMap<u64, Box<[u8; PAGE]>>>,
    /// Pages of the file below from here on were cut off and stay so.
    end: AtomicU64,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Overlay")
    }
}

impl Overlay {
    pub fn over(pages: u64) -> Self {
        Self { pages: RwLock::default(), end: AtomicU64::new(pages) }
    }

    /// The file's own page does not count any more.
    pub fn hides(&self, page: u64) -> bool {
        page >= self.end.load(Ordering::Acquire)
    }

    /// `false`: the page was not written since.
    pub fn read(&self, page: u64, out: &mut [u8]) -> bool {
        match self.pages.read().unwrap_or_else(PoisonError::into_inner).get(&page) {
            Some(bytes) => {
                out.copy_from_slice(&bytes[..]);
                true
            }
            None => false,
        }
    }

    pub fn write(&self, page: u64, bytes: &[u8; PAGE]) {
        self.pages.write().unwrap_or_else(PoisonError::into_inner).insert(page, Box::new(*bytes));
    }

    pub fn truncate(&self, pages: u64) {
        self.end.fetch_min(pages, Ordering::AcqRel);
        self.pages.write().unwrap_or_else(PoisonError::into_inner).retain(|page, _| *page < pages);
    }
}
