//! Figures, not tests: `cargo test --release -- --ignored --nocapture embedded::tests::speed`.

use super::*;
use futures_util::future::join_all;
use std::time::Instant;

fn person(n: usize) -> RawDocumentBuf {
    rawdoc! {
        "name": format!("person {n}"),
        "country": format!("C{:03}", n % 200),
        "population": ((n as i64 * 7919) % 1_000_003),
        "text": "x".repeat(300),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, proves nothing"]
async fn figures() {
    let folder =
        tempfile::tempdir_in(std::env::var("SPEED_DIR").unwrap_or_else(|_| "/var/tmp".into())).expect("a folder");
    let store = Arc::new(on_disk(folder.path()));
    define(&store, "c", rawdoc! { "indexes": ["country,-population"] }).await;
    let rate = |what: &str, count: usize, start: Instant| {
        println!("{what}: {:.0}/s", count as f64 / start.elapsed().as_secs_f64());
    };
    let id = |n: usize| format!("{n:08x}-0000-7000-8000-000000000000");
    let start = Instant::now();
    for chunk in 0..100 {
        let all = (0..1000).map(|n| put("c", &id(chunk * 1000 + n), person(chunk * 1000 + n))).collect();
        store.commit(batch(all)).await.expect("committed");
    }
    rate("insert in batches of 1000", 100_000, start);
    let start = Instant::now();
    for round in 0..200 {
        let group = (0..64).map(|n| {
            let at = 200_000 + round * 64 + n;
            store.commit(batch(vec![put("c", &id(at), person(at))]))
        });
        for done in join_all(group).await {
            done.expect("committed");
        }
    }
    rate("durable inserts, 64 at once", 200 * 64, start);
    let start = Instant::now();
    for n in 0..300_000usize {
        assert!(store.get("c", &id((n * 7919) % 100_000)).await.expect("read").is_some());
    }
    rate("get by id, one thread", 300_000, start);
    let start = Instant::now();
    for n in 0..20_000usize {
        let by = rawdoc! { "country": format!("C{:03}", n % 200) };
        assert_eq!(store.find(query("c", &by, "-population", 20, None)).await.expect("a page").documents.len(), 20);
    }
    rate("filtered and sorted page of 20, one thread", 20_000, start);
    store.close().await.expect("closed");
    drop(store);
    let start = Instant::now();
    let store = on_disk(folder.path());
    println!("open with 112,800 documents: {:?}", start.elapsed());
    assert!(store.get("c", &id(5)).await.expect("read").is_some());
    println!("first read after: {:?}", start.elapsed());
}
