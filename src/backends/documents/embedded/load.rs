//! A restore: documents and records put in as they are, then changes made again, into a store that has never held
//! anything.

use super::{
    catalog::Progress,
    fault::Refusal,
    journal,
    stage::Work,
    store::State,
    tables::{self, Garbage},
};
use crate::{
    base::fault::Fault,
    domain::{collection::Definition, document, index},
    ports::documents::{Action, COLLECTIONS, Conflict, Load, RECEIPTS, Record, Sequence},
};
use bson::RawDocumentBuf;
use std::{collections::BTreeSet, sync::Arc};

/// Whether a store never held anything.
pub fn untouched(state: &State) -> bool {
    state.sequence == 0 && state.counts.values().all(|count| *count == 0)
}

/// Bytes a part brings.
pub fn weight(part: &Load) -> usize {
    match part {
        Load::Documents { documents, .. } => documents.iter().map(|document| document.as_bytes().len()).sum(),
        Load::Records(records) => records.iter().map(Record::weight).sum(),
        // The documents too.
        Load::Changes(records) => 2 * records.iter().map(Record::weight).sum::<usize>(),
        Load::End(_) => 0,
    }
}

pub fn apply(work: &mut Work<'_>, part: &Load) -> Result<(), Refusal> {
    match part {
        Load::Documents { collection, documents } => put(work, collection, documents)?,
        Load::Records(records) => records.iter().try_for_each(|one| record(work, one))?,
        Load::Changes(records) => records.iter().try_for_each(|one| change(work, one))?,
        Load::End(Sequence(last)) if *last < work.sequence => return Err(out_of_order(*last)),
        Load::End(Sequence(last)) => work.sequence = *last,
    }
    Ok(work.save_journal()?)
}

fn put(work: &mut Work<'_>, collection: &str, documents: &[RawDocumentBuf]) -> Result<(), Refusal> {
    let unknown = || Conflict::Unknown { operation: 0, collection: collection.to_owned() };
    let held = Arc::clone(work.catalog.get(collection).ok_or_else(unknown)?);
    for (operation, given) in documents.iter().enumerate() {
        let id = given
            .get_str("_id")
            .map_err(|_| Fault::new("documents.id").at("_id").with("limit", document::LONGEST_ID))?;
        document::check_id(id)?;
        if work.tables.documents.insert(tables::document_key(held.number, id).as_slice(), given.as_bytes())?.is_some() {
            return Err(Conflict::Exists { operation, id: id.to_owned() }.into());
        }
        // Indexes of the catalogue's making fill once all is in; those the store itself began with are ready.
        for index in held.indexes.iter().filter(|index| index.progress == Progress::Ready) {
            for entry in index::entries(given, &index.index)?.keys {
                let entry = [&tables::entry_prefix(index.number, &entry), id.as_bytes()].concat();
                work.tables.entries.insert(entry.as_slice(), u16::try_from(id.len()).unwrap_or(u16::MAX))?;
            }
        }
        if collection == COLLECTIONS {
            define(work, id, Some(given))?;
        }
    }
    let count = work.counts.entry(held.number).or_default();
    *count += documents.len() as u64;
    work.tables.counts.insert(held.number, *count)?;
    Ok(())
}

/// A document of the catalogue came, changed or went: so does its collection. As if it held documents already: its
/// indexes start empty and are filled, and checked, as any new one.
fn define(work: &mut Work<'_>, name: &str, definition: Option<&RawDocumentBuf>) -> Result<(), Refusal> {
    if name == COLLECTIONS || name == RECEIPTS {
        return Err(Fault::new("documents.reserved").with("collection", name).into());
    }
    let before = work.catalog.get(name).cloned();
    let definition = definition.map(|definition| Definition::read(name, definition)).transpose()?;
    let catalog = Arc::make_mut(&mut work.catalog);
    match definition {
        Some(definition) => {
            let held = catalog.change(before.as_deref(), &definition, 1).held;
            catalog.collections.insert(name.to_owned(), Arc::new(held));
        }
        None => {
            catalog.collections.remove(name);
            if let Some(held) = before {
                let documents = tables::garbage_key(Garbage::Documents, held.number);
                work.tables.garbage.insert(documents.as_slice(), ())?;
                work.counts.insert(held.number, 0);
                work.tables.counts.insert(held.number, 0)?;
            }
        }
    }
    work.save(&BTreeSet::from([name.to_owned()]))?;
    Ok(())
}

/// A change made again, where the document is as it was before.
fn change(work: &mut Work<'_>, change: &Record) -> Result<(), Refusal> {
    let Record { collection, id, before, after, .. } = change;
    if collection == RECEIPTS {
        return Err(Fault::new("documents.reserved").with("collection", collection).into());
    }
    let unknown = || Conflict::Unknown { operation: 0, collection: collection.clone() };
    let held = Arc::clone(work.catalog.get(collection).ok_or_else(unknown)?);
    document::check_id(id)?;
    let key = tables::document_key(held.number, id);
    let stored = match after {
        Some(after) => work.tables.documents.insert(key.as_slice(), after.as_bytes())?,
        None => work.tables.documents.remove(key.as_slice())?,
    };
    let expected = before.as_ref().map(|before| before.as_bytes());
    if stored.as_ref().map(|stored| stored.value()) != expected {
        let fault = Fault::new("documents.load_change").with("sequence", change.sequence.0);
        return Err(fault.with("collection", collection).with("id", id).into());
    }
    drop(stored);
    let count = work.counts.entry(held.number).or_default();
    *count = count.saturating_add_signed(i64::from(after.is_some()) - i64::from(before.is_some()));
    work.tables.counts.insert(held.number, *count)?;
    if collection == COLLECTIONS {
        define(work, id, after.as_ref())?;
    }
    record(work, change)
}

fn record(work: &mut Work<'_>, record: &Record) -> Result<(), Refusal> {
    let sequence = record.sequence.0;
    let images = (record.before.is_some(), record.after.is_some());
    if images != (record.action != Action::Create, record.action != Action::Delete) {
        let fault = Fault::new("documents.load_images").with("sequence", sequence);
        return Err(fault.with("collection", &record.collection).with("id", &record.id).into());
    }
    if sequence <= work.sequence || record.transaction > record.sequence {
        return Err(out_of_order(sequence));
    }
    let bytes = journal::encode(&journal::Entry {
        sequence,
        transaction: record.transaction.0,
        position: record.position,
        time: record.time,
        collection: &record.collection,
        id: &record.id,
        action: record.action,
        revision: record.revision,
        before: record.before.as_deref(),
        after: record.after.as_deref(),
        origin: &record.origin,
    });
    work.tables.journal.insert(sequence, bytes.as_slice())?;
    work.sequence = sequence;
    work.journal_bytes += bytes.len() as u64;
    Ok(())
}

fn out_of_order(sequence: u64) -> Refusal {
    Fault::new("documents.load_order").with("sequence", sequence).into()
}

#[cfg(test)]
mod tests {
    use crate::{
        backends::documents::embedded::{Embedded, Options},
        base::clock::{FixedClock, Timestamp},
        domain::filter::Filter,
        ports::{
            Error,
            documents::{
                Action, Batch, Build, COLLECTIONS, Change, Documents, Expect, Load, Operation, Origin, RECEIPTS,
                Receipt, Record, Retention, Sequence, Snapshot,
            },
        },
    };
    use bson::{RawDocumentBuf, rawdoc};
    use std::sync::{Arc, atomic::AtomicI64};

    fn store() -> Embedded {
        let clock = Arc::new(FixedClock(AtomicI64::new(1_000)));
        Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock).unwrap()
    }

    fn put(collection: &str, id: &str, document: RawDocumentBuf) -> Operation {
        let (collection, id) = (collection.to_owned(), id.to_owned());
        Operation { collection, id, expect: Expect::Any, change: Change::Put(document) }
    }

    async fn commit(store: &Embedded, operations: Vec<Operation>, receipt: Option<&str>) -> Result<Sequence, Error> {
        let receipt = receipt.map(|key| Receipt {
            key: key.to_owned(),
            fingerprint: "f".to_owned(),
            expires: Timestamp(900_000_000),
        });
        let origin = Origin {
            actor: "someone".to_owned(),
            request: "r".to_owned(),
            trace: "t".to_owned(),
            grounds: "g".to_owned(),
        };
        let batch = Batch { time: Timestamp(5), origin, operations, check: None, receipt };
        Ok(store.commit(batch).await?.sequence)
    }

    fn before_any() -> Record {
        Record {
            sequence: Sequence(0),
            time: Timestamp(5),
            transaction: Sequence(0),
            position: 0,
            collection: "c".to_owned(),
            id: String::new(),
            action: Action::Create,
            revision: 1,
            before: None,
            after: None,
            origin: Origin::default(),
        }
    }

    type Seen = (Sequence, Vec<(String, Vec<RawDocumentBuf>)>, Vec<Record>);

    async fn seen(store: &Embedded) -> Seen {
        let snapshot: Arc<dyn Snapshot> = store.snapshot().await.unwrap();
        let names = snapshot.collections().unwrap();
        let rows = names.into_iter().map(|name| {
            let rows = snapshot.documents(&name, None, 10_000).unwrap();
            assert_eq!(snapshot.count(&name).unwrap(), rows.len() as u64);
            (name, rows)
        });
        (snapshot.sequence(), rows.collect(), snapshot.records(Sequence(0), 10_000).unwrap())
    }

    /// Whether filled: the collections, an index that failed on doubles, a receipt, a journal with a hole.
    async fn filled() -> Embedded {
        let store = store();
        commit(&store, vec![put(COLLECTIONS, "c", rawdoc! {})], None).await.unwrap();
        let rows = (0..50).map(|n| put("c", &format!("{n:03}"), rawdoc! { "n": n, "twice": n / 2, "list": [n, 1000] }));
        commit(&store, rows.collect(), Some("key")).await.unwrap();
        let gone = Operation { change: Change::Delete, ..put("c", "037", rawdoc! {}) };
        commit(&store, vec![gone], None).await.unwrap();
        let indexes =
            rawdoc! { "indexes": ["n", { "keys": "twice", "unique": true }, { "keys": "n,twice", "unique": true }] };
        commit(&store, vec![put(COLLECTIONS, "c", indexes)], None).await.unwrap();
        let half = store.statistics().await.unwrap().journal_bytes / 2;
        let (keep_from, keep_after) = (Timestamp(i64::MAX), Sequence::END);
        let half = Retention { older_than: Timestamp(0), most_bytes: half, keep_from, keep_after };
        assert!(store.trim(half).await.unwrap() > 10);
        store
    }

    async fn copy(from: &Seen, to: &Embedded) -> Result<(), Error> {
        for (collection, rows) in &from.1 {
            for documents in rows.chunks(7) {
                let (collection, documents) = (collection.clone(), documents.to_vec());
                to.load(Load::Documents { collection, documents }).await?;
            }
        }
        for records in from.2.chunks(7) {
            to.load(Load::Records(records.to_vec())).await?;
        }
        to.load(Load::End(from.0)).await
    }

    async fn builds(store: &Embedded) -> Vec<Build> {
        for _ in 0..1000 {
            let indexes = store.describe("c").await.unwrap().unwrap().indexes;
            if indexes.iter().all(|state| !matches!(state.progress, Build::Building { .. })) {
                return indexes.into_iter().map(|state| state.progress).collect();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("the indexes are still being built");
    }

    #[tokio::test]
    async fn a_loaded_store_is_the_one_it_came_from() {
        let origin = filled().await;
        let wanted = builds(&origin).await;
        assert!(matches!(wanted[..], [Build::Ready, Build::Failed { .. }, Build::Ready]), "{wanted:?}");
        let before = seen(&origin).await;
        let restored = store();
        copy(&before, &restored).await.unwrap();
        let indexes = restored.describe("c").await.unwrap().unwrap().indexes;
        let built: Vec<Build> = indexes.into_iter().map(|state| state.progress).collect();
        assert_eq!(built, wanted, "the last part waits for the indexes");
        let after = seen(&restored).await;
        assert!(after == before, "{after:?}\n{before:?}");

        // Indexes answer, doubles are refused again, a retry is recognised, the journal goes on.
        let filter = Arc::new(Filter::parse(&rawdoc! { "n": { "$gte": 40 } }).unwrap());
        let (count, explain) = restored.count("c", filter).await.unwrap();
        assert_eq!((count, explain.index.as_deref()), (10, Some("n_1")));
        let double = commit(&restored, vec![put("c", "x", rawdoc! { "n": 3, "twice": 1 })], None).await;
        assert!(matches!(double, Err(Error::Conflict(_))), "{double:?}");
        let again = commit(&restored, vec![put("c", "y", rawdoc! {})], Some("key")).await;
        assert_eq!(again.unwrap(), Sequence(51));
        let next = commit(&restored, vec![put("c", "z", rawdoc! { "n": 99, "twice": 99 })], None).await.unwrap();
        assert_eq!(next, Sequence(before.0.0 + 1));
        assert!(before.1.iter().any(|(name, rows)| name == RECEIPTS && rows.len() == 1));
    }

    #[tokio::test]
    async fn only_a_store_that_never_held_anything_is_loaded_and_nobody_writes_meanwhile() {
        let used = filled().await;
        let before = seen(&used).await;
        let refused = used.load(Load::End(Sequence(900))).await.unwrap_err();
        assert!(matches!(&refused, Error::Rejected(fault) if fault.key == "documents.load_used"), "{refused}");
        assert!(seen(&used).await == before);

        let fresh = store();
        let definition = rawdoc! { "_id": "c", "_rev": 1_i64 };
        let part = |collection: &str, document: &RawDocumentBuf| Load::Documents {
            collection: collection.to_owned(),
            documents: vec![document.clone()],
        };
        fresh.load(part(COLLECTIONS, &definition)).await.unwrap();
        let early = commit(&fresh, vec![put("c", "a", rawdoc! {})], None).await;
        assert!(matches!(early, Err(Error::Unavailable(_))), "{early:?}");
        assert!(matches!(fresh.load(part(COLLECTIONS, &definition)).await, Err(Error::Conflict(_))));
        assert!(matches!(fresh.load(part("unknown", &definition)).await, Err(Error::Conflict(_))));
        assert!(matches!(fresh.load(part("c", &rawdoc! { "a": 1 })).await, Err(Error::Rejected(_))));
        let records = before.2.iter().take(2).rev().cloned().collect();
        assert!(matches!(fresh.load(Load::Records(records)).await, Err(Error::Rejected(_))));
        fresh.load(part("c", &rawdoc! { "_id": "a", "_rev": 7_i64 })).await.unwrap();
        let told = Record { sequence: Sequence(1), id: "a".to_owned(), ..before_any() };
        let refused = fresh.load(Load::Records(vec![told])).await.unwrap_err();
        assert!(matches!(&refused, Error::Rejected(fault) if fault.key == "documents.load_images"), "{refused}");
        // A change that does not go on from what is there is none of this store's.
        let gone = |sequence: u64, before: RawDocumentBuf| Record {
            sequence: Sequence(sequence),
            transaction: Sequence(sequence),
            id: "a".to_owned(),
            action: Action::Delete,
            before: Some(before),
            after: None,
            ..before_any()
        };
        for (wrong, key) in [
            (gone(7, rawdoc! { "_id": "a", "_rev": 6_i64 }), "documents.load_change"),
            (Record { before: None, ..gone(7, rawdoc! {}) }, "documents.load_change"),
            (Record { id: "b".to_owned(), ..gone(7, rawdoc! { "_id": "b" }) }, "documents.load_change"),
            // An update without an image after it is no deletion.
            (
                Record { action: Action::Update, ..gone(7, rawdoc! { "_id": "a", "_rev": 7_i64 }) },
                "documents.load_images",
            ),
            (Record { collection: RECEIPTS.to_owned(), ..gone(7, rawdoc! {}) }, "documents.reserved"),
        ] {
            let refused = fresh.load(Load::Changes(vec![wrong])).await.unwrap_err();
            assert!(matches!(&refused, Error::Rejected(fault) if fault.key == key), "{refused}");
        }
        let change = gone(7, rawdoc! { "_id": "a", "_rev": 7_i64 });
        fresh.load(Load::Changes(vec![change.clone()])).await.unwrap();
        let late = fresh.load(Load::Changes(vec![Record { sequence: Sequence(7), ..change }])).await;
        assert!(matches!(late, Err(Error::Rejected(_))), "a change twice");
        fresh.load(Load::End(Sequence(8))).await.unwrap();
        assert!(fresh.load(Load::End(Sequence(9))).await.is_err(), "loaded twice");
        assert_eq!(commit(&fresh, vec![put("c", "a", rawdoc! {})], None).await.unwrap(), Sequence(9));
    }
}
