//! redb 4.6: documents, and an index table of number and id.

use super::{Engine, documents::Document};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const DOCUMENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("documents");
const NUMBERS: TableDefinition<(i64, &str), ()> = TableDefinition::new("numbers");

struct Redb(Database);

pub fn open(folder: &Path) -> Box<dyn Engine> {
    Box::new(Redb(Database::create(folder.join("redb")).expect("opens")))
}

impl Engine for Redb {
    fn insert(&mut self, documents: &[Document]) {
        let transaction = self.0.begin_write().expect("begins");
        {
            let mut table = transaction.open_table(DOCUMENTS).expect("opens");
            let mut numbers = transaction.open_table(NUMBERS).expect("opens");
            for document in documents {
                let bytes = bson::to_vec(&document.bson()).expect("encodes");
                table.insert(&*document.id, &*bytes).expect("inserts");
                numbers.insert((document.number, &*document.id), ()).expect("inserts");
            }
        }
        transaction.commit().expect("commits");
    }

    fn get(&self, id: &str) -> bool {
        let table = self.0.begin_read().expect("begins").open_table(DOCUMENTS).expect("opens");
        let Some(bytes) = table.get(id).expect("reads") else { return false };
        bson::from_slice::<bson::Document>(bytes.value()).is_ok()
    }

    fn equal(&self, number: i64) -> usize {
        self.rows(number, number + 1, usize::MAX).len()
    }

    fn page(&self, from: i64, to: i64) -> Vec<i64> {
        self.rows(from, to, 20)
    }
}

impl Redb {
    fn rows(&self, from: i64, to: i64, limit: usize) -> Vec<i64> {
        let transaction = self.0.begin_read().expect("begins");
        let table = transaction.open_table(DOCUMENTS).expect("opens");
        let numbers = transaction.open_table(NUMBERS).expect("opens");
        let range = numbers.range((from, "")..(to, "")).expect("ranges");
        let mut found = Vec::new();
        for row in range.take(limit) {
            let (key, _) = row.expect("reads");
            let bytes = table.get(key.value().1).expect("reads").expect("is there");
            let document: bson::Document = bson::from_slice(bytes.value()).expect("decodes");
            found.push(document.get_i64("number").expect("has a number"));
        }
        found
    }
}
