//! What reads stand on: the state of one commit, its tables open in one read transaction. Writers never wait for it.

use super::{
    catalog::{Catalog, Held},
    fault::failed,
    journal,
    snapshots::Snapshots,
    tables::{self, Readers},
};
use crate::ports::{
    Error, Result,
    documents::{COLLECTIONS, Collection, IndexState, Record, Sequence, Snapshot},
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use std::{collections::BTreeMap, sync::Arc};

pub struct View {
    pub tables: Readers,
    pub catalog: Arc<Catalog>,
    /// Documents by collection number.
    pub counts: BTreeMap<u32, u64>,
    pub sequence: u64,
    pub journal_bytes: u64,
}

impl View {
    pub fn get(&self, held: &Held, id: &str) -> Result<Option<RawDocumentBuf>> {
        let key = tables::document_key(held.number, id);
        let stored = self.tables.documents.get(key.as_slice()).map_err(failed)?;
        stored.map(|stored| owned(stored.value())).transpose()
    }

    pub fn count(&self, held: &Held) -> u64 {
        self.counts.get(&held.number).copied().unwrap_or_default()
    }

    pub fn describe(&self, name: &str) -> Result<Option<Collection>> {
        let Some(held) = self.catalog.get(name) else { return Ok(None) };
        let defined = match self.catalog.get(COLLECTIONS) {
            Some(catalogue) => self.get(catalogue, name)?,
            None => None,
        };
        let indexes = held
            .indexes
            .iter()
            .map(|index| IndexState { index: index.index.clone(), progress: index.progress.as_build() });
        Ok(Some(Collection {
            name: name.to_owned(),
            definition: defined.unwrap_or_else(|| rawdoc! { "_id": name }),
            documents: self.count(held),
            indexes: indexes.collect(),
        }))
    }

    pub fn records(&self, after: Sequence, limit: usize) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in self.tables.journal.range(after.0.saturating_add(1)..).map_err(failed)?.take(limit) {
            let (sequence, record) = entry.map_err(failed)?;
            let record = journal::decode(sequence.value(), record.value());
            records.push(record.ok_or_else(|| Error::Corrupt("a journal record is unreadable".to_owned()))?);
        }
        Ok(records)
    }
}

pub fn owned(stored: &[u8]) -> Result<RawDocumentBuf> {
    borrowed(stored).map(RawDocument::to_owned)
}

pub fn borrowed(stored: &[u8]) -> Result<&RawDocument> {
    RawDocument::from_bytes(stored).map_err(|_| Error::Corrupt("a stored document is no BSON".to_owned()))
}

pub struct EmbeddedSnapshot {
    pub(super) view: Arc<View>,
    pub(super) place: u64,
    pub(super) all: Arc<Snapshots>,
}

impl Drop for EmbeddedSnapshot {
    fn drop(&mut self) {
        self.all.end(self.place);
    }
}

impl Snapshot for EmbeddedSnapshot {
    fn sequence(&self) -> Sequence {
        Sequence(self.view.sequence)
    }

    fn collections(&self) -> Result<Vec<String>> {
        let names = self.view.catalog.collections.keys().filter(|name| *name != COLLECTIONS).cloned();
        Ok(std::iter::once(COLLECTIONS.to_owned()).chain(names).collect())
    }

    fn documents(&self, collection: &str, after: Option<&str>, limit: usize) -> Result<Vec<RawDocumentBuf>> {
        let Some(held) = self.view.catalog.get(collection) else { return Ok(Vec::new()) };
        let mut from = tables::document_key(held.number, after.unwrap_or_default());
        if after.is_some() {
            from.push(0);
        }
        let to = tables::document_key(held.number + 1, "");
        let rows = self.view.tables.documents.range(from.as_slice()..to.as_slice()).map_err(failed)?;
        rows.take(limit).map(|row| owned(row.map_err(failed)?.1.value())).collect()
    }

    fn count(&self, collection: &str) -> Result<u64> {
        Ok(self.view.catalog.get(collection).map_or(0, |held| self.view.count(held)))
    }

    fn get(&self, collection: &str, id: &str) -> Result<Option<RawDocumentBuf>> {
        self.view.catalog.get(collection).map_or(Ok(None), |held| self.view.get(held, id))
    }

    fn records(&self, after: Sequence, limit: usize) -> Result<Vec<Record>> {
        self.view.records(after, limit)
    }
}
