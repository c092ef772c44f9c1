//! What goes on over one connection: enough to tell a slow head from an idle wait from work.

use crate::base::clock::Stopwatch;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// No head is on its way.
const NONE: u64 = u64::MAX;

pub struct Activity {
    watch: Stopwatch,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    /// When the last answer ended, in milliseconds of the watch.
    last_end: AtomicU64,
    /// When the head now arriving began, likewise.
    head: AtomicU64,
}

impl Activity {
    /// A connection just opened owes its first head.
    pub fn new() -> Arc<Self> {
        let (in_flight, requests, last_end, head) = Default::default();
        Arc::new(Self { watch: Stopwatch::start(), in_flight, requests, last_end, head })
    }

    /// Bytes came in.
    pub fn heard(&self) {
        if self.in_flight.load(Ordering::Relaxed) == 0 && self.head.load(Ordering::Relaxed) == NONE {
            self.head.store(self.watch.millis(), Ordering::Relaxed);
        }
    }

    /// A head is complete.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head.store(NONE, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// No request ever arrived whole.
    pub fn fresh(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// How long this connection may still go on as it is: `None` once a head took longer than `head`, or nothing
    /// was in flight for longer than `idle`.
    pub fn allowance(&self, head: Option<Duration>, idle: Duration) -> Option<Duration> {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return Some(head.map_or(idle, |head| head.min(idle)));
        }
        let begun = self.head.load(Ordering::Relaxed);
        let (since, limit) = match head {
            Some(limit) if begun != NONE => (begun, limit),
            _ => (self.last_end.load(Ordering::Relaxed), idle),
        };
        let rest = limit.checked_sub(Duration::from_millis(self.watch.millis().saturating_sub(since)))?;
        // While we sleep out one wait, the other may begin.
        let rest = head.map_or(rest, |head| rest.min(head)).min(idle);
        (!rest.is_zero()).then_some(rest)
    }
}

/// A request being answered; dropped when the answer is sent or given up.
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.last_end.store(self.0.watch.millis(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
