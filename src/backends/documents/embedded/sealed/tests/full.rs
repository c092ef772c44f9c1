//! A disk that is really full: a small tmpfs in a mount namespace of its own.

use super::*;

/// 80 MiB: the reserve's 32, the log's 2, and some 40 for documents.
#[test]
fn a_full_disk_is_met_before_redb_sees_it() {
    crate::testing::on_small_disk("backends::documents::embedded::sealed::tests::full::within");
}

#[test]
#[ignore = "run by a_full_disk_is_met_before_redb_sees_it, on a small disk as working directory"]
fn within() {
    let path = std::env::current_dir().unwrap().join("documents.sealed");
    let sealed = Sealed::create(&path, keys(), STAMP).unwrap();
    let database = database(&sealed).unwrap();
    sealed.opened();
    let mut rows = 0u64;
    let put = |key: u64| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?.insert(key, &[7; 200_000][..])?;
        transaction.commit()?;
        Ok(())
    };
    // In good order: every commit passes as long as there is headroom for it.
    while sealed.headroom().unwrap() > 1 << 20 {
        put(rows).unwrap();
        rows += 1;
        assert!(rows < 1000, "the disk never filled");
    }
    assert!(rows > 20, "{rows}");
    let orderly = rows;
    // One that does not ask still passes, on the reserve, and from then on there is none.
    let error = loop {
        match put(rows) {
            Ok(()) => rows += 1,
            Err(error) => break error,
        }
    };
    assert!(rows >= orderly + 10, "the reserve carried {} commits", rows - orderly);
    assert!(Error::behind(&error).is_some_and(Error::full), "{error}");
    assert_eq!(sealed.headroom().unwrap(), 0);
    assert!(sealed.broken().is_some());
    let until = sealed.acknowledged();
    drop(database);
    let overlay = Sealed::open_read_overlay(&path, keys(), STAMP, Some(until)).unwrap();
    let database = super::database(&overlay).unwrap();
    overlay.opened();
    assert_eq!(contents(&database).unwrap().len() as u64, rows);
}
