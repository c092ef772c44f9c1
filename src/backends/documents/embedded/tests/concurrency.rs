//! Many writers at once.

use super::*;
use futures_util::future::join_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_increments_make_two_thousand() {
    let store = Arc::new(in_memory());
    define(&store, "c", rawdoc! {}).await;
    store.commit(batch(vec![put("c", "a", rawdoc! { "n": 0 })])).await.expect("committed");
    let increments = (0..2000).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.commit(batch(vec![update("c", "a", &rawdoc! { "$inc": { "n": 1 } })])).await })
    });
    for done in join_all(increments).await {
        done.expect("joined").expect("committed");
    }
    let document = store.get("c", "a").await.expect("read").expect("there");
    assert_eq!((document.get_i32("n").ok(), document.get_i64("_rev").ok()), (Some(2000), Some(2001)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_index_lets_one_of_each_in() {
    let store = Arc::new(in_memory());
    define(&store, "c", rawdoc! { "indexes": [{ "keys": "code", "unique": true }] }).await;
    let inserts = (0..300).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(
            async move { store.commit(batch(vec![put("c", &format!("{n}"), rawdoc! { "code": n % 100 })])).await },
        )
    });
    let (mut went_in, mut refused) = (0, 0);
    for done in join_all(inserts).await {
        match done.expect("joined") {
            Ok(_) => went_in += 1,
            Err(Error::Conflict(Conflict::Unique { .. })) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((went_in, refused), (100, 200));
    assert_eq!(store.count("c", filter(&rawdoc! {})).await.expect("counted").0, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_neither_skip_nor_repeat_under_writes() {
    let store = Arc::new(in_memory());
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    for n in (0..300).step_by(3) {
        store.commit(batch(vec![put("c", &format!("{n:03}"), rawdoc! { "n": n / 9 })])).await.expect("committed");
    }
    let other = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for n in (1..300).step_by(3) {
            other.commit(batch(vec![put("c", &format!("{n:03}"), rawdoc! { "n": n / 9 })])).await.expect("committed");
            if n > 20 {
                other.commit(batch(vec![delete("c", &format!("{:03}", n - 18))])).await.expect("committed");
            }
        }
    });
    for sort in ["n", "-n", "", "-_id"] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.find(query("c", &rawdoc! {}, sort, 7, after)).await.expect("a page");
            seen.extend(
                ids(&page).into_iter().filter(|id| id.parse::<i32>().expect("a number") % 3 == 0).map(str::to_owned),
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut once = seen.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), 100, "{sort}: skipped");
        assert_eq!(seen.len(), 100, "{sort}: repeated");
    }
    writing.await.expect("joined");
}
