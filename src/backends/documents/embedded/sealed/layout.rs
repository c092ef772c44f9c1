//! Where everything stands in the file: page positions and the tag entry. The module's doc draws it.

/// Physical pages at the start: two head slots, then the log.
pub(super) const SLOTS: u64 = 2;
pub(super) const LOG: u64 = 512;
/// Bytes of a page, logical and physical, plain and sealed alike.
pub(super) const PAGE: usize = 4096;
pub(super) const PAGE_BYTES: u64 = PAGE as u64;
/// Data pages behind each tag page.
pub(super) const GROUP: u64 = 128;
/// Bytes of a page's entry in its tag page.
pub(super) const ENTRY: usize = 32;
/// What seals a head in the associated data, where a page has its number.
pub(super) const HEAD_NUMBER: u64 = u64::MAX;

pub(super) const NONCE: usize = 12;
pub(super) const TAG: usize = 16;

/// How a page was sealed: nonce (12 bytes), tag (16), epoch (4, little-endian). All zero: never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    pub nonce: [u8; NONCE],
    pub tag: [u8; TAG],
    pub epoch: u32,
}

impl Entry {
    pub fn read(bytes: &[u8; ENTRY]) -> Self {
        let mut entry = Self::default();
        entry.nonce.copy_from_slice(&bytes[..NONCE]);
        entry.tag.copy_from_slice(&bytes[NONCE..NONCE + TAG]);
        let mut epoch = [0; 4];
        epoch.copy_from_slice(&bytes[NONCE + TAG..]);
        entry.epoch = u32::from_le_bytes(epoch);
        entry
    }

    pub fn write(&self, bytes: &mut [u8; ENTRY]) {
        bytes[..NONCE].copy_from_slice(&self.nonce);
        bytes[NONCE..NONCE + TAG].copy_from_slice(&self.tag);
        bytes[NONCE + TAG..].copy_from_slice(&self.epoch.to_le_bytes());
    }

    pub fn unwritten(&self) -> bool {
        *self == Self::default()
    }
}

/// The group of a logical page.
pub(super) fn group(page: u64) -> u64 {
    page / GROUP
}

/// Physical page of a group's tag page.
pub(super) fn tag_page(group: u64) -> u64 {
    SLOTS + LOG + group * (GROUP + 1)
}

/// Physical page of a logical page.
pub(super) fn data_page(page: u64) -> u64 {
    tag_page(group(page)) + 1 + page % GROUP
}

/// Bytes of a file that holds `pages` logical pages and nothing behind.
pub(super) fn physical_len(pages: u64) -> u64 {
    match pages.checked_sub(1) {
        None => (SLOTS + LOG) * PAGE_BYTES,
        Some(last) => (data_page(last) + 1) * PAGE_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_two_pages_share_a_place(page in 0u64..1 << 40) {
            prop_assert!(data_page(page) > tag_page(group(page)));
            prop_assert!(data_page(page) < tag_page(group(page) + 1));
            prop_assert!(data_page(page + 1) > data_page(page));
            prop_assert_eq!(physical_len(page + 1), (data_page(page) + 1) * PAGE_BYTES);
        }

        #[test]
        fn an_entry_reads_as_written(nonce: [u8; 12], tag: [u8; 16], epoch: u32) {
            let entry = Entry { nonce, tag, epoch };
            let mut bytes = [0; ENTRY];
            entry.write(&mut bytes);
            prop_assert_eq!(Entry::read(&bytes), entry);
        }
    }

    #[test]
    fn the_first_pages_stand_where_the_format_says() {
        assert_eq!((tag_page(0), data_page(0), data_page(127)), (514, 515, 642));
        assert_eq!((tag_page(1), data_page(128)), (643, 644));
        assert_eq!(physical_len(0), 514 * 4096);
    }
}
