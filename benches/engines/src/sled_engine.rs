//! sled 0.34: two trees in one transaction, flushed before it is acknowledged.

use super::{Engine, documents::Document};
use sled::{Transactional as _, transaction::ConflictableTransactionError};
use std::path::Path;

struct Sled {
    database: sled::Db,
    documents: sled::Tree,
    numbers: sled::Tree,
}

pub fn open(folder: &Path) -> Box<dyn Engine> {
    let database = sled::open(folder.join("sled")).expect("opens");
    let documents = database.open_tree("documents").expect("opens");
    let numbers = database.open_tree("numbers").expect("opens");
    Box::new(Sled { database, documents, numbers })
}

fn key(number: i64, id: &str) -> Vec<u8> {
    let mut key = (number as u64 ^ 1 << 63).to_be_bytes().to_vec();
    key.extend_from_slice(id.as_bytes());
    key
}

impl Engine for Sled {
    fn insert(&mut self, batch: &[Document]) {
        (&self.documents, &self.numbers)
            .transaction(|(documents, numbers)| {
                for document in batch {
                    let bytes = bson::to_vec(&document.bson()).expect("encodes");
                    documents.insert(document.id.as_bytes(), bytes)?;
                    numbers.insert(key(document.number, &document.id), &[])?;
                }
                Ok::<(), ConflictableTransactionError<()>>(())
            })
            .expect("commits");
        self.database.flush().expect("flushes");
    }

    fn get(&self, id: &str) -> bool {
        let found = self.documents.get(id).expect("reads");
        found.is_some_and(|bytes| bson::from_slice::<bson::Document>(&bytes).is_ok())
    }

    fn equal(&self, number: i64) -> usize {
        self.rows(number, number + 1, usize::MAX).len()
    }

    fn page(&self, from: i64, to: i64) -> Vec<i64> {
        self.rows(from, to, 20)
    }
}

impl Sled {
    fn rows(&self, from: i64, to: i64, limit: usize) -> Vec<i64> {
        let range = self.numbers.range(key(from, "")..key(to, ""));
        range
            .take(limit)
            .map(|row| {
                let (key, _) = row.expect("reads");
                let bytes = self.documents.get(&key[8..]).expect("reads").expect("is there");
                let document: bson::Document = bson::from_slice(&bytes).expect("decodes");
                document.get_i64("number").expect("has a number")
            })
            .collect()
    }
}
