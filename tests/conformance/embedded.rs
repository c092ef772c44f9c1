//! The suite on the embedded engine, over its encrypted file.

use crate::{documents, mongod::Reference};
use debrouille_appliance::{
    backends::documents::embedded::{Embedded, Options, Place, sealed::DataKeys},
    base::clock::SystemClock,
    ports::documents::Documents,
};
use std::sync::Arc;

fn open(folder: &std::path::Path) -> Embedded {
    let place =
        Place { path: folder.join("documents"), keys: DataKeys::new(1, [7; 32]), stamp: b"conformance".to_vec() };
    Embedded::open(place, Options::default(), Arc::new(SystemClock)).expect("the engine opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_answer_as_mongod() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, mongod) = (open(folder.path()), Reference::start("embedded_queries").await);
    documents::queries(&engine, &mongod).await;
    mongod.end().await;
    engine.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_leave_what_mongod_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, mongod) = (open(folder.path()), Reference::start("embedded_updates").await);
    documents::updates(&engine, &mongod).await;
    mongod.end().await;
    engine.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_found_as_by_mongod() {
    let folder = tempfile::tempdir().expect("a folder");
    let (engine, mongod) = (open(folder.path()), Reference::start("embedded_places").await);
    documents::places(&engine, &mongod).await;
    mongod.end().await;
    engine.close().await.expect("closed");
}
