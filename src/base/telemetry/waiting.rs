//! What waits to be taken away: at most so many bytes of it, the oldest let go of and counted where nobody comes.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

pub struct Waiting<T> {
    held: Mutex<Held<T>>,
    /// Bytes.
    most: usize,
    weight: fn(&T) -> usize,
    let_go: AtomicU64,
}

struct Held<T> {
    queue: VecDeque<T>,
    bytes: usize,
}

impl<T> Waiting<T> {
    pub fn new(most: usize, weight: fn(&T) -> usize) -> Self {
        let held = Mutex::new(Held { queue: VecDeque::new(), bytes: 0 });
        Self { held, most, weight, let_go: AtomicU64::new(0) }
    }

    pub fn push(&self, one: T) {
        let mut held = self.held();
        held.bytes += (self.weight)(&one);
        held.queue.push_back(one);
        self.fit(&mut held);
    }

    /// Unless half the room is taken: for what anybody may bring about.
    pub fn push_modestly(&self, one: T) -> bool {
        let mut held = self.held();
        let fits = held.bytes + (self.weight)(&one) <= self.most / 2;
        if fits {
            held.bytes += (self.weight)(&one);
            held.queue.push_back(one);
        } else {
            self.let_go.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// The oldest, at most so many bytes, but one at least.
    pub fn take(&self, most: usize) -> Part<'_, T> {
        let (mut held, mut taken, mut bytes) = (self.held(), Vec::new(), 0);
        while let Some(first) = held.queue.front() {
            let weight = (self.weight)(first);
            if !taken.is_empty() && bytes + weight > most {
                break;
            }
            bytes += weight;
            taken.extend(held.queue.pop_front());
        }
        held.bytes -= bytes;
        drop(held);
        Part { waiting: self, taken, settled: false }
    }

    pub fn count(&self) -> usize {
        self.held().queue.len()
    }

    /// How many went without being taken.
    pub fn let_go(&self) -> u64 {
        self.let_go.load(Ordering::Relaxed)
    }

    fn fit(&self, held: &mut Held<T>) {
        while held.bytes > self.most
            && let Some(oldest) = held.queue.pop_front()
        {
            held.bytes -= (self.weight)(&oldest);
            self.let_go.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was taken. Not settled, it goes back to where it was, as far as there is room.
pub struct Part<'w, T> {
    waiting: &'w Waiting<T>,
    taken: Vec<T>,
    settled: bool,
}

impl<T> Part<'_, T> {
    pub fn all(&self) -> &[T] {
        &self.taken
    }

    pub fn settle(mut self) {
        self.settled = true;
    }
}

impl<T> Drop for Part<'_, T> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut held = self.waiting.held();
        for one in self.taken.drain(..).rev() {
            held.bytes += (self.waiting.weight)(&one);
            held.queue.push_front(one);
        }
        self.waiting.fit(&mut held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_what_goes_is_counted() {
        let waiting = Waiting::new(30, |_: &i32| 10);
        (1..=5).for_each(|one| waiting.push(one));
        assert_eq!((waiting.let_go(), waiting.count()), (2, 3));
        let part = waiting.take(20);
        assert_eq!(part.all(), [3, 4]);
        waiting.push(6);
        waiting.push(7);
        drop(part);
        // Four had no room together: the oldest went.
        assert_eq!((waiting.let_go(), waiting.take(999).all()), (4, &[5, 6, 7][..]));
    }

    #[test]
    fn what_anybody_brings_about_leaves_room_for_others() {
        let waiting = Waiting::new(40, |_: &i32| 10);
        assert!(waiting.push_modestly(1) && waiting.push_modestly(2) && !waiting.push_modestly(3));
        waiting.push(4);
        waiting.take(1).settle();
        assert_eq!((waiting.let_go(), waiting.take(999).all()), (1, &[2, 4][..]));
    }
}
