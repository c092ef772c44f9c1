//! A store nobody holds, read as it lies and never changed: looked into, or proven document by document.

use super::{
    catalog::{HeldIndex, Progress},
    fault::failed,
    journal,
    sealed::Sealed,
    snapshots::Snapshots,
    store::{self, Place},
    tables,
    view::{EmbeddedSnapshot, View},
};
use crate::{
    base::fault::Fault,
    domain::{index, limits},
    ports::{
        Result,
        documents::{Record, Sequence, Snapshot},
    },
};
use bson::{RawDocument, RawDocumentBuf};
use redb::Database;
use std::sync::Arc;

/// Faults that are told; the others are counted.
const MOST: usize = 20;
/// Of its pages kept in memory.
const CACHE: usize = 64 << 20;

/// Its fields go in this order: reads end before the database does.
pub struct Still {
    snapshot: EmbeddedSnapshot,
    view: Arc<View>,
    _database: Database,
    _sealed: Sealed,
}

/// What a store held to itself came to. Sound: nothing is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    pub documents: u64,
    pub entries: u64,
    pub records: u64,
    pub wrong: Vec<Fault>,
    /// Faults past those told.
    pub more: u64,
}

impl Examined {
    fn fault(&mut self, fault: Fault) {
        if self.wrong.len() < MOST {
            self.wrong.push(fault);
        } else {
            self.more += 1;
        }
    }
}

impl Still {
    /// Beside other readers, never beside a writer. Blocking.
    pub fn open(place: Place) -> Result<Self> {
        let (database, sealed, state) = store::read_only(place, CACHE, None)?;
        let view = Arc::new(store::view(&database, &state)?);
        let snapshot = Arc::new(Snapshots::default()).take(view.clone(), 0);
        Ok(Self { snapshot, view, _database: database, _sealed: sealed })
    }

    /// Reads all of it: every document decodes and is within limits, each has its entries in every index and there
    /// are no others, every record of the journal decodes and follows the one before. `progress` is told how many
    /// documents are done, of how many.
    pub fn examine(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Examined> {
        let mut examined = Examined::default();
        let total = self.view.counts.values().sum();
        for (name, held) in &self.view.catalog.collections {
            let ready: Vec<&HeldIndex> =
                held.indexes.iter().filter(|index| index.progress == Progress::Ready).collect();
            let mut expected = vec![0_u64; ready.len()];
            let (from, to) = (tables::document_key(held.number, ""), tables::document_key(held.number + 1, ""));
            let mut count = 0;
            for row in self.view.tables.documents.range(from.as_slice()..to.as_slice()).map_err(failed)? {
                let (key, document) = row.map_err(failed)?;
                let id = tables::document_id(key.value()).unwrap_or_default();
                count += 1;
                examined.documents += 1;
                if examined.documents.is_multiple_of(1000) {
                    progress(examined.documents, total);
                }
                match RawDocument::from_bytes(document.value()).ok().filter(|document| sound(document, id)) {
                    Some(document) => self.indexed(&ready, &mut expected, (id, document), name, &mut examined)?,
                    None => examined.fault(Fault::new("documents.undecodable").with("collection", name).with("id", id)),
                }
            }
            if count != self.view.count(held) {
                let fault = Fault::new("documents.miscounted").with("collection", name).with("found", count);
                examined.fault(fault.with("expected", self.view.count(held)));
            }
            for (index, expected) in ready.iter().zip(expected) {
                self.no_others(index, expected, name, &mut examined)?;
            }
        }
        self.journal(&mut examined)?;
        progress(examined.documents, total);
        Ok(examined)
    }

    /// The document's entries are there.
    fn indexed(
        &self,
        ready: &[&HeldIndex],
        expected: &mut [u64],
        (id, document): (&str, &RawDocument),
        name: &str,
        examined: &mut Examined,
    ) -> Result<()> {
        for (index, expected) in ready.iter().zip(expected) {
            let entries = index::entries(document, &index.index).unwrap_or_default();
            for entry in entries.keys {
                let entry = [&tables::entry_prefix(index.number, &entry), id.as_bytes()].concat();
                *expected += 1;
                if self.view.tables.entries.get(entry.as_slice()).map_err(failed)?.is_none() {
                    let fault = Fault::new("documents.unindexed").with("collection", name).with("id", id);
                    examined.fault(fault.with("index", &index.index.name));
                }
            }
        }
        Ok(())
    }

    /// An index has as many entries as its documents have, and those are there.
    fn no_others(&self, index: &HeldIndex, expected: u64, name: &str, examined: &mut Examined) -> Result<()> {
        let (from, to) = (index.number.to_be_bytes(), (index.number + 1).to_be_bytes());
        let mut found = 0_u64;
        for entry in self.view.tables.entries.range(&from[..]..&to[..]).map_err(failed)? {
            entry.map_err(failed)?;
            found += 1;
        }
        examined.entries += found;
        if found != expected {
            let fault = Fault::new("documents.stray_entries").with("collection", name).with("index", &index.index.name);
            examined.fault(fault.with("found", found).with("expected", expected));
        }
        Ok(())
    }

    fn journal(&self, examined: &mut Examined) -> Result<()> {
        let mut last = None;
        for row in self.view.tables.journal.range(0..).map_err(failed)? {
            let (sequence, record) = row.map_err(failed)?;
            let sequence = sequence.value();
            examined.records += 1;
            let follows = last.is_none_or(|last| sequence == last + 1);
            if !follows || journal::decode(sequence, record.value()).is_none() {
                examined.fault(Fault::new("documents.load_order").with("sequence", sequence));
            }
            last = Some(sequence);
        }
        if last.is_some_and(|last| last > self.view.sequence) {
            examined.fault(Fault::new("documents.load_order").with("sequence", self.view.sequence));
        }
        Ok(())
    }
}

/// Every element decodes, under its own id.
fn sound(document: &RawDocument, id: &str) -> bool {
    document.get_str("_id").is_ok_and(|own| own == id)
        && bson::Document::try_from(document).is_ok()
        && limits::check(document, limits::MAX_DOCUMENT).is_ok()
}

impl Snapshot for Still {
    fn sequence(&self) -> Sequence {
        self.snapshot.sequence()
    }

    fn collections(&self) -> Result<Vec<String>> {
        self.snapshot.collections()
    }

    fn documents(&self, collection: &str, after: Option<&str>, limit: usize) -> Result<Vec<RawDocumentBuf>> {
        self.snapshot.documents(collection, after, limit)
    }

    fn count(&self, collection: &str) -> Result<u64> {
        self.snapshot.count(collection)
    }

    fn get(&self, collection: &str, id: &str) -> Result<Option<RawDocumentBuf>> {
        self.snapshot.get(collection, id)
    }

    fn records(&self, after: Sequence, limit: usize) -> Result<Vec<Record>> {
        self.snapshot.records(after, limit)
    }
}
