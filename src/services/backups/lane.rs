//! A target at work: one backup at a time, and what this process remembers of it.

use super::{file::Kind, state::State, target::Target};
use crate::{
    base::clock::Stopwatch,
    ports::{documents::Sequence, objects::Objects},
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::OwnedMutexGuard;

/// Beneath a target: backups of the subjects' keys.
pub const SUBJECTS: &str = "subjects";
/// After a failure the next attempt waits, each time twice as long, this long at most.
const LONGEST: Duration = Duration::from_secs(15 * 60);
const SHORTEST: Duration = Duration::from_secs(30);
/// Who asks for a backup waits this long for one that is being made.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Lane {
    pub target: Target,
    /// Where the backups of the subjects' keys are.
    pub keys: Arc<dyn Objects>,
    busy: Arc<tokio::sync::Mutex<()>>,
    memory: Mutex<Memory>,
    /// Grows while something is being sent.
    pub progress: Arc<AtomicU64>,
}

#[derive(Default)]
struct Memory {
    /// From where, and up to where, the journal has nothing that is worth a segment.
    looked: (Sequence, Sequence),
    full: Tally,
    segment: Tally,
    /// A state the store could not take: a full disk must not send the same again and again.
    unsaved: Option<State>,
}

/// What became of one kind of backup since this process began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub failures: u64,
    pub bytes: u64,
    /// What the last one took.
    pub millis: u64,
    /// Failed in a row, and since when the last attempt is over.
    failed: Option<(u32, Stopwatch)>,
}

impl Tally {
    fn rests(&self) -> bool {
        self.failed
            .is_some_and(|(times, since)| since.elapsed() < SHORTEST.saturating_mul(1 << times.min(10)).min(LONGEST))
    }
}

impl Lane {
    pub fn new(target: Target) -> Self {
        let keys = target.objects.beneath(SUBJECTS);
        let (busy, memory, progress) = (Arc::default(), Mutex::default(), Arc::default());
        Self { target, keys, busy, memory, progress }
    }

    /// `None`: a backup is being made there.
    pub fn enter(&self) -> Option<OwnedMutexGuard<()>> {
        self.busy.clone().try_lock_owned().ok()
    }

    /// As [`Lane::enter`], for who asked.
    pub async fn enter_soon(&self) -> Option<OwnedMutexGuard<()>> {
        tokio::time::timeout(PATIENCE, self.busy.clone().lock_owned()).await.ok()
    }

    /// Waits for its turn.
    pub async fn enter_surely(&self) -> OwnedMutexGuard<()> {
        self.busy.clone().lock_owned().await
    }

    /// Whether attempts of this kind rest after a failure.
    pub fn rests(&self, kind: Kind) -> bool {
        self.memory().tally(kind).rests()
    }

    pub fn succeeded(&self, kind: Kind, bytes: u64, millis: u64) {
        let mut memory = self.memory();
        let tally = memory.tally(kind);
        *tally = Tally { bytes: tally.bytes + bytes, millis, failed: None, ..*tally };
    }

    pub fn failed(&self, kind: Kind) {
        let mut memory = self.memory();
        let tally = memory.tally(kind);
        let times = tally.failed.map_or(0, |(times, _)| times);
        *tally = Tally { failures: tally.failures + 1, failed: Some((times + 1, Stopwatch::start())), ..*tally };
    }

    pub fn tally(&self, kind: Kind) -> Tally {
        *self.memory().tally(kind)
    }

    /// Where a look at the journal goes on that began after this place.
    pub fn looked(&self, after: Sequence) -> Sequence {
        let (from, upto) = self.memory().looked;
        if from == after { upto } else { after }
    }

    pub fn look(&self, after: Sequence, upto: Sequence) {
        self.memory().looked = (after, upto);
    }

    pub fn keep(&self, state: Option<State>) {
        self.memory().unsaved = state;
    }

    /// What was read, unless what could not be written since is newer.
    pub fn newest(&self, read: State) -> State {
        let unsaved = self.memory().unsaved.clone().filter(|unsaved| unsaved.revision == read.revision);
        unsaved.unwrap_or(read)
    }

    pub fn moved(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn tally(&mut self, kind: Kind) -> &mut Tally {
        match kind {
            Kind::Full => &mut self.full,
            Kind::Segment => &mut self.segment,
        }
    }
}
