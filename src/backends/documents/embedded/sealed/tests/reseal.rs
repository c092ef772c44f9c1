//! Pages sealed anew where they stand: all of them, while others read and write, cut short anywhere.

use super::{
    super::{
        disk::Disk,
        layout::{PAGE, data_page, physical_len},
    },
    crash::Dice,
    disk::MemoryDisk,
    *,
};
use std::sync::atomic::{AtomicBool, Ordering};

fn filled(disk: &MemoryDisk, rows: u64) -> (Sealed, Database) {
    let sealed = Sealed::create_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    let database = database(&sealed).unwrap();
    sealed.opened();
    for first in (0..rows).step_by(100) {
        fill(&database, first..rows.min(first + 100), 1);
    }
    (sealed, database)
}

fn fill(database: &Database, rows: std::ops::Range<u64>, with: u8) {
    let transaction = database.begin_write().unwrap();
    for row in rows {
        transaction.open_table(TABLE).unwrap().insert(row, vec![with; 900].as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn every_page_moves_and_the_old_key_is_needed_no_more() {
    let disk = MemoryDisk::default();
    let (sealed, database) = filled(&disk, 6000);
    assert_eq!(sealed.reseal(0..u64::MAX, &mut || ()).unwrap(), 0, "nothing to do under one key");
    sealed.set_keys(both(2)).unwrap();
    let before = sealed.key_versions().unwrap();
    assert!(before[&1] > 1000 && !before.contains_key(&2), "{before:?}");
    assert_eq!(sealed.reseal(0..u64::MAX, &mut || ()).unwrap(), before[&1]);
    assert_eq!(sealed.key_versions().unwrap(), [(2, before[&1])].into());
    assert_eq!(sealed.scrub(0..u64::MAX).unwrap().wrong, Vec::<u64>::new());
    assert_eq!(disk.bytes().len() as u64, physical_len(sealed.pages()), "nothing is left behind the end");
    fill(&database, 6000..7000, 1);
    drop((database, sealed));

    let sealed = Sealed::open_on(Box::new(disk), DataKeys::new(2, [2; 32]), STAMP).unwrap();
    let mut database = super::database(&sealed).unwrap();
    sealed.opened();
    assert_eq!(contents(&database).unwrap(), (0..7000).map(|row| (row, vec![1; 900])).collect());
    assert!(database.check_integrity().unwrap());
}

/// A reader that holds a page's old entry finds it sealed anew, not damaged.
#[test]
fn who_reads_and_writes_meanwhile_notices_nothing() {
    let disk = MemoryDisk::default();
    let (sealed, database) = filled(&disk, 4000);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut turns, mut page) = (0_u64, [0; PAGE]);
            while !ended.load(Ordering::Relaxed) {
                for number in 1..sealed.pages() {
                    // As redb asks, past its own memory.
                    if !sealed.0.tags.get(&*sealed.0.disk, number).unwrap().unwritten() {
                        sealed.0.read_page(number, &mut page).unwrap();
                    }
                }
                turns += 1;
            }
            turns
        });
        let writer = scope.spawn(|| {
            let mut row = 0;
            while !ended.load(Ordering::Relaxed) {
                fill(&database, row..row + 5, 1);
                row = (row + 5) % 4000;
            }
        });
        for turn in 0..12 {
            sealed.set_keys(both(2 - turn % 2)).unwrap();
            assert!(sealed.reseal(0..u64::MAX, &mut || ()).unwrap() > 500);
        }
        ended.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
        writer.join().unwrap();
    });
    assert_eq!(sealed.damaged(), None);
    assert_eq!(contents(&database).unwrap(), (0..4000).map(|row| (row, vec![1; 900])).collect());
}

/// Each operation of it is the last one, once: whatever the medium kept, every page opens, to who only looks too.
#[test]
fn cut_short_anywhere_it_loses_no_page() {
    let whole = MemoryDisk::default();
    drop(filled(&whole, 600));
    let start = || {
        let disk = MemoryDisk::holding(whole.bytes());
        let sealed = Sealed::open_on(Box::new(disk.clone()), both(2), STAMP).unwrap();
        sealed.opened();
        (disk, sealed)
    };
    let (disk, sealed) = start();
    let before = disk.operations();
    sealed.reseal(0..u64::MAX, &mut || ()).unwrap();
    let operations = disk.operations() - before;
    assert!(operations > 200, "{operations}");
    for last in 0..operations {
        for lot in 0..3 {
            let (disk, sealed) = start();
            // Now and then between redb's growth of the file and its sync.
            if last % 2 == 0 {
                sealed.0.set_len((sealed.pages() + 300) * PAGE as u64).unwrap();
            }
            disk.fail_after(last);
            sealed.reseal(0..u64::MAX, &mut || ()).unwrap_err();
            let mut dice = Dice::new(last * 3 + lot);
            let left = disk.crashed(|| lot == 1 || lot == 2 && dice.roll(2) == 0);
            for only_looks in [true, false] {
                let left = Box::new(left.clone());
                let sealed = match only_looks {
                    true => Sealed::open_overlay_on(left, both(2), STAMP, None).unwrap(),
                    false => Sealed::open_on(left, both(2), STAMP).unwrap(),
                };
                let wrong = sealed.scrub(0..u64::MAX).unwrap().wrong;
                assert_eq!(wrong, Vec::<u64>::new(), "operation {last}, lot {lot}, only looks: {only_looks}");
            }
        }
    }
}

/// What an earlier move left behind the end is not put back over what was committed since.
#[test]
fn what_is_left_of_a_move_goes_over_nothing_newer() {
    let disk = MemoryDisk::default();
    let (sealed, database) = filled(&disk, 4000);
    sealed.set_keys(both(2)).unwrap();
    let mut row = 0;
    let mut images = Vec::new();
    // Pages that were free when they were moved are written between two moves, and the power goes.
    sealed
        .reseal(0..u64::MAX, &mut || {
            for _ in 0..4 {
                fill(&database, row..row + 100, 2);
                row += 100;
            }
            images.push((row, disk.crashed(|| true)));
        })
        .unwrap();
    assert!(images.len() > 2);
    for (rows, left) in images {
        let sealed = Sealed::open_on(Box::new(left), both(2), STAMP).unwrap();
        let mut database = super::database(&sealed).unwrap();
        sealed.opened();
        let with = |row: u64| vec![if row < rows { 2 } else { 1 }; 900];
        assert_eq!(contents(&database).unwrap(), (0..4000).map(|row| (row, with(row))).collect());
        assert!(database.check_integrity().unwrap());
    }
}

/// As many keys as one likes, if pages are sealed anew now and then; too many are no reason not to open.
#[test]
fn keys_that_seal_nothing_are_forgotten() {
    let disk = MemoryDisk::default();
    let (sealed, database) = filled(&disk, 100);
    drop(database);
    drop(sealed);
    let open = |current| Sealed::open_on(Box::new(disk.clone()), both(current), STAMP).unwrap();
    for turn in 0..600 {
        let sealed = open(1 + turn % 2);
        sealed.opened();
        if turn % 50 == 49 {
            sealed.reseal(0..u64::MAX, &mut || ()).unwrap();
            let takeovers = sealed.0.writer().synced.takeovers.len();
            assert!(takeovers <= 8, "{takeovers}");
        }
    }
    // Without: it goes on under a key it has had.
    for turn in 0..600 {
        open(1 + turn % 2);
    }
    let sealed = open(1);
    assert!(matches!(sealed.set_keys(both(2)), Err(Error::Exhausted { .. })));
    let mut database = super::database(&sealed).unwrap();
    sealed.opened();
    fill(&database, 100..200, 1);
    assert!(database.check_integrity().unwrap());
    assert_eq!(contents(&database).unwrap().len(), 200);
    sealed.reseal(0..u64::MAX, &mut || ()).unwrap();
    sealed.set_keys(both(2)).unwrap();
}

/// One of the heads is unreadable afterwards: the other tells of every page that was moved.
#[test]
fn either_head_will_do_after_a_move() {
    let disk = MemoryDisk::default();
    let (sealed, database) = filled(&disk, 2000);
    sealed.set_keys(both(2)).unwrap();
    for turn in 0..3 {
        sealed.reseal(turn * 200..(turn + 1) * 200, &mut || ()).unwrap();
        for slot in 0..2 {
            let left = disk.crashed(|| true);
            Disk::write_at(&left, slot * PAGE as u64 + 100, &[7; 100]).unwrap();
            let sealed = Sealed::open_on(Box::new(left), both(2), STAMP).unwrap();
            assert!(sealed.fell_back());
            let mut database = super::database(&sealed).unwrap();
            sealed.opened();
            assert!(database.check_integrity().unwrap(), "turn {turn}, slot {slot}");
        }
        fill(&database, turn * 100..turn * 100 + 5, 1);
    }
}

/// A page that fails its tag is not made to pass for sound.
#[test]
fn a_damaged_page_stays_damaged() {
    let disk = MemoryDisk::default();
    let (sealed, _database) = filled(&disk, 600);
    sealed.set_keys(both(2)).unwrap();
    Disk::write_at(&disk, data_page(40) * PAGE as u64, &[7; 100]).unwrap();
    let under = sealed.key_versions().unwrap()[&1];
    assert_eq!(sealed.reseal(0..u64::MAX, &mut || ()).unwrap(), under - 1);
    assert_eq!(sealed.scrub(0..u64::MAX).unwrap().wrong, [40]);
    assert_eq!(sealed.damaged(), Some(40));
}

#[test]
fn an_entry_found_before_its_key_was_let_go_of_is_no_damage() {
    let (sealed, _database) = filled(&MemoryDisk::default(), 600);
    let entry = |page: &u64| sealed.0.tags.get(&*sealed.0.disk, *page).unwrap();
    let page = (1..sealed.pages()).find(|page| !entry(page).unwritten()).unwrap();
    let before = entry(&page);
    for turn in 0..12 {
        sealed.set_keys(both(2 - turn % 2)).unwrap();
        sealed.reseal(0..u64::MAX, &mut || ()).unwrap();
    }
    assert!(sealed.0.open_page(page, &before, &mut [0; PAGE]).is_err(), "nothing knows its epoch any more");
    assert!(sealed.0.check(page, &before).unwrap());
    assert_eq!(sealed.damaged(), None);
}
