//! SQLite, write-ahead log, synchronous FULL.

use super::{Engine, documents::Document};
use rusqlite::{Connection, params};
use std::path::Path;

struct Sqlite(Connection);

pub fn open(folder: &Path) -> Box<dyn Engine> {
    let connection = Connection::open(folder.join("sqlite")).expect("opens");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -262144;
             CREATE TABLE IF NOT EXISTS documents (id TEXT PRIMARY KEY, number INTEGER, body BLOB) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS numbers ON documents (number);",
        )
        .expect("prepares");
    Box::new(Sqlite(connection))
}

impl Engine for Sqlite {
    fn insert(&mut self, documents: &[Document]) {
        let transaction = self.0.transaction().expect("begins");
        {
            let mut statement = transaction.prepare_cached("INSERT INTO documents VALUES (?, ?, ?)").expect("prepares");
            for document in documents {
                let bytes = bson::to_vec(&document.bson()).expect("encodes");
                statement.execute(params![document.id, document.number, bytes]).expect("inserts");
            }
        }
        transaction.commit().expect("commits");
    }

    fn get(&self, id: &str) -> bool {
        let mut statement = self.0.prepare_cached("SELECT body FROM documents WHERE id = ?").expect("prepares");
        let bytes: Result<Vec<u8>, _> = statement.query_row([id], |row| row.get(0));
        bytes.is_ok_and(|bytes| bson::from_slice::<bson::Document>(&bytes).is_ok())
    }

    fn equal(&self, number: i64) -> usize {
        self.rows("SELECT body FROM documents WHERE number >= ? AND number < ?", number, number + 1).len()
    }

    fn page(&self, from: i64, to: i64) -> Vec<i64> {
        self.rows("SELECT body FROM documents WHERE number >= ? AND number < ? ORDER BY number LIMIT 20", from, to)
    }
}

impl Sqlite {
    fn rows(&self, query: &str, from: i64, to: i64) -> Vec<i64> {
        let mut statement = self.0.prepare_cached(query).expect("prepares");
        let rows = statement.query_map([from, to], |row| row.get::<_, Vec<u8>>(0)).expect("queries");
        rows.map(|bytes| {
            let document: bson::Document = bson::from_slice(&bytes.expect("reads")).expect("decodes");
            document.get_i64("number").expect("has a number")
        })
        .collect()
    }
}
