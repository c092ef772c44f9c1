//! Which index answers what, at what price.

use super::*;

async fn places() -> Embedded {
    let store = in_memory();
    define(&store, "c", rawdoc! { "indexes": ["country,-population", "name", "tags"] }).await;
    for chunk in 0..3 {
        let all = (0..1000).map(|n| {
            let document = rawdoc! {
                "country": (["CD", "RW", "UG"][n % 3]),
                "population": ((n as i32 * 7) % 500),
                "name": format!("n{:03}", (n * 37) % 1000),
                "tags": [(n as i32 % 5), (100 + n as i32 % 7)],
                "where": [(29.0 + n as f64 / 1000.0), -1.0],
            };
            put("c", &format!("{chunk}{n:03}"), document)
        });
        store.commit(batch(all.collect())).await.expect("committed");
    }
    store
}

#[tokio::test]
async fn a_page_reads_little_more_than_its_rows() {
    let store = places().await;
    let cost = async |by: RawDocumentBuf, sort: &str| {
        let page = store.find(query("c", &by, sort, 20, None)).await.expect("a page");
        let explain = page.explain;
        assert_eq!(page.documents.len(), 20);
        (explain.index, explain.keys_examined, explain.documents_examined, explain.sorted_in_memory)
    };
    let index = |name: &str| Some(name.to_owned());
    let compound = "country_1_population_-1";
    assert_eq!(cost(rawdoc! { "country": "CD" }, "-population").await, (index(compound), 21, 21, false));
    // The other way round, groups of equals are read again in order.
    let (name, keys, documents, sorted) = cost(rawdoc! { "country": "CD" }, "population").await;
    assert_eq!((name, documents, sorted), (index(compound), 21, false));
    assert!(keys <= 21, "{keys}");
    let band = rawdoc! { "country": "CD", "population": { "$gte": 100, "$lt": 300 } };
    assert_eq!(cost(band, "-population").await, (index(compound), 21, 21, false));
    assert_eq!(cost(rawdoc! {}, "name").await, (index("name_1"), 21, 21, false));
    assert_eq!(cost(rawdoc! {}, "").await, (index("_id"), 0, 21, false));
    assert_eq!(cost(rawdoc! { "_id": { "$gt": "1" } }, "-_id").await, (index("_id"), 0, 21, false));
    assert_eq!(cost(rawdoc! { "tags": 3 }, "").await, (index("tags_1"), 21, 21, false));
    let (name, keys, documents, sorted) = cost(rawdoc! { "name": { "$regex": "^n00" } }, "").await;
    assert_eq!((name, keys, documents, sorted), (index("name_1"), 30, 21, false));
    // Nothing serves these: all documents are read.
    assert_eq!(cost(rawdoc! {}, "country,name").await, (None, 0, 3000, true));
    assert_eq!(cost(rawdoc! { "population": { "$gt": 7 } }, "name,country").await, (None, 0, 3000, true));
}

#[tokio::test]
async fn counts_come_from_keys_where_keys_say_it_all() {
    let store = places().await;
    let (count, explain) =
        store.count("c", filter(&rawdoc! { "country": { "$in": ["CD", "RW"] } })).await.expect("counted");
    assert_eq!((count, explain.keys_examined, explain.documents_examined), (2001, 2001, 0));
    let (count, explain) = store.count("c", filter(&rawdoc! { "tags": { "$gte": 3 } })).await.expect("counted");
    assert_eq!((count, explain.index.as_deref()), (3000, Some("tags_1")));
    let (count, explain) = store.count("c", filter(&rawdoc! {})).await.expect("counted");
    assert_eq!((count, explain.documents_examined), (3000, 0));
}

#[tokio::test]
async fn near_comes_nearest_first_page_by_page() {
    let store = places().await;
    let by = rawdoc! { "where": { "$near": { "$geometry": { "type": "Point", "coordinates": [29.5, -1.0] } } } };
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.find(query("c", &by, "", 700, after)).await.expect("a page");
        assert!(page.explain.sorted_in_memory);
        all.extend(ids(&page).into_iter().map(str::to_owned));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), 3000);
    assert_eq!(all[..3], ["0500", "1500", "2500"]);
    let far = |id: &String| (id[1..].parse::<i32>().expect("a number") - 500).abs();
    assert!(all.windows(2).all(|pair| far(&pair[0]) <= far(&pair[1])));
}

#[tokio::test]
async fn a_query_ends_when_its_time_is_over() {
    struct Hurried(std::sync::atomic::AtomicI64);
    impl crate::base::clock::Clock for Hurried {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.fetch_add(1000, std::sync::atomic::Ordering::Relaxed))
        }
    }
    let clock = Arc::new(Hurried(NOW.0.into()));
    let store = Embedded::open_over(InMemoryBackend::new(), Options::default(), clock).expect("opens");
    define(&store, "c", rawdoc! {}).await;
    let all = (0..1000).map(|n| put("c", &format!("{n}"), rawdoc! { "n": n })).collect();
    store.commit(batch(all)).await.expect("committed");
    let Err(Error::Rejected(fault)) = store.find(query("c", &rawdoc! { "n": -1 }, "", 1, None)).await else {
        panic!("answered")
    };
    assert_eq!(fault.key, "query.time");
}

#[tokio::test]
async fn a_cursor_of_something_else_is_refused() {
    let store = places().await;
    for after in [vec![], vec![9], vec![1, 1, 0, 0, 0, 9], b"\x01\x00\xff\xfe".to_vec()] {
        let Err(Error::Rejected(fault)) = store.find(query("c", &rawdoc! {}, "", 1, Some(after))).await else {
            panic!("taken")
        };
        assert_eq!(fault.key, "query.cursor");
    }
    // One made up says nothing it should not.
    let made_up = crate::domain::cursor::Cursor { components: vec![vec![0xff; 9]], id: "zzz".into() }.encode();
    let by = rawdoc! { "country": "CD" };
    for sort in ["population", "-population"] {
        let page = store.find(query("c", &by, sort, 1000, Some(made_up.clone()))).await.expect("a page");
        assert!(page.documents.iter().all(|document| document.get_str("country").ok() == Some("CD")));
    }
}

#[tokio::test]
async fn a_page_of_large_documents_ends_early_and_the_next_goes_on() {
    let store = in_memory();
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    for n in 0..40 {
        let large = rawdoc! { "n": n, "twin": -n, "text": "x".repeat(1_000_000) };
        store.commit(batch(vec![put("c", &format!("{n:02}"), large)])).await.expect("committed");
    }
    let everything = rawdoc! {};
    for sort in ["", "-_id", "n", "-n", "twin"] {
        let (mut sizes, mut seen, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = store.find(query("c", &everything, sort, 100, after)).await.expect("a page");
            sizes.push(page.documents.len());
            seen.extend(page.documents.iter().map(|document| document.get_i32("n").expect("n")));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(sizes, [16, 16, 8], "{sort}");
        if ["-_id", "-n", "twin"].contains(&sort) {
            seen.reverse();
        }
        assert_eq!(seen, (0..40).collect::<Vec<_>>(), "{sort}");
    }
}

#[tokio::test]
async fn a_cursor_somebody_made_up_shows_nothing_the_filter_would_not() {
    let store = in_memory();
    define(&store, "c", rawdoc! { "indexes": ["n"] }).await;
    store
        .commit(batch((0..100).map(|n| put("c", &format!("{n:02}"), rawdoc! { "n": n })).collect()))
        .await
        .expect("put");
    let by = rawdoc! { "n": { "$lt": 5 } };
    for component in [vec![0xdf, 0x3f], vec![0x20, 0xc0], vec![0xdf], vec![]] {
        let after = crate::domain::cursor::Cursor { components: vec![component], id: String::new() }.encode();
        let page = store.find(query("c", &by, "-n", 100, Some(after))).await.expect("a page");
        assert!(page.documents.iter().all(|document| document.get_i32("n").expect("n") < 5), "{:?}", ids(&page));
    }
}
