//! Real files: creation, locks, the reserve, redb on top.

use super::*;

#[test]
fn redb_runs_on_it_and_finds_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents.sealed");
    let sealed = Sealed::create(&path, keys(), STAMP).unwrap();
    let mut expected = Model::new();
    {
        let database = database(&sealed).unwrap();
        sealed.opened();
        for round in 0..30u64 {
            let transaction = database.begin_write().unwrap();
            {
                let mut table = transaction.open_table(TABLE).unwrap();
                for key in 0..50u64 {
                    let value = vec![round as u8; 500 + (key as usize * 97) % 9000];
                    let key = (key * 7919 + round * 31) % 1000;
                    table.insert(key, value.as_slice()).unwrap();
                    expected.insert(key, value);
                }
            }
            transaction.commit().unwrap();
        }
        assert_eq!(contents(&database).unwrap(), expected);
    }
    let sealed = Sealed::open(&path, keys(), STAMP).unwrap();
    let mut again = database(&sealed).unwrap();
    sealed.opened();
    assert_eq!(contents(&again).unwrap(), expected);
    assert!(again.check_integrity().unwrap());
    assert_eq!(sealed.scrub(0..u64::MAX).unwrap().wrong, Vec::<u64>::new());
}

#[test]
fn a_second_opening_is_locked_out_and_creation_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents.sealed");
    let sealed = Sealed::create(&path, keys(), STAMP).unwrap();
    assert!(matches!(Sealed::open(&path, keys(), STAMP), Err(Error::Locked { .. })));
    assert!(matches!(Sealed::open_read_overlay(&path, keys(), STAMP, None), Err(Error::Locked { .. })));
    assert!(matches!(Sealed::create(&path, keys(), STAMP), Err(Error::Exists { .. })));
    drop(database(&sealed).unwrap());
    // Closed by redb, though this handle still stands.
    assert!(matches!(sealed.0.read(0, &mut [0; 9]), Err(Error::Closed)));
    let reader = Sealed::open_read_overlay(&path, keys(), STAMP, None).unwrap();
    Sealed::open_read_overlay(&path, keys(), STAMP, None).unwrap();
    assert!(matches!(Sealed::open(&path, keys(), STAMP), Err(Error::Locked { .. })));
    drop(reader);
    Sealed::open(&path, keys(), STAMP).unwrap();
}

#[test]
fn an_overlay_changes_nothing_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("documents.sealed");
    {
        let sealed = Sealed::create(&path, keys(), STAMP).unwrap();
        let database = database(&sealed).unwrap();
        put(&database, 1, b"kept").unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    {
        let sealed = Sealed::open_read_overlay(&path, keys(), STAMP, None).unwrap();
        let database = database(&sealed).unwrap();
        sealed.opened();
        put(&database, 2, &[9; 20_000]).unwrap();
        assert_eq!(contents(&database).unwrap().len(), 2);
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let sealed = Sealed::open(&path, keys(), STAMP).unwrap();
    assert_eq!(contents(&database(&sealed).unwrap()).unwrap(), Model::from([(1, b"kept".to_vec())]));
}

fn put(database: &Database, key: u64, value: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?.insert(key, value)?;
    transaction.commit()?;
    Ok(())
}

/// After a failed write nothing is acknowledged; what was acknowledged is read on beside it.
#[test]
fn a_failed_write_ends_writing_and_leaves_reading() {
    let disk = super::disk::MemoryDisk::default();
    let sealed = Sealed::create_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    let database = database(&sealed).unwrap();
    sealed.opened();
    put(&database, 1, b"acknowledged").unwrap();
    disk.fail_after(1);
    let error = put(&database, 2, b"lost").unwrap_err();
    assert!(matches!(error, redb::Error::Io(_)), "{error}");
    assert!(sealed.broken().is_some());
    assert!(put(&database, 3, b"refused").is_err());
    assert!(matches!(sealed.0.sync(), Err(Error::Broken { .. })));
    assert!(matches!(sealed.0.write(8192, &[0; 4096]), Err(Error::Broken { .. })));
    let until = sealed.acknowledged();
    drop(database);
    let overlay = Sealed::open_overlay_on(Box::new(disk), keys(), STAMP, Some(until)).unwrap();
    let database = super::database(&overlay).unwrap();
    overlay.opened();
    assert_eq!(contents(&database).unwrap(), Model::from([(1, b"acknowledged".to_vec())]));
}

/// Pages move to a new data key as they are written; the tags say which versions are still needed.
#[test]
fn a_new_data_key_takes_over_page_by_page() {
    let disk = super::disk::MemoryDisk::default();
    let sealed = Sealed::create_on(Box::new(disk.clone()), keys(), STAMP).unwrap();
    let database = database(&sealed).unwrap();
    sealed.opened();
    for key in 0..200 {
        put(&database, key, &[1; 900]).unwrap();
    }
    let both = DataKeys::new(2, [2; 32]).with(1, [1; 32]);
    sealed.set_keys(both.clone()).unwrap();
    put(&database, 3, &[2; 900]).unwrap();
    assert!(sealed.scrub(0..u64::MAX).unwrap().wrong.is_empty());
    let versions = sealed.key_versions().unwrap();
    assert!(versions[&1] > 0 && versions[&2] > 0, "{versions:?}");
    drop(database);
    let open = |keys| Sealed::open_on(Box::new(disk.clone()), keys, STAMP);
    let again = open(both).unwrap();
    let database = super::database(&again).unwrap();
    assert_eq!(contents(&database).unwrap().len(), 200);
    drop(database);
    // Without the old key its pages are refused, and the error says which key is missing.
    let without = open(DataKeys::new(2, [2; 32])).unwrap();
    let error = match super::database(&without) {
        Err(error) => redb::Error::from(error),
        Ok(database) => contents(&database).unwrap_err(),
    };
    assert!(matches!(Error::behind(&error), Some(Error::KeyMissing { version: 1 })), "{error}");
}
