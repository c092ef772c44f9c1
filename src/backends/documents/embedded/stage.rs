//! One batch on its way in: checked against the tables and itself, kept aside until all of it holds.

use super::{
    BATCH_BYTES,
    catalog::{Catalog, Held, Progress},
    fault::Refusal,
    journal, receipts,
    store::State,
    tables::{self, Tables},
};
use crate::{
    base::fault::Fault,
    domain::{collection::Definition, document, index, key, limits, sealing::Sealing, stamp},
    ports::documents::{
        Action, Batch, COLLECTIONS, Change, Check, Committed, Conflict, Expect, Operation, Outcome, RECEIPTS, Receipt,
        Sequence,
    },
};
use bson::{Document, RawDocument, RawDocumentBuf};
use redb::ReadableTable;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The state of the engine inside a write transaction.
pub struct Work<'t> {
    pub tables: Tables<'t>,
    pub catalog: Arc<Catalog>,
    /// Documents by collection number.
    pub counts: BTreeMap<u32, u64>,
    pub sequence: u64,
    pub journal_bytes: u64,
}

/// What a batch would change. Dropped, it changed nothing.
#[derive(Default)]
pub struct Staged {
    catalog: Option<Arc<Catalog>>,
    /// Collections whose state in the catalogue changed.
    changed: BTreeSet<String>,
    documents: BTreeMap<Vec<u8>, Option<RawDocumentBuf>>,
    /// Added with the bytes of their id, or removed.
    entries: BTreeMap<Vec<u8>, Option<u16>>,
    counts: BTreeMap<u32, i64>,
    garbage: Vec<Vec<u8>>,
    records: Vec<(u64, Vec<u8>)>,
    /// Bytes of all these.
    pub weight: usize,
}

struct Stage<'a, 't> {
    work: &'a Work<'t>,
    batch: &'a Batch,
    max_document: usize,
    catalog: Arc<Catalog>,
    /// Of the collections met so far, as the batch's operations found them.
    definitions: BTreeMap<String, Option<Arc<RawDocumentBuf>>>,
    staged: Staged,
    /// Bytes of the documents touched, each by its larger state.
    touched: usize,
}

/// Checks a batch; its answer, and what is to be applied for it.
pub fn check(work: &Work<'_>, batch: &Batch, max_document: usize) -> Result<(Committed, Staged), Refusal> {
    let catalog = Arc::clone(&work.catalog);
    let (definitions, staged) = (BTreeMap::new(), Staged::default());
    let mut stage = Stage { work, batch, max_document, catalog, definitions, staged, touched: 0 };
    if let Some(receipt) = &batch.receipt
        && let Some(committed) = stage.earlier(receipt)?
    {
        return Ok((committed, Staged::default()));
    }
    let mut outcomes = Vec::with_capacity(batch.operations.len());
    for (place, operation) in batch.operations.iter().enumerate() {
        outcomes.push(stage.operation(place, operation).map_err(|refusal| refusal.of(place))?);
    }
    if let Some(check) = &batch.check {
        check.conclude()?;
    }
    let sequence = Sequence(work.sequence + stage.staged.records.len() as u64);
    let committed = Committed { sequence, outcomes, replayed: false };
    if let Some(receipt) = &batch.receipt {
        stage.keep(receipt, &committed)?;
    }
    if !Arc::ptr_eq(&stage.catalog, &work.catalog) {
        stage.staged.catalog = Some(stage.catalog);
    }
    Ok((committed, stage.staged))
}

impl Staged {
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.records.is_empty()
    }

    pub fn apply(self, work: &mut Work<'_>) -> Result<(), redb::Error> {
        let tables = &mut work.tables;
        for (key, document) in &self.documents {
            match document {
                Some(document) => tables.documents.insert(key.as_slice(), document.as_bytes())?,
                None => tables.documents.remove(key.as_slice())?,
            };
        }
        for (key, id) in &self.entries {
            match id {
                Some(length) => tables.entries.insert(key.as_slice(), length)?,
                None => tables.entries.remove(key.as_slice())?,
            };
        }
        for (sequence, record) in &self.records {
            tables.journal.insert(sequence, record.as_slice())?;
            work.sequence = *sequence;
            work.journal_bytes += record.len() as u64;
        }
        for key in &self.garbage {
            tables.garbage.insert(key.as_slice(), ())?;
        }
        for (number, change) in self.counts {
            let count = work.counts.entry(number).or_default();
            *count = count.saturating_add_signed(change);
            tables.counts.insert(number, *count)?;
        }
        if let Some(catalog) = self.catalog {
            work.catalog = catalog;
            work.save(&self.changed)?;
        }
        Ok(())
    }
}

impl<'t> Work<'t> {
    pub fn new(tables: Tables<'t>, state: &State) -> Self {
        let State { catalog, counts, sequence, journal_bytes } = state.clone();
        Self { tables, catalog, counts, sequence, journal_bytes }
    }

    pub fn state(self) -> State {
        let Self { catalog, counts, sequence, journal_bytes, .. } = self;
        State { catalog, counts, sequence, journal_bytes }
    }

    /// Writes how far the journal goes and what it takes.
    pub fn save_journal(&mut self) -> Result<(), redb::Error> {
        self.tables.metadata.insert("sequence", self.sequence)?;
        self.tables.metadata.insert("journal_bytes", self.journal_bytes)?;
        Ok(())
    }

    /// Writes the state of collections that changed in the catalogue.
    pub fn save(&mut self, names: &BTreeSet<String>) -> Result<(), redb::Error> {
        for name in names {
            match self.catalog.get(name) {
                Some(held) => self.tables.collections.insert(name.as_str(), held.document().as_bytes())?,
                None => self.tables.collections.remove(name.as_str())?,
            };
        }
        self.tables.metadata.insert("next_collection", u64::from(self.catalog.next_collection))?;
        self.tables.metadata.insert("next_index", u64::from(self.catalog.next_index))?;
        Ok(())
    }
}

impl Stage<'_, '_> {
    fn operation(&mut self, place: usize, operation: &Operation) -> Result<Outcome, Refusal> {
        let Operation { collection, id, .. } = operation;
        if collection == RECEIPTS {
            return Err(Fault::new("documents.reserved").with("collection", collection).into());
        }
        let unknown = || Conflict::Unknown { operation: place, collection: collection.clone() };
        let held = Arc::clone(self.catalog.get(collection).ok_or_else(unknown)?);
        document::check_id(id)?;
        let before = self.document(held.number, id)?;
        let revision = before.as_deref().and_then(document::revision).unwrap_or_default();
        if let (Some(check), Some(before)) = (&self.batch.check, &before)
            && !(operation.expect == Expect::Absent && matches!(operation.change, Change::Put(_)))
        {
            check.admit(place, before)?;
        }
        expect(place, operation, before.is_some(), revision)?;
        let after = match &self.batch.check {
            Some(check) => self.judged(place, operation, before.as_deref(), &**check)?,
            None => self.change(place, operation, before.as_deref())?,
        };
        self.weigh(before.as_deref(), after.as_deref())?;
        if collection == COLLECTIONS {
            self.define(id, before.as_deref(), after.as_deref())?;
        }
        self.put(place, collection, &held, id, before.as_deref(), after.as_deref())?;
        let outcome = Outcome {
            id: id.clone(),
            revision: after.as_deref().and_then(document::revision).unwrap_or(revision + 1),
            created: before.is_none(),
            document: after,
        };
        self.record(place, operation, before.as_deref(), &outcome);
        Ok(outcome)
    }

    /// The state to be stored after an operation that its check accepts.
    fn judged(
        &mut self,
        place: usize,
        operation: &Operation,
        stored: Option<&RawDocument>,
        check: &dyn Check,
    ) -> Result<Option<RawDocumentBuf>, Refusal> {
        if let Some(definition) = self.definition(&operation.collection)? {
            check.drafted(place, &definition)?;
        }
        let opened = stored.map(|stored| check.open(place, stored)).transpose()?.flatten();
        let before = opened.as_deref().or(stored);
        let after = self.change(place, operation, before)?;
        check.judge(place, before, after.as_deref())?;
        let Some(after) = after else { return Ok(None) };
        let Some(sealed) = check.seal(place, stored, &after)? else { return Ok(Some(after)) };
        limits::check(&sealed, self.max_document)?;
        Ok(Some(sealed))
    }

    /// The catalogue's document of a collection; the catalogue itself has none.
    fn definition(&mut self, collection: &str) -> Result<Option<Arc<RawDocumentBuf>>, Refusal> {
        if let Some(known) = self.definitions.get(collection) {
            return Ok(known.clone());
        }
        let found = match self.catalog.get(COLLECTIONS) {
            Some(catalogue) => self.document(catalogue.number, collection)?.map(Arc::new),
            None => None,
        };
        self.definitions.insert(collection.to_owned(), found.clone());
        Ok(found)
    }

    /// What an operation brings shows only here: a small one may change, and journal, a large document.
    fn weigh(&mut self, before: Option<&RawDocument>, after: Option<&RawDocument>) -> Result<(), Fault> {
        let bytes = |state: Option<&RawDocument>| state.map_or(0, |state| state.as_bytes().len());
        self.touched += bytes(before).max(bytes(after));
        if self.touched > BATCH_BYTES {
            let fault = Fault::new("documents.batch_bytes").with("bytes", self.touched);
            return Err(fault.with("limit", BATCH_BYTES));
        }
        Ok(())
    }

    /// The state after the operation; `None` once deleted.
    fn change(
        &self,
        place: usize,
        operation: &Operation,
        before: Option<&RawDocument>,
    ) -> Result<Option<RawDocumentBuf>, Refusal> {
        let (id, now) = (operation.id.as_str(), self.batch.time);
        let after = match (&operation.change, before) {
            (Change::Delete, _) => return Ok(None),
            (Change::Put(given), None) => stamp::created(id, given, now)?,
            (Change::Put(given), Some(before)) => stamp::changed(id, before, given, now)?,
            (Change::Update(update), Some(before)) => {
                let malformed = |error| Fault::new("documents.malformed").with("reason", error);
                let mut given = Document::try_from(before).map_err(malformed)?;
                update.apply(&mut given, now)?;
                let given = RawDocumentBuf::try_from(&given).map_err(malformed)?;
                stamp::changed(id, before, &given, now)?
            }
            (Change::Update(_), None) => {
                return Err(Conflict::Missing { operation: place, id: id.to_owned() }.into());
            }
        };
        limits::check(&after, self.max_document)?;
        Ok(Some(after))
    }

    fn record(&mut self, place: usize, operation: &Operation, before: Option<&RawDocument>, outcome: &Outcome) {
        let first = self.work.sequence + 1;
        let sequence = first + self.staged.records.len() as u64;
        let record = journal::encode(&journal::Entry {
            sequence,
            transaction: first,
            position: u32::try_from(place).unwrap_or(u32::MAX),
            time: self.batch.time,
            collection: &operation.collection,
            id: &operation.id,
            action: match (before, &outcome.document) {
                (None, _) => Action::Create,
                (_, Some(_)) => Action::Update,
                (_, None) => Action::Delete,
            },
            revision: outcome.revision,
            before,
            after: outcome.document.as_deref(),
            origin: &self.batch.origin,
        });
        self.staged.weight += record.len();
        self.staged.records.push((sequence, record));
    }

    /// As the batch's predecessors, and its own earlier operations, left it.
    fn document(&self, collection: u32, id: &str) -> Result<Option<RawDocumentBuf>, Refusal> {
        let key = tables::document_key(collection, id);
        if let Some(staged) = self.staged.documents.get(&key) {
            return Ok(staged.clone());
        }
        let stored = self.work.tables.documents.get(key.as_slice())?;
        let Some(stored) = stored else { return Ok(None) };
        let document = RawDocumentBuf::from_bytes(stored.value().to_vec());
        document.map(Some).map_err(|_| Refusal::corrupt(format!("document {id} is no BSON")))
    }

    /// Stages a document with its entries and its place in the count.
    fn put(
        &mut self,
        place: usize,
        collection: &str,
        held: &Arc<Held>,
        id: &str,
        before: Option<&RawDocument>,
        after: Option<&RawDocument>,
    ) -> Result<(), Refusal> {
        let mut multikey = Vec::new();
        for (at, index) in held.indexes.iter().enumerate().filter(|(_, index)| index.progress.kept()) {
            // A document from before a build that it would refuse has no entries to lose.
            let old = before.map(|before| index::entries(before, &index.index).unwrap_or_default()).unwrap_or_default();
            let new = after.map(|after| index::entries(after, &index.index)).transpose()?.unwrap_or_default();
            if new.multikey & !index.multikey != 0 {
                multikey.push((at, new.multikey));
            }
            let length = u16::try_from(id.len()).unwrap_or(u16::MAX);
            for gone in old.keys.difference(&new.keys) {
                let entry = [&tables::entry_prefix(index.number, gone), id.as_bytes()].concat();
                self.staged.weight += entry.len();
                self.staged.entries.insert(entry, None);
            }
            let enforced = index.index.unique && !matches!(index.progress, Progress::Filling { .. });
            for come in new.keys.difference(&old.keys) {
                let mut entry = tables::entry_prefix(index.number, come);
                if enforced && let Some(other) = self.other(&entry, id)? {
                    let (index, id) = (index.index.name.clone(), id.to_owned());
                    return Err(Conflict::Unique { operation: place, index, id, other }.into());
                }
                entry.extend_from_slice(id.as_bytes());
                self.staged.weight += entry.len();
                self.staged.entries.insert(entry, Some(length));
            }
        }
        if !multikey.is_empty() {
            self.alter(collection, |held| {
                for (at, bits) in multikey {
                    if let Some(index) = held.indexes.get_mut(at) {
                        index.multikey |= bits;
                    }
                }
            });
        }
        let change = i64::from(after.is_some()) - i64::from(before.is_some());
        if change != 0 {
            *self.staged.counts.entry(held.number).or_default() += change;
        }
        self.staged.weight += after.map_or(0, |after| after.as_bytes().len());
        self.staged.documents.insert(tables::document_key(held.number, id), after.map(RawDocument::to_owned));
        Ok(())
    }

    /// Another document under the same key of an index.
    fn other(&self, prefix: &[u8], own: &str) -> Result<Option<String>, Refusal> {
        let id = |key: &[u8], length: u16| tables::entry_id(key, length).filter(|id| *id != own).map(str::to_owned);
        for (key, length) in self.staged.entries.range(prefix.to_vec()..) {
            if !key.starts_with(prefix) {
                break;
            }
            if let Some(other) = length.and_then(|length| id(key, length)) {
                return Ok(Some(other));
            }
        }
        let end = key::after(prefix).unwrap_or_else(|| vec![0xff; prefix.len() + 1]);
        for entry in self.work.tables.entries.range(prefix..end.as_slice())? {
            let (key, length) = entry?;
            let gone = matches!(self.staged.entries.get(key.value()), Some(None));
            if let Some(other) = id(key.value(), length.value()).filter(|_| !gone) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    fn alter(&mut self, name: &str, change: impl FnOnce(&mut Held)) {
        let catalog = Arc::make_mut(&mut self.catalog);
        if let Some(held) = catalog.collections.get_mut(name) {
            change(Arc::make_mut(held));
            self.staged.changed.insert(name.to_owned());
        }
    }

    fn count(&self, number: u32) -> u64 {
        let change = self.staged.counts.get(&number).copied().unwrap_or_default();
        self.work.counts.get(&number).copied().unwrap_or_default().saturating_add_signed(change)
    }

    /// A document of the catalogue came, changed or went: so does its collection.
    fn define(&mut self, name: &str, stored: Option<&RawDocument>, after: Option<&RawDocument>) -> Result<(), Refusal> {
        if name == COLLECTIONS || name == RECEIPTS {
            return Err(Fault::new("documents.reserved").with("collection", name).into());
        }
        self.definitions.remove(name);
        let before = self.catalog.get(name).cloned();
        let documents = before.as_ref().map_or(0, |held| self.count(held.number));
        let definition = after.map(|after| Definition::read(name, after)).transpose()?;
        if let (Some(stored), Some(next), 1..) = (stored, &definition, documents)
            && !Sealing::of(&Definition::read(name, stored)?).admits(&Sealing::of(next))
        {
            return Err(Fault::new("sealing.documents").with("collection", name).with("documents", documents).into());
        }
        let catalog = Arc::make_mut(&mut self.catalog);
        let dropped = match definition {
            Some(definition) => {
                let changes = catalog.change(before.as_deref(), &definition, documents);
                catalog.collections.insert(name.to_owned(), Arc::new(changes.held));
                changes.dropped
            }
            None => {
                catalog.collections.remove(name);
                if let Some(held) = &before {
                    self.staged.garbage.push(tables::garbage_key(tables::Garbage::Documents, held.number));
                    *self.staged.counts.entry(held.number).or_default() -= documents.cast_signed();
                }
                before.iter().flat_map(|held| &held.indexes).map(|index| index.number).collect()
            }
        };
        let garbage = dropped.into_iter().map(|number| tables::garbage_key(tables::Garbage::Entries, number));
        self.staged.garbage.extend(garbage);
        self.staged.changed.insert(name.to_owned());
        Ok(())
    }

    /// The answer of an earlier batch with this receipt.
    fn earlier(&self, receipt: &Receipt) -> Result<Option<Committed>, Refusal> {
        let Some(held) = self.catalog.get(RECEIPTS) else { return Ok(None) };
        let Some(stored) = self.document(held.number, &receipts::id(&receipt.key))? else { return Ok(None) };
        let kept = receipts::read(&stored).ok_or_else(|| Refusal::corrupt("a receipt is unreadable"))?;
        if kept.expires <= self.batch.time {
            return Ok(None);
        }
        if kept.fingerprint != receipt.fingerprint {
            return Err(Conflict::Reused { key: receipt.key.clone() }.into());
        }
        let mut outcomes = Vec::with_capacity(kept.outcomes.len());
        for (sequence, outcome) in (kept.first..).zip(kept.outcomes) {
            let record = self.work.tables.journal.get(sequence)?;
            let document = record.and_then(|record| journal::decode(sequence, record.value())?.after);
            outcomes.push(Outcome {
                id: outcome.id,
                revision: outcome.revision,
                created: outcome.created,
                document: document.filter(|_| !outcome.deleted),
            });
        }
        Ok(Some(Committed { sequence: Sequence(kept.sequence), outcomes, replayed: true }))
    }

    fn keep(&mut self, receipt: &Receipt, committed: &Committed) -> Result<(), Refusal> {
        let Some(held) = self.catalog.get(RECEIPTS).cloned() else { return Ok(()) };
        let id = receipts::id(&receipt.key);
        let before = self.document(held.number, &id)?;
        let after = receipts::document(receipt, self.work.sequence + 1, committed);
        self.put(0, RECEIPTS, &held, &id, before.as_deref(), Some(&after))
    }
}

fn expect(place: usize, operation: &Operation, exists: bool, actual: i64) -> Result<(), Conflict> {
    let needs = matches!(operation.change, Change::Update(_) | Change::Delete);
    let (expect, operation, id) = (operation.expect, place, operation.id.clone());
    let conflict = match expect {
        Expect::Absent if exists => Conflict::Exists { operation, id },
        Expect::Present | Expect::Revision(_) if !exists => Conflict::Missing { operation, id },
        Expect::Revision(expected) if expected != actual => Conflict::Revision { operation, id, expected, actual },
        _ if needs && !exists => Conflict::Missing { operation, id },
        _ => return Ok(()),
    };
    Err(conflict)
}
