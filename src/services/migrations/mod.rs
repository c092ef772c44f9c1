//! Migrations: which were applied here, kept where they are applied and journalled alike; up before anything is served,
//! down when an operator goes back to an earlier release.
//!
//! ```text
//! a batch of documents ─► one commit: the documents, those left alone, how far it is, the lease
//! ```
//! Killed anywhere, it goes on exactly where it was; a restore to any moment finds documents and place agreeing.

mod held;
mod plan;
mod rehearsal;
mod run;
mod snapshots;

pub use held::{Held, Stage, all as held, half_done, newer, newer_than};
pub use plan::{Part, Plan, Planned, plan};
pub use rehearsal::{Difference, Rehearsed, copy};
pub use snapshots::{Copied, Snapshots, Stores, room};

use super::{Error, Result, access::Caller, audit::Audit};
use crate::{
    base::{clock::SharedClock, fault::Fault, random},
    domain::migration::{Direction, Migration, Target},
    ports::documents::{Batch, COLLECTIONS, Change, Documents, Expect, Operation},
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use run::Run;
use std::sync::Arc;

/// What was applied, a document each under its number; documents left alone on the way back; the lease.
pub const MIGRATIONS: &str = "system.migrations";
const LEASE: &str = "lease";
/// Without a sign of life for so long, whoever migrated is gone.
const LEASE_SECONDS: i64 = 30;
/// Of a changed document: itself and its two images in the journal, each laid out anew while the old pages live.
const TIMES: u64 = 6;
/// However little changes.
const LEAST_FREE: u64 = 4 << 20;

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub number: u32,
    pub name: String,
    pub direction: Direction,
    /// Documents looked at, of how many.
    pub done: u64,
    pub total: u64,
}

pub type Tell<'t> = &'t (dyn Fn(Progress) + Send + Sync);

/// What a migration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub number: u32,
    pub name: String,
    pub direction: Direction,
    pub documents: u64,
}

pub struct Migrations {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    /// Those of this release.
    known: Vec<Migration>,
    /// `None`: of a copy, which keeps no log.
    audit: Option<Arc<Audit>>,
    /// Nobody else can have the store open: a lease found is a dead one's.
    alone: bool,
    holder: String,
}

impl Migrations {
    pub fn new(documents: Arc<dyn Documents>, clock: SharedClock, known: Vec<Migration>) -> Self {
        let holder = random::id(clock.now());
        Self { documents, clock, known, audit: None, alone: false, holder }
    }

    pub fn with(self, audit: Arc<Audit>) -> Self {
        Self { audit: Some(audit), ..self }
    }

    /// On an engine whose file has its own lock.
    pub fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    pub fn known(&self) -> &[Migration] {
        &self.known
    }

    /// What was applied here, in order; refused where this release is not one that may open it.
    pub async fn held(&self) -> Result<Vec<Held>> {
        if self.documents.describe(MIGRATIONS).await?.is_none() {
            return Ok(Vec::new());
        }
        let snapshot = self.documents.snapshot().await?;
        let held = blocking(move || held::all(&*snapshot)).await?;
        held::judge(&held, &self.known)?;
        Ok(held)
    }

    /// Applies what is not applied yet, to a number or all of it.
    pub async fn up(&self, caller: &Caller, to: Option<u32>, tell: Tell<'_>) -> Result<Vec<Done>> {
        let mut done = Vec::new();
        let held = self.held().await?;
        let pending = |held: &[Held]| {
            let applied = |number: u32| held.iter().any(|held| held.number == number && held.stage == Stage::Applied);
            let wanted = |one: &&Migration| to.is_none_or(|to| one.number <= to) && !applied(one.number);
            self.known.iter().filter(wanted).cloned().collect::<Vec<_>>()
        };
        let Some(Migration { number, name, .. }) = pending(&held).into_iter().next() else { return Ok(done) };
        // Counting what is ahead takes its time too.
        tell(Progress { number, name, direction: Direction::Up, done: 0, total: 0 });
        self.begin().await?;
        // What somebody began to undo is undone before it is done again.
        for undoing in held.iter().rev().filter(|held| held.stage == Stage::Down) {
            done.extend(self.run(caller, undoing.number, Direction::Down, tell).await?);
        }
        self.fits(self.plan(Direction::Up, to).await?).await?;
        for migration in pending(&self.held().await?) {
            done.extend(self.run(caller, migration.number, Direction::Up, tell).await?);
        }
        self.end().await?;
        Ok(done)
    }

    /// The first that was not applied, or not wholly.
    pub async fn pending(&self) -> Result<Option<u32>> {
        let held = self.held().await?;
        let applied = |number| held.iter().any(|held| held.number == number && held.stage == Stage::Applied);
        Ok(self.known.iter().map(|one| one.number).find(|number| !applied(*number)))
    }

    /// Undoes what was applied past a number, the newest first; what was cut short, from where it stands.
    pub async fn down(&self, caller: &Caller, to: u32, tell: Tell<'_>) -> Result<Vec<Done>> {
        let mut done = Vec::new();
        let held = self.held().await?;
        let undone: Vec<u32> = held.iter().rev().map(|held| held.number).filter(|number| *number > to).collect();
        if undone.is_empty() {
            return Ok(done);
        }
        self.begin().await?;
        self.fits(self.plan(Direction::Down, Some(to)).await?).await?;
        for number in undone {
            done.extend(self.run(caller, number, Direction::Down, tell).await?);
        }
        self.end().await?;
        Ok(done)
    }

    async fn run(&self, caller: &Caller, number: u32, direction: Direction, tell: Tell<'_>) -> Result<Option<Done>> {
        let Some(migration) = self.known.iter().find(|known| known.number == number) else { return Ok(None) };
        let mut run = Run::begin(self, caller, migration, direction).await?;
        run.all(tell).await.map(Some)
    }

    /// Nothing is begun that could not be ended.
    async fn fits(&self, plan: Plan) -> Result<()> {
        if let Some((collection, id)) = plan.irreversible() {
            let fault = Fault::new("migrations.irreversible").with("collection", collection).with("id", id);
            return Err(Error::Refused(fault));
        }
        let free = self.documents.statistics().await?.free_bytes;
        let needed = plan.needs();
        if needed > 0 && self.documents.statistics().await?.stored_bytes > 0 && free < needed {
            tracing::error!(needed, free, "no room to migrate");
            return Err(Error::OutOfReach(Fault::new("migrations.full").with("needed", needed).with("free", free)));
        }
        Ok(())
    }

    /// Makes the collection where it is not there, and takes the lease.
    async fn begin(&self) -> Result<()> {
        if self.documents.describe(MIGRATIONS).await?.is_none() {
            let definition = rawdoc! { "indexes": [] };
            self.commit(&Caller::system(), vec![put(COLLECTIONS, MIGRATIONS, Expect::Absent, definition)]).await?;
        }
        let found = self.documents.get(MIGRATIONS, LEASE).await?;
        if let Some(lease) = found.as_deref().filter(|_| !self.alone) {
            let holder = lease.get_str("holder").unwrap_or_default();
            let expires = lease.get_datetime("expires").map_or(0, |time| time.timestamp_millis());
            if holder != self.holder && expires > self.clock.now().0 {
                return Err(Error::OutOfReach(Fault::new("migrations.leased")));
            }
        }
        let expect =
            found.as_deref().and_then(crate::domain::document::revision).map_or(Expect::Absent, Expect::Revision);
        self.commit(&Caller::system(), vec![self.lease(expect)]).await
    }

    async fn end(&self) -> Result<()> {
        let change = Change::Delete;
        let (collection, id) = (MIGRATIONS.to_owned(), LEASE.to_owned());
        self.commit(&Caller::system(), vec![Operation { collection, id, expect: Expect::Any, change }]).await
    }

    /// A sign of life.
    fn lease(&self, expect: Expect) -> Operation {
        let expires = self.clock.now().plus_seconds(LEASE_SECONDS);
        let lease = rawdoc! { "holder": &*self.holder, "expires": bson::DateTime::from_millis(expires.0) };
        put(MIGRATIONS, LEASE, expect, lease)
    }

    async fn commit(&self, caller: &Caller, operations: Vec<Operation>) -> Result<()> {
        self.committed(caller, operations).await.map(|_| ())
    }

    async fn committed(&self, caller: &Caller, operations: Vec<Operation>) -> Result<Vec<i64>> {
        let (time, origin) = (self.clock.now(), caller.origin());
        let batch = Batch { time, origin, operations, check: None, receipt: None };
        let committed = self.documents.commit(batch).await?;
        Ok(committed.outcomes.iter().map(|outcome| outcome.revision).collect())
    }
}

fn put(collection: &str, id: &str, expect: Expect, document: RawDocumentBuf) -> Operation {
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Operation { collection, id, expect, change: Change::Put(document) }
}

/// Where the documents of a change are, and which of them.
fn place(target: &Target) -> (&str, Option<&str>) {
    match target {
        Target::Documents(collection) => (collection, None),
        Target::Definition(collection) => (COLLECTIONS, Some(collection)),
    }
}

fn id(document: &RawDocument) -> String {
    document.get_str("_id").unwrap_or_default().to_owned()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(Box::new(error)))?
}

#[cfg(test)]
mod tests;
