//! Up, down, and cut short anywhere, over a store.

use super::*;
use crate::{
    backends::documents::embedded::{Embedded, Options},
    base::clock::{FixedClock, Timestamp},
    domain::migration::Direction,
    ports::documents::{Build, Load, Sequence, Snapshot},
};
use redb::backends::InMemoryBackend;
use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

const ROWS: usize = 1000;
const RENAME: &str = "name = 'a'\nrelease = '9'\n[[change]]\ndocuments = 'system.x'\n[[change.step]]
rename = { from = 'n', to = 'number' }\n[[change.step]]\ndefault = { field = 'new', value = true }
[[change]]\ndefinition = 'system.x'\n[[change.step]]\nindex = { keys = 'number' }\n";
const COPY: &str = "name = 'b'\nrelease = '9'\n[[change]]\ndocuments = 'system.x'\n[[change.step]]
copy = { from = 'number', to = 'twin' }\n";

fn known(count: usize) -> Vec<Migration> {
    let all = [("0001-a", RENAME), ("0002-b", COPY)];
    all[..count].iter().map(|(name, text)| Migration::read(name, text).unwrap()).collect()
}

pub(super) async fn store() -> Arc<dyn Documents> {
    let clock = Arc::new(FixedClock(1_000.into()));
    let store = Embedded::open_over(InMemoryBackend::new(), Options::default(), clock).unwrap();
    let store: Arc<dyn Documents> = Arc::new(store);
    let definition = put(COLLECTIONS, "system.x", Expect::Any, rawdoc! { "indexes": ["m"] });
    commit(&store, vec![definition]).await;
    let row = |n: usize| {
        let text = "x".repeat(100);
        // Some have the new field already: that step is left out both ways.
        let row = match n % 100 {
            7 => rawdoc! { "n": n as i64, "new": false, "text": text },
            8 => rawdoc! { "other": n as i64 },
            _ => rawdoc! { "n": n as i64, "m": 1, "text": text },
        };
        put("system.x", &format!("{n:06}"), Expect::Absent, row)
    };
    commit(&store, (0..ROWS).map(row).collect()).await;
    store
}

pub(super) async fn commit(store: &Arc<dyn Documents>, operations: Vec<Operation>) {
    let batch = Batch { time: Timestamp(5), origin: Default::default(), operations, check: None, receipt: None };
    store.commit(batch).await.unwrap();
}

fn of(store: &Arc<dyn Documents>, count: usize) -> Migrations {
    Migrations::new(store.clone(), Arc::new(FixedClock(2_000.into())), known(count)).alone()
}

/// Every document but what the store sets, and those that tell of migrations.
async fn seen(store: &Arc<dyn Documents>) -> Vec<bson::Document> {
    let snapshot = store.snapshot().await.unwrap();
    let mut seen = Vec::new();
    for name in snapshot.collections().unwrap().iter().filter(|name| *name != MIGRATIONS) {
        for row in snapshot.documents(name, None, 10_000).unwrap() {
            let mut row = bson::Document::try_from(&row).unwrap();
            row.remove("_rev");
            row.remove("_updatedAt");
            if row.get_str("_id").unwrap() != MIGRATIONS {
                seen.push(row);
            }
        }
    }
    seen
}

/// Says no to the commit of this number, before or after it is done.
struct Cut {
    inner: Arc<dyn Documents>,
    at: AtomicU32,
    done: bool,
}

#[async_trait::async_trait]
impl Documents for Cut {
    async fn commit(&self, batch: Batch) -> crate::ports::Result<crate::ports::documents::Committed> {
        let last = self.at.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && !self.done {
            return Err(crate::ports::Error::Unavailable("cut".to_owned()));
        }
        let committed = self.inner.commit(batch).await;
        if last { Err(crate::ports::Error::Unavailable("cut".to_owned())) } else { committed }
    }
    async fn get(&self, collection: &str, id: &str) -> crate::ports::Result<Option<RawDocumentBuf>> {
        self.inner.get(collection, id).await
    }
    async fn find(&self, query: crate::ports::documents::Query) -> crate::ports::Result<crate::ports::documents::Page> {
        self.inner.find(query).await
    }
    async fn count(
        &self,
        collection: &str,
        filter: Arc<crate::domain::filter::Filter>,
    ) -> crate::ports::Result<(u64, crate::ports::documents::Explain)> {
        self.inner.count(collection, filter).await
    }
    async fn describe(&self, collection: &str) -> crate::ports::Result<Option<crate::ports::documents::Collection>> {
        self.inner.describe(collection).await
    }
    async fn collections(&self) -> crate::ports::Result<Vec<crate::ports::documents::Collection>> {
        self.inner.collections().await
    }
    async fn records(
        &self,
        after: Sequence,
        limit: usize,
    ) -> crate::ports::Result<Vec<crate::ports::documents::Record>> {
        self.inner.records(after, limit).await
    }
    async fn snapshot(&self) -> crate::ports::Result<Arc<dyn Snapshot>> {
        self.inner.snapshot().await
    }
    async fn load(&self, part: Load) -> crate::ports::Result<()> {
        self.inner.load(part).await
    }
    async fn statistics(&self) -> crate::ports::Result<crate::ports::documents::Statistics> {
        self.inner.statistics().await
    }
    async fn scrub(&self, from: u64) -> crate::ports::Result<u64> {
        self.inner.scrub(from).await
    }
    async fn take_keys(&self, keys: Vec<crate::ports::documents::StorageKey>) -> crate::ports::Result<()> {
        self.inner.take_keys(keys).await
    }
    async fn sealed_by(&self) -> crate::ports::Result<std::collections::BTreeMap<u32, u64>> {
        self.inner.sealed_by().await
    }
    async fn reseal(&self, from: u64) -> crate::ports::Result<crate::ports::documents::Resealed> {
        self.inner.reseal(from).await
    }
    async fn trim(&self, retention: crate::ports::documents::Retention) -> crate::ports::Result<u64> {
        self.inner.trim(retention).await
    }
    async fn close(&self) -> crate::ports::Result<()> {
        self.inner.close().await
    }
}

#[tokio::test]
async fn what_goes_up_comes_down_to_the_byte() {
    let (store, caller) = (store().await, Caller::system());
    let before = seen(&store).await;
    let plan = of(&store, 2).plan(Direction::Up, None).await.unwrap();
    let part = &plan.migrations[0].parts["system.x"];
    assert_eq!((part.documents, part.changed, part.left), (ROWS as u64, ROWS as u64, 10));
    let last = Mutex::new(None);
    let done = of(&store, 2).up(&caller, None, &|step| *last.lock().unwrap() = Some(step)).await.unwrap();
    assert_eq!(done.iter().map(|done| done.documents).collect::<Vec<_>>(), [ROWS as u64 + 1, ROWS as u64 - 10]);
    assert_eq!(last.lock().unwrap().as_ref().unwrap().number, 2);
    let after = seen(&store).await;
    let row = after.iter().find(|row| row.get_str("_id").unwrap() == "000001").unwrap();
    assert_eq!(
        (row.get_i64("number").unwrap(), row.get_i64("twin").unwrap(), row.get_bool("new").unwrap()),
        (1, 1, true)
    );
    assert_eq!(of(&store, 2).up(&caller, None, &|_| ()).await.unwrap(), [], "twice");
    assert_eq!(of(&store, 2).plan(Direction::Up, None).await.unwrap().migrations, []);
    assert!(store.describe("system.x").await.unwrap().unwrap().indexes.iter().any(|one| one.index.name == "number_1"));
    // Written by the newer release: it passes the way back too.
    commit(
        &store,
        vec![put("system.x", "z", Expect::Absent, rawdoc! { "number": 5_i64, "new": false, "twin": 5_i64 })],
    )
    .await;
    let plan = of(&store, 2).plan(Direction::Down, Some(0)).await.unwrap();
    assert_eq!((plan.migrations.len(), plan.losing()), (2, 1), "{plan:?}");
    of(&store, 2).down(&caller, 0, &|_| ()).await.unwrap();
    let mut back = seen(&store).await;
    let z = back.iter().position(|row| row.get_str("_id").unwrap() == "z").unwrap();
    let mut z = back.remove(z);
    z.remove("_createdAt");
    assert_eq!(z, bson::doc! { "_id": "z", "n": 5_i64 });
    assert!(back == before);
    assert_eq!(of(&store, 2).held().await.unwrap(), []);
}

#[tokio::test]
async fn cut_short_at_any_commit_it_goes_on_where_it_was() {
    let caller = Caller::system();
    let wanted = store().await;
    let before = seen(&wanted).await;
    of(&wanted, 2).up(&caller, None, &|_| ()).await.unwrap();
    let wanted = seen(&wanted).await;
    let mut cuts = 0;
    for done in [false, true] {
        for at in 1.. {
            let inner = store().await;
            let cut: Arc<dyn Documents> = Arc::new(Cut { inner: inner.clone(), at: AtomicU32::new(at), done });
            if of(&cut, 2).up(&caller, None, &|_| ()).await.is_ok() {
                break;
            }
            cuts += 1;
            // Up again, or down: both from exactly there.
            of(&inner, 2).up(&caller, None, &|_| ()).await.unwrap();
            assert!(seen(&inner).await == wanted, "cut at {at}");
            let cut: Arc<dyn Documents> = Arc::new(Cut { inner: inner.clone(), at: AtomicU32::new(at), done });
            let _ = of(&cut, 2).down(&caller, 0, &|_| ()).await;
            if at % 2 == 0 {
                of(&inner, 2).up(&caller, None, &|_| ()).await.unwrap();
                assert!(seen(&inner).await == wanted, "cut on the way back at {at}");
            }
            of(&inner, 2).down(&caller, 0, &|_| ()).await.unwrap();
            assert!(seen(&inner).await == before, "cut on the way back at {at}");
            assert_eq!(of(&inner, 2).held().await.unwrap(), []);
        }
    }
    assert!(cuts > 20, "{cuts}");
}

#[tokio::test]
async fn cut_short_at_any_commit_it_is_undone_from_there() {
    let caller = Caller::system();
    let wanted = store().await;
    let before = seen(&wanted).await;
    of(&wanted, 2).up(&caller, None, &|_| ()).await.unwrap();
    let wanted = seen(&wanted).await;
    let (mut cuts, mut counted) = (0, BTreeSet::new());
    for done in [false, true] {
        for at in 1.. {
            let inner = store().await;
            let cut =
                |at: u32| Arc::new(Cut { inner: inner.clone(), at: AtomicU32::new(at), done }) as Arc<dyn Documents>;
            if of(&cut(at), 2).up(&caller, None, &|_| ()).await.is_ok() {
                break;
            }
            cuts += 1;
            let planned = of(&inner, 2).plan(Direction::Down, Some(0)).await.unwrap().changed();
            // The way back is cut short too: it goes on, or is up again.
            if at % 3 > 0 {
                let _ = of(&cut(at % 7 + 2), 2).down(&caller, 0, &|_| ()).await;
            }
            if at % 3 == 1 {
                of(&inner, 2).up(&caller, None, &|_| ()).await.unwrap();
                assert!(seen(&inner).await == wanted, "cut at {at}");
            }
            let undone = of(&inner, 2).down(&caller, 0, &|_| ()).await.unwrap();
            assert!(seen(&inner).await == before, "cut at {at}");
            assert_eq!(of(&inner, 2).held().await.unwrap(), []);
            if at % 3 == 0 {
                assert_eq!(undone.iter().map(|done| done.documents).sum::<u64>(), planned, "cut at {at}");
                counted.insert(planned);
            }
        }
    }
    assert!(cuts > 20 && counted.len() > 5, "{cuts} {counted:?}");
}

#[tokio::test]
async fn one_that_cannot_end_is_undone_from_where_it_stands() {
    let (store, caller) = (store().await, Caller::system());
    // No index takes so long a value: what the first migration renames fails here, for good.
    let definition = rawdoc! { "indexes": ["m", "number"] };
    let long = rawdoc! { "n": "x".repeat(2000), "new": false };
    commit(
        &store,
        vec![put(COLLECTIONS, "system.x", Expect::Any, definition), put("system.x", "000600", Expect::Any, long)],
    )
    .await;
    let before = seen(&store).await;
    for _ in 0..2 {
        of(&store, 2).up(&caller, None, &|_| ()).await.unwrap_err();
    }
    let held = of(&store, 2).held().await.unwrap();
    assert_eq!((held.len(), held[0].stage, held[0].after.as_deref()), (1, Stage::Up, Some("000499")));
    assert_eq!(half_done(&held).unwrap().key, "migrations.half_done");
    assert_eq!(of(&store, 2).plan(Direction::Down, Some(0)).await.unwrap().changed(), 500);
    of(&store, 2).down(&caller, 0, &|_| ()).await.unwrap();
    assert!(seen(&store).await == before);
    assert_eq!((of(&store, 2).held().await.unwrap(), half_done(&[])), (vec![], None));
}

#[tokio::test]
async fn an_index_that_finds_doubles_is_no_migration_applied() {
    let unique = "name = 'a'\nrelease = '9'\n[[change]]\ndefinition = 'system.x'\n[[change.step]]
index = { keys = 'n,other', unique = true }\n[[change]]\ndocuments = 'system.x'\n[[change.step]]
default = { field = 'new', value = true }\n";
    let (store, caller) = (store().await, Caller::system());
    let of = || {
        let known = vec![Migration::read("0001-a", unique).unwrap()];
        Migrations::new(store.clone(), Arc::new(FixedClock(2_000.into())), known).alone()
    };
    let double = |row: RawDocumentBuf| put("system.x", "twin", Expect::Any, row);
    let definition = async || {
        let rows = store.snapshot().await.unwrap().documents(COLLECTIONS, None, 100).unwrap();
        rows.iter().find(|row| id(row) == "system.x").unwrap().get_array("indexes").unwrap().as_bytes().to_vec()
    };
    commit(&store, vec![double(rawdoc! { "n": 12_i64 })]).await;
    let (before, defined) = (seen(&store).await, definition().await);
    for _ in 0..2 {
        let Error::Refused(fault) = of().up(&caller, None, &|_| ()).await.unwrap_err() else { panic!("refused") };
        assert_eq!(fault.key, "migrations.doubles");
        let said = fault.to_string();
        for word in ["0001", "system.x", "n_1_other_1", "000012 = twin", "migrate down --to 0"] {
            assert!(said.contains(word), "{said}");
        }
    }
    let held = of().held().await.unwrap();
    assert_eq!((held[0].stage, held[0].change), (Stage::Up, 1), "what comes after it is not begun");
    of().down(&caller, 0, &|_| ()).await.unwrap();
    assert!(seen(&store).await == before && definition().await == defined);
    // Without the double, it is applied; and only once the index is built.
    commit(&store, vec![double(rawdoc! { "n": 12_i64, "other": 1 })]).await;
    of().up(&caller, None, &|_| ()).await.unwrap();
    let indexes = store.describe("system.x").await.unwrap().unwrap().indexes;
    assert!(indexes.iter().any(|one| one.index.unique && one.progress == Build::Ready), "{indexes:?}");
}

#[tokio::test]
async fn an_index_that_cannot_take_a_document_is_none_either() {
    let (store, caller) = (store().await, Caller::system());
    commit(&store, vec![put("system.x", "long", Expect::Absent, rawdoc! { "number": "x".repeat(2000) })]).await;
    let before = seen(&store).await;
    let Error::Refused(fault) = of(&store, 2).up(&caller, None, &|_| ()).await.unwrap_err() else { panic!("refused") };
    assert!(fault.key == "migrations.unindexable" && fault.to_string().contains("long"), "{fault}");
    of(&store, 2).down(&caller, 0, &|_| ()).await.unwrap();
    assert!(seen(&store).await == before);
}

#[tokio::test]
async fn an_older_release_a_changed_declaration_and_a_gap_are_refused() {
    let (store, caller) = (store().await, Caller::system());
    of(&store, 2).up(&caller, None, &|_| ()).await.unwrap();
    let key = |error: Error| match error {
        Error::Refused(fault) | Error::Damaged(fault) | Error::OutOfReach(fault) => fault.key,
        other => panic!("{other}"),
    };
    assert_eq!(key(of(&store, 1).held().await.unwrap_err()), "migrations.newer");
    assert_eq!(key(of(&store, 1).up(&caller, None, &|_| ()).await.unwrap_err()), "migrations.newer");
    let mut other = known(2);
    other[0].digest = "0".repeat(64);
    let changed = Migrations::new(store.clone(), Arc::new(FixedClock(2_000.into())), other).alone();
    assert_eq!(key(changed.held().await.unwrap_err()), "migrations.changed");
    let gone = Operation {
        collection: MIGRATIONS.to_owned(),
        id: "0001".to_owned(),
        expect: Expect::Any,
        change: Change::Delete,
    };
    commit(&store, vec![gone]).await;
    assert_eq!(key(of(&store, 2).held().await.unwrap_err()), "migrations.gap");
}

#[tokio::test]
async fn one_at_a_time_and_who_is_gone_holds_nobody_up() {
    let (store, caller) = (store().await, Caller::system());
    let at = |millis: i64| Migrations::new(store.clone(), Arc::new(FixedClock(millis.into())), known(1));
    at(0).begin().await.unwrap();
    let refused = at(1).up(&caller, None, &|_| ()).await.unwrap_err();
    assert!(matches!(refused, Error::OutOfReach(fault) if fault.key == "migrations.leased"));
    assert_eq!(at(LEASE_SECONDS * 1000 + 1).up(&caller, None, &|_| ()).await.unwrap().len(), 1);
    assert!(store.get(MIGRATIONS, LEASE).await.unwrap().is_none(), "let go");
}

#[tokio::test]
async fn a_copy_rehearses_and_its_origin_does_not_change() {
    let store = store().await;
    let before = seen(&store).await;
    let clock = Arc::new(FixedClock(1_000.into()));
    let to: Arc<dyn Documents> =
        Arc::new(Embedded::open_over(InMemoryBackend::new(), Options::default(), clock).unwrap());
    let (snapshot, target, handle) = (store.snapshot().await.unwrap(), to.clone(), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || copy(&*snapshot, &target, &handle)).await.unwrap().unwrap();
    assert!(seen(&to).await == before);
    let rehearsed = of(&to, 2).rehearse(&|_| ()).await.unwrap();
    assert!(rehearsed.sound(), "{rehearsed:?}");
    assert_eq!((rehearsed.from, rehearsed.to, rehearsed.changed), (0, 2, 2 * ROWS as u64 - 9));
    assert!(seen(&to).await == before && seen(&store).await == before);
}

#[tokio::test]
async fn restored_to_any_moment_of_a_migration_it_goes_on_from_there() {
    let (store, caller) = (store().await, Caller::system());
    let before = store.snapshot().await.unwrap();
    of(&store, 2).up(&caller, None, &|_| ()).await.unwrap();
    let wanted = seen(&store).await;
    let records = store.records(before.sequence(), 100_000).await.unwrap();
    let ends: Vec<usize> =
        (1..records.len()).filter(|at| records[*at].transaction != records[at - 1].transaction).collect();
    assert!(ends.len() > 12, "{}", ends.len());
    for end in ends {
        let clock = Arc::new(FixedClock(1_000.into()));
        let restored = Embedded::open_over(InMemoryBackend::new(), Options::default(), clock).unwrap();
        let restored: Arc<dyn Documents> = Arc::new(restored);
        for collection in [COLLECTIONS, "system.x"] {
            let (documents, collection) = (before.documents(collection, None, 10_000).unwrap(), collection.to_owned());
            restored.load(Load::Documents { collection, documents }).await.unwrap();
        }
        for some in records[..end].chunks(400) {
            restored.load(Load::Changes(some.to_vec())).await.unwrap();
        }
        restored.load(Load::End(records[end - 1].sequence)).await.unwrap();
        of(&restored, 2).up(&caller, None, &|_| ()).await.unwrap();
        assert!(seen(&restored).await == wanted, "restored to {end}");
    }
}
