//! Damage by accident or intent: detected or harmless, never other data, never a panic.

use super::{
    super::{
        disk::Disk,
        layout::{GROUP, PAGE, data_page, tag_page},
    },
    crash::Dice,
    disk::MemoryDisk,
    *,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A database of a few hundred rows, ended in order or not, and what it holds.
fn filled(clean: bool) -> (Vec<u8>, Model) {
    filled_by(clean, keys())
}

fn filled_by(clean: bool, keys: DataKeys) -> (Vec<u8>, Model) {
    let disk = MemoryDisk::default();
    let sealed = Sealed::create_on(Box::new(disk.clone()), keys, STAMP).unwrap();
    let database = database(&sealed).unwrap();
    sealed.opened();
    let mut model = Model::new();
    for round in 0..8u64 {
        let transaction = database.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for row in 0..40u64 {
                let key = (row * 37 + round * 11) % 300;
                let value = vec![(row + round) as u8; 300 + (row as usize * 211) % 5000];
                table.insert(key, value.as_slice()).unwrap();
                model.insert(key, value);
            }
        }
        transaction.commit().unwrap();
    }
    if clean {
        drop(database);
        (disk.bytes(), model)
    } else {
        let bytes = disk.bytes();
        disk.fail_after(0);
        (bytes, model)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Right,
    Refused,
    /// The commit before the last one.
    Earlier,
}

/// Opens an image and reads all of it.
fn outcome(image: &[u8], expected: &Model) -> Result<Outcome, String> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let disk = MemoryDisk::holding(image.to_vec());
        let sealed = match Sealed::open_on(Box::new(disk), keys(), STAMP) {
            Ok(sealed) => sealed,
            Err(_) => return Ok(Outcome::Refused),
        };
        let database = match database(&sealed) {
            Ok(database) => database,
            Err(_) => return Ok(Outcome::Refused),
        };
        sealed.opened();
        match contents(&database) {
            Ok(found) if found == *expected => Ok(Outcome::Right),
            Ok(found) if found.iter().all(|(key, value)| plausible(*key, value)) => Ok(Outcome::Earlier),
            Ok(_) => Err("other data".to_owned()),
            Err(_) => Ok(Outcome::Refused),
        }
    }));
    attempt.unwrap_or_else(|_| Err("panic".to_owned()))
}

/// A value some commit of [`filled`] wrote.
fn plausible(key: u64, value: &[u8]) -> bool {
    (0..8u64).any(|round| {
        (0..40u64).any(|row| {
            (row * 37 + round * 11) % 300 == key
                && value.len() == 300 + (row as usize * 211) % 5000
                && value.iter().all(|byte| *byte == (row + round) as u8)
        })
    })
}

fn flips(clean: bool, times: u64) -> [usize; 3] {
    let (image, expected) = filled(clean);
    assert_eq!(outcome(&image, &expected), Ok(Outcome::Right));
    let mut dice = Dice::new(2024);
    let mut seen = [0; 3];
    let used = (0..image.len() as u64 / PAGE as u64)
        .filter(|page| image[usize::try_from(*page).unwrap() * PAGE..][..PAGE].iter().any(|byte| *byte != 0))
        .collect::<Vec<_>>();
    for _ in 0..times {
        let page = used[usize::try_from(dice.roll(used.len() as u64)).unwrap()];
        let at = usize::try_from(page * PAGE as u64 + dice.roll(PAGE as u64)).unwrap();
        let mut flipped = image.clone();
        flipped[at] ^= 1 << dice.roll(8);
        match outcome(&flipped, &expected) {
            Ok(Outcome::Right) => seen[0] += 1,
            Ok(Outcome::Refused) => seen[1] += 1,
            Ok(Outcome::Earlier) => seen[2] += 1,
            Err(what) => panic!("{what} after a flip in byte {at} (page {page}), clean {clean}"),
        }
    }
    seen
}

#[test]
fn a_flipped_bit_is_refused_or_harmless_after_a_clean_end() {
    let [right, refused, earlier] = flips(true, 400);
    assert!(right > 0 && refused > 0, "{right} {refused}");
    assert_eq!(earlier, 0, "nothing but the last commit may be served");
}

#[test]
fn a_flipped_bit_is_refused_or_falls_back_after_a_crash() {
    let [_, refused, earlier] = flips(false, 400);
    assert!(refused > 0 && earlier > 0, "{refused} {earlier}");
}

/// After the database is open, no wrong page is served either.
#[test]
fn a_page_damaged_while_open_is_refused_and_scrubbed_out() {
    let (image, _) = filled(true);
    let disk = MemoryDisk::holding(image);
    let sealed = Sealed::open_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    let database = database(&sealed).unwrap();
    sealed.opened();
    let page =
        (1..sealed.0.pages()).find(|page| !sealed.0.tags.get(&*sealed.0.disk, *page).unwrap().unwritten()).unwrap();
    Disk::write_at(&disk, data_page(page) * PAGE as u64 + 100, &[0x55; 3]).unwrap();
    let mut bytes = [0; PAGE];
    let error = sealed.0.read(page * PAGE as u64, &mut bytes).unwrap_err();
    assert!(matches!(error, Error::Page { page: wrong } if wrong == page) && error.corrupt());
    assert_eq!(bytes, [0; PAGE], "nothing of it comes out");
    assert_eq!(sealed.scrub(0..u64::MAX).unwrap().wrong, [page]);
    let through = redb::Error::from(redb::StorageError::from(std::io::Error::from(error)));
    assert!(Error::behind(&through).is_some_and(Error::corrupt));
    drop(database);
}

#[test]
fn a_page_moved_to_another_place_is_refused() {
    let (mut image, expected) = filled(true);
    let entry = |page: u64| usize::try_from(tag_page(page / GROUP)).unwrap() * PAGE + (page % GROUP) as usize * 32;
    let body = |page: u64| usize::try_from(data_page(page)).unwrap() * PAGE;
    let written: Vec<u64> = (1..100).filter(|page| image[entry(*page)..][..32] != [0; 32]).collect();
    for pair in written.chunks_exact(2).take(20) {
        for (one, other, length) in [(body(pair[0]), body(pair[1]), PAGE), (entry(pair[0]), entry(pair[1]), 32)] {
            let kept = image[one..one + length].to_vec();
            image.copy_within(other..other + length, one);
            image[other..other + length].copy_from_slice(&kept);
        }
    }
    assert_eq!(outcome(&image, &expected), Ok(Outcome::Refused));
}

#[test]
fn an_old_page_under_its_new_entry_is_refused() {
    let (earlier, _) = filled(true);
    let disk = MemoryDisk::holding(earlier.clone());
    let sealed = Sealed::open_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    sealed.0.write(5 * PAGE as u64, &[7; PAGE]).unwrap();
    sealed.0.sync().unwrap();
    let at = data_page(5) * PAGE as u64;
    let old = &earlier[usize::try_from(at).unwrap()..][..PAGE];
    Disk::write_at(&disk, at, old).unwrap();
    sealed.opened();
    assert!(matches!(sealed.0.read(5 * PAGE as u64, &mut [0; PAGE]), Err(Error::Page { page: 5 })));
}

/// Entries of zeros do not turn written pages into zeros.
#[test]
fn a_wiped_tag_page_is_refused() {
    let (mut image, expected) = filled(true);
    let at = usize::try_from(tag_page(0)).unwrap() * PAGE;
    image[at..at + PAGE].fill(0);
    assert_eq!(outcome(&image, &expected), Ok(Outcome::Refused));
}

#[test]
fn a_shortened_file_is_refused() {
    for clean in [true, false] {
        let (image, expected) = filled(clean);
        for pages in [0, 1, 2, 3, 40, 514, 515, 600, image.len() / PAGE - 1] {
            let cut = outcome(&image[..pages * PAGE + 17], &expected);
            assert_eq!(cut, Ok(Outcome::Refused), "{pages} pages, clean {clean}");
        }
    }
}

#[test]
fn one_ruined_head_is_made_up_for_after_a_clean_end_and_two_are_refused() {
    let (image, expected) = filled(true);
    for slot in 0..2 {
        let mut ruined = image.clone();
        ruined[slot * PAGE + 8..(slot + 1) * PAGE].fill(0xFF);
        ruined[slot * PAGE..slot * PAGE + 8].fill(0);
        assert_eq!(outcome(&ruined, &expected), Ok(Outcome::Right), "slot {slot}");
        let sealed = Sealed::open_on(Box::new(MemoryDisk::holding(ruined)), keys(), STAMP).unwrap();
        assert!(sealed.fell_back());
    }
    let mut ruined = image;
    ruined[100..PAGE].fill(1);
    ruined[PAGE + 100..2 * PAGE].fill(1);
    let error = Sealed::open_on(Box::new(MemoryDisk::holding(ruined)), keys(), STAMP).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn another_key_instance_or_file_is_told_apart() {
    let (image, expected) = filled(true);
    let open =
        |image: &[u8], keys, stamp: &[u8]| Sealed::open_on(Box::new(MemoryDisk::holding(image.to_vec())), keys, stamp);
    let wrong = open(&image, DataKeys::new(1, [2; 32]), STAMP).unwrap_err();
    assert!(matches!(wrong, Error::KeyWrong { version: 1 }), "{wrong}");
    let missing = open(&image, DataKeys::new(3, [1; 32]), STAMP).unwrap_err();
    assert!(matches!(missing, Error::KeyMissing { version: 1 }), "{missing}");
    assert!(matches!(open(&image, keys(), b"instance 2, test").unwrap_err(), Error::Stamp));
    assert!(matches!(open(&vec![0; 8 * PAGE], keys(), STAMP).unwrap_err(), Error::Foreign));
    assert!(matches!(open(b"{}", keys(), STAMP).unwrap_err(), Error::Damaged { .. }));
    // The pages of one file under the heads of another with the same keys.
    let (other, _) = filled(true);
    let mut mixed = other;
    mixed[..2 * PAGE].copy_from_slice(&image[..2 * PAGE]);
    assert_eq!(outcome(&mixed, &expected), Ok(Outcome::Refused));
    let mut heads = image.clone();
    heads[PAGE..2 * PAGE].copy_from_slice(&filled(true).0[PAGE..2 * PAGE]);
    assert!(matches!(open(&heads, keys(), STAMP).unwrap_err(), Error::Damaged { .. }));
}

/// A head sealed by a newer key is not passed over for the older one beside it.
#[test]
fn a_newer_head_under_a_missing_key_is_not_passed_over() {
    let disk = MemoryDisk::default();
    let sealed = Sealed::create_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    sealed.set_keys(DataKeys::new(2, [2; 32]).with(1, [1; 32])).unwrap();
    let error = Sealed::open_on(Box::new(disk), keys(), STAMP).unwrap_err();
    assert!(matches!(error, Error::KeyMissing { version: 2 }), "{error}");
}
