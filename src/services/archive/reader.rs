//! Reading an archive as it comes: never wholly in memory, its blocks in whatever order they were written.

use super::{
    CRC, Collection, FORMAT, MAGIC, Namespace, damaged,
    frames::{Document, Frame, Frames},
};
use crate::{
    base::fault::Fault,
    services::{Error, Result},
};
use bson::RawDocument;
use crc::Digest;
use std::{collections::BTreeMap, io::Read};

/// What comes next.
pub enum Part<'a> {
    Document {
        namespace: &'a Namespace,
        document: Document<'a>,
    },
    /// The documents after this may be another collection's.
    Pause,
    /// There are no more of this collection's, and its checksum holds.
    Ended(Namespace),
}

struct State {
    digest: Option<Digest<'static, u64>>,
    documents: u64,
}

pub struct Reader<R> {
    frames: Frames<R>,
    collections: Vec<Collection>,
    states: BTreeMap<Namespace, State>,
    current: Option<Namespace>,
}

impl<R: Read> Reader<R> {
    /// Reads what the archive says of itself, up to the first block.
    pub fn open(input: R) -> Result<Self> {
        let mut frames = Frames::new(input);
        let foreign = || Error::Invalid(Fault::new("archive.foreign"));
        if frames.magic().map_err(|_| foreign())? != Some(MAGIC) {
            return Err(foreign());
        }
        let at = frames.at;
        let Frame::Document = frames.next()? else { return Err(damaged("archive.block", at)) };
        let version = text(header(&frames.bytes, at)?, "version");
        if version != FORMAT {
            return Err(Error::Refused(Fault::new("archive.version").with("version", version)));
        }
        let mut collections = Vec::new();
        loop {
            let at = frames.at;
            match frames.next()? {
                Frame::Terminator => break,
                Frame::End => return Err(damaged("archive.cut", at)),
                Frame::Document => {
                    let document = header(&frames.bytes, at)?;
                    let namespace = namespace(document, at)?;
                    let (kind, metadata) = (text(document, "type").to_owned(), text(document, "metadata").to_owned());
                    collections.push(Collection { namespace, kind, metadata });
                }
            }
        }
        Ok(Self { frames, collections, states: BTreeMap::new(), current: None })
    }

    pub fn collections(&self) -> &[Collection] {
        &self.collections
    }

    /// What comes next; `None` at the end, when every collection was there whole.
    pub fn part(&mut self) -> Result<Option<Part<'_>>> {
        let at = self.frames.at;
        let frame = self.frames.next()?;
        if self.current.is_none() {
            return match frame {
                Frame::End => self.whole().map(|()| None),
                Frame::Terminator => Err(damaged("archive.block", at)),
                Frame::Document => self.begin(at).map(Some),
            };
        }
        if let Frame::Terminator = frame {
            self.current = None;
            return Ok(Some(Part::Pause));
        }
        let (Frame::Document, Some(namespace)) = (frame, &self.current) else {
            return Err(damaged("archive.cut", at));
        };
        let state = self.states.get_mut(namespace).ok_or_else(|| damaged("archive.block", at))?;
        let digest = state.digest.as_mut().ok_or_else(|| damaged("archive.block", at))?;
        digest.update(&self.frames.bytes);
        state.documents += 1;
        let (number, end) = (state.documents, self.frames.at);
        Ok(Some(Part::Document { namespace, document: Document { bytes: &self.frames.bytes, number, end } }))
    }

    /// A block's header: documents follow, or the collection is over.
    fn begin(&mut self, at: u64) -> Result<Part<'_>> {
        let document = header(&self.frames.bytes, at)?;
        let namespace = namespace(document, at)?;
        let (Ok(ended), Ok(stated)) = (document.get_bool("EOF"), document.get_i64("CRC")) else {
            return Err(damaged("archive.block", at));
        };
        let fresh = || State { digest: Some(CRC.digest()), documents: 0 };
        let state = self.states.entry(namespace.clone()).or_insert_with(fresh);
        if state.digest.is_none() {
            return Err(damaged("archive.block", at));
        }
        if !ended {
            self.current = Some(namespace);
            return Ok(Part::Pause);
        }
        let found = state.digest.take().map(Digest::<u64>::finalize);
        if found != Some(stated.cast_unsigned()) {
            let fault = Fault::new("archive.checksum").with("collection", namespace).with("at", at);
            return Err(Error::Damaged(fault.with("documents", state.documents)));
        }
        let at = self.frames.at;
        match self.frames.next()? {
            Frame::Terminator => Ok(Part::Ended(namespace)),
            Frame::Document | Frame::End => Err(damaged("archive.block", at)),
        }
    }

    /// Views have no documents, and those of a time series are under another name.
    fn whole(&self) -> Result<()> {
        let plain = self.collections.iter().filter(|collection| matches!(collection.kind.as_str(), "" | "collection"));
        let mut all = plain.map(|collection| &collection.namespace).chain(self.states.keys());
        let open = |namespace: &&Namespace| self.states.get(namespace).is_none_or(|state| state.digest.is_some());
        match all.find(open) {
            None => Ok(()),
            Some(namespace) => {
                let fault = Fault::new("archive.unfinished").with("collection", namespace);
                Err(Error::Damaged(fault.with("at", self.frames.at)))
            }
        }
    }
}

fn header(bytes: &[u8], at: u64) -> Result<&RawDocument> {
    RawDocument::from_bytes(bytes).map_err(|_| damaged("archive.block", at))
}

fn text<'a>(document: &'a RawDocument, name: &str) -> &'a str {
    document.get_str(name).unwrap_or_default()
}

fn namespace(document: &RawDocument, at: u64) -> Result<Namespace> {
    let (database, collection) = (text(document, "db").to_owned(), text(document, "collection").to_owned());
    if collection.is_empty() { Err(damaged("archive.block", at)) } else { Ok(Namespace { database, collection }) }
}
