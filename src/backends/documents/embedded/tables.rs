//! The tables in redb, format 2, and their keys. Format 1 had the journal's records in their first version alone.
//!
//! | table | key | value |
//! |---|---|---|
//! | documents | collection number (4, big-endian), id | BSON |
//! | entries | index number (4, big-endian), key of the values ([`crate::domain::key`]), id | bytes of the id |
//! | journal | sequence | record ([`super::journal`]) |
//! | collections | name | the engine's state of a collection ([`super::catalog`]), BSON |
//! | counts | collection number | documents in it |
//! | garbage | `d` or `e`, number of a dropped collection or index | nothing |
//! | metadata | `format`, `sequence`, `journal_bytes`, `next_collection`, `next_index` | number |
//! | needs | `release` | the release that made this format: the first that reads it |
//!
//! Numbers of collections and indexes are never used again, so what is left of a dropped one can go piece by piece.

use redb::{ReadOnlyTable, ReadTransaction, Table, TableDefinition, WriteTransaction};

pub const FORMAT: u64 = 2;

pub type Bytes = &'static [u8];

pub const DOCUMENTS: TableDefinition<Bytes, Bytes> = TableDefinition::new("documents");
pub const ENTRIES: TableDefinition<Bytes, u16> = TableDefinition::new("entries");
pub const JOURNAL: TableDefinition<u64, Bytes> = TableDefinition::new("journal");
pub const COLLECTIONS: TableDefinition<&'static str, Bytes> = TableDefinition::new("collections");
pub const COUNTS: TableDefinition<u32, u64> = TableDefinition::new("counts");
pub const GARBAGE: TableDefinition<Bytes, ()> = TableDefinition::new("garbage");
pub const METADATA: TableDefinition<&'static str, u64> = TableDefinition::new("metadata");
pub const NEEDS: TableDefinition<&'static str, &'static str> = TableDefinition::new("needs");

/// Every table, open for writing in one transaction.
pub struct Tables<'t> {
    pub documents: Table<'t, Bytes, Bytes>,
    pub entries: Table<'t, Bytes, u16>,
    pub journal: Table<'t, u64, Bytes>,
    pub collections: Table<'t, &'static str, Bytes>,
    pub counts: Table<'t, u32, u64>,
    pub garbage: Table<'t, Bytes, ()>,
    pub metadata: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            documents: transaction.open_table(DOCUMENTS)?,
            entries: transaction.open_table(ENTRIES)?,
            journal: transaction.open_table(JOURNAL)?,
            collections: transaction.open_table(COLLECTIONS)?,
            counts: transaction.open_table(COUNTS)?,
            garbage: transaction.open_table(GARBAGE)?,
            metadata: transaction.open_table(METADATA)?,
        })
    }
}

/// What reads need, open in one read transaction, which lives as long as they do.
pub struct Readers {
    pub documents: ReadOnlyTable<Bytes, Bytes>,
    pub entries: ReadOnlyTable<Bytes, u16>,
    pub journal: ReadOnlyTable<u64, Bytes>,
}

impl Readers {
    pub fn open(transaction: &ReadTransaction) -> Result<Self, redb::TableError> {
        Ok(Self {
            documents: transaction.open_table(DOCUMENTS)?,
            entries: transaction.open_table(ENTRIES)?,
            journal: transaction.open_table(JOURNAL)?,
        })
    }
}

/// The key of a document; with an empty id, what all keys of the collection begin with.
pub fn document_key(collection: u32, id: &str) -> Vec<u8> {
    [&collection.to_be_bytes(), id.as_bytes()].concat()
}

/// What all entries of an index under one key begin with.
pub fn entry_prefix(index: u32, key: &[u8]) -> Vec<u8> {
    [&index.to_be_bytes(), key].concat()
}

/// The id at the end of a stored key; `None` if the key is too short or no text.
pub fn entry_id(stored: &[u8], length: u16) -> Option<&str> {
    let start = stored.len().checked_sub(length.into())?;
    std::str::from_utf8(stored.get(start..)?).ok()
}

/// The id of a stored document's key.
pub fn document_id(stored: &[u8]) -> Option<&str> {
    std::str::from_utf8(stored.get(4..)?).ok()
}

/// What was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Garbage {
    Documents,
    Entries,
}

pub fn garbage_key(kind: Garbage, number: u32) -> Vec<u8> {
    let kind = match kind {
        Garbage::Documents => b'd',
        Garbage::Entries => b'e',
    };
    [&[kind], &number.to_be_bytes()[..]].concat()
}

/// `None`: no key of the table.
pub fn read_garbage(key: &[u8]) -> Option<(Garbage, u32)> {
    let (kind, number) = key.split_first()?;
    let kind = match kind {
        b'd' => Garbage::Documents,
        b'e' => Garbage::Entries,
        _ => return None,
    };
    Some((kind, u32::from_be_bytes(number.try_into().ok()?)))
}
