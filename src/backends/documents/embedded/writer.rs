//! The one thread that writes: it drains the queue and commits what has gathered in one durable transaction.

use super::{
    build,
    fault::{Refusal, failed},
    journal, load,
    stage::{self, Work},
    store::{State, Store},
    tables::Tables,
    view::{Snapshots, View},
};
use crate::{
    base::{clock::SharedClock, fault::Fault},
    ports::{
        Error, Result,
        documents::{Batch, Committed, Load, Retention},
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
/// Journal records let go in one transaction.
pub const TRIM: u64 = 2000;
/// What a commit may take beyond its own bytes.
const HEADROOM: u64 = 8 << 20;

pub type Answer<T> = oneshot::Sender<Result<T>>;

pub enum Command {
    Commit { batch: Box<Batch>, bytes: usize, answer: Answer<Committed> },
    Trim { retention: Retention, answer: Answer<u64> },
    Load { part: Box<Load>, answer: Answer<()> },
    Close { answer: Answer<()> },
}

/// What the writer shows to everyone else.
pub struct Shared {
    view: RwLock<Option<Arc<View>>>,
    read_only: RwLock<Option<String>>,
    pub snapshots: Arc<Snapshots>,
    pub clock: SharedClock,
}

impl Shared {
    pub fn new(view: View, clock: SharedClock) -> Self {
        Self { view: RwLock::new(Some(Arc::new(view))), read_only: RwLock::default(), snapshots: Arc::default(), clock }
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
    /// Something waits to be done in the background.
    pub background: bool,
    /// Between the first part of a restore and its last.
    pub loading: bool,
}

struct Waiting {
    batch: Box<Batch>,
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
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut next = first;
        let mut after = None;
        while let Some(command) = next {
            let Command::Commit { batch, bytes: more, answer } = command else {
                after = Some(command);
                break;
            };
            bytes += more;
            group.push(Waiting { batch, answer });
            if group.len() >= GROUP || bytes >= GROUP_BYTES {
                break;
            }
            next = self.queue.try_recv().ok();
        }
        if !group.is_empty() || self.background {
            self.commit(group, bytes);
        }
        match after {
            Some(Command::Trim { retention, answer }) => {
                let _ = answer.send(self.trim(&retention));
                None
            }
            Some(Command::Load { part, answer }) => {
                let _ = answer.send(self.load(&part));
                None
            }
            Some(Command::Close { answer }) => Some(answer),
            _ => None,
        }
    }

    fn commit(&mut self, group: Vec<Waiting>, bytes: usize) {
        let under_way = || Error::Unavailable("a restore is under way".to_owned());
        if let Err(why) = if self.loading { Err(under_way()) } else { self.may_write(bytes) } {
            self.background = false;
            for waiting in group {
                let _ = waiting.answer.send(Err(repeat(&why)));
            }
            return;
        }
        match self.transact(&group) {
            Ok(answers) => {
                for (waiting, answer) in group.into_iter().zip(answers) {
                    let _ = waiting.answer.send(answer);
                }
            }
            Err(error) => {
                let error = self.broken(error);
                for waiting in group {
                    let _ = waiting.answer.send(Err(repeat(&error)));
                }
            }
        }
    }

    fn may_write(&self, bytes: usize) -> Result<()> {
        if let Some(why) = self.shared.read_only() {
            return Err(Error::Unavailable(why));
        }
        let needed = HEADROOM + 4 * bytes as u64;
        let headroom = self.store.headroom()?;
        if headroom < needed {
            return Err(Error::Full(format!("{headroom} bytes free, {needed} needed")));
        }
        Ok(())
    }

    /// One transaction: each batch that holds, and a piece of the work in the background.
    fn transact(&mut self, group: &[Waiting]) -> std::result::Result<Vec<Result<Committed>>, redb::Error> {
        let Ok(database) = self.store.database() else { return Err(redb::Error::DatabaseClosed) };
        let transaction = database.begin_write()?;
        let mut answers = Vec::with_capacity(group.len());
        let mut changed = false;
        let (state, background) = {
            let mut work = Work::new(Tables::open(&transaction)?, &self.state);
            for waiting in group {
                answers.push(match checked(&work, &waiting.batch, self.max_document) {
                    Ok((committed, staged)) => {
                        changed |= !staged.is_empty();
                        staged.apply(&mut work)?;
                        Ok(committed)
                    }
                    Err(error) => Err(error),
                });
            }
            if let Some(now) = group.iter().map(|waiting| waiting.batch.time).max() {
                changed |= build::expire(&mut work, now)?;
            }
            if self.background {
                changed |= build::step(&mut work)?;
            }
            if changed {
                work.save_journal()?;
            }
            let background = build::waiting(&work)?;
            (work.state(), background)
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
        self.may_write(load::weight(part))?;
        self.loading = true;
        match self.load_part(part) {
            Ok(()) => {}
            Err(Refusal::Batch(error)) => return Err(error),
            Err(Refusal::Store(error)) => return Err(self.broken(error)),
        }
        if let Load::End(_) = part {
            self.loading = false;
            self.background = true;
            while self.background {
                self.commit(Vec::new(), 0);
            }
            self.may_write(0)?;
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
        self.may_write(0)?;
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
            for row in work.tables.journal.iter()?.take(TRIM as usize) {
                let (sequence, record) = row?;
                // One of an unknown version has no time here and stays.
                let Some(time) = journal::time(record.value()) else { break };
                let spare = time < retention.older_than || work.journal_bytes > retention.most_bytes;
                if !spare || time >= retention.keep_from {
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
        Error::Full(why) => Error::Full(why.clone()),
        Error::Corrupt(what) => Error::Corrupt(what.clone()),
        Error::Backend(error) => Error::Backend(error.to_string().into()),
    }
}
