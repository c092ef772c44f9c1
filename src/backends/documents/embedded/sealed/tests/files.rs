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
    assert_eq!(sealed.scrub(|_, _| true).unwrap().wrong, Vec::<u64>::new());
}
