//! The embedded engine from outside: through its port, over the sealed file or over memory.

mod builds;
mod commits;
mod concurrency;
mod full;
mod model;
mod queries;
mod reopening;

use super::{Embedded, Options, Place, sealed::DataKeys};
use crate::{
    base::clock::{FixedClock, Timestamp},
    domain::{filter::Filter, sort::Sort, update::Update},
    ports::{
        Error,
        documents::{
            Batch, Build, COLLECTIONS, Change, Committed, Conflict, Documents, Expect, Load, Operation, Origin, Page,
            Query, Sequence,
        },
    },
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use redb::backends::InMemoryBackend;
use std::{path::Path, sync::Arc};

pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock(NOW.0.into()))
}

fn in_memory() -> Embedded {
    Embedded::open_over(InMemoryBackend::new(), Options::default(), clock()).expect("opens")
}

fn place(folder: &Path) -> Place {
    Place { path: folder.join("documents"), keys: DataKeys::new(1, [7; 32]), stamp: b"test".to_vec() }
}

fn on_disk(folder: &Path) -> Embedded {
    Embedded::open(place(folder), Options::default(), clock()).expect("opens")
}

fn batch(operations: Vec<Operation>) -> Batch {
    Batch { time: NOW, origin: Origin::default(), operations, check: None, receipt: None }
}

fn operation(collection: &str, id: &str, expect: Expect, change: Change) -> Operation {
    Operation { collection: collection.to_owned(), id: id.to_owned(), expect, change }
}

fn put(collection: &str, id: &str, document: RawDocumentBuf) -> Operation {
    operation(collection, id, Expect::Any, Change::Put(document))
}

fn update(collection: &str, id: &str, update: &RawDocument) -> Operation {
    operation(collection, id, Expect::Any, Change::Update(Update::parse(update).expect("an update")))
}

fn delete(collection: &str, id: &str) -> Operation {
    operation(collection, id, Expect::Any, Change::Delete)
}

async fn define(store: &Embedded, name: &str, definition: RawDocumentBuf) -> Committed {
    store.commit(batch(vec![put(COLLECTIONS, name, definition)])).await.expect("defined")
}

fn conflict(result: crate::ports::Result<Committed>) -> Conflict {
    match result {
        Err(Error::Conflict(conflict)) => conflict,
        other => panic!("no conflict: {other:?}"),
    }
}

fn rejection(result: crate::ports::Result<Committed>) -> &'static str {
    match result {
        Err(Error::Rejected(fault)) => fault.key,
        other => panic!("not rejected: {other:?}"),
    }
}

fn filter(filter: &RawDocument) -> Arc<Filter> {
    Arc::new(Filter::parse(filter).expect("a filter"))
}

fn query(collection: &str, by: &RawDocument, sort: &str, limit: usize, after: Option<Vec<u8>>) -> Query {
    let sort = Sort::parse_text(sort).expect("a sort");
    Query { collection: collection.to_owned(), filter: filter(by), sort, limit, after }
}

async fn page(store: &Embedded, collection: &str, by: &RawDocument, sort: &str) -> Page {
    store.find(query(collection, by, sort, 1000, None)).await.expect("a page")
}

fn ids(page: &Page) -> Vec<&str> {
    page.documents.iter().map(|document| document.get_str("_id").expect("an id")).collect()
}

/// Until every index of a collection is built or has failed.
async fn built(store: &Embedded, collection: &str) -> Vec<Build> {
    loop {
        let described = store.describe(collection).await.expect("described").expect("there");
        let builds: Vec<Build> = described.indexes.into_iter().map(|index| index.progress).collect();
        if builds.iter().all(|build| !matches!(build, Build::Building { .. })) {
            return builds;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_document_goes_in_and_comes_back() {
    let store = in_memory();
    define(&store, "places", rawdoc! {}).await;
    let committed = store.commit(batch(vec![put("places", "goma", rawdoc! { "n": 1 })])).await.expect("committed");
    let stored = store.get("places", "goma").await.expect("read").expect("there");
    assert_eq!(Some(&stored), committed.outcomes[0].document.as_ref());
    assert_eq!(stored.get_i64("_rev").ok(), Some(1));
    assert_eq!(store.get("places", "bukavu").await.expect("read"), None);
    assert_eq!(store.get("nowhere", "goma").await.expect("read"), None);
    assert!(matches!(
        store.find(query("nowhere", &rawdoc! {}, "", 1, None)).await,
        Err(Error::Conflict(Conflict::Unknown { .. }))
    ));
}
