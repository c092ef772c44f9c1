//! The audit log: who did what, when, where, why, with which result; in a Merkle tree under signed checkpoints.
//!
//! ```text
//! an action ─► one commit: what it changes, and its event in `system.pending` ─► the journal
//! the sealer, each half second: journal ─► entries ─► one commit: leaves, full tiles, the signed head
//! ```

mod conceal;
mod derive;
mod entry;
mod event;
mod export;
mod pseudonyms;
mod read;
mod repeats;
mod retention;
mod seal;
mod state;
mod verify;
mod witness;

pub use entry::{Entry, Outcome};
pub(super) use event::grounds;
pub use event::{Event, MOST_DOCUMENTS};
pub use export::Lines;
pub use pseudonyms::Pseudonyms;
pub use read::{Found, Proof, Search, newest};
pub use verify::{Kind, Restored, Verdict, Verifier, Wrong, verify_proof};
pub use witness::Place;

use super::{
    Error, Result,
    access::{Access, Caller},
    instance::Stamp,
    keyring::Keyring,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        config::Secret,
        random,
    },
    domain::checkpoint::Signer,
    ports::{
        documents::{Batch, Change, Documents, Expect, Operation},
        web::Web,
    },
    services::keyring::Purpose,
};
use bson::{RawDocumentBuf, rawdoc};
use entry::DOCUMENTS;
use repeats::Repeats;
use state::State;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicI64, Ordering},
};
use witness::Witnessed;

/// Entries, one a document, by index.
pub const ENTRIES: &str = "system.audit";
/// Events on their way into the log.
pub const PENDING: &str = "system.pending";
/// Full tiles, by level and index.
pub const TILES: &str = "system.tiles";
/// The head, and the checkpoint that completed each tile or ended a lineage.
pub const CHECKPOINTS: &str = "system.checkpoints";

/// Readings that may wait for a disk that takes writes again.
const MOST_OWED: usize = 1000;

/// What the log is told by its configuration.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where the newest checkpoint is left for others to hold against the log.
    pub witness: Vec<Place>,
    /// What servers among them know us by.
    pub token: Option<Secret>,
    /// 0: entries stay for good.
    pub keep_days: u32,
}

pub struct Audit {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    stamp: Stamp,
    keyring: Arc<Keyring>,
    pseudonyms: Pseudonyms,
    settings: Settings,
    access: Arc<Access>,
    /// As of the last seal; `None` until it is read, or when the last seal's outcome is not known.
    state: tokio::sync::Mutex<Option<State>>,
    repeats: Mutex<Repeats>,
    /// Readings while nothing could be written.
    owed: Mutex<Vec<(Caller, Event)>>,
    /// When everything recorded was last sealed, in milliseconds.
    sealed: AtomicI64,
    /// One for each of the settings.
    witnessed: Mutex<Vec<Witnessed>>,
    /// The way to servers; `None`: there is none among the witnesses.
    web: Option<Arc<dyn Web>>,
}

impl Audit {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        stamp: Stamp,
        keyring: Arc<Keyring>,
        settings: Settings,
        access: Arc<Access>,
    ) -> Self {
        Self {
            pseudonyms: Pseudonyms::new(&keyring),
            sealed: AtomicI64::new(clock.now().0),
            documents,
            clock,
            stamp,
            keyring,
            settings,
            access,
            state: tokio::sync::Mutex::default(),
            repeats: Mutex::default(),
            owed: Mutex::default(),
            witnessed: Mutex::default(),
            web: None,
        }
    }

    pub fn with(self, web: Arc<dyn Web>) -> Self {
        Self { web: Some(web), ..self }
    }

    /// The event as an operation of the batch that does what it tells: both are on disk, or neither.
    pub fn operation(&self, caller: &Caller, event: Event) -> Result<Operation> {
        let event = caller.address.into_iter().fold(event, Event::from_address);
        let (subject, object) = (event.subject.clone(), event.object.clone());
        let documents = event.documents.clone();
        let mut entry = event.entry();
        entry.who = self.pseudonyms.actor(&caller.actor());
        entry.subject = subject.map(|subject| self.pseudonyms.actor(&subject));
        entry.object = object.map(|object| self.pseudonyms.object(&object));
        if let (Some(collection), Some(ids)) = (&entry.object, documents) {
            let names: Vec<_> =
                ids.iter().take(MOST_DOCUMENTS).map(|id| self.pseudonyms.name(collection, id)).collect();
            entry.details.get_or_insert_default().insert(DOCUMENTS.to_owned(), names.into());
        }
        (entry.request, entry.trace) = (caller.request.clone(), caller.trace.clone());
        let change = Change::Put(rawdoc! { "entry": entry.text()? });
        let (collection, id) = (PENDING.to_owned(), random::id(self.clock.now()));
        Ok(Operation { collection, id, expect: Expect::Absent, change })
    }

    /// Tells an event that goes with no other write. Before an administrator's action: where this fails, it is not done.
    pub async fn record(&self, caller: &Caller, event: Event) -> Result<()> {
        let operation = self.operation(caller, event)?;
        self.commit(caller, vec![operation]).await
    }

    /// As [`Audit::record`], for reading, which goes on where nothing can be written: what cannot be told now is owed,
    /// and told with its time once it can.
    pub async fn record_reading(&self, caller: &Caller, event: Event) -> Result<()> {
        let Err(error) = self.record(caller, event.clone()).await else { return Ok(()) };
        tracing::warn!(%error, action = event.action, actor = caller.actor(), "read, and not yet in the audit log");
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if owed.len() >= MOST_OWED {
            return Err(error);
        }
        owed.push((caller.clone(), event.with("at", self.clock.now().rfc3339())));
        Ok(())
    }

    /// As [`Audit::record`], for what may come in floods: the same again within a minute is only counted.
    pub async fn record_once(&self, caller: &Caller, event: Event) -> Result<()> {
        if !self.repeats().is_new(caller, &event, self.clock.now()) {
            return Ok(());
        }
        let told = self.record(caller, event.clone()).await;
        if told.is_err() {
            self.repeats().forget(caller, &event);
        }
        told
    }

    /// A refusal that stands whether or not it can be told; a log that cannot take it says so elsewhere.
    pub async fn refused(&self, caller: &Caller, event: Event) {
        if let Err(error) = self.record_once(caller, event).await {
            tracing::warn!(%error, "a refusal is not in the audit log");
        }
    }

    /// What a word that may be personal stands as: an e-mail that was tried.
    pub fn pseudonym(&self, word: &str) -> String {
        self.pseudonyms.word(word)
    }

    /// What an identity stands as.
    pub fn pseudonym_of(&self, identity: &str) -> String {
        self.pseudonyms.of(identity)
    }

    /// Every key that has signed checkpoints, the one in use last.
    pub fn signers(&self) -> Vec<Signer> {
        let name = self.name();
        let keys = self.keyring.versions(Purpose::AuditSigning);
        keys.filter_map(|key| Signer::new(&name, &key.public)).collect()
    }

    /// The name of the signing keys, the same for all lineages.
    fn name(&self) -> String {
        format!("debrouille-appliance/{}", self.stamp.id)
    }

    /// The tree's own name in its checkpoints.
    fn origin(&self, lineage: u32) -> String {
        format!("{}/{lineage}", self.name())
    }

    /// How far the log is behind what happens.
    pub fn lag_seconds(&self) -> i64 {
        (self.clock.now().0 - self.sealed.load(Ordering::Relaxed)).max(0) / 1000
    }

    /// Everything recorded until then is in the log: what the journal may let go of.
    pub fn sealed_until(&self) -> Timestamp {
        Timestamp(self.sealed.load(Ordering::Relaxed))
    }

    /// How many entries the last seal left; `None` before the first.
    pub async fn size(&self) -> Option<u64> {
        self.state.lock().await.as_ref().map(|state| state.edge.size())
    }

    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self, caller: &Caller, operations: Vec<Operation>) -> Result<()> {
        let batch = Batch { time: self.clock.now(), origin: caller.origin(), operations, check: None, receipt: None };
        self.documents.commit(batch).await?;
        Ok(())
    }
}

/// The log's own collections, with the indexes by which entries are looked up.
pub fn collections() -> [(&'static str, RawDocumentBuf); 4] {
    let nothing = || rawdoc! {};
    [
        (PENDING, nothing()),
        (ENTRIES, rawdoc! { "indexes": ["people", "object", "at"] }),
        (TILES, nothing()),
        (CHECKPOINTS, nothing()),
    ]
}

fn unsound(what: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("the audit log: {what}"))
}

#[cfg(test)]
mod tests;
