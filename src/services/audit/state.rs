//! Where the log stands: what of the journal is sealed, and the right edge of the tree. Read back from the store.

use super::{
    Audit, CHECKPOINTS, ENTRIES, TILES,
    entry::{self, Leaf},
    unsound,
};
use crate::{
    base::clock::Timestamp,
    domain::{
        document::revision,
        filter::Filter,
        merkle::{Edge, Hash, Place, TILE, fold},
        sort::Sort,
    },
    ports::documents::{Query, Sequence, Snapshot},
    services::Result,
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use std::sync::Arc;

/// The document that says it, in the collection of checkpoints.
pub const HEAD: &str = "head";

#[derive(Debug, Clone)]
pub struct State {
    pub edge: Edge,
    /// What of the journal is sealed, or tells nothing.
    pub position: Sequence,
    pub lineage: u32,
    /// Of the signing key.
    pub key: u32,
    /// The newest checkpoint, signed; empty before the first.
    pub note: String,
    /// The document's own revision; `None` before the first seal.
    pub revision: Option<i64>,
}

impl State {
    pub fn document(&self, at: Timestamp) -> Result<RawDocumentBuf> {
        let number = |number: u64| i64::try_from(number).map_err(unsound);
        Ok(rawdoc! {
            "size": number(self.edge.size())?,
            "position": number(self.position.0)?,
            "lineage": i64::from(self.lineage),
            "key": i64::from(self.key),
            "note": self.note.as_str(),
            "at": bson::DateTime::from_millis(at.0),
        })
    }
}

/// The head's own fields.
pub struct Head {
    pub size: u64,
    pub position: Sequence,
    pub lineage: u32,
    pub key: u32,
    pub note: String,
    pub revision: Option<i64>,
}

impl Head {
    pub fn read(document: &RawDocument) -> Result<Self> {
        let number = |name: &str| document.get_i64(name).map_err(unsound).map(i64::cast_unsigned);
        let small = |name: &str| u32::try_from(number(name)?).map_err(unsound);
        Ok(Self {
            size: number("size")?,
            position: Sequence(number("position")?),
            lineage: small("lineage")?,
            key: small("key")?,
            note: document.get_str("note").map_err(unsound)?.to_owned(),
            revision: revision(document),
        })
    }
}

/// Where the log of a snapshot stands; `None` before the first seal.
pub fn head(snapshot: &dyn Snapshot) -> Result<Option<Head>> {
    let found = snapshot.documents(CHECKPOINTS, Some(&entry::id(u64::MAX)), 1)?;
    let head = found.iter().find(|document| document.get_str("_id").is_ok_and(|id| id == HEAD));
    head.map(|document| Head::read(document)).transpose()
}

/// The id of a tile.
pub fn tile_id(place: Place) -> String {
    format!("{:02}/{}", place.level, entry::id(place.index))
}

impl Audit {
    pub(super) async fn load(&self) -> Result<State> {
        let Some(head) = self.documents.get(CHECKPOINTS, HEAD).await? else {
            let (lineage, key, note) = (0, 0, String::new());
            return Ok(State { edge: Edge::default(), position: Sequence(0), lineage, key, note, revision: None });
        };
        let Head { size, position, lineage, key, note, revision } = Head::read(&head)?;
        let mut levels = Vec::new();
        for (level, count) in Edge::shape(size).into_iter().enumerate() {
            levels.push(match level {
                0 => self.last_leaves(size, count).await?,
                _ => self.roots(level, size >> (8 * level), count).await?,
            });
        }
        let edge = Edge::new(size, levels).ok_or_else(|| unsound("entries or tiles are missing at its end"))?;
        Ok(State { edge, position, lineage, key, note, revision })
    }

    /// The hashes of the last leaves.
    async fn last_leaves(&self, size: u64, count: usize) -> Result<Vec<Hash>> {
        let first = size.saturating_sub(count as u64);
        let filter = Filter::parse(&rawdoc! { "_id": { "$gte": entry::id(first) } });
        let filter = Arc::new(filter.map_err(crate::services::Error::Invalid)?);
        let (mut hashes, mut after) = (Vec::with_capacity(count), None);
        while hashes.len() < count {
            let (collection, sort) = (ENTRIES.to_owned(), Sort::default());
            let query = Query { collection, filter: filter.clone(), sort, limit: TILE, after };
            let page = self.documents.find(query).await?;
            for document in &page.documents {
                let leaf = Leaf::read(document).ok_or_else(|| unsound("an entry is unreadable"))?;
                if leaf.index != first + hashes.len() as u64 {
                    return Err(unsound(format!("entry {} is missing", first + hashes.len() as u64)));
                }
                hashes.push(leaf.hash);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(hashes)
    }

    /// The roots of the last full tiles below a level, of which there are `all` in the tree.
    async fn roots(&self, level: usize, all: u64, count: usize) -> Result<Vec<Hash>> {
        let mut roots = Vec::with_capacity(count);
        for index in all.saturating_sub(count as u64)..all {
            let tile = self.tile(Place { level: level as u32 - 1, index }).await?;
            roots.push(fold(&tile).ok_or_else(|| unsound("a tile is empty"))?);
        }
        Ok(roots)
    }

    /// A full tile.
    pub(super) async fn tile(&self, place: Place) -> Result<Vec<Hash>> {
        let id = tile_id(place);
        let missing = || unsound(format!("tile {id} is missing"));
        let document = self.documents.get(TILES, &id).await?.ok_or_else(missing)?;
        let hashes = entry::hashes(document.get_binary("hashes").map_err(unsound)?.bytes);
        if hashes.len() == TILE { Ok(hashes) } else { Err(missing()) }
    }
}
