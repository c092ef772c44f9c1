//! What a commit promises: all or nothing, in order, once.

use super::*;
use crate::{
    base::fault::Fault,
    ports::documents::{Action, Check, RECEIPTS, Receipt, Retention, Sequence},
};

#[tokio::test]
async fn a_batch_goes_in_whole_or_not_at_all() {
    let store = in_memory();
    define(&store, "c", rawdoc! { "indexes": [{ "keys": "code", "unique": true }] }).await;
    store.commit(batch(vec![put("c", "a", rawdoc! { "code": 1 })])).await.expect("committed");
    let before = store.statistics().await.expect("figures");
    assert_eq!(before.commit_waits.count(), 2, "each that is on disk, and below none that was refused");
    let refused = store
        .commit(batch(vec![
            put("c", "b", rawdoc! { "code": 2 }),
            update("c", "a", &rawdoc! { "$set": { "code": 3 } }),
            put(COLLECTIONS, "d", rawdoc! {}),
            put("c", "x", rawdoc! { "code": 2 }),
        ]))
        .await;
    let expected = Conflict::Unique { operation: 3, index: "code_1".into(), id: "x".into(), other: "b".into() };
    assert_eq!(conflict(refused), expected);
    assert_eq!(store.statistics().await.expect("figures"), before);
    assert_eq!(store.get("c", "b").await.expect("read"), None);
    assert_eq!(store.get("c", "a").await.expect("read").expect("there").get_i32("code").ok(), Some(1));
    assert!(store.describe("d").await.expect("read").is_none());
    assert_eq!(ids(&page(&store, "c", &rawdoc! { "code": 2 }, "").await), Vec::<&str>::new());
    assert_eq!(store.count("c", filter(&rawdoc! {})).await.expect("counted").0, 1);
}

#[tokio::test]
async fn operations_see_their_predecessors() {
    let store = in_memory();
    let committed = store
        .commit(batch(vec![
            put(COLLECTIONS, "c", rawdoc! { "indexes": [{ "keys": "n", "unique": true }] }),
            operation("c", "a", Expect::Absent, Change::Put(rawdoc! { "n": 1 })),
            operation(
                "c",
                "a",
                Expect::Revision(1),
                Change::Update(Update::parse(&rawdoc! { "$inc": { "n": 4 } }).expect("an update")),
            ),
            put("c", "b", rawdoc! { "n": 1 }),
            delete("c", "b"),
            put("c", "d", rawdoc! { "n": 1 }),
        ]))
        .await
        .expect("committed");
    let revisions: Vec<i64> = committed.outcomes.iter().map(|outcome| outcome.revision).collect();
    assert_eq!(revisions, [1, 1, 2, 1, 2, 1]);
    assert_eq!(store.get("c", "a").await.expect("read").expect("there").get_i32("n").ok(), Some(5));
    assert_eq!(ids(&page(&store, "c", &rawdoc! { "n": 1 }, "").await), ["d"]);
    let records = store.records(Sequence(0), 100).await.expect("records");
    assert_eq!(records.len(), 6);
    assert_eq!(records[5].sequence, committed.sequence);
    for (place, record) in records.iter().enumerate() {
        assert_eq!((record.transaction, record.position as usize), (Sequence(1), place));
    }
    assert_eq!((records[2].action, records[2].revision), (Action::Update, 2));
    assert_eq!(records[2].before, committed.outcomes[1].document);
    assert_eq!(records[2].after, committed.outcomes[2].document);
    assert_eq!((records[4].action, records[4].revision, &records[4].after), (Action::Delete, 2, &None));
    assert_eq!(store.records(Sequence(4), 1).await.expect("records"), records[4..5]);
}

#[tokio::test]
async fn expectations_are_held_to() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    store.commit(batch(vec![put("c", "a", rawdoc! {})])).await.expect("committed");
    let one = |expect, change| store.commit(batch(vec![operation("c", "a", expect, change)]));
    let other = |expect, change| store.commit(batch(vec![operation("c", "b", expect, change)]));
    let missing = Conflict::Missing { operation: 0, id: "b".into() };
    assert_eq!(
        conflict(one(Expect::Absent, Change::Put(rawdoc! {})).await),
        Conflict::Exists { operation: 0, id: "a".into() }
    );
    assert_eq!(conflict(other(Expect::Present, Change::Put(rawdoc! {})).await), missing);
    assert_eq!(conflict(other(Expect::Revision(1), Change::Put(rawdoc! {})).await), missing);
    assert_eq!(conflict(other(Expect::Any, Change::Delete).await), missing);
    let stale = Conflict::Revision { operation: 0, id: "a".into(), expected: 2, actual: 1 };
    assert_eq!(conflict(one(Expect::Revision(2), Change::Delete).await), stale);
    let unknown = store.commit(batch(vec![put("nowhere", "a", rawdoc! {})])).await;
    assert_eq!(conflict(unknown), Conflict::Unknown { operation: 0, collection: "nowhere".into() });
}

#[tokio::test]
async fn limits_are_kept() {
    let store = in_memory();
    define(&store, "c", rawdoc! { "indexes": ["a", "b,c"] }).await;
    let one = |document| store.commit(batch(vec![put("c", "a", document)]));
    assert_eq!(rejection(one(rawdoc! { "x": "y".repeat(1 << 20) }).await), "documents.too_large");
    assert_eq!(rejection(one(rawdoc! { "a": "y".repeat(2000) }).await), "documents.index_key");
    assert_eq!(rejection(one(rawdoc! { "b": [1], "c": [2] }).await), "documents.index_parallel");
    let deep = (0..10_000).fold(rawdoc! {}, |inner, _| rawdoc! { "a": inner });
    assert_eq!(rejection(one(deep).await), "documents.nesting");
    assert_eq!(rejection(store.commit(batch(vec![put("c", "", rawdoc! {})])).await), "documents.id");
    let many = (0..1001).map(|n| put("c", &n.to_string(), rawdoc! {})).collect();
    assert_eq!(rejection(store.commit(batch(many)).await), "documents.batch_operations");
    let heavy = (0..17).map(|n| put("c", &n.to_string(), rawdoc! { "x": "y".repeat((1 << 20) - 500) })).collect();
    assert_eq!(rejection(store.commit(batch(heavy)).await), "documents.batch_bytes");
    assert_eq!(rejection(store.commit(batch(vec![put(RECEIPTS, "r", rawdoc! {})])).await), "documents.reserved");
    assert_eq!(
        rejection(store.commit(batch(vec![put(COLLECTIONS, RECEIPTS, rawdoc! {})])).await),
        "documents.reserved"
    );
    let broken = store.commit(batch(vec![put(COLLECTIONS, "d", rawdoc! { "indexes": 5 })])).await;
    assert_eq!(rejection(broken), "collections.field_type");
    assert_eq!(store.count("c", filter(&rawdoc! {})).await.expect("counted").0, 0);
}

struct Rule;

impl Check for Rule {
    fn judge(&self, operation: usize, before: Option<&RawDocument>, after: Option<&RawDocument>) -> Result<(), Fault> {
        let n = |document: Option<&RawDocument>| document.map(|document| document.get_i32("n").unwrap_or(-1));
        match (n(before), n(after)) {
            (_, Some(13)) => Err(Fault::new("documents.reserved").at(operation.to_string())),
            (_, Some(666)) => panic!("a rule with a bug"),
            (Some(5), None) => Err(Fault::new("documents.id")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_check_sees_both_states_and_its_panic_harms_nobody() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    let checked = |operation| store.commit(Batch { check: Some(Arc::new(Rule)), ..batch(vec![operation]) });
    checked(put("c", "a", rawdoc! { "n": 5 })).await.expect("committed");
    assert_eq!(rejection(checked(put("c", "b", rawdoc! { "n": 13 })).await), "documents.reserved");
    assert_eq!(rejection(checked(delete("c", "a")).await), "documents.id");
    assert!(matches!(checked(put("c", "b", rawdoc! { "n": 666 })).await, Err(Error::Backend(_))));
    checked(put("c", "b", rawdoc! { "n": 1 })).await.expect("committed");
}

#[tokio::test]
async fn a_retry_gets_the_first_answer() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    let receipt = |fingerprint: &str, seconds| Receipt {
        key: "me/POST/\0strange".into(),
        fingerprint: fingerprint.into(),
        expires: NOW.plus_seconds(seconds),
    };
    let send = |fingerprint, at, operation| {
        store.commit(Batch { time: at, receipt: Some(receipt(fingerprint, 60)), ..batch(vec![operation]) })
    };
    let first = send("x", NOW, put("c", "a", rawdoc! { "n": 1 })).await.expect("committed");
    store.commit(batch(vec![put("c", "a", rawdoc! { "n": 2 })])).await.expect("committed");
    let again = send("x", NOW, put("c", "a", rawdoc! { "n": 1 })).await.expect("answered");
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.sequence, first.sequence);
    assert_eq!(again.outcomes[0].document, first.outcomes[0].document);
    assert_eq!(again.outcomes[0].revision, 1);
    assert_eq!(store.get("c", "a").await.expect("read").expect("there").get_i32("n").ok(), Some(2));
    let reused = send("y", NOW, put("c", "a", rawdoc! { "n": 1 })).await;
    assert_eq!(conflict(reused), Conflict::Reused { key: "me/POST/\0strange".into() });
    // Once expired it is nobody's any more, and a later write clears it away.
    let later = NOW.plus_seconds(61);
    assert_eq!(store.count(RECEIPTS, filter(&rawdoc! {})).await.expect("counted").0, 1);
    store.commit(Batch { time: later, ..batch(vec![put("c", "b", rawdoc! {})]) }).await.expect("committed");
    assert_eq!(store.count(RECEIPTS, filter(&rawdoc! {})).await.expect("counted").0, 0);
    assert!(!send("y", later, put("c", "a", rawdoc! {})).await.expect("committed").replayed);
}

#[tokio::test]
async fn a_snapshot_stands_still() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    for n in 0..10 {
        store.commit(batch(vec![put("c", &format!("{n}"), rawdoc! { "n": n })])).await.expect("committed");
    }
    let snapshot = store.snapshot().await.expect("a snapshot");
    let sequence = snapshot.sequence();
    store
        .commit(batch(vec![delete("c", "3"), put("c", "x", rawdoc! {}), delete(COLLECTIONS, "c")]))
        .await
        .expect("committed");
    assert_eq!(snapshot.collections().expect("names"), [COLLECTIONS, "c", RECEIPTS]);
    let first = snapshot.documents("c", None, 4).expect("documents");
    let rest = snapshot.documents("c", Some("3"), 100).expect("documents");
    let all: Vec<i32> = first.iter().chain(&rest).map(|document| document.get_i32("n").expect("n")).collect();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    assert_eq!(snapshot.count("c").expect("a count"), 10);
    assert_eq!(snapshot.records(Sequence(0), 100).expect("records").len(), 11);
    assert_eq!(snapshot.sequence(), sequence);
    assert!(store.describe("c").await.expect("read").is_none());
}

#[tokio::test]
async fn the_journal_is_trimmed_by_time_and_size() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    for n in 0..6 {
        let time = NOW.plus_seconds(n);
        store.commit(Batch { time, ..batch(vec![put("c", "a", rawdoc! {})]) }).await.expect("committed");
    }
    let before = |seconds| Retention {
        older_than: NOW.plus_seconds(seconds),
        most_bytes: u64::MAX,
        keep_from: Timestamp(i64::MAX),
        keep_after: Sequence::END,
    };
    let bytes = async || store.statistics().await.expect("figures").journal_bytes;
    let all = bytes().await;
    assert_eq!(store.trim(Retention { keep_from: NOW.plus_seconds(1), ..before(100) }).await.expect("trimmed"), 2);
    assert_eq!(store.trim(Retention { keep_after: Sequence(3), ..before(3) }).await.expect("trimmed"), 1);
    assert_eq!(store.trim(before(3)).await.expect("trimmed"), 1);
    assert_eq!(store.trim(before(3)).await.expect("trimmed"), 0);
    // Four of the seven records are gone; the three left are alike, and the last leaves only when nothing may stay.
    let three = bytes().await;
    assert!(three < all && three % 3 == 0, "{three} of {all}");
    let within = |most_bytes| Retention { most_bytes, ..before(0) };
    assert_eq!(store.trim(within(three)).await.expect("trimmed"), 0);
    assert_eq!(store.trim(Retention { keep_from: NOW, ..within(0) }).await.expect("trimmed"), 0);
    assert_eq!(store.trim(within(three - 1)).await.expect("trimmed"), 1);
    assert_eq!(bytes().await, three / 3 * 2);
    let records = store.records(Sequence(0), 100).await.expect("records");
    assert_eq!(records.iter().map(|record| record.sequence.0).collect::<Vec<_>>(), [6, 7]);
    let next = store.commit(batch(vec![put("c", "a", rawdoc! {})])).await.expect("committed");
    assert_eq!(next.sequence, Sequence(8));
}

#[tokio::test]
async fn small_operations_on_large_documents_weigh_what_they_touch() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    let large = rawdoc! { "text": "x".repeat(1_000_000), "n": 0 };
    store.commit(batch(vec![put("c", "a", large)])).await.expect("committed");
    let patch = |count: usize| (0..count).map(|_| update("c", "a", &rawdoc! { "$inc": { "n": 1 } })).collect();
    assert_eq!(rejection(store.commit(batch(patch(1000))).await), "documents.batch_bytes");
    let found = store.get("c", "a").await.expect("read").expect("there");
    assert_eq!(found.get_i32("n").expect("n"), 0, "nothing of it was done");
    // Several heavy batches at once come to more than one transaction takes.
    let several = futures_util::future::join_all((0..8).map(|_| store.commit(batch(patch(16))))).await;
    assert!(several.iter().all(Result::is_ok));
    let found = store.get("c", "a").await.expect("read").expect("there");
    assert_eq!(found.get_i32("n").expect("n"), 128);
}
