//! The sealed file beside a plain vector, through writes, growth, shrinking, syncs and reopenings.

use super::{super::layout::PAGE, *};
use crate::backends::documents::embedded::sealed::tests::disk::MemoryDisk;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Length(u8),
    Header(u16, u8),
    Pages { first: u8, pages: u8, fill: u8 },
    Read { offset: u32, length: u16 },
    Sync,
    Reopen,
    Rotate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => any::<u8>().prop_map(Step::Length),
        1 => (9u16..300, any::<u8>()).prop_map(|(at, fill)| Step::Header(at, fill)),
        6 => (1u8.., 1u8..5, any::<u8>()).prop_map(|(first, pages, fill)| Step::Pages { first, pages, fill }),
        4 => (any::<u32>(), 1u16..9000).prop_map(|(offset, length)| Step::Read { offset, length }),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rotate),
    ]
}

/// The bytes, and which pages were ever written.
struct Plain {
    bytes: Vec<u8>,
    written: Vec<bool>,
}

impl Plain {
    fn resize(&mut self, pages: usize) {
        self.bytes.resize(pages * PAGE, 0);
        self.written.resize(pages, false);
    }
}

fn check(sealed: &Sealed, plain: &Plain, offset: usize, length: usize) -> Result<(), TestCaseError> {
    let mut found = vec![0xAA; length];
    let whole = offset + length <= plain.bytes.len();
    let mut pages = offset / PAGE..(offset + length).div_ceil(PAGE);
    match sealed.0.read(offset as u64, &mut found) {
        Ok(()) => {
            prop_assert!(whole, "read behind the end");
            prop_assert_eq!(&found[..], &plain.bytes[offset..offset + length]);
            prop_assert!(pages.all(|page| page == 0 || plain.written[page]), "an unwritten page was served");
        }
        Err(Error::Access { .. }) => prop_assert!(!whole),
        Err(Error::Page { page }) => prop_assert!(!plain.written[usize::try_from(page).unwrap()]),
        Err(other) => return Err(TestCaseError::fail(other.to_string())),
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_reads_as_a_plain_file_does(steps in proptest::collection::vec(step(), 1..80)) {
        let disk = MemoryDisk::default();
        let mut keys = keys();
        let mut versions = 1;
        let mut sealed = Sealed::create_on(Box::new(disk.clone()), keys.clone(), STAMP)?;
        let mut plain = Plain { bytes: Vec::new(), written: Vec::new() };
        // As redb does first.
        sealed.0.set_len(4 * PAGE as u64)?;
        plain.resize(4);
        // The flags of a two-phase commit, so that reopening reads strictly.
        let header = b"redb\x1A\x0A\xA9\x0D\x0A\x04";
        sealed.0.write(0, header)?;
        plain.bytes[..header.len()].copy_from_slice(header);
        for step in steps {
            match step {
                Step::Length(pages) => {
                    let pages = usize::from(pages).max(1);
                    sealed.0.set_len((pages * PAGE) as u64)?;
                    plain.resize(pages);
                }
                Step::Header(at, fill) => {
                    let at = usize::from(at).max(10);
                    sealed.0.write(at as u64, &[fill; 7])?;
                    plain.bytes[at..at + 7].fill(fill);
                }
                Step::Pages { first, pages, fill } => {
                    let (first, pages) = (usize::from(first), usize::from(pages));
                    let fits = (first + pages) * PAGE <= plain.bytes.len();
                    let outcome = sealed.0.write((first * PAGE) as u64, &vec![fill; pages * PAGE]);
                    prop_assert_eq!(outcome.is_ok(), fits);
                    if fits {
                        plain.bytes[first * PAGE..(first + pages) * PAGE].fill(fill);
                        plain.written[first..first + pages].fill(true);
                    }
                }
                Step::Read { offset, length } => {
                    let offset = offset as usize % (plain.bytes.len() + PAGE);
                    check(&sealed, &plain, offset, usize::from(length))?;
                }
                Step::Sync => sealed.0.sync()?,
                Step::Rotate => {
                    versions += 1;
                    let mut next = DataKeys::new(versions, [u8::try_from(versions).unwrap(); 32]);
                    for version in 1..versions {
                        next = next.with(version, [u8::try_from(version).unwrap(); 32]);
                    }
                    sealed.set_keys(next.clone())?;
                    keys = next;
                }
                Step::Reopen => {
                    sealed.0.sync()?;
                    sealed.0.close()?;
                    sealed = Sealed::open_on(Box::new(disk.clone()), keys.clone(), STAMP)?;
                    prop_assert!(!sealed.fell_back());
                }
            }
        }
        for page in 0..plain.written.len() {
            check(&sealed, &plain, page * PAGE, PAGE)?;
        }
        let report = sealed.scrub(0..u64::MAX)?;
        prop_assert_eq!(report.wrong, Vec::<u64>::new());
        prop_assert_eq!(report.pages as usize, plain.written.iter().skip(1).filter(|written| **written).count());
    }
}

/// The first step in an epoch reseals with fresh nonces: no (key, nonce) pair ever comes twice.
#[test]
fn an_epoch_ends_after_its_writes_and_no_nonce_comes_twice() {
    let disk = MemoryDisk::default();
    let mut sealed = Sealed::create_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    std::sync::Arc::get_mut(&mut sealed.0).unwrap().writes_per_epoch = 10;
    sealed.0.set_len(64 * PAGE as u64).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for turn in 0..6 {
        for page in 1..8u64 {
            sealed.0.write(page * PAGE as u64, &[turn; PAGE]).unwrap();
            let entry = sealed.0.tags.get(&*sealed.0.disk, page).unwrap();
            assert!(seen.insert((entry.epoch, entry.nonce)), "turn {turn}, page {page}");
        }
        sealed.0.sync().unwrap();
    }
    let epochs: std::collections::BTreeSet<u32> = seen.iter().map(|(epoch, _)| *epoch).collect();
    assert!(epochs.len() >= 4, "{epochs:?}");
    let mut found = [0; PAGE];
    for page in 1..8u64 {
        sealed.0.read(page * PAGE as u64, &mut found).unwrap();
        assert_eq!(found, [5; PAGE]);
    }
}
