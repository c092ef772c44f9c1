//! Power cuts: whatever part of the unsynced writes the medium kept, every acknowledged commit is there, the one
//! under way is there wholly or not at all, and redb finds its file consistent.

use super::{disk::MemoryDisk, *};
use proptest::prelude::*;
use std::sync::Arc;

/// A small generator (xorshift64*), so that a failing case repeats.
pub(super) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

#[derive(Debug, Clone, Copy)]
enum Commit {
    Plain,
    TwoPhase,
    Quick,
}

/// One transaction of random puts and deletions; `model` is changed as it would be.
fn transact(database: &Database, model: &mut Model, dice: &mut Dice, commit: Commit) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    match commit {
        Commit::Plain => {}
        Commit::TwoPhase => transaction.set_two_phase_commit(true),
        Commit::Quick => transaction.set_quick_repair(true),
    }
    {
        let mut table = transaction.open_table(TABLE)?;
        for _ in 0..=dice.roll(12) {
            let key = dice.roll(120);
            if dice.roll(5) == 0 {
                table.remove(key)?;
                model.remove(&key);
            } else {
                let length = if dice.roll(20) == 0 { dice.roll(40_000) } else { dice.roll(1500) };
                let value = vec![u8::try_from(dice.roll(256)).unwrap(); usize::try_from(length).unwrap()];
                table.insert(key, value.as_slice())?;
                model.insert(key, value);
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Opens under either key, transacts and now and then seals pages anew, until something fails or `turns` are done. Returns the state acknowledged, and the one the
/// failed commit would have made.
fn run(disk: &MemoryDisk, before: Model, turns: u64, dice: &mut Dice, commit: Commit) -> (Model, Option<Model>) {
    let current = 1 + u32::try_from(dice.roll(2)).unwrap();
    let Ok(mut sealed) = Sealed::open_on(Box::new(disk.clone()), both(current), STAMP) else { return (before, None) };
    // Now and then a short log and short epochs, so that the cut falls into a checkpoint or a new epoch.
    if dice.roll(2) == 0 {
        let inner = Arc::get_mut(&mut sealed.0).unwrap();
        inner.log_blocks = 1 + dice.roll(4);
        inner.writes_per_epoch = 20 + u32::try_from(dice.roll(60)).unwrap();
    }
    let Ok(database) = database(&sealed) else { return (before, None) };
    sealed.opened();
    let mut model = before;
    for _ in 0..turns {
        let mut next = model.clone();
        if transact(&database, &mut next, dice, commit).is_err() {
            assert!(sealed.broken().is_some(), "only the disk makes a commit fail");
            return (model, Some(next));
        }
        model = next;
        let first = dice.roll(200);
        if dice.roll(4) == 0 && sealed.reseal(first..first + dice.roll(100), &mut || ()).is_err() {
            return (model, None);
        }
    }
    if dice.roll(3) == 0 {
        // The process is killed rather than ended in order.
        disk.fail_after(0);
    }
    (model, None)
}

fn verify(disk: &MemoryDisk, acknowledged: &Model, under_way: Option<&Model>) -> Result<Model, TestCaseError> {
    let sealed = Sealed::open_on(Box::new(disk.clone()), both(1), STAMP)?;
    let mut database = database(&sealed).map_err(|error| TestCaseError::fail(format!("redb: {error}")))?;
    sealed.opened();
    let found = contents(&database).map_err(|error| TestCaseError::fail(format!("reading: {error}")))?;
    prop_assert!(
        found == *acknowledged || Some(&found) == under_way,
        "found {} rows, acknowledged {}, under way {:?}",
        found.len(),
        acknowledged.len(),
        under_way.map(Model::len)
    );
    prop_assert!(database.check_integrity().map_err(|error| TestCaseError::fail(error.to_string()))?);
    sealed.sweep()?;
    prop_assert_eq!(sealed.scrub(0..u64::MAX)?.wrong, Vec::<u64>::new());
    Ok(found)
}

/// Which of the sectors not synced stay: none, all, or each by lot.
fn keeper(dice: &mut Dice) -> impl FnMut() -> bool {
    let of_eight = [0, 8, 1, 4, 7][usize::try_from(dice.roll(5)).unwrap()];
    let mut lot = Dice::new(dice.roll(u64::MAX));
    move || lot.roll(8) < of_eight
}

fn survive(seed: u64, commit: Commit) -> Result<(), TestCaseError> {
    let mut dice = Dice::new(seed);
    let mut disk = MemoryDisk::default();
    drop(Sealed::create_on(Box::new(disk.clone()), keys(), STAMP)?);
    let mut model = Model::new();
    for _ in 0..4 {
        disk.fail_after(dice.roll(120));
        let (acknowledged, under_way) = run(&disk, model, 40, &mut dice, commit);
        disk = disk.crashed(keeper(&mut dice));
        // Now and then another cut while it is being repaired.
        if dice.roll(2) == 0 {
            disk.fail_after(dice.roll(12));
            let _ = verify(&disk, &acknowledged, under_way.as_ref());
            disk = disk.crashed(keeper(&mut dice));
        }
        model = verify(&disk, &acknowledged, under_way.as_ref())?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn plain_commits_survive_power_cuts(seed: u64) {
        survive(seed, Commit::Plain)?;
    }

    #[test]
    fn two_phase_commits_survive_power_cuts(seed: u64) {
        survive(seed, Commit::TwoPhase)?;
    }

    #[test]
    fn quick_repair_commits_survive_power_cuts(seed: u64) {
        survive(seed, Commit::Quick)?;
    }
}

/// Every single operation of a run of commits is the last one, once: with everything unsynced lost, and kept.
#[test]
fn every_operation_may_be_the_last() {
    // One run with the usual log, one with a short log and short epochs.
    for (commit, seed) in [(Commit::Plain, 72), (Commit::Plain, 77), (Commit::Quick, 78)] {
        let fresh = || {
            let disk = MemoryDisk::default();
            drop(Sealed::create_on(Box::new(disk.clone()), keys(), STAMP).unwrap());
            disk
        };
        let whole = fresh();
        let before = whole.operations();
        run(&whole, Model::new(), 8, &mut Dice::new(seed), commit);
        let operations = whole.operations() - before;
        assert!(operations > 60, "{operations}");
        for last in 0..operations {
            for keep in [false, true] {
                let disk = fresh();
                disk.fail_after(last);
                let (acknowledged, under_way) = run(&disk, Model::new(), 8, &mut Dice::new(seed), commit);
                verify(&disk.crashed(|| keep), &acknowledged, under_way.as_ref())
                    .unwrap_or_else(|error| panic!("{commit:?}, operation {last}, kept {keep}: {error}"));
            }
        }
    }
}

/// Both heads are never in danger at once.
#[test]
fn the_last_synced_head_is_never_touched_before_the_other_is_synced() {
    let disk = MemoryDisk::default();
    let sealed = Sealed::create_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    let database = database(&sealed).unwrap();
    sealed.opened();
    let mut model = Model::new();
    let mut dice = Dice::new(5);
    for _ in 0..20 {
        transact(&database, &mut model, &mut dice, Commit::Plain).unwrap();
        // All of the next commit but its sync, and of it nothing but ruins.
        let image = disk.bytes();
        let count = disk.syncs();
        let slots: Vec<u64> = (0..2)
            .filter_map(|slot: usize| {
                let bytes: &[u8; 4096] = image[slot * 4096..][..4096].try_into().unwrap();
                super::super::head::Head::open(bytes, &keys()).ok().map(|head| head.generation)
            })
            .collect();
        assert_eq!(slots.len(), 2, "both heads right after sync {count}");
        assert_eq!(slots[0].abs_diff(slots[1]), 1, "written by turns");
        assert_eq!(slots.into_iter().max(), Some(sealed.acknowledged()));
    }
}
