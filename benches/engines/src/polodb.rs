//! PoloDB 5.3, and what it answers wrongly.

use super::{Engine, documents::Document};
use bson::doc;
use polodb_core::{Collection, CollectionT as _, Database, IndexModel, IndexOptions};
use std::path::Path;

struct Polo {
    _database: Database,
    documents: Collection<bson::Document>,
}

fn index(field: &str, unique: bool) -> IndexModel {
    IndexModel { keys: doc! { field: 1 }, options: Some(IndexOptions { name: None, unique: Some(unique) }) }
}

pub fn open(folder: &Path) -> Box<dyn Engine> {
    let database = Database::open_path(folder.join("polodb")).expect("opens");
    let documents = database.collection("documents");
    // Refused when it is there already.
    let _ = documents.create_index(index("number", false));
    Box::new(Polo { _database: database, documents })
}

impl Engine for Polo {
    fn insert(&mut self, documents: &[Document]) {
        self.documents.insert_many(documents.iter().map(Document::bson)).expect("inserts");
    }

    fn get(&self, id: &str) -> bool {
        self.documents.find_one(doc! { "_id": id }).expect("reads").is_some()
    }

    fn equal(&self, number: i64) -> usize {
        self.documents.find(doc! { "number": number }).run().expect("queries").count()
    }

    fn page(&self, from: i64, to: i64) -> Vec<i64> {
        let found = self.documents.find(doc! { "number": { "$gte": from, "$lt": to } }).sort(doc! { "number": 1 });
        let rows = found.limit(20).run().expect("queries");
        rows.map(|row| row.expect("reads").get_i64("number").expect("has a number")).collect()
    }
}

/// Prints each question with the right answer and PoloDB's.
pub fn wrong_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::open_path(folder.path().join("polodb")).expect("opens");
    let few: Collection<bson::Document> = database.collection("few");
    for a in 1..=3 {
        few.insert_one(doc! { "_id": a, "a": a, "tenant": if a == 3 { "y" } else { "x" } }).expect("inserts");
    }
    let ids = |filter: bson::Document| -> Vec<i32> {
        let rows = few.find(filter).run().expect("queries");
        rows.map(|row| row.expect("reads").get_i32("_id").expect("has an id")).collect()
    };
    println!("\nPoloDB's answers\n");
    say("{a: {$ne: 2}} over a = 1, 2, 3", "[1, 3]", ids(doc! { "a": { "$ne": 2 } }));
    let either = doc! { "$or": [{ "a": 1 }, { "a": 3 }], "tenant": "x" };
    say("{$or: [{a: 1}, {a: 3}], tenant: 'x'}, 3 being y's", "[1]", ids(either));

    let indexed: Collection<bson::Document> = database.collection("indexed");
    indexed.create_index(index("a", false)).expect("indexes");
    for id in 0..10 {
        indexed.insert_one(doc! { "_id": id, "a": id % 2, "b": id % 5 }).expect("inserts");
    }
    let found = indexed.find(doc! { "a": 1, "b": 3 }).run().expect("queries").count();
    say("rows of {a: 1, b: 3} with an index on a", "1", found);

    let counter: Collection<bson::Document> = database.collection("counter");
    counter.insert_one(doc! { "_id": 1, "n": 0 }).expect("inserts");
    let done: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let counter = &counter;
                let once = move || counter.update_one(doc! { "_id": 1 }, doc! { "$inc": { "n": 1 } }).is_ok();
                scope.spawn(move || (0..500).filter(|_| once()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("ends")).sum()
    });
    let n = counter.find_one(doc! { "_id": 1 }).expect("reads").and_then(|row| row.get_i32("n").ok());
    say("n after 2,000 $inc from four threads", &format!("{done} (acknowledged)"), n);

    let unique: Collection<bson::Document> = database.collection("unique");
    unique.create_index(index("value", true)).expect("indexes");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let unique = &unique;
            scope.spawn(move || {
                for value in 0..300 {
                    // Refused, one hopes, three times of four.
                    let _ = unique.insert_one(doc! { "_id": format!("{thread}-{value}"), "value": value });
                }
            });
        }
    });
    let rows = unique.count_documents().expect("counts");
    say("rows of 300 values under a unique index, from four threads", "300", rows);
}

fn say(question: &str, right: &str, answer: impl std::fmt::Debug) {
    println!("- {question}: right is {right}, PoloDB says {answer:?}");
}
