//! What waits to be taken away: at most so much of it, the newest let go of and counted where nobody comes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

pub struct Waiting<T> {
    queue: Mutex<VecDeque<T>>,
    most: usize,
    let_go: AtomicU64,
}

impl<T> Waiting<T> {
    pub fn new(most: usize) -> Self {
        Self { queue: Mutex::default(), most, let_go: AtomicU64::new(0) }
    }

    pub fn push(&self, one: T) {
        let mut queue = self.held();
        match queue.len() < self.most {
            true => queue.push_back(one),
            false => drop(self.let_go.fetch_add(1, Ordering::Relaxed)),
        }
    }

    pub fn count(&self) -> usize {
        self.held().len()
    }

    /// The oldest, at most so many.
    pub fn take(&self, most: usize) -> Vec<T> {
        let mut queue = self.held();
        let count = most.min(queue.len());
        queue.drain(..count).collect()
    }

    /// Back to where they were taken from; what has no room any more is let go of, the oldest first.
    pub fn give_back(&self, all: Vec<T>) {
        let mut queue = self.held();
        let room = self.most.saturating_sub(queue.len());
        let over = all.len().saturating_sub(room);
        self.let_go.fetch_add(over as u64, Ordering::Relaxed);
        for one in all.into_iter().skip(over).rev() {
            queue.push_front(one);
        }
    }

    /// How many went without being taken.
    pub fn let_go(&self) -> u64 {
        self.let_go.load(Ordering::Relaxed)
    }

    fn held(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_what_goes_is_counted() {
        let waiting = Waiting::new(3);
        (1..=5).for_each(|one| waiting.push(one));
        assert_eq!(waiting.let_go(), 2);
        let taken = waiting.take(2);
        assert_eq!(taken, [1, 2]);
        waiting.push(6);
        waiting.give_back(taken);
        assert_eq!((waiting.let_go(), waiting.take(9)), (3, vec![2, 3, 6]));
    }
}
