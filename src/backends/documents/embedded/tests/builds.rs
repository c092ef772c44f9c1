//! Indexes made while documents are there and writes go on.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_builds_while_writes_go_on() {
    let store = Arc::new(in_memory());
    define(&store, "c", rawdoc! {}).await;
    for chunk in 0..5 {
        let all = (0..1000).map(|n| put("c", &format!("{chunk}{n:03}"), rawdoc! { "n": n % 7, "old": true })).collect();
        store.commit(batch(all)).await.expect("committed");
    }
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    // Before and behind wherever the build stands.
    for n in 0..200 {
        let changes = vec![
            update("c", &format!("{}{:03}", n % 5, n * 5), &rawdoc! { "$set": { "n": 100 } }),
            delete("c", &format!("{}{:03}", n % 5, n * 5 + 1)),
            put("c", &format!("{}x{n}", n % 5), rawdoc! { "n": 100 }),
        ];
        store.commit(batch(changes)).await.expect("committed");
    }
    assert_eq!(built(&store, "c").await, [Build::Ready]);
    for n in [0, 1, 6, 100] {
        let by = rawdoc! { "n": n };
        let (indexed, explain) = store.count("c", filter(&by)).await.expect("counted");
        assert_eq!(explain.index.as_deref(), Some("n_1"));
        let (scanned, explain) =
            store.count("c", filter(&rawdoc! { "$nor": [{ "n": { "$ne": n } }] })).await.expect("counted");
        assert_eq!(explain.index, None);
        assert_eq!(indexed, scanned, "{n}");
        assert!(indexed > 0);
    }
}

#[tokio::test]
async fn a_unique_build_that_finds_doubles_names_them() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    let all = (0..600).map(|n| put("c", &format!("{n:03}"), rawdoc! { "n": (if n == 599 { 7 } else { n }) })).collect();
    store.commit(batch(all)).await.expect("committed");
    let unique = rawdoc! { "indexes": [{ "keys": "n", "unique": true }] };
    define(&store, "c", unique.clone()).await;
    let failed = Build::Failed { duplicates: vec![("007".into(), "599".into())], refused: None };
    assert_eq!(built(&store, "c").await, [failed]);
    // Neither enforced nor used.
    store.commit(batch(vec![put("c", "x", rawdoc! { "n": 1 })])).await.expect("committed");
    let found = page(&store, "c", &rawdoc! { "n": 1 }, "").await;
    assert_eq!((ids(&found), &found.explain.index), (vec!["001", "x"], &None));
    // Removed, mended, defined again.
    define(&store, "c", rawdoc! {}).await;
    store.commit(batch(vec![delete("c", "x"), delete("c", "599")])).await.expect("committed");
    define(&store, "c", unique).await;
    assert_eq!(built(&store, "c").await, [Build::Ready]);
    let again = store.commit(batch(vec![put("c", "x", rawdoc! { "n": 1 })])).await;
    assert!(matches!(conflict(again), Conflict::Unique { .. }));
}

#[tokio::test]
async fn a_document_the_index_cannot_take_fails_the_build() {
    let store = in_memory();
    define(&store, "c", rawdoc! {}).await;
    store.commit(batch(vec![put("c", "big", rawdoc! { "n": "x".repeat(2000) })])).await.expect("committed");
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    let builds = built(&store, "c").await;
    let [Build::Failed { duplicates, refused: Some((id, why)) }] = builds.as_slice() else { panic!("{builds:?}") };
    assert!(duplicates.is_empty() && id == "big" && why.contains("1024"), "{why}");
}

/// As many pieces as it takes, several indexes, one that a document of the second piece bars, one with doubles.
#[tokio::test]
async fn a_restore_fills_every_index_before_it_ends() {
    let store = in_memory();
    let indexes =
        rawdoc! { "_id": "c", "_rev": 1_i64, "indexes": ["n", "long", "n,long", { "keys": "half", "unique": true }] };
    let text = |n: i32| if n == 700 { "x".repeat(2000) } else { "x".to_owned() };
    let document =
        |n: i32| rawdoc! { "_id": format!("{n:04}"), "_rev": 1_i64, "n": n % 7, "long": text(n), "half": n / 2 };
    let load =
        |collection: &str, documents| store.load(Load::Documents { collection: collection.to_owned(), documents });
    load(COLLECTIONS, vec![indexes]).await.expect("loaded");
    load("c", (0..1300).map(document).collect()).await.expect("loaded");
    store.load(Load::End(Sequence(9))).await.expect("loaded");
    let states = store.describe("c").await.expect("read").expect("there").indexes;
    let refused = |state: &Build| matches!(state, Build::Failed { refused: Some((id, _)), .. } if id == "0700");
    let states: Vec<Build> = states.into_iter().map(|state| state.progress).collect();
    let [Build::Ready, long, both, Build::Failed { duplicates, refused: None }] = &states[..] else {
        panic!("{states:?}")
    };
    assert!(refused(long) && refused(both) && duplicates[0] == ("0000".to_owned(), "0001".to_owned()), "{states:?}");
    let (count, explain) = store.count("c", filter(&rawdoc! { "n": { "$gte": 0 } })).await.expect("counted");
    assert_eq!((count, explain.index.as_deref()), (1300, Some("n_1")));
}

#[tokio::test]
async fn what_is_dropped_is_gone_and_stays_gone() {
    let store = in_memory();
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    for chunk in 0..6 {
        let all = (0..1000).map(|n| put("c", &format!("{chunk}{n}"), rawdoc! { "n": n })).collect();
        store.commit(batch(all)).await.expect("committed");
    }
    store.commit(batch(vec![delete(COLLECTIONS, "c")])).await.expect("dropped");
    assert_eq!(store.get("c", "00").await.expect("read"), None);
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    assert_eq!(store.count("c", filter(&rawdoc! {})).await.expect("counted").0, 0);
    assert_eq!(ids(&page(&store, "c", &rawdoc! { "n": 5 }, "").await), Vec::<&str>::new());
    let view = loop {
        let view = store.shared.view().expect("a view");
        let left = redb::ReadableTableMetadata::len(&view.tables.documents).expect("a length");
        // The catalogue's own document of "c" stays.
        if left == 1 {
            break view;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    };
    loop {
        let view = store.shared.view().expect("a view");
        if redb::ReadableTableMetadata::is_empty(&view.tables.entries).expect("a length") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    drop(view);
}
