//! What must not stop the sealer, lose what was counted, or name anybody.

use super::*;
use crate::{ports::documents::Origin, services::identities::IDENTITIES};

#[tokio::test]
async fn heavy_entries_are_sealed_in_as_many_commits_as_they_take() {
    let log = Log::open().await;
    for _ in 0..150 {
        let heavy = |event: Event, n: u64| event.with(&n.to_string(), vec!["x".repeat(1000); 15]);
        let event = (0..12).fold(Event::new("test.heavy"), heavy);
        log.audit.record(&person(), event).await.unwrap();
    }
    log.audit.seal().await.unwrap();
    let lines = log.export().await;
    assert_eq!(verify(&lines, log.keys(), Vec::new()).wrong, []);
    assert_eq!(lines.iter().filter(|line| line.contains("test.heavy")).count(), 150);
}

#[tokio::test]
async fn what_was_counted_is_kept_until_it_is_on_disk() {
    let mut log = Log::open().await;
    let denied = || Event::new("access.denied").denied("role").object("GET /x");
    for _ in 0..4 {
        log.audit.record_once(&person(), denied()).await.unwrap();
    }
    log.clock.0.fetch_add(60_000, Relaxed);
    let documents = std::mem::replace(&mut log.audit.documents, closed().await);
    assert!(log.audit.tell_repeats(false).await.is_err());
    assert!(log.audit.tell_repeats(true).await.is_err());
    log.audit.documents = documents;
    log.audit.record_once(&person(), denied()).await.unwrap();
    log.audit.tell_repeats(false).await.unwrap();
    log.audit.tell_repeats(false).await.unwrap();
    let entries = log.entries().await;
    let told: Vec<_> = entries.iter().filter(|entry| entry.action == "access.denied").collect();
    let repeated = |entry: &Entry| entry.details.as_ref().map(|details| details["repeated"].clone());
    assert_eq!(told.iter().map(|entry| repeated(entry)).collect::<Vec<_>>(), [None, Some(json!(4))]);
}

#[tokio::test]
async fn the_grounds_of_an_entry_are_bounded_whatever_the_journal_tells() {
    let log = Log::open().await;
    change(&log.documents, "system.collections", "c", Change::Put(rawdoc! {}), &Caller::system()).await;
    let grounds = (0..1000).map(|n| format!("policy-number-{n}@1")).collect::<Vec<_>>().join(",");
    let origin = Origin { grounds, ..person().origin() };
    let (collection, id, change) = ("c".to_owned(), "x".to_owned(), Change::Put(rawdoc! { "a": 1 }));
    let operations = vec![Operation { collection, id, expect: Expect::Any, change }];
    let batch = Batch { time: Timestamp(START), origin, operations, check: None, receipt: None };
    log.documents.commit(batch).await.unwrap();
    let entries = log.entries().await;
    let why = &entries.iter().find(|entry| entry.action == "documents.create").unwrap().why;
    assert!(why.len() < 1100 && why.starts_with("policy-number-0@1,") && why.contains(",+"), "{why}");
}

#[tokio::test]
async fn a_document_under_a_persons_id_stands_under_their_pseudonym() {
    let log = Log::open().await;
    let other = "01985c2e-0000-7000-8000-00000000000b";
    for collection in ["profiles", "things"] {
        let put = Change::Put(rawdoc! {});
        change(&log.documents, "system.collections", collection, put, &Caller::system()).await;
    }
    change(&log.documents, IDENTITIES, PERSON, Change::Put(rawdoc! { "handles": ["id:x"] }), &Caller::system()).await;
    for (collection, id) in [("profiles", PERSON), ("system.factors", PERSON), ("profiles", other)] {
        change(&log.documents, collection, id, Change::Put(rawdoc! { "a": 1 }), &Caller::system()).await;
    }
    let shown = vec![PERSON.to_owned(), other.to_owned(), "marie".to_owned()];
    log.audit.record(&person(), Event::new("documents.query").documents("profiles", shown)).await.unwrap();
    let lines = log.export().await.join("\n");
    assert!(!lines.contains(PERSON) && !lines.contains("marie"), "{lines}");
    assert!(lines.contains(&format!("profiles/{other}")));
    let (audit, asker) = (&log.audit, &Caller::system());
    let found = |search: Search| async move {
        let found = audit.list(asker, &search).await.unwrap().entries;
        found.iter().map(|text| Entry::parse(text).unwrap().action).collect::<Vec<_>>()
    };
    let by_document = |id: &str| Search { document: Some(format!("profiles/{id}")), ..Search::default() };
    for id in [PERSON, other] {
        assert_eq!(found(by_document(id)).await, ["documents.query", "documents.create"], "{id}");
    }
    assert_eq!(found(by_document("marie")).await, ["documents.query"]);
    assert_eq!(found(by_document("paul")).await, Vec::<String>::new());
    assert_eq!(found(Search { object: Some("profiles".into()), ..Search::default() }).await, ["documents.query"]);
    // What went over the whole collection may have been of any of its documents.
    log.audit.record(&person(), Event::new("documents.export").object("profiles")).await.unwrap();
    log.audit.record(&person(), Event::new("documents.export").object("things")).await.unwrap();
    log.audit.seal().await.unwrap();
    assert_eq!(found(by_document("paul")).await, ["documents.export"]);
}

#[tokio::test]
async fn who_acted_is_told_from_whom_it_is_about() {
    let log = Log::open().await;
    log.audit.record(&person(), Event::new("test.did")).await.unwrap();
    log.audit.record(&Caller::system(), Event::new("test.suffered").about(PERSON)).await.unwrap();
    log.audit.seal().await.unwrap();
    let count = |search: Search| {
        let log = &log;
        async move { log.audit.list(&Caller::system(), &search).await.unwrap().entries.len() }
    };
    assert_eq!(count(Search { who: Some(PERSON.into()), ..Search::default() }).await, 2);
    assert_eq!(count(Search { actor: Some(PERSON.into()), ..Search::default() }).await, 1);
    let wrong = Search { document: Some("nothing".into()), ..Search::default() };
    assert!(matches!(log.audit.list(&Caller::system(), &wrong).await, Err(Error::Invalid(_))));
}

/// By the index on its field, not by reading all there is.
#[tokio::test]
async fn lookups_examine_what_they_find() {
    let log = Log::open().await;
    log.tell(3000).await;
    log.audit.record(&person(), Event::new("documents.read").document("c", "x")).await.unwrap();
    log.audit.seal().await.unwrap();
    for search in [
        Search { actor: Some(PERSON.into()), ..Search::default() },
        Search { document: Some("c/x".into()), action: Some("documents.".into()), ..Search::default() },
        Search { object: Some("thing 7".into()), from: Some(Timestamp(START)), ..Search::default() },
    ] {
        let filter = Arc::new(crate::domain::filter::Filter::parse(&log.audit.filter(&search).unwrap()).unwrap());
        let sort = crate::domain::sort::Sort::parse_text("-_id").unwrap();
        let query =
            crate::ports::documents::Query { collection: ENTRIES.to_owned(), filter, sort, limit: 100, after: None };
        let page = log.documents.find(query).await.unwrap();
        assert_eq!(page.documents.len(), 1, "{search:?}");
        assert!(page.explain.documents_examined < 10, "{search:?}: {:?}", page.explain);
    }
}
