//! The whole log in lines, as an auditor takes it away. `docs/audit.md` says what each line is.

use super::{
    Audit, CHECKPOINTS, ENTRIES, Event, TILES,
    entry::{self, Leaf},
    state::{head, tile_id},
    unsound,
};
use crate::{
    domain::merkle::{Hash, Place, TILE},
    ports::documents::Snapshot,
    services::{
        Error, Result,
        access::{Access, Action, Caller, Resource},
        export::Export,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use std::{collections::VecDeque, sync::Arc};

/// The format's number.
pub const FORMAT: u64 = 1;

/// The lines, a tile with its entries at a time.
pub struct Lines {
    access: Arc<Access>,
    snapshot: Arc<dyn Snapshot>,
    header: String,
    size: u64,
    /// The next tile; `None` before the header.
    tile: Option<u64>,
    /// Entries and checkpoints read ahead.
    leaves: Ahead<Leaf>,
    notes: Ahead<(u64, String)>,
    /// Where the entries that are not there any more begin.
    pruned: Option<u64>,
    ended: bool,
}

impl Audit {
    pub async fn export(&self, caller: &Caller) -> Result<Lines> {
        self.reader(caller, "export").await?;
        self.record_reading(caller, Event::new("audit.export")).await?;
        // What was done up to this call is in it, where it can be; a log that cannot be sealed must still be seen.
        if let Err(error) = self.seal().await {
            tracing::warn!(%error, "exported as of the last seal");
        }
        let snapshot = self.documents.snapshot().await?;
        let keys: Vec<_> = self.signers().iter().map(ToString::to_string).collect();
        let head = head(&*snapshot)?.ok_or_else(|| unsound("it has no head"))?;
        let header = json!({
            "audit": FORMAT,
            "instance": self.stamp.id,
            "environment": self.stamp.environment.name(),
            "lineage": head.lineage,
            "keys": keys,
            "size": head.size,
            "checkpoint": head.note,
        });
        Ok(Lines {
            access: self.access.clone(),
            header: header.to_string(),
            size: head.size,
            tile: None,
            leaves: Ahead::new(snapshot.clone(), ENTRIES, |document| {
                Leaf::read(document).ok_or_else(|| unsound("an entry is unreadable"))
            }),
            notes: Ahead::new(snapshot.clone(), CHECKPOINTS, |document| {
                let size = document.get_str("_id").ok().and_then(entry::number).unwrap_or(u64::MAX);
                Ok((size, document.get_str("note").map_err(unsound)?.to_owned()))
            }),
            snapshot,
            pruned: None,
            ended: false,
        })
    }
}

impl Lines {
    /// How many entries the log has.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn chunk(&mut self, caller: &Caller) -> Result<Vec<u8>> {
        self.access.decide(caller, Action::View, Resource::Module("audit"))?;
        let mut text = Vec::new();
        let Some(tile) = self.tile else {
            self.tile = Some(0);
            line(&mut text, &self.header);
            self.notes_at(&mut text, 0)?;
            return Ok(text);
        };
        let first = tile * TILE as u64;
        if first >= self.size {
            self.ended = true;
            line(&mut text, &json!({ "end": self.size }).to_string());
            return Ok(text);
        }
        let last = (first + TILE as u64).min(self.size);
        let mut leaves = VecDeque::new();
        while self.leaves.peek()?.is_some_and(|leaf| leaf.index < last) {
            leaves.extend(self.leaves.next()?);
        }
        let hashes = self.hashes(tile, last - first, &leaves)?;
        let hashes = STANDARD.encode(hashes.as_flattened());
        line(&mut text, &json!({ "tile": tile, "hashes": hashes }).to_string());
        for index in first..last {
            match leaves.pop_front_if(|leaf| leaf.index <= index) {
                Some(leaf) => {
                    self.end_pruned(&mut text, index);
                    line(&mut text, &leaf.text);
                }
                None => self.pruned = self.pruned.or(Some(index)),
            }
            if self.notes.peek()?.is_some_and(|(size, _)| *size <= index + 1) {
                self.end_pruned(&mut text, index + 1);
                self.notes_at(&mut text, index + 1)?;
            }
        }
        // A gap is told tile by tile, so that it needs no looking back.
        self.end_pruned(&mut text, last);
        self.tile = Some(tile + 1);
        Ok(text)
    }

    /// As stored when the tile is full; at the right edge, of the entries themselves.
    fn hashes(&self, tile: u64, count: u64, leaves: &VecDeque<Leaf>) -> Result<Vec<Hash>> {
        if count == TILE as u64 {
            let id = tile_id(Place { level: 0, index: tile });
            let before = tile.checked_sub(1).map(|index| tile_id(Place { level: 0, index }));
            let found = self.snapshot.documents(TILES, before.as_deref(), 1)?;
            if let Some(document) =
                found.first().filter(|document| document.get_str("_id").is_ok_and(|found| found == id))
            {
                return Ok(entry::hashes(document.get_binary("hashes").map_err(unsound)?.bytes));
            }
        }
        let mut hashes = vec![[0; 32]; usize::try_from(count).unwrap_or(TILE)];
        for leaf in leaves {
            let place = leaf.index.checked_sub(tile * TILE as u64).and_then(|place| usize::try_from(place).ok());
            if let Some(hash) = place.and_then(|place| hashes.get_mut(place)) {
                *hash = leaf.hash;
            }
        }
        Ok(hashes)
    }

    fn end_pruned(&mut self, text: &mut Vec<u8>, to: u64) {
        if let Some(from) = self.pruned.take() {
            line(text, &json!({ "pruned": { "from": from, "to": to } }).to_string());
        }
    }

    fn notes_at(&mut self, text: &mut Vec<u8>, size: u64) -> Result<()> {
        while self.notes.peek()?.is_some_and(|(at, _)| *at <= size) {
            if let Some((_, note)) = self.notes.next()? {
                line(text, &json!({ "checkpoint": note }).to_string());
            }
        }
        Ok(())
    }
}

fn line(text: &mut Vec<u8>, line: &str) {
    text.extend_from_slice(line.as_bytes());
    text.push(b'\n');
}

impl Export for Lines {
    fn pull(&mut self, caller: &Caller) -> Option<Result<Vec<u8>>> {
        if self.ended {
            return None;
        }
        let chunk = self.chunk(caller);
        self.ended |= chunk.is_err();
        Some(chunk)
    }
}

type Read<T> = fn(&bson::RawDocument) -> Result<T>;

/// A collection's documents in the order of their ids, some read ahead.
struct Ahead<T> {
    snapshot: Arc<dyn Snapshot>,
    collection: &'static str,
    read: Read<T>,
    after: Option<String>,
    held: VecDeque<T>,
    ended: bool,
}

impl<T> Ahead<T> {
    fn new(snapshot: Arc<dyn Snapshot>, collection: &'static str, read: Read<T>) -> Self {
        Self { snapshot, collection, read, after: None, held: VecDeque::new(), ended: false }
    }

    fn peek(&mut self) -> Result<Option<&T>> {
        if self.held.is_empty() && !self.ended {
            let documents = self.snapshot.documents(self.collection, self.after.as_deref(), 2 * TILE)?;
            self.ended = documents.len() < 2 * TILE;
            for document in &documents {
                self.held.push_back((self.read)(document)?);
            }
            if let Some(last) = documents.last() {
                self.after = Some(last.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?.to_owned());
            }
        }
        Ok(self.held.front())
    }

    fn next(&mut self) -> Result<Option<T>> {
        self.peek()?;
        Ok(self.held.pop_front())
    }
}
