//! The suite every engine passes: the same operations through its port and on mongod, with the same answers.

use crate::{
    corpus,
    generate::{Generator, raw},
    geo,
    language::{Differences, case, id, text, with_id},
    mongod::Reference,
};
use bson::{Document, RawDocumentBuf, doc};
use debrouille_appliance::{
    base::{clock::Timestamp, fault::Fault},
    domain::{
        expand,
        filter::Filter,
        path::Path,
        sort::Sort,
        update::{SYSTEM_FIELDS, Update},
    },
    ports::{
        Error,
        documents::{Batch, COLLECTIONS, Change, Documents, Expect, Operation, Origin, Query},
    },
};
use futures_util::future::join_all;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Sorts and ranges these serve, single and compound, over arrays and not.
const INDEXES: [&str; 5] = ["a", "-a.b,n", "b,-c", "c.a", "n"];

fn batch(operations: Vec<Operation>) -> Batch {
    Batch { time: NOW, origin: Origin::default(), operations, check: None, receipt: None }
}

fn operation(collection: &str, id: &str, change: Change) -> Operation {
    Operation { collection: collection.to_owned(), id: id.to_owned(), expect: Expect::Any, change }
}

/// A collection with indexes, holding these documents.
async fn load(engine: &dyn Documents, name: &str, indexes: &[&str], documents: &[RawDocumentBuf]) {
    let indexes: Vec<Document> = indexes
        .iter()
        .map(|index| {
            let sort = Sort::parse_text(index).expect("an index");
            let keys: Document = sort
                .0
                .iter()
                .map(|(path, direction)| {
                    (
                        path.to_string(),
                        if *direction == debrouille_appliance::domain::sort::Direction::Ascending { 1 } else { -1 }
                            .into(),
                    )
                })
                .collect();
            doc! { "keys": keys }
        })
        .collect();
    let define = operation(COLLECTIONS, name, Change::Put(raw(&doc! { "indexes": indexes })));
    engine.commit(batch(vec![define])).await.expect("a collection");
    for some in documents.chunks(500) {
        let puts = some.iter().map(|document| operation(name, id(document), Change::Put(document.clone()))).collect();
        engine.commit(batch(puts)).await.expect("the documents");
    }
}

/// Every page of a query, a few rows each, and the count.
async fn answer(engine: &dyn Documents, query: &Query) -> Result<Vec<String>, Fault> {
    let (mut query, mut ids) = (query.clone(), Vec::new());
    loop {
        let page = engine.find(query.clone()).await.map_err(fault)?;
        assert!(page.documents.len() <= query.limit, "a page keeps its limit");
        ids.extend(page.documents.iter().map(|document| id(document).to_owned()));
        if page.next.is_none() {
            break;
        }
        query.after = page.next;
    }
    let (count, _) = engine.count(&query.collection, Arc::clone(&query.filter)).await.map_err(fault)?;
    assert_eq!(count, ids.len() as u64, "the count is of the same documents: {:?}", query.filter);
    Ok(ids)
}

/// What was asked is at fault; anything else is the engine's failure.
fn fault(error: Error) -> Fault {
    match error {
        Error::Rejected(fault) => fault,
        other => panic!("the engine failed: {other}"),
    }
}

/// Filters and sorts, through indexes and without, page by page.
pub async fn queries(engine: &dyn Documents, mongod: &Reference) {
    let mut generator = Generator::new();
    let mut documents = corpus::documents();
    documents.extend(generator.documents(Generator::rounds(300)));
    let paths: Vec<Vec<Path>> = INDEXES
        .iter()
        .map(|index| Sort::parse_text(index).expect("an index").0.into_iter().map(|(path, _)| path).collect())
        .collect();
    // Two arrays under one index are refused, there as here.
    documents
        .retain(|document| paths.iter().all(|paths| expand::keys(document, &paths.iter().collect::<Vec<_>>()).is_ok()));
    mongod.load("queries", &documents).await;
    load(engine, "plain", &[], &documents).await;
    load(engine, "indexed", &INDEXES, &documents).await;
    let generated = Generator::rounds(1_500);
    let filters: Vec<Document> =
        corpus::filters().into_iter().chain((0..generated).map(|_| generator.filter(2))).collect();
    let mut differences = Differences::default();
    for filter in filters {
        let Ok(parsed) = Filter::parse(&raw(&filter)) else { continue };
        let parsed = Arc::new(parsed);
        let sort = match generator.below(3) {
            0 => Document::new(),
            1 => {
                let index = Sort::parse_text(generator.pick::<&str>(&INDEXES)).expect("an index");
                let flip = if generator.one_in(2) { 1 } else { -1 };
                index
                    .0
                    .iter()
                    .map(|(path, direction)| {
                        let up = *direction == debrouille_appliance::domain::sort::Direction::Ascending;
                        (path.to_string(), (if up { flip } else { -flip }).into())
                    })
                    .collect()
            }
            _ => generator.sort(),
        };
        let mut full = sort.clone();
        full.entry("_id").or_insert(bson::Bson::Int32(1));
        let projection = bson::rawdoc! { "_id": 1 };
        let theirs = mongod.find("queries", &raw(&filter), Some(&raw(&full)), Some(&projection)).await;
        let theirs = theirs.map(|found| found.iter().map(|document| id(document).to_owned()).collect());
        for collection in ["plain", "indexed"] {
            let query = Query {
                collection: collection.to_owned(),
                filter: Arc::clone(&parsed),
                sort: Sort::parse(&raw(&sort)).expect("a sort"),
                limit: 1 + generator.below(150),
                after: None,
            };
            let ours = answer(engine, &query).await;
            differences.compare(
                format!("{collection}: {filter} by {sort}"),
                &ours,
                &theirs,
                |ours: &Vec<String>, theirs| {
                    let place =
                        ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
                    let at = |ids: &[String]| {
                        let wanted = ids.get(place);
                        documents.iter().find(|document| Some(id(document)) == wanted.map(String::as_str)).map(text)
                    };
                    format!(
                        "{} of {}, at {place} {:?} where mongod has {:?}",
                        ours.len(),
                        theirs.len(),
                        at(ours),
                        at(theirs)
                    )
                },
            );
        }
    }
    differences.finish(2_000);
}

/// Points: inside shapes, and the nearest first, page by page.
pub async fn places(engine: &dyn Documents, mongod: &Reference) {
    let mut generator = Generator::new();
    let documents = geo::places(&mut generator, 400);
    mongod.load("places", &documents).await;
    mongod.index("places", "at", doc! { "at": "2dsphere" }).await;
    load(engine, "places", &["at"], &documents).await;
    let mut differences = Differences::default();
    for _ in 0..Generator::rounds(60) {
        let near = generator.one_in(2);
        let filter = if near {
            let here = geo::point(geo::position(&mut generator));
            doc! { "at": { "$near": { "$geometry": here, "$maxDistance": generator.below(9_000_000) as f64 } } }
        } else {
            doc! { "at": { "$geoWithin": geo::shape(&mut generator) } }
        };
        let sort = (!near).then(|| bson::rawdoc! { "_id": 1 });
        let theirs = mongod.find("places", &raw(&filter), sort.as_deref(), None).await;
        let theirs = theirs.map(|found| found.iter().map(|document| id(document).to_owned()).collect());
        let query = Query {
            collection: "places".to_owned(),
            filter: Arc::new(Filter::parse(&raw(&filter)).expect("a filter")),
            sort: Sort::default(),
            limit: 1 + generator.below(60),
            after: None,
        };
        let ours = answer(engine, &query).await;
        differences.compare(filter, &ours, &theirs, |ours: &Vec<String>, theirs| format!("{ours:?} for {theirs:?}"));
    }
    differences.finish(60);
}

/// Updates, each in a commit of its own; a refused one leaves the document as it was.
pub async fn updates(engine: &dyn Documents, mongod: &Reference) {
    let mut generator = Generator::new();
    let mut cases: Vec<(RawDocumentBuf, RawDocumentBuf)> = Vec::new();
    let documents = corpus::documents();
    for update in corpus::updates() {
        // A few of the documents for each: the language's own test takes them all.
        for _ in 0..6 {
            cases.push((generator.pick(&documents).clone(), raw(&update)));
        }
    }
    for _ in 0..Generator::rounds(1_500) {
        let document = generator.document(String::new());
        cases.push((document, raw(&generator.update())));
    }
    let befores: Vec<RawDocumentBuf> =
        cases.iter().enumerate().map(|(place, (document, _))| with_id(document, &case(place))).collect();
    mongod.load("updates", &befores).await;
    load(engine, "updates", &["n"], &befores).await;
    let statements: Vec<(String, RawDocumentBuf)> =
        cases.iter().enumerate().map(|(place, (_, update))| (case(place), update.clone())).collect();
    let errors = mongod.update("updates", &statements).await;
    let sort = bson::rawdoc! { "_id": 1 };
    let afters = mongod.find("updates", &bson::rawdoc! {}, Some(&sort), None).await.expect("every document");
    let commits = statements.iter().map(async |(id, update)| {
        let change = Change::Update(Update::parse(update)?);
        engine.commit(batch(vec![operation("updates", id, change)])).await.map(|_| ()).map_err(fault)
    });
    let results = join_all(commits).await;
    let mut differences = Differences::default();
    for (place, (id, update)) in statements.iter().enumerate() {
        let stored = engine.get("updates", id).await.expect("an answer").expect("the document");
        if results[place].is_err() {
            assert_eq!(users(&stored), befores[place], "a refused update changes nothing");
        }
        let ours = results[place].clone().map(|()| users(&stored));
        let theirs = match &errors[place] {
            Some(error) => Err(error.clone()),
            None => Ok(afters[place].clone()),
        };
        differences.compare(text(update), &ours, &theirs, |ours, theirs| {
            format!("on {}: {} where mongod has {}", text(&befores[place]), text(ours), text(theirs))
        });
    }
    differences.finish(2_000);
}

/// The document without what the appliance adds to it, but for its id.
fn users(document: &RawDocumentBuf) -> RawDocumentBuf {
    let mut document = Document::try_from(document).expect("bson");
    for name in SYSTEM_FIELDS.iter().filter(|name| **name != "_id") {
        document.remove(name);
    }
    raw(&document)
}
