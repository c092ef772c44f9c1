//! Traces and lines on their way to a collector: sent in parts, held while it is away, counted when they are let go of.

use super::{Error, Result};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        metrics::Metrics,
        telemetry::{Record, Waiting, traces::Traces},
    },
    ports::{self, collector},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Of either, in one message.
const TOGETHER: usize = 256;
/// Seconds until a collector that was away is asked again, twice as many each time, and at most.
const FIRST_PAUSE: i64 = 5;
const LONGEST_PAUSE: i64 = 300;

pub struct Collector {
    pub collector: Arc<dyn collector::Collector>,
    pub traces: Arc<Traces>,
    /// Absent: lines go elsewhere.
    pub records: Option<Arc<Waiting<Record>>>,
    pub clock: SharedClock,
    pub metrics: Arc<Metrics>,
    away: Away,
}

/// Until when it is not asked, and how long that was.
#[derive(Default)]
struct Away {
    until: AtomicI64,
    pause: AtomicI64,
    let_go: [AtomicU64; 2],
}

impl Collector {
    pub fn new(
        collector: Arc<dyn collector::Collector>,
        traces: Arc<Traces>,
        records: Option<Arc<Waiting<Record>>>,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { collector, traces, records, clock, metrics, away: Away::default() }
    }

    /// Sends what waits. Away, it is not asked for a while; what was not sent goes on waiting.
    pub async fn deliver(&self) -> Result<()> {
        if self.clock.now() < Timestamp(self.away.until.load(Ordering::Relaxed)) {
            return Ok(());
        }
        let delivered = self.send_all().await;
        self.count();
        match &delivered {
            Ok(()) => self.away.pause.store(0, Ordering::Relaxed),
            Err(_) => {
                let pause = (self.away.pause.load(Ordering::Relaxed) * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                self.away.pause.store(pause, Ordering::Relaxed);
                self.away.until.store(self.clock.now().plus_seconds(pause).0, Ordering::Relaxed);
            }
        }
        delivered
    }

    /// The last of it, at a stop: what is not taken in time goes.
    pub async fn finish(&self, patience: Duration) {
        let late = |_| Err(Error::Unavailable("no answer in time".to_owned()));
        if let Err(error) = tokio::time::timeout(patience, self.deliver()).await.unwrap_or_else(late) {
            tracing::warn!(%error, "the last traces and lines did not reach the collector");
        }
    }

    /// What comes meanwhile waits for the next time.
    async fn send_all(&self) -> Result<()> {
        let waiting = &self.traces.waiting;
        for _ in 0..waiting.count().div_ceil(TOGETHER) {
            let part = waiting.take(TOGETHER);
            let sent = self.collector.take_traces(&part).await;
            self.settle("traces", waiting, part, sent)?;
        }
        let Some(waiting) = &self.records else { return Ok(()) };
        for _ in 0..waiting.count().div_ceil(TOGETHER) {
            let part = waiting.take(TOGETHER);
            let sent = self.collector.take_records(&part).await;
            self.settle("records", waiting, part, sent)?;
        }
        Ok(())
    }

    fn settle<T>(&self, kind: &'static str, waiting: &Waiting<T>, part: Vec<T>, sent: ports::Result<()>) -> Result<()> {
        let count = part.len() as u64;
        match sent {
            Ok(()) => self.metrics.collected(kind, "sent", count),
            Err(ports::Error::Rejected(fault)) => {
                self.metrics.collected(kind, "refused", count);
                tracing::warn!(%fault, kind, count, "the collector refused some of these");
            }
            Err(error) => {
                waiting.give_back(part);
                return Err(Error::from(error));
            }
        }
        Ok(())
    }

    /// What had no room to wait.
    fn count(&self) {
        let records = self.records.as_ref().map_or(0, |records| records.let_go());
        let now = [("traces", self.traces.waiting.let_go()), ("records", records)];
        for ((kind, now), before) in now.into_iter().zip(&self.away.let_go) {
            self.metrics.collected(kind, "let_go", now.saturating_sub(before.swap(now, Ordering::Relaxed)));
        }
    }
}
