//! The snapshots alive, and what lets go of them gently: the pages written over while one lives are all freed by the first
//! commit after it, which nobody could write beside. Views taken on the way, let go one at a commit, spread that.

use super::view::{EmbeddedSnapshot, View};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Commits from one step to the next, and steps at most: past those every other one goes.
const APART: u32 = 32;
const MOST: usize = 8192;

/// A view, and the snapshot that would have come next.
type Step = (u64, Arc<View>);

#[derive(Default)]
pub struct Snapshots(Mutex<Alive>);

#[derive(Default)]
struct Alive {
    next: u64,
    /// By their order: when each was taken, in milliseconds since 1970.
    taken: BTreeMap<u64, i64>,
    /// Oldest first.
    steps: VecDeque<Step>,
    /// Commits since the last step.
    commits: u32,
}

impl Snapshots {
    pub fn take(self: &Arc<Self>, view: Arc<View>, now: i64) -> EmbeddedSnapshot {
        let mut alive = self.lock();
        let place = alive.next;
        alive.next += 1;
        alive.taken.insert(place, now);
        EmbeddedSnapshot { view, place, all: Arc::clone(self) }
    }

    pub fn end(&self, place: u64) {
        self.lock().taken.remove(&place);
    }

    pub fn oldest(&self) -> Option<i64> {
        self.lock().taken.values().min().copied()
    }

    /// After a commit, which made this view; `None`: the store closes.
    pub fn step(&self, view: Option<&Arc<View>>) {
        let gone = self.lock().step(view);
        // Outside the lock: it ends read transactions.
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Alive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Alive {
    /// Answers what is let go.
    fn step(&mut self, view: Option<&Arc<View>>) -> VecDeque<Step> {
        let Some(view) = view else { return std::mem::take(&mut self.steps) };
        let oldest = self.taken.keys().next().copied();
        self.commits += 1;
        if oldest.is_some() && self.commits >= APART {
            self.commits = 0;
            self.steps.push_back((self.next, view.clone()));
        }
        if self.steps.len() > MOST {
            let mut nth = 0;
            let (kept, gone) = self.steps.drain(..).partition(|_| {
                nth += 1;
                nth % 2 == 0
            });
            self.steps = kept;
            return gone;
        }
        // Only one that no snapshot is older than frees anything.
        let freeing = self.steps.front().is_some_and(|(place, _)| oldest.is_none_or(|oldest| oldest >= *place));
        if freeing { self.steps.pop_front().into_iter().collect() } else { VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        backends::documents::embedded::{Embedded, Options},
        base::clock::{FixedClock, Timestamp},
        ports::documents::{Batch, COLLECTIONS, Change, Documents, Expect, Operation, Origin},
    };
    use bson::rawdoc;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_a_snapshot_held_is_let_go_commit_by_commit() {
        let clock = Arc::new(FixedClock(1_000.into()));
        let store =
            Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock).expect("opens");
        let commit = async |collection: &str| {
            let (collection, id, expect) = (collection.to_owned(), "c".to_owned(), Expect::Any);
            let operations = vec![Operation { collection, id, expect, change: Change::Put(rawdoc! {}) }];
            let batch = Batch { time: Timestamp(5), origin: Origin::default(), operations, check: None, receipt: None };
            store.commit(batch).await.expect("committed");
        };
        let steps = || store.shared.snapshots.lock().steps.len();
        commit(COLLECTIONS).await;
        for _ in 0..100 {
            commit("c").await;
        }
        assert_eq!(steps(), 0, "nobody looks");
        let first = store.snapshot().await.expect("taken");
        for _ in 0..320 {
            commit("c").await;
        }
        let second = store.snapshot().await.expect("taken");
        for _ in 0..320 {
            commit("c").await;
        }
        assert!((19..=21).contains(&steps()), "{}", steps());
        drop(first);
        for left in (10..20).rev() {
            commit("c").await;
            assert!(steps() <= left + 1, "one at a commit: {}", steps());
        }
        for _ in 0..5 {
            commit("c").await;
        }
        assert!((9..=12).contains(&steps()), "those after the second stay: {}", steps());
        drop(second);
        for _ in 0..12 {
            commit("c").await;
        }
        assert_eq!(steps(), 0);
    }
}
