//! What was chosen, handed to the new store part by part.

use super::{Opening, Restore, unsealed, walk::Order};
use crate::{
    base::fault::Fault,
    ports::{
        self,
        documents::{Action, Load, Record, Sequence, Snapshot},
    },
    services::{
        Error, Result,
        backups::{
            chain::Link,
            create::{Progress, Stage},
            lines::Line,
        },
    },
};
use bson::RawDocumentBuf;

/// How many bytes of images go into the store at once, and how many rows at most.
const CHUNK: usize = 16 * 1024 * 1024;
const MOST_ROWS: usize = 16_000;

/// The appliance's own collections always come back.
pub const SYSTEM: &str = "system.";

type Put<'p> = dyn FnMut(Load) -> ports::Result<()> + 'p;

impl Restore<'_> {
    /// Hands every part to `put`, documents first, then the journal (it goes in [`with_images`]), then the changes since,
    /// then [`Load::End`], once all has proved sound a second time. Of other collections than those named (none: all)
    /// nothing but the definition comes. On an error the new store is worth nothing: remove it. Blocking.
    pub fn load(
        &self,
        collections: &[String],
        put: &mut Put<'_>,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        let total = self.plan.documents() + self.plan.changes();
        let held =
            Held { collection: String::new(), documents: Vec::new(), records: Vec::new(), bytes: 0, changes: false };
        let mut loading = Loading { collections, put, progress, held, done: 0, total };
        self.full(&mut loading)?;
        let mut at = self.plan.full.header.upto;
        for link in &self.plan.segments {
            loading.held.changes = true;
            at = self.segment(link, at, &mut loading)?;
        }
        loading.flush()?;
        (loading.put)(Load::End(self.plan.point.sequence))?;
        loading.report()
    }

    fn full(&self, loading: &mut Loading<'_, '_>) -> Result<()> {
        let link = &self.plan.full;
        let (mut contents, mut opening) = (unsealed(self.source, &link.name, self.asked.identity)?, Opening::default());
        while let Some(line) = contents.next()? {
            match opening.take(line) {
                Some(Line::Collection { name, .. }) => {
                    loading.flush()?;
                    loading.held.collection = name;
                }
                Some(Line::Document(document)) => loading.document(document)?,
                Some(Line::Record(record)) => loading.record(record)?,
                _ => {}
            }
        }
        loading.flush()?;
        contents.finish(self.asked.trust)?;
        self.opened(link, &opening)
    }

    /// What of a segment is past `at`, up to the point. Answers how far it came.
    fn segment(&self, link: &Link, mut at: Sequence, loading: &mut Loading<'_, '_>) -> Result<Sequence> {
        let mut contents = unsealed(self.source, &link.name, self.asked.identity)?;
        let (mut order, mut opening) = (Order::new(link), Opening::default());
        while let Some(line) = contents.next()? {
            let Some(Line::Record(record)) = opening.take(line) else { continue };
            order.next(&record)?;
            if record.sequence > at && record.sequence <= self.plan.point.sequence {
                at = record.sequence;
                loading.record(record)?;
            }
        }
        order.end()?;
        contents.finish(self.asked.trust)?;
        self.opened(link, &opening)?;
        Ok(at)
    }

    /// What was opened before is what is proven now: keys swapped in between would serve whoever swapped them.
    fn opened(&self, link: &Link, proven: &Opening) -> Result<()> {
        let of = |other: &Link| other.name == link.name;
        let keys = !of(self.plan.last()) || proven.meta.as_ref() == Some(&self.meta) && proven.keys == self.keys;
        let configuration = !of(&self.plan.full) || proven.configuration == self.configuration;
        if keys && configuration {
            return Ok(());
        }
        Err(Error::Damaged(Fault::new("backups.mismatch")))
    }
}

/// Hands records on with the images they leave to the documents they are of, which stand in the store by then: in parts
/// no larger than others, for what is left out weighs nothing before.
pub fn with_images(
    records: Vec<Record>,
    stands: &dyn Snapshot,
    put: &mut dyn FnMut(Vec<Record>) -> ports::Result<()>,
) -> ports::Result<()> {
    let (mut part, mut bytes) = (Vec::with_capacity(records.len()), 0);
    for mut record in records {
        if record.after.is_none() && record.action != Action::Delete {
            image(&mut record, stands)?;
        }
        bytes += record.weight();
        part.push(record);
        if bytes > CHUNK {
            bytes = 0;
            put(std::mem::take(&mut part))?;
        }
    }
    if part.is_empty() { Ok(()) } else { put(part) }
}

fn image(record: &mut Record, stands: &dyn Snapshot) -> ports::Result<()> {
    let own = stands.get(&record.collection, &record.id)?;
    record.after = own.filter(|own| own.get_i64("_rev").ok() == Some(record.revision));
    if record.after.is_some() {
        return Ok(());
    }
    let fault = Fault::new("backups.image").with("sequence", record.sequence.0);
    let fault = fault.with("collection", &record.collection).with("id", &record.id);
    Err(ports::Error::Rejected(fault))
}

struct Loading<'l, 'p> {
    collections: &'l [String],
    put: &'l mut Put<'p>,
    progress: &'l mut dyn FnMut(Progress) -> Result<()>,
    held: Held,
    done: u64,
    total: u64,
}

struct Held {
    collection: String,
    documents: Vec<RawDocumentBuf>,
    records: Vec<Record>,
    bytes: usize,
    /// Records are changes to be made.
    changes: bool,
}

impl Loading<'_, '_> {
    fn wants(&self, collection: &str) -> bool {
        self.collections.is_empty()
            || collection.starts_with(SYSTEM)
            || self.collections.iter().any(|wanted| wanted == collection)
    }

    fn document(&mut self, document: RawDocumentBuf) -> Result<()> {
        if self.wants(&self.held.collection) {
            self.held.bytes += document.as_bytes().len();
            self.held.documents.push(document);
        }
        self.counted()
    }

    fn record(&mut self, record: Record) -> Result<()> {
        if !self.held.documents.is_empty() {
            self.flush()?;
        }
        if self.wants(&record.collection) {
            self.held.bytes += record.weight();
            self.held.records.push(record);
        }
        self.counted()
    }

    fn counted(&mut self) -> Result<()> {
        self.done += 1;
        if self.held.bytes > CHUNK || self.held.documents.len() + self.held.records.len() >= MOST_ROWS {
            self.flush()?;
        }
        if self.done.is_multiple_of(1000) { self.report() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.held.bytes = 0;
        let documents = std::mem::take(&mut self.held.documents);
        if !documents.is_empty() {
            (self.put)(Load::Documents { collection: self.held.collection.clone(), documents })?;
        }
        let records = std::mem::take(&mut self.held.records);
        match (records.is_empty(), self.held.changes) {
            (true, _) => {}
            (false, true) => (self.put)(Load::Changes(records))?,
            (false, false) => (self.put)(Load::Records(records))?,
        }
        Ok(())
    }

    fn report(&mut self) -> Result<()> {
        (self.progress)(Progress { stage: Stage::Restoring, done: self.done, total: self.total })
    }
}
