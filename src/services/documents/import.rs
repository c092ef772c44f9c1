//! Lines of documents written in chunks, each chunk durable before the next is taken; what is wrong with a line is
//! reported and the rest goes on.

use super::{
    Documents,
    rules::refusal,
    write::{Draft, Target, failed_operation},
};
use crate::{
    base::fault::Fault,
    domain::{
        document::SystemFields,
        json::{self, Line},
    },
    ports::{self, documents::Change},
    services::{
        Error, Result,
        access::{Action, Caller},
        audit::Event,
    },
};
use bson::RawDocumentBuf;

/// Documents committed at once, and bytes of them as BSON: as text they may take a fifth. A store takes twice as much.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 8 << 20;

/// Where an import stands. Every line up to `line` is on disk or among the faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// The number of the last line dealt with: what to skip to go on from here.
    pub line: u64,
    pub created: u64,
    pub updated: u64,
    pub failed: u64,
}

/// A line that was not written, and why.
#[derive(Debug)]
pub struct LineFault {
    pub line: u64,
    pub error: Error,
}

/// An import under way: feed it lines, write when it asks for it and at the end.
pub struct Import<'a> {
    documents: &'a Documents,
    collection: &'a str,
    upsert: bool,
    /// Read, and not yet written.
    taken: Vec<(u64, RawDocumentBuf)>,
    bytes: usize,
    /// The number of the last line taken.
    last: u64,
    progress: Progress,
    faults: Vec<LineFault>,
}

impl Documents {
    /// With `upsert`, a line whose id exists replaces that document; else it is a fault of that line. Who may not
    /// import is told here, before a line is read.
    pub async fn import<'a>(&'a self, caller: &Caller, collection: &'a str, upsert: bool) -> Result<Import<'a>> {
        let import = Import {
            documents: self,
            collection,
            upsert,
            taken: Vec::new(),
            bytes: 0,
            last: 0,
            progress: Progress::default(),
            faults: Vec::new(),
        };
        import.target(caller).await?;
        // A client that sends a file in parts begins many.
        self.audit.record_once(caller, Event::new("documents.import").object(collection)).await?;
        Ok(import)
    }
}

impl Import<'_> {
    /// Takes a line; whether there is enough to be written.
    pub fn take(&mut self, line: Line) -> bool {
        self.last = line.number;
        match read(&line) {
            Ok(document) => {
                self.bytes += document.as_bytes().len();
                self.taken.push((line.number, document));
            }
            Err(error) => self.fail(line.number, error),
        }
        if self.taken.is_empty() {
            self.progress.line = self.last;
        }
        self.taken.len() >= CHUNK || self.bytes >= CHUNK_BYTES
    }

    /// Writes what was taken, within the rights and under the schema of this moment. An error is the store's own, or
    /// a right that has ended, and ends the import: what [`Import::progress`] says is on disk, the rest is not.
    pub async fn write(&mut self, caller: &Caller) -> Result<()> {
        let target = self.target(caller).await?;
        self.bytes = 0;
        let (mut drafts, mut bytes) = (Vec::new(), 0);
        for (line, document) in std::mem::take(&mut self.taken) {
            let draft = match self.upsert {
                true => target.replace(None, &document, SystemFields::Drop),
                false => target.create(&document, SystemFields::Drop),
            };
            let draft = match draft {
                Ok(draft) => draft,
                Err(error) => {
                    self.fail(line, error);
                    continue;
                }
            };
            let more = weight(&draft);
            if bytes + more > CHUNK_BYTES {
                self.commit(caller, std::mem::take(&mut drafts)).await?;
                bytes = 0;
            }
            bytes += more;
            drafts.push((line, draft));
        }
        self.commit(caller, drafts).await?;
        self.progress.line = self.last;
        Ok(())
    }

    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The faults found since the last time.
    pub fn faults(&mut self) -> Vec<LineFault> {
        std::mem::take(&mut self.faults)
    }

    async fn target<'c>(&self, caller: &'c Caller) -> Result<Target<'c>>
    where
        Self: 'c,
    {
        if self.upsert {
            self.documents.target(caller, self.collection, Action::Update).await?;
        }
        self.documents.target(caller, self.collection, Action::Create).await
    }

    /// Lines before it may wait to be written: where the import stands does not move.
    fn fail(&mut self, line: u64, error: Error) {
        self.progress.failed += 1;
        self.faults.push(LineFault { line, error });
    }

    /// An operation that is turned away leaves the chunk, and the others are tried again.
    async fn commit(&mut self, caller: &Caller, mut drafts: Vec<(u64, Draft)>) -> Result<()> {
        while !drafts.is_empty() {
            let attempt = drafts.iter().map(|(_, draft)| draft.clone()).collect();
            match self.documents.commit(caller, attempt, None).await {
                Ok(committed) => {
                    let created = committed.outcomes.iter().filter(|outcome| outcome.created).count() as u64;
                    self.progress.created += created;
                    self.progress.updated += committed.outcomes.len() as u64 - created;
                    self.progress.line = drafts.iter().fold(self.progress.line, |last, (line, _)| last.max(*line));
                    return Ok(());
                }
                Err(error) => {
                    // One too large for any batch is named by no place.
                    let alone = drafts.len() == 1 && matches!(error, ports::Error::Rejected(_));
                    let place = failed_operation(&error).filter(|place| *place < drafts.len());
                    match place.or(alone.then_some(0)) {
                        Some(place) => {
                            let (line, _) = drafts.remove(place);
                            self.fail(line, refusal(error));
                        }
                        // What the lines replace weighs too, and only the store sees it.
                        None if drafts.len() > 1 && too_heavy(&error) => {
                            let rest = drafts.split_off(drafts.len() / 2);
                            Box::pin(self.commit(caller, drafts)).await?;
                            drafts = rest;
                        }
                        None => return Err(refusal(error)),
                    }
                }
            }
        }
        Ok(())
    }
}

fn too_heavy(error: &ports::Error) -> bool {
    matches!(error, ports::Error::Rejected(fault) if fault.key == "documents.batch_bytes")
}

fn read(line: &Line) -> Result<RawDocumentBuf> {
    let Some(text) = &line.text else {
        return Err(Error::TooLarge(Fault::new("import.line").with("line", line.number)));
    };
    let document = json::parse(text, json::Limits::default())?;
    json::normalise_id(document).map_err(Error::Invalid)
}

/// What a draft takes of a batch.
fn weight(draft: &Draft) -> usize {
    match &draft.operation.change {
        Change::Put(document) => document.as_bytes().len() + draft.operation.id.len(),
        Change::Update(_) | Change::Delete => draft.operation.id.len(),
    }
}
