//! Closed, dropped and opened again; written by another release; with a disk that fails.

use super::*;
use crate::backends::documents::embedded::store::Store;
use crate::ports::documents::Sequence;
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

#[tokio::test]
async fn everything_is_there_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = {
        let store = on_disk(folder.path());
        define(&store, "c", rawdoc! { "indexes": ["n", { "keys": "u", "unique": true }] }).await;
        for n in 0..20 {
            store
                .commit(batch(vec![put("c", &format!("{n}"), rawdoc! { "n": [n, (n % 3)], "u": n })]))
                .await
                .expect("committed");
        }
        let all = page(&store, "c", &rawdoc! {}, "").await.documents;
        store.close().await.expect("closed");
        assert!(matches!(store.get("c", "1").await, Err(Error::Unavailable(_))));
        assert!(matches!(store.commit(batch(vec![])).await, Err(Error::Unavailable(_))));
        all
    };
    let store = on_disk(folder.path());
    assert_eq!(page(&store, "c", &rawdoc! {}, "").await.documents, all);
    let figures = store.statistics().await.expect("figures");
    assert_eq!(figures.sequence, Sequence(21));
    assert!(figures.pages_read > Some(0), "nothing was in memory: {figures:?}");
    assert_eq!(page(&store, "c", &rawdoc! {}, "").await.documents, all);
    let again = store.statistics().await.expect("figures");
    assert_eq!(again.pages_read, figures.pages_read, "all was");
    let found = page(&store, "c", &rawdoc! { "n": 1 }, "n").await;
    assert_eq!((found.documents.len(), found.explain.index.as_deref()), (7, Some("n_1")));
    let again = store.commit(batch(vec![put("c", "x", rawdoc! { "u": 5 })])).await;
    assert!(matches!(conflict(again), Conflict::Unique { .. }));
    let next = store.commit(batch(vec![put("c", "x", rawdoc! {})])).await.expect("committed");
    assert_eq!(next.sequence, Sequence(22));
    store.close().await.expect("closed");
}

#[tokio::test]
async fn a_build_goes_on_where_it_stood() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = on_disk(folder.path());
    define(&store, "c", rawdoc! {}).await;
    for chunk in 0..4 {
        let all = (0..1000).map(|n| put("c", &format!("{chunk}{n:03}"), rawdoc! { "n": n })).collect();
        store.commit(batch(all)).await.expect("committed");
    }
    define(&store, "c", rawdoc! { "indexes": [{ "keys": "n,_id", "unique": true }] }).await;
    store.close().await.expect("closed");
    drop(store);
    let store = on_disk(folder.path());
    assert_eq!(built(&store, "c").await, [Build::Ready]);
    assert_eq!(store.count("c", filter(&rawdoc! { "n": 5 })).await.expect("counted").0, 4);
    store.close().await.expect("closed");
}

#[tokio::test]
async fn another_instance_and_a_later_format_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    on_disk(folder.path()).close().await.expect("closed");
    let other = Place { stamp: b"other".to_vec(), ..place(folder.path()) };
    let Err(Error::Rejected(fault)) = Embedded::open(other, Options::default(), clock()) else { panic!("opened") };
    assert_eq!(fault.key, "sealed.stamp");

    let later = folder.path().join("later");
    let backend = || {
        redb::backends::FileBackend::new(
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&later)
                .expect("a file"),
        )
        .expect("a backend")
    };
    Embedded::open_over(backend(), Options::default(), clock()).expect("opens").close().await.expect("closed");
    let database = redb::Builder::new().create_with_backend(backend()).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    {
        let mut metadata = transaction.open_table(super::super::tables::METADATA).expect("a table");
        metadata.insert("format", super::super::tables::FORMAT + 1).expect("written");
        let mut needs = transaction.open_table(super::super::tables::NEEDS).expect("a table");
        needs.insert("release", "9.9.9").expect("written");
    }
    transaction.commit().expect("committed");
    drop(database);
    let Err(Error::Rejected(fault)) = Embedded::open_over(backend(), Options::default(), clock()) else {
        panic!("opened")
    };
    assert_eq!(fault.key, "documents.format");
    assert!(fault.to_string().contains("9.9.9"), "{fault}");
}

/// A file whose writes fail once told to.
#[derive(Debug)]
struct Failing(redb::backends::InMemoryBackend, Arc<AtomicBool>);

impl Failing {
    fn check(&self) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

impl redb::StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.0.write(offset, data)
    }
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged() {
    let broken = Arc::new(AtomicBool::new(false));
    let backend = Failing(redb::backends::InMemoryBackend::new(), Arc::clone(&broken));
    let store = Embedded::open_over(backend, Options::default(), clock()).expect("opens");
    define(&store, "c", rawdoc! {}).await;
    broken.store(true, Ordering::Relaxed);
    assert!(store.commit(batch(vec![put("c", "a", rawdoc! {})])).await.is_err());
    broken.store(false, Ordering::Relaxed);
    let refused = store.commit(batch(vec![put("c", "a", rawdoc! {})])).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.get("c", "a").await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn the_last_synced_state_is_read_over_a_file_that_may_not_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = on_disk(folder.path());
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    store.commit(batch(vec![put("c", "a", rawdoc! { "n": 1 })])).await.expect("committed");
    store.close().await.expect("closed");
    let file = place(folder.path()).path;
    let (mut store, state) = Store::open(place(folder.path()), 1 << 20).expect("opens");
    let reopened = store.reopen_for_reading().expect("reopened");
    let before = std::fs::read(&file).expect("read");
    assert_eq!((reopened.sequence, &reopened.counts), (state.sequence, &state.counts));
    let view = store.view(&reopened).expect("a view");
    let held = view.catalog.get("c").expect("there");
    assert!(view.get(held, "a").expect("read").is_some());
    drop(view);
    store.close().expect("closed");
    assert_eq!(std::fs::read(&file).expect("read"), before, "the file was written");
    let store = on_disk(folder.path());
    assert_eq!(ids(&page(&store, "c", &rawdoc! { "n": 1 }, "").await), ["a"]);
    store.close().await.expect("closed");
}

#[tokio::test]
async fn damage_is_found_by_the_scrub_and_never_served() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { cache: 1 << 20, ..Options::default() };
    let store = Embedded::open(place(folder.path()), options, clock()).expect("opens");
    define(&store, "c", rawdoc! {}).await;
    let document = |n: i32| rawdoc! { "n": n, "text": format!("{n}").repeat(300) };
    for chunk in 0..10 {
        let all = (0..500).map(|n| chunk * 500 + n).map(|n| put("c", &format!("{n:04}"), document(n))).collect();
        store.commit(batch(all)).await.expect("committed");
    }
    assert_eq!(store.scrub(0).await.expect("scrubbed"), 0, "a small store is read at once");
    assert_eq!(store.statistics().await.expect("figures").damaged, None);

    let path = place(folder.path()).path;
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
    // Far behind the heads and the log, in the middle of the documents.
    file.write_all_at(&vec![0x55; 8 << 20], (4 << 20) + 100).expect("damaged");
    store.scrub(0).await.expect("scrubbed");
    assert!(store.statistics().await.expect("figures").damaged.is_some());
    let mut refused = 0;
    for n in 0..5000 {
        match store.get("c", &format!("{n:04}")).await {
            Ok(found) => {
                let found = found.expect("there");
                assert_eq!(found.get_str("text").expect("text"), format!("{n}").repeat(300));
            }
            Err(Error::Corrupt(_) | Error::Unavailable(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0);
}
