//! One migration run from where it is to its end, a batch of documents a commit.

use super::{
    Done, MIGRATIONS, Migrations, Progress, Tell, blocking,
    held::{self, Held, Stage},
    id, place, put,
};
use crate::{
    base::fault::Fault,
    domain::{
        collection::Index,
        document::revision,
        migration::{Direction, Migration, Step, Target},
    },
    ports::documents::{Build, Change, Expect, Operation},
    services::{Error, Result, access::Caller, audit::Event},
};
use bson::{Document, RawArrayBuf, RawDocumentBuf, rawdoc};
use std::{collections::HashSet, time::Duration};

/// Documents of a batch, and bytes past which it takes no more.
const ROWS: usize = 250;
const BYTES: usize = 4 << 20;
/// Between two looks at an index that is being built; looks between two signs of life.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 100;
/// Doubles that are told.
const PAIRS: usize = 3;

pub struct Run<'m> {
    all: &'m Migrations,
    caller: &'m Caller,
    migration: &'m Migration,
    direction: Direction,
    held: Held,
    /// On the way back: what the way up left out.
    left: HashSet<(usize, String)>,
    done: u64,
    total: u64,
}

impl<'m> Run<'m> {
    /// Takes it up where it was left.
    pub async fn begin(
        all: &'m Migrations,
        caller: &'m Caller,
        migration: &'m Migration,
        direction: Direction,
    ) -> Result<Self> {
        let number = migration.number;
        let found = all.documents.get(MIGRATIONS, &held::key(number)).await?;
        let mut held = found.as_deref().and_then(Held::read).unwrap_or_else(|| Held::begin(migration));
        let mut left = HashSet::new();
        if direction == Direction::Down {
            held.turn(migration.changes.len());
            let snapshot = all.documents.snapshot().await?;
            left = blocking(move || held::left(&*snapshot, number)).await?;
        }
        let mut total = 0;
        for change in &migration.changes {
            let (collection, one) = place(&change.target);
            let held = all.documents.describe(collection).await?;
            total += if one.is_some() { 1 } else { held.map_or(0, |held| held.documents) };
        }
        Ok(Self { all, caller, migration, direction, held, left, done: 0, total })
    }

    pub async fn all(&mut self, tell: Tell<'_>) -> Result<Done> {
        let (number, name) = (self.migration.number, self.migration.name.clone());
        let resumed =
            self.held.revision > 0 && (self.held.change, &self.held.after) != (self.migration.changes.len(), &None);
        tracing::info!(migration = held::key(number), name, direction = self.direction.name(), resumed, "migrating");
        tell(self.progress());
        while let Some(at) = self.at() {
            self.built().await?;
            while !self.batch(at).await? {
                tell(self.progress());
            }
        }
        self.built().await?;
        self.finish().await?;
        let documents = self.held.documents;
        tracing::info!(migration = held::key(number), name, direction = self.direction.name(), documents, "migrated");
        Ok(Done { number, name, direction: self.direction, documents })
    }

    fn progress(&self) -> Progress {
        let (number, name) = (self.migration.number, self.migration.name.clone());
        Progress { number, name, direction: self.direction, done: self.done, total: self.total.max(self.done) }
    }

    /// The change that is next.
    fn at(&self) -> Option<usize> {
        match self.direction {
            Direction::Up => Some(self.held.change).filter(|at| *at < self.migration.changes.len()),
            Direction::Down => self.held.change.checked_sub(1),
        }
    }

    /// The next documents of a change; whether they were its last.
    async fn batch(&mut self, at: usize) -> Result<bool> {
        let Some(change) = self.migration.changes.get(at) else { return Ok(true) };
        let (collection, one) = place(&change.target);
        let (rows, last) = self.rows(collection, one).await?;
        let (mut operations, mut left) = (Vec::new(), RawArrayBuf::new());
        for row in &rows {
            let id = id(row);
            let before = Document::try_from(row.as_ref()).map_err(|error| unreadable(collection, &id, &error))?;
            let after = match self.direction {
                Direction::Up => {
                    let irreversible =
                        || Fault::new("migrations.irreversible").with("collection", collection).with("id", &id);
                    let up = change.up(&before).ok_or_else(|| Error::Refused(irreversible()))?;
                    up.left.iter().for_each(|step| left.push(held::left_out(*step, &id)));
                    up.after
                }
                Direction::Down => {
                    let out = |step| self.left.contains(&(at, held::left_out(step, &id)));
                    change.down(&before, out).map(|(after, _)| after)
                }
            };
            if let Some(after) = after {
                let after = RawDocumentBuf::try_from(&after).map_err(|error| unreadable(collection, &id, &error))?;
                operations.push(put(collection, &id, Expect::Revision(revision(row).unwrap_or_default()), after));
            }
        }
        self.held.documents += operations.len() as u64;
        self.done += rows.len() as u64;
        if !left.is_empty() {
            let note = held::note(self.migration.number, self.held.notes);
            let change = i64::try_from(at).unwrap_or(i64::MAX);
            operations.push(put(MIGRATIONS, &note, Expect::Absent, rawdoc! { "change": change, "left": left }));
            self.held.notes += 1;
        }
        if last {
            (self.held.after, self.held.until) = (None, None);
            self.held.change = if self.direction == Direction::Up { at + 1 } else { at };
        } else {
            self.held.after = rows.last().map(|row| id(row));
        }
        // A batch that changes nothing costs no commit, but the last of a change.
        if last || !operations.is_empty() {
            self.keep(operations).await?;
        }
        Ok(last)
    }

    async fn rows(&self, collection: &str, one: Option<&str>) -> Result<(Vec<RawDocumentBuf>, bool)> {
        if let Some(one) = one {
            return Ok((self.all.documents.get(collection, one).await?.into_iter().collect(), true));
        }
        let snapshot = self.all.documents.snapshot().await?;
        let (collection, after) = (collection.to_owned(), self.held.after.clone());
        let until = self.held.until.clone();
        blocking(move || {
            let mut rows = snapshot.documents(&collection, after.as_deref(), ROWS)?;
            rows.retain(|row| until.as_ref().is_none_or(|until| id(row) <= *until));
            let mut last = rows.len() < ROWS;
            let mut bytes = 0;
            let fits = rows.iter().take_while(|row| {
                let before = bytes;
                bytes += row.as_bytes().len();
                before < BYTES
            });
            let fits = fits.count();
            if fits < rows.len() {
                rows.truncate(fits);
                last = false;
            }
            Ok((rows, last))
        })
        .await
    }

    /// Commits a batch with its place; who lost the lease to another fails here.
    async fn keep(&mut self, mut operations: Vec<Operation>) -> Result<()> {
        self.held.at = self.all.clock.now().rfc3339();
        let expect = if self.held.revision > 0 { Expect::Revision(self.held.revision) } else { Expect::Absent };
        operations.push(self.all.lease(Expect::Any));
        operations.push(put(MIGRATIONS, &held::key(self.held.number), expect, self.held.document()));
        let revisions = self.all.committed(self.caller, operations).await?;
        self.held.revision = revisions.last().copied().unwrap_or_default();
        Ok(())
    }

    /// Returns once the indexes of the changes so far are built, in the background: one that could not be built is none,
    /// and its migration never applied.
    async fn built(&self) -> Result<()> {
        let changes = self.migration.changes.iter().take(self.held.change);
        for change in changes.filter(|_| self.direction == Direction::Up) {
            let Target::Definition(collection) = &change.target else { continue };
            for index in change.steps.iter().filter_map(Step::index) {
                let mut looks: u32 = 0;
                while self.building(collection, index).await? {
                    tokio::time::sleep(LOOK).await;
                    looks += 1;
                    if looks.is_multiple_of(LOOKS) {
                        self.all.commit(self.caller, vec![self.all.lease(Expect::Any)]).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn building(&self, collection: &str, index: &Index) -> Result<bool> {
        let Some(held) = self.all.documents.describe(collection).await? else { return Ok(false) };
        let fault = |key| {
            let fault = Fault::new(key).with("number", held::key(self.held.number)).with("collection", collection);
            fault.with("index", &index.name).with("before", self.held.number.saturating_sub(1))
        };
        let state = held.indexes.iter().find(|held| held.index == *index);
        match state.map(|state| &state.progress) {
            Some(Build::Building { .. }) => Ok(true),
            Some(Build::Failed { refused: Some((id, why)), .. }) => {
                Err(Error::Refused(fault("migrations.unindexable").with("id", id).with("why", why)))
            }
            Some(Build::Failed { duplicates, .. }) => {
                let pairs: Vec<_> =
                    duplicates.iter().take(PAIRS).map(|(one, other)| format!("{one} = {other}")).collect();
                Err(Error::Refused(fault("migrations.doubles").with("doubles", pairs.join(", "))))
            }
            Some(Build::Ready) | None => Ok(false),
        }
    }

    /// The last commit, which the audit log tells of.
    async fn finish(&mut self) -> Result<()> {
        let mut operations = Vec::new();
        if let Some(audit) = &self.all.audit {
            let action = if self.direction == Direction::Up { "migration.up" } else { "migration.down" };
            let event = Event::new(action).object(format!("{}-{}", held::key(self.held.number), self.held.name));
            operations.push(audit.operation(self.caller, event.with("documents", self.held.documents))?);
        }
        if self.direction == Direction::Up {
            self.held.stage = Stage::Applied;
            return self.keep(operations).await;
        }
        let gone = |id: String| {
            let (collection, expect) = (MIGRATIONS.to_owned(), Expect::Any);
            Operation { collection, id, expect, change: Change::Delete }
        };
        while self.held.notes > 0 {
            let few = self.held.notes.saturating_sub(500);
            let notes = (few..self.held.notes).map(|note| gone(held::note(self.held.number, note))).collect();
            self.held.notes = few;
            self.keep(notes).await?;
        }
        let expect = Expect::Revision(self.held.revision);
        operations.push(Operation { expect, ..gone(held::key(self.held.number)) });
        self.all.commit(self.caller, operations).await
    }
}

fn unreadable(collection: &str, id: &str, error: &bson::error::Error) -> Error {
    Error::Corrupt(format!("document {id} of {collection}: {error}"))
}
