//! Scrub and sweep: every page read and checked without redb.

use super::{
    Inner, Sealed,
    error::Result,
    layout::{Entry, PAGE},
};
use std::ops::Range;

/// What a scrub found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scrub {
    /// Pages that were ever written.
    pub pages: u64,
    /// Page numbers whose tag is wrong.
    pub wrong: Vec<u64>,
    /// After a crash and before [`Sealed::sweep`], a wrong page may be one of free space, half written and
    /// pointed to by nobody.
    pub unswept: bool,
}

impl Sealed {
    /// Reads pages, of these that there are, and checks their tags, beside readers and the writer.
    pub fn scrub(&self, pages: Range<u64>) -> Result<Scrub> {
        let inner = &self.0;
        let mut report = Scrub { unswept: inner.writer().head.unswept, ..Scrub::default() };
        // The first page lives in the head.
        let mut page = pages.start.max(1);
        while page < pages.end.min(inner.pages()) {
            let entry = inner.tags.get(&*inner.disk, page)?;
            if !entry.unwritten() {
                report.pages += 1;
                if !inner.check(page, &entry)? {
                    report.wrong.push(page);
                }
            }
            page += 1;
        }
        if let Some(page) = report.wrong.first().filter(|_| !report.unswept) {
            inner.damaged(*page);
        }
        Ok(report)
    }

    /// Pages a crash left half written may still lie in free space.
    pub fn unswept(&self) -> bool {
        self.0.writer().head.unswept
    }

    /// After a crash, once redb has opened: marks the wrong pages as unwritten, so that a later scrub only speaks
    /// of damage. A page somebody does point to stays refused, as an unwritten one. Returns how many there were.
    pub fn sweep(&self) -> Result<u64> {
        let inner = &self.0;
        let mut swept = 0;
        if inner.overlay.is_some() || !self.unswept() {
            return Ok(0);
        }
        let mut page = 1;
        while page < inner.pages() {
            if page % 128 == 1 {
                inner.alive()?;
            }
            let entry = inner.tags.get(&*inner.disk, page)?;
            if !entry.unwritten() && !inner.check(page, &entry)? {
                let mut writer = inner.active()?;
                // Written again meanwhile? Then it is right.
                if page < inner.pages() && inner.tags.get(&*inner.disk, page)? == entry {
                    inner.tags.set(page, Entry::default());
                    writer.unlogged.insert(page, Entry::default());
                    swept += 1;
                }
            }
            page += 1;
        }
        let mut writer = inner.active()?;
        writer.head.unswept = false;
        writer.head_changed = true;
        Ok(swept)
    }
}

impl Inner {
    /// Whether a page opens; looked at twice, as the writer may be busy with it, or its key be let go of.
    pub fn check(&self, page: u64, entry: &Entry) -> Result<bool> {
        let mut plain = [0; PAGE];
        let over = self.overlay.as_ref().is_some_and(|overlay| overlay.read(page, &mut plain));
        if over || matches!(self.open_page(page, entry, &mut plain), Ok(true)) {
            return Ok(true);
        }
        let _writer = self.writer();
        if page >= self.pages() {
            return Ok(true);
        }
        let entry = self.tags.get(&*self.disk, page)?;
        Ok(entry.unwritten() || self.open_page(page, &entry, &mut plain)?)
    }
}
