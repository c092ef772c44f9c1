//! The real binary killed in the middle of a restore and of a swap: whatever the moment, a whole directory is there, and
//! the same command again ends what was begun.

use crate::{
    appliance::words,
    backups::{Prepared, ROWS},
};
use std::fs;

/// Calls and the moments of them at which a run ends. Every rename counts; of the many syncs some.
const MOMENTS: [(&str, &[usize]); 4] =
    [("rename", &[1, 2]), ("fsync", &[1, 2, 4, 6, 9]), ("fdatasync", &[1, 3, 7, 12, 20]), ("unlink", &[1, 2])];

#[test]
fn a_restore_killed_at_any_moment_is_taken_up() {
    let prepared = Prepared::new();
    let into = prepared.folder.join("into");
    let more = ["--into", into.to_str().unwrap()];
    let mut kills = 0;
    for (call, moments) in MOMENTS {
        for nth in moments {
            if Prepared::killed(call, *nth, &prepared.restore(&more)).is_none() {
                // It got through: whole, and to be made anew for the next.
                assert_eq!(prepared.rows(&into), Some(ROWS));
                fs::remove_dir_all(&into).unwrap();
                continue;
            }
            kills += 1;
            // Not said to be an instance, or one that is whole.
            assert!(matches!(prepared.rows(&into), None | Some(ROWS)), "{call} {nth}");
            if prepared.rows(&into).is_some() {
                fs::remove_dir_all(&into).unwrap();
            }
        }
    }
    assert!(kills > 6, "killed {kills} times only");
    let output = prepared.restore(&more).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(prepared.rows(&into), Some(ROWS));
    assert!(!into.join(".restoring").exists());
}

#[test]
fn a_swap_killed_at_any_moment_leaves_the_old_or_the_new() {
    let prepared = Prepared::new();
    let live = prepared.instance.data.clone();
    let more = ["--swap", "--yes"];
    let beside = prepared.folder.join("data.restoring");
    let mut kills = 0;
    for (call, moments) in [("renameat2", &[1, 2, 3][..]), MOMENTS[1], MOMENTS[2], ("unlinkat", &[1, 2, 3][..])] {
        for nth in moments {
            let ended = Prepared::killed(call, *nth, &prepared.restore(&more)).is_none();
            kills += usize::from(!ended);
            let rows = prepared.rows(&live);
            assert!(matches!(rows, Some(ROWS) | Some(51)), "{call} {nth}: {rows:?}");
            if rows == Some(ROWS) {
                // The new one is in place: the same command ends it, and the next swap begins from the old.
                let settled = prepared.restore(&more).output().unwrap();
                assert!(settled.status.success(), "{call} {nth}: {}", words(&settled));
                assert!(!beside.exists() && !live.join(".restoring").exists(), "{call} {nth}");
                let before = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().contains(".before-");
                let entries: Vec<_> = fs::read_dir(&prepared.folder).unwrap().flatten().filter(before).collect();
                let old = entries.iter().find(|entry| prepared.rows(&entry.path()) == Some(ROWS + 1));
                let old = old.unwrap_or_else(|| panic!("{call} {nth}: the old one is gone"));
                fs::remove_dir_all(&live).unwrap();
                fs::rename(old.path(), &live).unwrap();
                for entry in fs::read_dir(&prepared.folder).unwrap().flatten().filter(before) {
                    fs::remove_dir_all(entry.path()).unwrap();
                }
            }
        }
    }
    assert!(kills > 6, "killed {kills} times only");
    let output = prepared.restore(&more).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(prepared.rows(&live), Some(ROWS));
    assert!(!beside.exists());

    // Another command than the one that was killed past the change of places: it ends that one, and does its own.
    let changed = |nth: &usize| {
        let killed = Prepared::killed("unlinkat", *nth, &prepared.restore(&more)).is_some();
        killed && live.join(".restoring/swap.json").exists()
    };
    assert!((1..10).any(|nth| changed(&nth)), "never killed there");
    let befores = || {
        let names = fs::read_dir(&prepared.folder).unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().contains(".before-")).count()
    };
    let before = befores();
    let output = prepared.restore(&["--swap", "--yes", "--at", "2100-01-01T00:00:00Z"]).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!((prepared.rows(&live), befores()), (Some(ROWS), before + 1));
    assert!(!beside.exists() && !live.join(".restoring").exists());
}
