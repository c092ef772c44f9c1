//! An opened backup, line after line, each in its place: meta, keys, configuration, collections with their documents,
//! journal. A segment has no collections.

use super::{
    file::{Content, Kind, Manifest, Trust},
    lines::{self, Line, Meta},
};
use crate::{
    base::fault::Fault,
    ports::documents::{Action, Sequence},
    services::{Error, Result},
};
use std::io::Read;
use zeroize::Zeroizing;

pub struct Contents<R: Read> {
    content: Content<R>,
    /// Wiped when dropped: it has held keys.
    line: Zeroizing<Vec<u8>>,
    stage: Stage,
    /// The collection being read, and its documents still to come.
    collection: Option<(String, u64, u64)>,
    documents: u64,
    records: u64,
    sequence: Sequence,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Meta,
    Keys,
    Configuration,
    Collections,
    Journal,
}

impl<R: Read> Contents<R> {
    pub fn new(content: Content<R>) -> Self {
        let sequence = content.header().after;
        let line = Zeroizing::default();
        Self { content, line, stage: Stage::Meta, collection: None, documents: 0, records: 0, sequence }
    }

    /// The next line; `None` at the end. What it holds is proven only by [`Contents::finish`].
    pub fn next(&mut self) -> Result<Option<Line>> {
        if !self.content.line(&mut self.line)? {
            self.end_collection()?;
            return if self.stage == Stage::Meta { Err(self.misplaced("")) } else { Ok(None) };
        }
        let line = lines::parse(&self.line, self.content.lines())?;
        match &line {
            Line::Meta(meta) => self.meta(meta)?,
            Line::Key(_) if self.stage == Stage::Keys => {}
            Line::Key(_) => return Err(self.misplaced("key")),
            Line::Configuration(_) if self.stage == Stage::Keys => self.stage = Stage::Configuration,
            Line::Configuration(_) => return Err(self.misplaced("configuration")),
            Line::Collection { name, documents } => {
                let segment = self.content.header().kind == Kind::Segment;
                if segment || self.stage < Stage::Keys || self.stage > Stage::Collections {
                    return Err(self.misplaced("collection"));
                }
                self.end_collection()?;
                self.stage = Stage::Collections;
                self.collection = Some((name.clone(), *documents, 0));
            }
            Line::Document(_) => match &mut self.collection {
                Some((_, _, seen)) => {
                    *seen += 1;
                    self.documents += 1;
                }
                None => return Err(self.misplaced("document")),
            },
            Line::Record(record) => {
                self.end_collection()?;
                if self.stage < Stage::Keys || record.sequence <= self.sequence {
                    return Err(self.misplaced("journal"));
                }
                // What stands among the documents before it, a record need not tell again; in a segment there are none.
                let tells = record.after.is_some() || record.action == Action::Delete;
                if !tells && self.content.header().kind == Kind::Segment {
                    return Err(self.misplaced("journal"));
                }
                self.stage = Stage::Journal;
                self.sequence = record.sequence;
                self.records += 1;
            }
        }
        Ok(Some(line))
    }

    fn meta(&mut self, meta: &Meta) -> Result<()> {
        let header = self.content.header();
        let same = meta.backup == header.id()
            && meta.instance == header.instance
            && meta.environment == header.environment
            && meta.lineage == header.lineage
            && meta.sequence == header.upto;
        if self.stage != Stage::Meta || !same {
            return Err(self.misplaced("meta"));
        }
        self.stage = Stage::Keys;
        Ok(())
    }

    fn end_collection(&mut self) -> Result<()> {
        match self.collection.take() {
            Some((name, expected, actual)) if expected != actual => Err(Error::Damaged(
                Fault::new("backups.count").with("collection", name).with("expected", expected).with("actual", actual),
            )),
            _ => Ok(()),
        }
    }

    fn misplaced(&self, kind: &str) -> Error {
        Error::Damaged(Fault::new("backups.line_kind").with("line", self.content.lines()).with("kind", kind))
    }

    /// Reads what is left, then checks everything against the signed manifest.
    pub fn finish(mut self, trust: Trust<'_>) -> Result<Manifest> {
        while self.next()?.is_some() {}
        self.content.finish(self.documents, self.records, trust)
    }
}
