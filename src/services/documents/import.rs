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
    services::{
        Error, Result,
        access::{Action, Caller},
    },
};

/// Documents committed at once.
const CHUNK: usize = 500;
/// Bytes of lines that make a chunk, however few.
const CHUNK_BYTES: usize = 4 << 20;

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

/// An import under way: feed it lines, then finish it.
pub struct Import<'a> {
    documents: &'a Documents,
    caller: &'a Caller,
    target: Target<'a>,
    upsert: bool,
    drafts: Vec<(u64, Draft)>,
    bytes: usize,
    progress: Progress,
    faults: Vec<LineFault>,
}

impl Documents {
    /// With `upsert`, a line whose id exists replaces that document; else it is a fault of that line.
    pub async fn import<'a>(&'a self, caller: &'a Caller, collection: &'a str, upsert: bool) -> Result<Import<'a>> {
        if upsert {
            self.target(caller, collection, Action::Update).await?;
        }
        let target = self.target(caller, collection, Action::Create).await?;
        let progress = Progress::default();
        Ok(Import {
            documents: self,
            caller,
            target,
            upsert,
            drafts: Vec::new(),
            bytes: 0,
            progress,
            faults: Vec::new(),
        })
    }
}

impl Import<'_> {
    /// Takes a line; writes the chunk it completes. An error is the store's own and ends the import: what
    /// [`Import::progress`] says is on disk, the rest is not.
    pub async fn take(&mut self, line: Line) -> Result<()> {
        self.bytes += line.text.as_ref().map_or(0, Vec::len);
        match self.draft(&line) {
            Ok(draft) => self.drafts.push((line.number, draft)),
            Err(error) => self.fail(line.number, error),
        }
        if self.drafts.len() >= CHUNK || self.bytes >= CHUNK_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub async fn finish(&mut self) -> Result<()> {
        self.write().await
    }

    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The faults found since the last time.
    pub fn faults(&mut self) -> Vec<LineFault> {
        std::mem::take(&mut self.faults)
    }

    fn draft(&self, line: &Line) -> Result<Draft> {
        let Some(text) = &line.text else {
            return Err(Error::TooLarge(Fault::new("import.line").with("line", line.number)));
        };
        let document = json::parse(text, json::Limits::default())?;
        let document = json::normalise_id(document).map_err(Error::Invalid)?;
        match self.upsert {
            true => self.target.replace(None, &document, SystemFields::Drop),
            false => self.target.create(&document, SystemFields::Drop),
        }
    }

    fn fail(&mut self, line: u64, error: Error) {
        self.progress.failed += 1;
        self.progress.line = self.progress.line.max(line);
        self.faults.push(LineFault { line, error });
    }

    /// Commits the chunk; an operation that is turned away leaves it, and the others are tried again.
    async fn write(&mut self) -> Result<()> {
        self.bytes = 0;
        let mut drafts = std::mem::take(&mut self.drafts);
        while !drafts.is_empty() {
            let attempt = drafts.iter().map(|(_, draft)| draft.clone()).collect();
            match self.documents.commit(self.caller, attempt, None).await {
                Ok(committed) => {
                    let created = committed.outcomes.iter().filter(|outcome| outcome.created).count() as u64;
                    self.progress.created += created;
                    self.progress.updated += committed.outcomes.len() as u64 - created;
                    self.progress.line = drafts.iter().fold(self.progress.line, |last, (line, _)| last.max(*line));
                    return Ok(());
                }
                Err(error) => match failed_operation(&error).filter(|place| *place < drafts.len()) {
                    Some(place) => {
                        let (line, _) = drafts.remove(place);
                        self.fail(line, refusal(error));
                    }
                    None => return Err(refusal(error)),
                },
            }
        }
        Ok(())
    }
}
