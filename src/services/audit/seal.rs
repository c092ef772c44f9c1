//! The sealer: takes what the journal tells since the last time into the tree and signs the new checkpoint, in one
//! commit. Killed at any moment, it goes on from its last commit: no entry is lost or told twice.

use super::{
    Audit, CHECKPOINTS, ENTRIES, PENDING, TILES,
    conceal::Known,
    derive,
    entry::{self, Entry, Leaf, Outcome},
    event::Event,
    state::{HEAD, State, tile_id},
    unsound,
};
use crate::{
    base::clock::Timestamp,
    domain::{
        checkpoint::{Checkpoint, Note, Signer},
        merkle::{Full, TILE},
    },
    ports::documents::{Change, Expect, Operation},
    services::{Result, access::Caller, keyring::Purpose},
};
use bson::{RawDocumentBuf, rawdoc};
use serde_json::{Value, json};
use std::sync::{MutexGuard, PoisonError, atomic::Ordering};

/// Entries of one commit, and bytes of their texts: with the events they were and their tiles they stay below what a
/// batch may hold.
const MOST_ENTRIES: usize = 400;
const MOST_BYTES: usize = 2 << 20;
/// About what an entry takes beside what it was told.
const OVERHEAD: usize = 1 << 10;
/// About how many bytes of records are held at once, and how many at most.
const CHUNK: usize = 4 << 20;
const MOST_RECORDS: usize = 400;

/// What goes into one commit.
#[derive(Default)]
struct Gathered {
    entries: Vec<(Entry, Timestamp)>,
    bytes: usize,
    /// Events that leave the waiting room.
    pending: Vec<String>,
    /// The time of the last record read; `None`: the journal was read to its end.
    until: Option<Timestamp>,
}

struct Sealed {
    entries: u64,
    until: Option<Timestamp>,
}

impl Audit {
    /// Seals all there is. Answers how many entries that made.
    pub async fn seal(&self) -> Result<u64> {
        let mut sealed = 0;
        loop {
            let asked = self.clock.now();
            let Sealed { entries, until } = self.seal_some().await?;
            sealed += entries;
            self.sealed.store(until.unwrap_or(asked).0, Ordering::Relaxed);
            if until.is_none() {
                return Ok(sealed);
            }
        }
    }

    /// One commit. Who reads the log gets a turn between two.
    async fn seal_some(&self) -> Result<Sealed> {
        let mut held = self.state.lock().await;
        // Left empty by an error: what the store then holds is read anew.
        let mut state = match held.take() {
            Some(state) => state,
            None => self.load().await?,
        };
        let gathered = self.gather(&mut state).await?;
        let (entries, until) = (gathered.entries.len() as u64, gathered.until);
        if entries > 0 {
            self.append(&mut state, gathered).await?;
        }
        *held = Some(state);
        Ok(Sealed { entries, until })
    }

    /// Seals all there is, told floods included, and leaves the witnesses their checkpoint: before a stop.
    pub async fn finish(&self) -> Result<()> {
        let told = self.tell_repeats(true).await;
        // What is on disk is sealed whatever cannot be told.
        self.seal().await?;
        if let Some(fault) = self.witness_last().await? {
            tracing::warn!(%fault, "stopped with a witness behind");
        }
        told
    }

    /// Tells how often went on what was told once, and what is owed.
    pub async fn tell_repeats(&self, all: bool) -> Result<()> {
        let due = self.repeats().due(self.clock.now(), all);
        for due in due {
            self.record(&due.caller, due.event.clone()).await?;
            self.repeats().told(&due);
        }
        // Let go once it is on disk: cut short, it is told twice sooner than never.
        loop {
            let first = self.owed().first().cloned();
            let Some((caller, event)) = first else { return Ok(()) };
            self.record(&caller, event).await?;
            self.owed().remove(0);
        }
    }

    fn owed(&self) -> MutexGuard<'_, Vec<(Caller, Event)>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn gather(&self, state: &mut State) -> Result<Gathered> {
        let mut gathered = Gathered::default();
        let now = self.clock.now();
        if state.lineage != self.stamp.lineage {
            gathered.entries.push((self.epoch(state)?, now));
        }
        let key = self.keyring.current(Purpose::AuditSigning);
        if state.key != 0 && state.key != key.version {
            let signer = self.signers().last().map(ToString::to_string).unwrap_or_default();
            gathered.entries.push((own("audit.key", json!({ "version": key.version, "key": signer })), now));
        }
        (state.lineage, state.key) = (self.stamp.lineage, key.version);
        let (mut rows, mut known) = (16, Known::default());
        while gathered.entries.len() < MOST_ENTRIES {
            rows = rows.min(MOST_ENTRIES - gathered.entries.len());
            let records = self.documents.records(state.position, rows).await?;
            let mut bytes = 1;
            for record in &records {
                if gathered.bytes > MOST_BYTES {
                    return Ok(gathered);
                }
                state.position = record.sequence;
                gathered.until = Some(record.time);
                bytes += record.weight();
                let Some(mut entry) = derive::entry(record, &self.pseudonyms)? else { continue };
                self.conceal(&mut entry, &mut known).await?;
                gathered.entries.push((entry, record.time));
                gathered.bytes += OVERHEAD;
                if record.collection == PENDING {
                    gathered.bytes += record.weight();
                    gathered.pending.push(record.id.clone());
                }
            }
            if records.len() < rows {
                gathered.until = None;
                break;
            }
            rows = (CHUNK / (bytes / records.len()).max(1)).clamp(1, MOST_RECORDS);
        }
        Ok(gathered)
    }

    /// The first entry of a lineage: what it continues.
    fn epoch(&self, state: &State) -> Result<Entry> {
        let mut details = json!({
            "instance": self.stamp.id,
            "environment": self.stamp.environment.name(),
            "lineage": self.stamp.lineage,
            "key": self.signers().last().map(ToString::to_string).unwrap_or_default(),
        });
        if state.edge.size() > 0 {
            let note: Note = state.note.parse().map_err(|()| unsound("its last checkpoint is unreadable"))?;
            let Checkpoint { origin, size, root } = note.checkpoint;
            if (size, root) != (state.edge.size(), state.edge.root()) {
                return Err(unsound("its last checkpoint is of another tree"));
            }
            details["continues"] =
                json!({ "origin": origin, "lineage": state.lineage, "size": size, "root": hex::encode(root) });
        }
        Ok(own("audit.epoch", details))
    }

    /// One commit: the leaves, the tiles they fill, the events they were, the checkpoint, the head.
    async fn append(&self, state: &mut State, gathered: Gathered) -> Result<()> {
        let now = self.clock.now();
        let before = state.edge.size();
        let ended_lineage = (before > 0
            && gathered.entries.first().is_some_and(|(entry, _)| entry.action == "audit.epoch"))
        .then(|| state.note.clone());
        let mut operations = Vec::new();
        let mut full = Vec::new();
        for (mut entry, at) in gathered.entries {
            entry.index = state.edge.size();
            if entry.time.is_empty() {
                entry.time = at.rfc3339();
            }
            let leaf = Leaf::new(&entry)?;
            operations.push(put(ENTRIES, &entry::id(entry.index), Expect::Absent, leaf.document(&entry, at)));
            state.edge.append(leaf.hash, |tile| full.push(tile));
        }
        for Full { place, hashes } in full {
            let tile = rawdoc! { "hashes": entry::bytes(hashes.as_flattened()) };
            operations.push(put(TILES, &tile_id(place), Expect::Absent, tile));
        }
        for id in gathered.pending {
            let collection = PENDING.to_owned();
            operations.push(Operation { collection, id, expect: Expect::Present, change: Change::Delete });
        }
        let size = state.edge.size();
        state.note = self.sign(state)?;
        let kept = |size: u64, note: &str| {
            let note = rawdoc! { "note": note, "at": bson::DateTime::from_millis(now.0) };
            put(CHECKPOINTS, &entry::id(size), Expect::Any, note)
        };
        // One checkpoint a tile is enough to say where a change is; the last of a lineage is what the next continues.
        if before / TILE as u64 != size / TILE as u64 {
            operations.push(kept(size, &state.note));
        }
        if let Some(note) = ended_lineage {
            operations.push(kept(before, &note));
        }
        let expect = state.revision.map_or(Expect::Absent, Expect::Revision);
        operations.push(put(CHECKPOINTS, HEAD, expect, state.document(now)?));
        self.commit(&Caller::system(), operations).await?;
        state.revision = Some(state.revision.map_or(1, |revision| revision + 1));
        Ok(())
    }

    /// By the key in use, and by the one before it: who checks the log has until the next rotation to learn the new one.
    fn sign(&self, state: &State) -> Result<String> {
        let (origin, size, root) = (self.origin(state.lineage), state.edge.size(), state.edge.root());
        let checkpoint = Checkpoint { origin, size, root };
        let keys: Vec<_> = self.keyring.versions(Purpose::AuditSigning).collect();
        let mut note = format!("{checkpoint}\n");
        for key in keys.iter().rev().take(2) {
            let signer = Signer::new(&self.name(), &key.public).ok_or_else(|| unsound("its key has no sound name"))?;
            note.push_str(&checkpoint.signature(&signer, |text| key.signer().sign(text).as_ref().to_vec()));
        }
        Ok(note)
    }
}

fn own(action: &str, details: Value) -> Entry {
    let details = match details {
        Value::Object(details) => Some(details),
        _ => None,
    };
    Entry { details, ..Entry::new(action.to_owned(), Outcome::Allowed) }
}

fn put(collection: &str, id: &str, expect: Expect, document: RawDocumentBuf) -> Operation {
    Operation { collection: collection.to_owned(), id: id.to_owned(), expect, change: Change::Put(document) }
}
