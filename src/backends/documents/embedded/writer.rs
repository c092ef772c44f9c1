//! The one thread that writes: it drains the queue and commits what has gathered in one durable transaction.

use super::{
    build,
    fault::{Refusal, failed},
    journal, load, refill,
    sealed::DataKeys,
    snapshots::Snapshots,
    stage::{self, Work},
    store::{Space, State, Store},
    tables::Tables,
    view::View,
};
use crate::{
    base::{
        clock::{SharedClock, Stopwatch},
        fault::Fault,
        metrics::waits::Waits,
    },
    ports::{
        Error, Result,
        documents::{Batch, Change, Committed, Load, Retention},
    },
};
use redb::ReadableTable;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::{mpsc, oneshot};

/// Batches in one transaction, and their bytes.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 16 << 20;
/// Journal records let go in one transaction, and their bytes.
const TRIM: usize = 2000;
const TRIM_BYTES: u64 = 4 << 20;
/// What a commit may take beyond its own bytes: the least that is left free.
pub const HEADROOM: u64 = 8 << 20;
/// The same for what only lets go: a full disk must not bar the way out of itself.
const RELIEF: u64 = 1 << 20;

pub type Answer<T> = oneshot::Sender<Result<T>>;

pub enum Command {
    /// Waiting since then.
    Commit {
        batch: Box<Batch>,
        since: Stopwatch,
        answer: Answer<Committed>,
    },
    Trim {
        retention: Retention,
        answer: Answer<u64>,
    },
    Load {
        part: Box<Load>,
        answer: Answer<()>,
    },
    TakeKeys {
        keys: DataKeys,
        answer: Answer<()>,
    },
    Close {
        answer: Answer<()>,
    },
}

/// What the writer shows to everyone else.
pub struct Shared {
    view: RwLock<Option<Arc<View>>>,
    read_only: RwLock<Option<String>>,
    pub snapshots: Arc<Snapshots>,
    /// How long batches took that went in.
    pub waits: Waits,
    pub clock: SharedClock,
}

impl Shared {
    pub fn new(view: View, clock: SharedClock) -> Self {
        let (view, read_only) = (RwLock::new(Some(Arc::new(view))), RwLock::default());
        Self { view, read_only, snapshots: Arc::default(), waits: Waits::default(), clock }
    }

    /// The state of the last commit.
    pub fn view(&self) -> Result<Arc<View>> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.clone().ok_or_else(|| Error::Unavailable("the store is closed".to_owned()))
    }

    pub fn read_only(&self) -> Option<String> {
        self.read_only.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self, view: Option<View>) {
        let view = view.map(Arc::new);
        self.snapshots.step(view.as_ref());
        let before = std::mem::replace(&mut *self.view.write().unwrap_or_else(PoisonError::into_inner), view);
        // Freed outside the lock: it may end a read transaction.
        drop(before);
    }

    fn refuse_writes(&self, why: String) {
        *self.read_only.write().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

pub struct Writer {
    pub store: Store,
    pub state: State,
    pub shared: Arc<Shared>,
    pub queue: mpsc::Receiver<Command>,
    pub max_document: usize,
    /// Bytes left free on the volume.
    pub reserve: u64,
    /// Something waits to be done in the background.
    pub background: bool,
    /// Between the first part of a restore and its last.
    pub loading: bool,
}

struct Waiting {
    batch: Box<Batch>,
    since: Stopwatch,
    answer: Answer<Committed>,
}

impl Writer {
    /// Until the queue is closed or says so.
    pub fn run(mut self) {
        let mut closing = None;
        while closing.is_none() {
            let first = match self.background {
                true => self.queue.try_recv().ok(),
                false => self.queue.blocking_recv(),
            };
            if first.is_none() && (!self.background || self.queue.is_closed() && self.queue.is_empty()) {
                break;
            }
            closing = self.round(first);
        }
        self.shared.show(None);
        let closed = self.store.close();
        if let Some(answer) = closing {
            let _ = answer.send(closed);
        }
    }

    /// Commits what has gathered. Answers whom to tell when closed.
    fn round(&mut self, first: Option<Command>) -> Option<Answer<()>> {
        let mut group = Vec::new();
        let mut next = first;
        let mut after = None;
        while let Some(command) = next {
            let Command::Commit { batch, since, answer } = command else {
                after = Some(command);
                break;
            };
            group.push(Waiting { batch, since, answer });
            if group.len() >= GROUP {
                break;
            }
            next = self.queue.try_recv().ok();
        }
        if !group.is_empty() || self.background {
            self.commit(group);
        }
        match after {
            Some(Command::Trim { retention, answer }) => {
                let _ = answer.send(self.trim(&retention));
                // What a full disk made wait is tried again.
                self.background = true;
                None
            }
            Some(Command::Load { part, answer }) => {
                let _ = answer.send(self.load(&part));
                None
            }
            Some(Command::TakeKeys { keys, answer }) => {
                let _ = answer.send(self.store.take_keys(keys));
                None
            }
            Some(Command::Close { answer }) => Some(answer),
            _ => None,
        }
    }

    /// In as many transactions as their bytes take.
    fn commit(&mut self, mut group: Vec<Waiting>) {
        loop {
            let answers = match self.space() {
                Ok(space) => self.transact(&group, space).map_err(|error| self.broken(error)),
                Err(why) => {
                    self.background = false;
                    Err(why)
                }
            };
            match answers {
                Ok(answers) => {
                    for (waiting, answer) in group.drain(..answers.len()).zip(answers) {
                        if answer.is_ok() {
                            self.shared.waits.observe(waiting.since.elapsed());
                        }
                        let _ = waiting.answer.send(answer);
                    }
                }
                Err(why) => {
                    for waiting in group.drain(..) {
                        let _ = waiting.answer.send(Err(repeat(&why)));
                    }
                }
            }
            if group.is_empty() {
                return;
            }
        }
    }

    /// What there is to write; an error where nothing may be written.
    fn space(&self) -> Result<Space> {
        if let Some(why) = self.shared.read_only() {
            return Err(Error::Unavailable(why));
        }
        if self.loading {
            return Err(Error::Unavailable("a restore is under way".to_owned()));
        }
        self.store.space()
    }

    /// One transaction: each batch that holds, and a piece of the work in the background. Answers the first ones of
    /// the group, as many as went in.
    fn transact(
        &mut self,
        group: &[Waiting],
        space: Space,
    ) -> std::result::Result<Vec<Result<Committed>>, redb::Error> {
        let Ok(database) = self.store.database() else { return Err(redb::Error::DatabaseClosed) };
        let transaction = database.begin_write()?;
        let (answers, changed, state, background) = {
            let mut work = Work::new(Tables::open(&transaction)?, &self.state);
            let (answers, mut changed) =
                put_in(&mut work, group, self.max_document, |batch, bytes| self.room(space, batch, bytes))?;
            if let Some(now) = group.iter().map(|waiting| waiting.batch.time).max() {
                changed |= build::expire(&mut work, now)?;
            }
            let background = self.background && advance(&mut work, space, self.reserve, &mut changed)?;
            if changed {
                work.save_journal()?;
            }
            let waits = space.headroom >= self.reserve && build::waiting(&work)?;
            (answers, changed, work.state(), background || waits)
        };
        if changed {
            transaction.commit()?;
            self.state = state;
            self.background = background;
            self.show()?;
        } else {
            transaction.abort()?;
            self.background = false;
        }
        Ok(answers)
    }

    /// Whether a transaction of so many bytes may take one more batch. Their pages come to several times their bytes.
    fn room(&self, space: Space, batch: &Batch, bytes: usize) -> Result<()> {
        let relieves = batch.operations.iter().all(|operation| matches!(operation.change, Change::Delete));
        let (free, kept) = if relieves { (space.relief, RELIEF) } else { (space.headroom, self.reserve) };
        enough(free, kept + 4 * bytes as u64)
    }

    fn show(&self) -> std::result::Result<(), redb::Error> {
        match self.store.view(&self.state) {
            Ok(view) => self.shared.show(Some(view)),
            // Committed all the same; readers keep the state before until the next one.
            Err(error) => tracing::error!(%error, "the last commit cannot be shown"),
        }
        Ok(())
    }

    /// Nothing is acknowledged any more; reads go on from what was last synced.
    fn broken(&mut self, error: redb::Error) -> Error {
        let error = failed(error);
        tracing::error!(%error, "a write failed: only reads are served until a restart");
        self.shared.refuse_writes(format!("a write failed ({error}); restart once its cause is gone"));
        self.background = false;
        self.shared.show(None);
        match self.store.reopen_for_reading() {
            Ok(state) => {
                self.state = state;
                let _ = self.show();
            }
            Err(error) => tracing::error!(%error, "the store cannot be reopened for reading"),
        }
        error
    }

    fn load(&mut self, part: &Load) -> Result<()> {
        if !self.loading && !load::untouched(&self.state) {
            return Err(Error::Rejected(Fault::new("documents.load_used")));
        }
        if let Some(why) = self.shared.read_only() {
            return Err(Error::Unavailable(why));
        }
        enough(self.store.space()?.headroom, self.reserve + 4 * load::weight(part) as u64)?;
        self.loading = true;
        match self.load_part(part) {
            Ok(()) => {}
            Err(Refusal::Batch(error)) => return Err(error),
            Err(Refusal::Store(error)) => return Err(self.broken(error)),
        }
        if let Load::End(_) = part {
            let room = || enough(self.store.space()?.headroom, self.reserve);
            match refill::all(&self.store, &mut self.state, &room) {
                Ok(()) => {}
                Err(Refusal::Batch(error)) => return Err(error),
                Err(Refusal::Store(error)) => return Err(self.broken(error)),
            }
            // Checks of unique ones are left.
            (self.loading, self.background) = (false, true);
            while self.background {
                self.commit(Vec::new());
            }
            enough(self.space()?.headroom, self.reserve)?;
        }
        Ok(())
    }

    fn load_part(&mut self, part: &Load) -> std::result::Result<(), Refusal> {
        let Ok(database) = self.store.database() else { return Err(redb::Error::DatabaseClosed.into()) };
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        let state = {
            let mut work = Work::new(Tables::open(&transaction).map_err(redb::Error::from)?, &self.state);
            load::apply(&mut work, part)?;
            work.state()
        };
        transaction.commit().map_err(redb::Error::from)?;
        self.state = state;
        Ok(self.show()?)
    }

    fn trim(&mut self, retention: &Retention) -> Result<u64> {
        enough(self.space()?.relief, RELIEF)?;
        match self.trim_some(retention) {
            Ok(gone) => Ok(gone),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn trim_some(&mut self, retention: &Retention) -> std::result::Result<u64, redb::Error> {
        let Ok(database) = self.store.database() else { return Err(redb::Error::DatabaseClosed) };
        let transaction = database.begin_write()?;
        let mut gone = Vec::new();
        let state = {
            let mut work = Work::new(Tables::open(&transaction)?, &self.state);
            let before = work.journal_bytes;
            for row in work.tables.journal.iter()?.take(TRIM) {
                let (sequence, record) = row?;
                // One of an unknown version has no time here and stays.
                let Some(time) = journal::time(record.value()) else { break };
                let spare = time < retention.older_than || work.journal_bytes > retention.most_bytes;
                let kept = time >= retention.keep_from || sequence.value() > retention.keep_after.0;
                if !spare || kept || before - work.journal_bytes > TRIM_BYTES {
                    break;
                }
                work.journal_bytes = work.journal_bytes.saturating_sub(record.value().len() as u64);
                gone.push(sequence.value());
            }
            for sequence in &gone {
                work.tables.journal.remove(sequence)?;
            }
            work.save_journal()?;
            work.state()
        };
        if gone.is_empty() {
            transaction.abort()?;
        } else {
            transaction.commit()?;
            self.state = state;
            self.show()?;
        }
        Ok(gone.len() as u64)
    }
}

/// Applies the first batches of a group, as many as a transaction takes; answers each, and whether one changed
/// anything.
fn put_in(
    work: &mut Work<'_>,
    group: &[Waiting],
    max_document: usize,
    room: impl Fn(&Batch, usize) -> Result<()>,
) -> std::result::Result<(Vec<Result<Committed>>, bool), redb::Error> {
    let mut answers = Vec::with_capacity(group.len());
    let (mut changed, mut bytes) = (false, 0);
    for waiting in group {
        if bytes >= GROUP_BYTES {
            break;
        }
        let staged = checked(work, &waiting.batch, max_document).and_then(|(committed, staged)| {
            room(&waiting.batch, bytes + staged.weight)?;
            Ok((committed, staged))
        });
        answers.push(match staged {
            Ok((committed, staged)) => {
                changed |= !staged.is_empty();
                bytes += staged.weight;
                staged.apply(work)?;
                Ok(committed)
            }
            Err(error) => Err(error),
        });
    }
    Ok((answers, changed))
}

/// A piece of the work in the background: builds ask for room, clearing makes it. Answers whether a full disk leaves
/// more of it to be tried at once.
fn advance(
    work: &mut Work<'_>,
    space: Space,
    reserve: u64,
    changed: &mut bool,
) -> std::result::Result<bool, redb::Error> {
    if space.headroom >= reserve {
        *changed |= build::step(work)?;
        return Ok(false);
    }
    let cleared = space.relief >= RELIEF && build::clear(work)?;
    *changed |= cleared;
    Ok(cleared)
}

fn enough(headroom: u64, needed: u64) -> Result<()> {
    match headroom < needed {
        true => Err(Error::Full(format!("{headroom} bytes free, {needed} needed"))),
        false => Ok(()),
    }
}

/// A batch's check, and the panic of a rule it carries: that batch's failure, nobody else's.
fn checked(work: &Work<'_>, batch: &Batch, max_document: usize) -> Result<(Committed, stage::Staged)> {
    match catch_unwind(AssertUnwindSafe(|| stage::check(work, batch, max_document))) {
        Ok(Ok(checked)) => Ok(checked),
        Ok(Err(Refusal::Batch(error))) => Err(error),
        // Only reads so far: if the store itself is gone, applying or committing will tell.
        Ok(Err(Refusal::Store(error))) => Err(failed(error)),
        Err(_) => Err(Error::Backend("checking the batch panicked".into())),
    }
}

/// The same failure for each batch that waited on it.
fn repeat(error: &Error) -> Error {
    match error {
        Error::Conflict(conflict) => Error::Conflict(conflict.clone()),
        Error::Rejected(fault) => Error::Rejected(fault.clone()),
        Error::Unavailable(why) => Error::Unavailable(why.clone()),
        Error::OutOfReach(fault) => Error::OutOfReach(fault.clone()),
        Error::Full(why) => Error::Full(why.clone()),
        Error::Corrupt(what) => Error::Corrupt(what.clone()),
        Error::Backend(error) => Error::Backend(error.to_string().into()),
    }
}
