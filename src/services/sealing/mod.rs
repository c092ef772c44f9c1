//! The keys of the people documents are about: a store of their own, apart from the documents, so that one key can be
//! destroyed everywhere by a date that is known. What seals and opens their fields.

mod cipher;

use super::{Error, Result};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random,
    },
    domain::sealing::Sealing,
    ports::{
        self,
        documents::{
            Batch, COLLECTIONS, Change, Conflict, Documents, Expect, Operation, Origin, Retention, Sequence, Snapshot,
        },
    },
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use cipher::{Hashing, Key};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};
use zeroize::Zeroizing;

pub use cipher::{Keys, Sealer};

/// In the subjects' store: a key by the subject's id.
pub const SUBJECTS: &str = "system.subjects";
/// In the subjects' store: what equal values are found by.
const HASHING: &str = "system.hashing";
const FIELDS: &str = "fields";
/// In the subjects' store: whom to forget, under way or done, so that a backup restored later forgets again.
pub const ERASURES: &str = "system.erasures";

/// A key that is not at hand: it is fetched or made, and the write tried again.
const WANTED: &str = "sealing.key_wanted";
/// Keys held in memory; past them all are fetched anew.
const MOST_HELD: usize = 100_000;
/// Keys made in one commit.
const AT_ONCE: usize = 500;
/// How often a write is tried whose subjects show only inside it.
const MOST_TRIES: usize = 100;

/// What is known of a subject's key.
#[derive(Clone)]
enum Held {
    Key(Arc<Key>),
    /// There is none.
    None,
    /// It is being destroyed: nothing new is sealed under it.
    Ending,
}

pub struct Seals {
    store: Arc<dyn Documents>,
    clock: SharedClock,
    hashing: Arc<Hashing>,
    memory: RwLock<Memory>,
}

#[derive(Default)]
struct Memory {
    held: HashMap<String, Held>,
    /// By subject, how often an erasure began or came to its end: what was read or made before the last time may be of
    /// a key destroyed since.
    erasures: HashMap<String, u64>,
}

impl Seals {
    /// Over the subjects' store, furnished where it is new.
    pub async fn open(store: Arc<dyn Documents>, clock: SharedClock) -> Result<Self> {
        let mut operations = Vec::new();
        for name in [SUBJECTS, HASHING, ERASURES] {
            if store.describe(name).await?.is_none() {
                operations.push(put(COLLECTIONS, name, rawdoc! {}));
            }
        }
        // Whatever else is missing: another secret would leave nothing to be found by the hashes there are.
        let hashing = match store.get(HASHING, FIELDS).await? {
            Some(kept) => Hashing::read(&kept)?,
            None => {
                let secret = Zeroizing::new(random::array());
                operations.push(put(HASHING, FIELDS, rawdoc! { "secret": binary(&secret[..]) }));
                Hashing::new(&secret)
            }
        };
        if !operations.is_empty() {
            commit(&*store, clock.now(), operations).await?;
        }
        Ok(Self { store, clock, hashing: Arc::new(hashing), memory: RwLock::default() })
    }

    /// Everything in it, for a backup of its own.
    pub async fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        Ok(self.store.snapshot().await?)
    }

    pub async fn close(&self) -> Result<()> {
        Ok(self.store.close().await?)
    }

    /// The keys of these subjects, as they are now.
    pub async fn keys(&self, subjects: HashSet<String>) -> Result<Keys> {
        let mut keys = HashMap::with_capacity(subjects.len());
        for subject in subjects {
            let key = match self.fetch(&subject).await? {
                Held::Key(key) => Some(key),
                Held::None | Held::Ending => None,
            };
            keys.insert(subject, key);
        }
        Ok(Keys::new(keys, self.hashing.clone()))
    }

    /// What hashes, and opens nothing.
    pub fn hashes(&self) -> Keys {
        Keys::new(HashMap::new(), self.hashing.clone())
    }

    /// Documents of a collection as people read them.
    pub async fn opened(&self, sealing: &Sealing, documents: Vec<RawDocumentBuf>) -> Result<Vec<RawDocumentBuf>> {
        if sealing.is_nothing() {
            return Ok(documents);
        }
        let mut subjects = HashSet::new();
        for document in &documents {
            subjects.extend(sealing.subject_of(document).map(str::to_owned));
        }
        let keys = self.keys(subjects).await?;
        documents.iter().map(|document| sealing.open(document, &keys).map_err(damaged)).collect()
    }

    /// Commits what `sealer` seals; `subjects` are those that show before.
    pub(super) async fn commit(
        &self,
        documents: &dyn Documents,
        subjects: HashSet<String>,
        batch: Batch,
        sealer: &Sealer,
    ) -> ports::Result<ports::documents::Committed> {
        for subject in &subjects {
            self.fetch(subject).await?;
        }
        let mut tries = 0;
        loop {
            let committed = documents.commit(batch.clone()).await;
            let wanted = sealer.take();
            match &committed {
                Err(ports::Error::Rejected(fault)) if fault.key == WANTED && tries < MOST_TRIES => {
                    // One that is to be opened and not at hand; or, all else judged, those to be made.
                    match fault.params.iter().find(|(name, _)| *name == "subject") {
                        Some((_, subject)) => drop(self.fetch(subject).await?),
                        None => self.make(wanted).await?,
                    }
                }
                _ => return committed,
            }
            tries += 1;
        }
    }

    /// From memory or from the store.
    async fn fetch(&self, subject: &str) -> ports::Result<Held> {
        loop {
            let erasures = self.erasures(subject);
            if let Some(held) = self.known(subject) {
                return Ok(held);
            }
            let held = match self.store.get(SUBJECTS, subject).await? {
                Some(kept) => Held::Key(Arc::new(Key::read(&kept)?)),
                None => Held::None,
            };
            if let Some(held) = self.remember(subject, held, erasures) {
                return Ok(held);
            }
        }
    }

    /// Durable on return.
    async fn make(&self, subjects: HashSet<String>) -> ports::Result<()> {
        let mut missing = Vec::new();
        for subject in subjects {
            let erasures = self.erasures(&subject);
            if let Held::None = self.fetch(&subject).await? {
                missing.push((subject, erasures));
            }
        }
        for subjects in missing.chunks(AT_ONCE) {
            let keys: Vec<_> = subjects.iter().map(|subject| (subject, Key::random())).collect();
            let operation = |((subject, _), key): &(&(String, u64), Key)| Operation {
                expect: Expect::Absent,
                ..put(SUBJECTS, subject, key.document())
            };
            match commit(&*self.store, self.clock.now(), keys.iter().map(operation).collect()).await {
                Ok(()) => {
                    for ((subject, erasures), key) in keys {
                        self.found(subject, key, *erasures);
                    }
                }
                // Another writer made one of them first: each on its own.
                Err(ports::Error::Conflict(Conflict::Exists { .. })) => {
                    for (subject, _) in subjects {
                        self.make_one(subject).await?;
                    }
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    async fn make_one(&self, subject: &str) -> ports::Result<()> {
        let (key, erasures) = (Key::random(), self.erasures(subject));
        let operation = Operation { expect: Expect::Absent, ..put(SUBJECTS, subject, key.document()) };
        match commit(&*self.store, self.clock.now(), vec![operation]).await {
            Ok(()) => self.found(subject, key, erasures),
            Err(ports::Error::Conflict(Conflict::Exists { .. })) => {
                if let Some(kept) = self.store.get(SUBJECTS, subject).await? {
                    self.found(subject, Key::read(&kept)?, erasures);
                }
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Whether there is a key for this subject, or was one until its erasure began.
    pub(super) async fn knows(&self, subject: &str) -> Result<bool> {
        Ok(!matches!(self.fetch(subject).await?, Held::None))
    }

    /// From here on nothing more is sealed for this subject, and nothing of it opened.
    pub(super) fn bar(&self, subject: &str) {
        let mut memory = self.memory();
        memory.held.insert(subject.to_owned(), Held::Ending);
        memory.count(subject);
    }

    /// The subject may have another key again.
    pub(super) fn unbar(&self, subject: &str) {
        let mut memory = self.memory();
        memory.held.remove(subject);
        memory.count(subject);
    }

    /// Destroys the key of a barred subject, and every image of it in the journal.
    pub(super) async fn destroy(&self, subject: &str) -> Result<()> {
        let now = self.clock.now();
        if self.store.get(SUBJECTS, subject).await?.is_some() {
            let (collection, id) = (SUBJECTS.to_owned(), subject.to_owned());
            let operation = Operation { collection, id, expect: Expect::Any, change: Change::Delete };
            match commit(&*self.store, now, vec![operation]).await {
                Ok(()) | Err(ports::Error::Conflict(Conflict::Missing { .. })) => {}
                Err(other) => return Err(other.into()),
            }
        }
        // Whatever the clock said when they were written.
        let all = Timestamp(i64::MAX);
        let everything = Retention { older_than: all, most_bytes: 0, keep_from: all, keep_after: Sequence::END };
        self.store.trim(everything).await?;
        Ok(())
    }

    /// The record of an erasure, kept or changed.
    pub(super) async fn note(&self, id: &str, record: RawDocumentBuf) -> Result<()> {
        Ok(commit(&*self.store, self.clock.now(), vec![put(ERASURES, id, record)]).await?)
    }

    /// The records of every erasure, the oldest first.
    pub(super) async fn notes(&self) -> Result<Vec<RawDocumentBuf>> {
        super::documents::all(&*self.store, ERASURES, crate::domain::filter::Filter::all()).await
    }

    /// Unless it may be gone by now: then the store is asked.
    fn found(&self, subject: &str, key: Key, erasures: u64) {
        let mut memory = self.memory();
        if memory.erasures(subject) == erasures && !matches!(memory.held.get(subject), Some(Held::Ending)) {
            memory.held.insert(subject.to_owned(), Held::Key(Arc::new(key)));
        }
    }

    fn known(&self, subject: &str) -> Option<Held> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).held.get(subject).cloned()
    }

    /// Changes when an erasure of this subject begins and when it ends.
    pub(super) fn erasures(&self, subject: &str) -> u64 {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).erasures(subject)
    }

    /// What was read does not undo what came to be known meanwhile; `None`: it may be of a key that is gone.
    fn remember(&self, subject: &str, read: Held, erasures: u64) -> Option<Held> {
        let mut memory = self.memory();
        if memory.erasures(subject) != erasures {
            return None;
        }
        if memory.held.len() >= MOST_HELD {
            memory.held.retain(|_, held| matches!(held, Held::Ending));
        }
        Some(memory.held.entry(subject.to_owned()).or_insert(read).clone())
    }

    fn memory(&self) -> std::sync::RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn erasures(&self, subject: &str) -> u64 {
        self.erasures.get(subject).copied().unwrap_or_default()
    }

    fn count(&mut self, subject: &str) {
        *self.erasures.entry(subject.to_owned()).or_default() += 1;
    }
}

async fn commit(store: &dyn Documents, time: Timestamp, operations: Vec<Operation>) -> ports::Result<()> {
    let origin = Origin { actor: "system".to_owned(), ..Origin::default() };
    store.commit(Batch { time, origin, operations, check: None, receipt: None }).await.map(drop)
}

fn put(collection: &str, id: &str, document: RawDocumentBuf) -> Operation {
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Operation { collection, id, expect: Expect::Any, change: Change::Put(document) }
}

fn binary(bytes: &[u8]) -> bson::Binary {
    bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn bytes<const N: usize>(document: &RawDocument, field: &str) -> Option<[u8; N]> {
    document.get_binary(field).ok().and_then(|binary| binary.bytes.try_into().ok())
}

/// What does not open although its key is there.
fn damaged(fault: Fault) -> Error {
    Error::Corrupt(fault.to_string())
}

#[cfg(test)]
mod tests;
