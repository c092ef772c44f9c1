//! A restored copy held against the living instance, without a document leaving either: counts as they were at the
//! copy's point, and digests of documents that nobody changed since.

use super::Drills;
use crate::{
    base::{clock::Timestamp, fault::Fault},
    ports::documents::{Action as Did, COLLECTIONS, RECEIPTS, Record, Sequence, Snapshot},
    services::{
        Error, Result,
        access::{Action, Caller, Resource},
        backups::restore::Anchor,
        instance::Stamp,
    },
};
use bson::RawDocument;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Documents asked about at once.
pub const MOST_SAMPLES: usize = 10_000;
/// Records read at once.
const CHUNK: usize = 500;

/// A document of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub collection: String,
    pub id: String,
    pub digest: String,
}

impl Sample {
    pub fn of(collection: &str, document: &RawDocument) -> Self {
        let id = document.get_str("_id").unwrap_or_default().to_owned();
        Self { collection: collection.to_owned(), id, digest: digest(document) }
    }
}

/// Where the copy ends, and some of it.
#[derive(Debug, Clone, Default)]
pub struct Copied {
    pub lineage: u32,
    pub sequence: Sequence,
    pub samples: Vec<Sample>,
}

impl Copied {
    pub fn new(lineage: u32, sequence: u64, samples: Vec<Sample>) -> Self {
        Self { lineage, sequence: Sequence(sequence), samples }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Where the living one stands.
    pub lineage: u32,
    pub sequence: Sequence,
    /// Of its newest change.
    pub time: Option<Timestamp>,
    /// The newest backup it knows of.
    pub anchor: Option<Anchor>,
    /// `None`: the copy is of another lineage, or of before what the journal keeps.
    pub held: Option<Held>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Documents of each collection as of the copy's point; not of those dropped since.
    pub counts: BTreeMap<String, u64>,
    pub equal: u64,
    /// Changed since: nothing can be said.
    pub changed: u64,
    /// Collection and id of those that should be equal and are not.
    pub different: Vec<(String, String)>,
}

/// What happened since the copy's point.
#[derive(Default)]
struct Since {
    touched: HashSet<(String, String)>,
    counts: BTreeMap<String, i64>,
    dropped: BTreeSet<String>,
    time: Option<Timestamp>,
}

impl Since {
    fn record(&mut self, record: Record) {
        self.time = Some(record.time);
        let change = match record.action {
            Did::Create => 1,
            Did::Update => 0,
            Did::Delete => -1,
        };
        *self.counts.entry(record.collection.clone()).or_default() += change;
        if record.collection == COLLECTIONS && record.action != Did::Update {
            self.dropped.insert(record.id.clone());
        }
        self.touched.insert((record.collection, record.id));
    }
}

impl Drills {
    /// Holds a copy against what is here.
    pub async fn compare(&self, caller: &Caller, copied: Copied) -> Result<Compared> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        if copied.samples.len() > MOST_SAMPLES {
            return Err(Error::Invalid(Fault::new("drills.samples").at("samples").with("limit", MOST_SAMPLES)));
        }
        // Before the snapshot: what changes in between stands in the journal it shows.
        let mut found = Vec::with_capacity(copied.samples.len());
        for Sample { collection, id, .. } in &copied.samples {
            found.push(self.documents.get(collection, id).await?.map(|document| digest(&document)));
        }
        let (snapshot, stamp) = (self.documents.snapshot().await?, self.stamp.clone());
        let compare = move || compare(&*snapshot, &stamp, &copied, &found);
        tokio::task::spawn_blocking(compare).await.map_err(|error| Error::Internal(Box::new(error)))?
    }
}

fn compare(snapshot: &dyn Snapshot, stamp: &Stamp, copied: &Copied, found: &[Option<String>]) -> Result<Compared> {
    let lineage = stamp.lineage;
    let anchor = Anchor::newest(&stamp.id, snapshot)?;
    let sequence = snapshot.sequence();
    let newest = snapshot.records(Sequence(sequence.0.saturating_sub(1)), 1)?;
    let time = newest.first().map(|record| record.time);
    let compared = Compared { lineage, sequence, time, anchor, held: None };
    if copied.lineage != lineage || copied.sequence > sequence {
        return Ok(compared);
    }
    let (mut since, mut after) = (Since::default(), copied.sequence);
    while after < sequence {
        let records = snapshot.records(after, CHUNK)?;
        if records.first().is_none_or(|first| first.sequence.0 != after.0 + 1) {
            return Ok(compared);
        }
        for record in records {
            after = record.sequence;
            since.record(record);
        }
    }
    let mut held = Held::default();
    let names = snapshot.collections()?.into_iter();
    for name in names.filter(|name| name != RECEIPTS && !since.dropped.contains(name)) {
        let change = since.counts.get(&name).copied().unwrap_or_default();
        held.counts.insert(name.clone(), snapshot.count(&name)?.saturating_add_signed(-change));
    }
    for (Sample { collection, id, digest }, found) in copied.samples.iter().zip(found) {
        let name = (collection.clone(), id.clone());
        if since.touched.contains(&name) || since.dropped.contains(collection) {
            held.changed += 1;
        } else if found.as_ref() == Some(digest) {
            held.equal += 1;
        } else {
            held.different.push(name);
        }
    }
    Ok(Compared { held: Some(held), ..compared })
}

fn digest(document: &RawDocument) -> String {
    hex::encode(Sha256::digest(document.as_bytes()))
}
