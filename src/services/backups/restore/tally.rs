//! What a restore puts in, counted on the way: for who is shown beforehand, and for checking afterwards.

use crate::{
    ports::documents::{COLLECTIONS, Load, Record},
    services::migrations::{Held, MIGRATIONS},
};
use bson::RawDocument;
use std::collections::{BTreeMap, BTreeSet};

/// Documents of each collection that has any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub collections: BTreeMap<String, u64>,
    /// Those there are, with documents or none.
    pub defined: BTreeSet<String>,
    pub records: u64,
    /// Migrations the documents have been through, by the id of what tells so.
    pub migrations: BTreeMap<String, Held>,
}

impl Tally {
    pub fn part(&mut self, part: &Load) {
        match part {
            Load::Documents { collection, documents } => {
                if collection == MIGRATIONS {
                    documents.iter().for_each(|document| self.migrated(document));
                }
                if collection == COLLECTIONS {
                    let names = documents.iter().filter_map(|document| document.get_str("_id").ok());
                    self.defined.extend(names.map(str::to_owned));
                }
                *self.collections.entry(collection.clone()).or_default() += documents.len() as u64;
            }
            Load::Records(records) => self.records += records.len() as u64,
            Load::Changes(records) => {
                self.records += records.len() as u64;
                records.iter().for_each(|record| self.change(record));
            }
            Load::End(_) => self.collections.retain(|_, count| *count > 0),
        }
    }

    fn change(&mut self, record: &Record) {
        let Record { collection, id, before, after, .. } = record;
        let count = self.collections.entry(collection.clone()).or_default();
        *count = count.saturating_add_signed(i64::from(after.is_some()) - i64::from(before.is_some()));
        if collection == MIGRATIONS {
            match after {
                Some(after) => self.migrated(after),
                None => drop(self.migrations.remove(id)),
            }
        }
        if collection != COLLECTIONS {
            return;
        }
        if after.is_some() {
            self.defined.insert(id.clone());
        } else {
            self.defined.remove(id);
            self.collections.remove(id);
        }
    }

    fn migrated(&mut self, document: &RawDocument) {
        if let (Ok(id), Some(held)) = (document.get_str("_id"), Held::read(document)) {
            self.migrations.insert(id.to_owned(), held);
        }
    }

    pub fn documents(&self) -> u64 {
        self.collections.values().sum()
    }
}
