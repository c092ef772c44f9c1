//! Putting a backup into a store that has never held anything.

use super::{
    contents::Contents,
    create::{Progress, Stage},
    file::{Header, Kind, Manifest, Trust},
    lines::{Line, Meta},
    open,
    recipients::Identity,
    verify,
};
use crate::{
    base::{environment::Environment, fault::Fault},
    ports::{
        self,
        documents::{Load, Record},
        objects::Objects,
    },
    services::{Error, Result, keyring::Key},
};
use bson::RawDocumentBuf;
use std::io::Read;

/// How many bytes of images go into the store at once, and how many rows at most.
const CHUNK: usize = 4 * 1024 * 1024;
const MOST_ROWS: usize = 1000;

/// A backup found sound and opened, before anything was written anywhere: its keys make the new keyring, then
/// [`Restore::load`] fills the new store.
pub struct Restore<'a> {
    contents: Contents<Box<dyn Read + Send>>,
    header: Header,
    meta: Meta,
    keys: Vec<Key>,
    /// The line after the keys.
    next: Option<Line>,
    total: u64,
    trust: Trust<'a>,
}

impl<'a> Restore<'a> {
    /// Reads the whole backup once and checks it against its signed manifest, then opens it. Refuses one of another
    /// environment and one that does not stand alone. Blocking.
    pub fn begin(
        source: &dyn Objects,
        name: &str,
        identity: &Identity,
        trust: Trust<'a>,
        environment: Environment,
    ) -> Result<Self> {
        let backup = open(source, name)?;
        let header = backup.header().clone();
        if header.environment != environment {
            let fault = Fault::new("backups.environment").with("found", header.environment);
            return Err(Error::Refused(fault.with("wanted", environment)));
        }
        if header.kind != Kind::Full {
            return Err(Error::Refused(Fault::new("backups.not_full")));
        }
        let content = backup.unseal(identity)?;
        let total = verify(source, name, trust)?.manifest.documents;
        let mut contents = Contents::new(content);
        let Some(Line::Meta(meta)) = contents.next()? else {
            return Err(Error::Damaged(Fault::new("backups.line_kind").with("line", 1).with("kind", "")));
        };
        let mut keys = Vec::new();
        let next = loop {
            match contents.next()? {
                Some(Line::Key(key)) => keys.push(key),
                other => break other,
            }
        };
        Ok(Self { contents, header, meta, keys, next, total, trust })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Which instance it was, and of which lineage: the restored one is the next.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The keyring's content.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Hands every part to `put`, documents first, then the journal, then [`Load::End`], once all has proved sound
    /// a second time. On an error the new store is worth nothing: remove it. Blocking.
    pub fn load(
        mut self,
        put: &mut dyn FnMut(Load) -> ports::Result<()>,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Manifest> {
        let mut held = Held::default();
        let mut done = 0;
        let mut line = self.next.take();
        while let Some(this) = line {
            match this {
                Line::Collection { name, .. } => {
                    held.flush(put)?;
                    held.collection = name;
                }
                Line::Document(document) => {
                    held.bytes += document.as_bytes().len();
                    held.documents.push(document);
                }
                Line::Record(record) => {
                    held.flush_documents(put)?;
                    let image = |image: &Option<RawDocumentBuf>| image.as_ref().map_or(0, |raw| raw.as_bytes().len());
                    held.bytes += image(&record.before) + image(&record.after);
                    held.records.push(record);
                }
                Line::Meta(_) | Line::Key(_) | Line::Configuration(_) => {}
            }
            done += 1;
            if held.bytes > CHUNK || held.documents.len() + held.records.len() >= MOST_ROWS {
                held.flush(put)?;
                progress(Progress { stage: Stage::Restoring, done, total: self.total })?;
            }
            line = self.contents.next()?;
        }
        held.flush(put)?;
        let manifest = self.contents.finish(self.trust)?;
        put(Load::End(self.header.upto))?;
        progress(Progress { stage: Stage::Restoring, done, total: self.total })?;
        Ok(manifest)
    }
}

#[derive(Default)]
struct Held {
    collection: String,
    documents: Vec<RawDocumentBuf>,
    records: Vec<Record>,
    bytes: usize,
}

impl Held {
    fn flush(&mut self, put: &mut dyn FnMut(Load) -> ports::Result<()>) -> Result<()> {
        self.flush_documents(put)?;
        if !self.records.is_empty() {
            put(Load::Records(std::mem::take(&mut self.records)))?;
        }
        self.bytes = 0;
        Ok(())
    }

    fn flush_documents(&mut self, put: &mut dyn FnMut(Load) -> ports::Result<()>) -> Result<()> {
        if !self.documents.is_empty() {
            let documents = std::mem::take(&mut self.documents);
            put(Load::Documents { collection: self.collection.clone(), documents })?;
            self.bytes = 0;
        }
        Ok(())
    }
}
