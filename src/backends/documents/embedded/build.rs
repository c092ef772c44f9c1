//! Work in the background, a piece in each transaction: filling and checking new indexes, clearing what was dropped,
//! letting old receipts go.

use super::{
    catalog::{Held, HeldIndex, Progress},
    stage::Work,
    tables::{self, Garbage},
};
use crate::{
    base::clock::Timestamp,
    domain::{
        index,
        key::{self, Interval},
        sort::Direction,
    },
    ports::documents::RECEIPTS,
};
use bson::{DateTime, RawBsonRef, RawDocument};
use redb::ReadableTable;
use std::{collections::BTreeSet, sync::Arc};

/// Documents whose entries go into an index in one piece, and their bytes.
const FILL: usize = 500;
const FILL_BYTES: usize = 2 << 20;
/// Bytes of entries that wait to be put in, about: a document may have thousands.
const HELD: usize = 64 << 20;
/// Entries looked at, or cleared, in one piece, and bytes of the documents cleared.
const PIECE: usize = 4000;
const CLEAR_BYTES: usize = 8 << 20;
/// Pairs of doubles a failed build names.
const PAIRS: usize = 10;
/// Receipts let go with one transaction.
const RECEIPTS_AT_ONCE: usize = 64;

/// Whether a piece is waiting.
pub fn waiting(work: &Work<'_>) -> Result<bool, redb::Error> {
    Ok(next_build(work).is_some() || work.tables.garbage.first()?.is_some())
}

/// One piece, if any waits. Answers whether something changed.
pub fn step(work: &mut Work<'_>) -> Result<bool, redb::Error> {
    let Some((name, held, at)) = next_build(work) else { return clear(work) };
    let Some(index) = held.indexes.get(at) else { return Ok(false) };
    match &index.progress {
        Progress::Filling { cursor, .. } => {
            let gathered = gather(&work.tables.documents, held.number, index, cursor, 1)?;
            put(work, &name, at, gathered)?;
        }
        Progress::Checking { cursor, done, total } => {
            let mut next = index.clone();
            check(work, &mut next, cursor, *done, *total)?;
            keep(work, &name, at, next)?;
        }
        Progress::Ready | Progress::Failed { .. } => return Ok(false),
    }
    Ok(true)
}

fn next_build(work: &Work<'_>) -> Option<(String, Arc<Held>, usize)> {
    work.catalog.collections.iter().find_map(|(name, held)| {
        let at = held.indexes.iter().position(|index| index.progress.building())?;
        Some((name.clone(), Arc::clone(held), at))
    })
}

/// The entries of some documents for an index, in order: so each page is laid out once.
pub struct Gathered {
    entries: Vec<(Vec<u8>, u16)>,
    documents: usize,
    /// The last of the documents; `None`: there were no more.
    pub last: Option<String>,
    multikey: u64,
    /// A document the index cannot take, and why.
    pub refused: Option<(String, String)>,
}

/// Of the documents after the cursor, so many times as many as a piece usually has.
pub fn gather(
    documents: &impl ReadableTable<&'static [u8], &'static [u8]>,
    collection: u32,
    index: &HeldIndex,
    cursor: &str,
    times: usize,
) -> Result<Gathered, redb::Error> {
    let mut from = tables::document_key(collection, cursor);
    if !cursor.is_empty() {
        from.push(0);
    }
    let to = tables::document_key(collection + 1, "");
    let (mut bytes, mut held) = (0, 0);
    let mut gathered = Gathered { entries: Vec::new(), documents: 0, last: None, multikey: 0, refused: None };
    for row in documents.range(from.as_slice()..to.as_slice())? {
        let (key, document) = row?;
        let id = tables::document_id(key.value()).unwrap_or_default();
        let Ok(document) = RawDocument::from_bytes(document.value()) else {
            return Err(redb::Error::Corrupted(format!("document {id} is no BSON")));
        };
        let entries = match index::entries(document, &index.index) {
            Ok(entries) => entries,
            Err(fault) => {
                gathered.refused = Some((id.to_owned(), fault.to_string()));
                return Ok(gathered);
            }
        };
        gathered.multikey |= entries.multikey;
        let length = u16::try_from(id.len()).unwrap_or(u16::MAX);
        for entry in entries.keys {
            let entry = [&tables::entry_prefix(index.number, &entry), id.as_bytes()].concat();
            held += entry.len();
            gathered.entries.push((entry, length));
        }
        gathered.documents += 1;
        bytes += document.as_bytes().len();
        gathered.last = Some(id.to_owned());
        if gathered.documents >= FILL * times || bytes >= FILL_BYTES * times || held >= HELD {
            break;
        }
    }
    gathered.entries.sort_unstable();
    Ok(gathered)
}

/// Puts them in; the index is so much further.
pub fn put(work: &mut Work<'_>, name: &str, at: usize, gathered: Gathered) -> Result<(), redb::Error> {
    let Some(mut index) = work.catalog.get(name).and_then(|held| held.indexes.get(at)).cloned() else { return Ok(()) };
    let Progress::Filling { done, total, .. } = index.progress else { return Ok(()) };
    index.multikey |= gathered.multikey;
    index.progress = if gathered.refused.is_some() {
        Progress::Failed { duplicates: Vec::new(), refused: gathered.refused }
    } else {
        for (entry, length) in &gathered.entries {
            work.tables.entries.insert(entry.as_slice(), length)?;
        }
        let done = done + gathered.documents as u64;
        match gathered.last {
            Some(cursor) => Progress::Filling { cursor, done, total: total.max(done) },
            None if index.index.unique => Progress::Checking { cursor: Vec::new(), done: 0, total: done },
            None => Progress::Ready,
        }
    };
    keep(work, name, at, index)
}

fn keep(work: &mut Work<'_>, name: &str, at: usize, index: HeldIndex) -> Result<(), redb::Error> {
    if !index.progress.kept() {
        let key = tables::garbage_key(Garbage::Entries, index.number);
        work.tables.garbage.insert(key.as_slice(), ())?;
    }
    let catalog = Arc::make_mut(&mut work.catalog);
    if let Some(place) = catalog.collections.get_mut(name).and_then(|held| Arc::make_mut(held).indexes.get_mut(at)) {
        *place = index;
    }
    work.save(&BTreeSet::from([name.to_owned()]))
}

/// From the cursor (an entry already seen, met again to compare it with the next) on, entries under one key.
fn check(work: &mut Work<'_>, index: &mut HeldIndex, cursor: &[u8], done: u64, total: u64) -> Result<(), redb::Error> {
    let prefix = index.number.to_be_bytes();
    let from = if cursor.is_empty() { &prefix[..] } else { cursor };
    let to = key::after(&prefix).unwrap_or_else(|| vec![0xff; 5]);
    let mut duplicates = Vec::new();
    let mut last: Option<(Vec<u8>, u16)> = None;
    let (mut seen, mut ended) = (0, true);
    for row in work.tables.entries.range(from..to.as_slice())? {
        let (key, length) = row?;
        let (key, length) = (key.value(), length.value());
        if let Some((other, other_length)) = &last
            && values(other, *other_length) == values(key, length)
            && let (Some(a), Some(b)) = (tables::entry_id(other, *other_length), tables::entry_id(key, length))
        {
            duplicates.push((a.to_owned(), b.to_owned()));
        }
        last = Some((key.to_vec(), length));
        seen += 1;
        if seen > PIECE || duplicates.len() >= PAIRS {
            ended = false;
            break;
        }
    }
    index.progress = match last {
        _ if !duplicates.is_empty() => Progress::Failed { duplicates, refused: None },
        Some((cursor, _)) if !ended => {
            let done = done + seen as u64;
            Progress::Checking { cursor, done, total: total.max(done) }
        }
        _ => Progress::Ready,
    };
    Ok(())
}

/// The key of an entry without its id.
fn values(key: &[u8], length: u16) -> &[u8] {
    key.get(..key.len().saturating_sub(length.into())).unwrap_or_default()
}

/// Clears a piece of what was dropped. Answers whether there was one.
pub fn clear(work: &mut Work<'_>) -> Result<bool, redb::Error> {
    let Some(garbage) = work.tables.garbage.first()?.map(|(key, _)| key.value().to_vec()) else { return Ok(false) };
    let Some((kind, number)) = tables::read_garbage(&garbage) else {
        work.tables.garbage.remove(garbage.as_slice())?;
        return Ok(true);
    };
    let (from, to) = (number.to_be_bytes(), (number + 1).to_be_bytes());
    let mut keys = Vec::with_capacity(PIECE);
    let mut bytes = 0;
    match kind {
        Garbage::Documents => {
            for row in work.tables.documents.range(&from[..]..&to[..])?.take(PIECE) {
                let (key, document) = row?;
                keys.push(key.value().to_vec());
                bytes += document.value().len();
                if bytes >= CLEAR_BYTES {
                    break;
                }
            }
            for key in &keys {
                work.tables.documents.remove(key.as_slice())?;
            }
        }
        Garbage::Entries => {
            for row in work.tables.entries.range(&from[..]..&to[..])?.take(PIECE) {
                keys.push(row?.0.value().to_vec());
            }
            for key in &keys {
                work.tables.entries.remove(key.as_slice())?;
            }
        }
    }
    if keys.len() < PIECE && bytes < CLEAR_BYTES {
        work.tables.garbage.remove(garbage.as_slice())?;
        if kind == Garbage::Documents {
            work.tables.counts.remove(number)?;
            work.counts.remove(&number);
        }
    }
    Ok(true)
}

/// Lets the oldest receipts go that expired.
pub fn expire(work: &mut Work<'_>, now: Timestamp) -> Result<bool, redb::Error> {
    let Some(held) = work.catalog.get(RECEIPTS).cloned() else { return Ok(false) };
    let Some(index) = held.indexes.first() else { return Ok(false) };
    let prefix = tables::entry_prefix(index.number, &[key::VERSION]);
    let until = Interval::below(RawBsonRef::DateTime(DateTime::from_millis(now.0)), true);
    let (from, to) = until.bounds(&prefix, Direction::Ascending);
    let to = to.unwrap_or_else(|| vec![0xff; 5]);
    let mut gone = Vec::new();
    for row in work.tables.entries.range(from.as_slice()..to.as_slice())?.take(RECEIPTS_AT_ONCE) {
        let (key, length) = row?;
        let id = tables::entry_id(key.value(), length.value()).unwrap_or_default();
        gone.push((key.value().to_vec(), tables::document_key(held.number, id)));
    }
    for (entry, document) in &gone {
        work.tables.entries.remove(entry.as_slice())?;
        work.tables.documents.remove(document.as_slice())?;
    }
    if gone.is_empty() {
        return Ok(false);
    }
    let count = work.counts.entry(held.number).or_default();
    *count = count.saturating_sub(gone.len() as u64);
    work.tables.counts.insert(held.number, *count)?;
    Ok(true)
}
