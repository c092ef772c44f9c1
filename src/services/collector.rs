//! Traces and lines on their way to a collector: sent in parts, held while it is away, counted when they are let go of.

use super::{Error, Result};
use crate::{
    base::{
        clock::Stopwatch,
        metrics::Metrics,
        telemetry::{Part, Record, Waiting, traces::Traces},
    },
    ports::{self, collector},
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Bytes of one message, as they lie in memory: collectors take 4 MiB.
const TOGETHER: usize = 1 << 20;
/// Until one that was away or refused is asked again, twice as long each time, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

pub struct Collector {
    collector: Arc<dyn collector::Collector>,
    traces: Arc<Traces>,
    /// Absent: lines go elsewhere.
    records: Option<Arc<Waiting<Record>>>,
    metrics: Arc<Metrics>,
    trouble: Mutex<Trouble>,
    /// Of traces and of records, as counted before.
    let_go: [AtomicU64; 2],
}

#[derive(Default)]
struct Trouble {
    /// In a row.
    failures: u64,
    since: Option<Stopwatch>,
    pause: Duration,
}

impl Collector {
    pub fn new(
        collector: Arc<dyn collector::Collector>,
        traces: Arc<Traces>,
        records: Option<Arc<Waiting<Record>>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { collector, traces, records, metrics, trouble: Mutex::default(), let_go: Default::default() }
    }

    /// Sends what waits. After a failure nothing is sent for a while; what was not sent goes on waiting. That it is away
    /// is no failure of ours: a gauge says so, and one line.
    pub async fn deliver(&self) {
        let waits = {
            let trouble = self.trouble();
            trouble.since.is_some_and(|since| since.elapsed() < trouble.pause)
        };
        if !waits {
            let sent = self.send_all().await;
            self.note(sent);
        }
        self.count();
    }

    /// The last of it, at a stop: what is not taken in time goes.
    pub async fn finish(&self, patience: Duration) {
        let late = |_| Err(Error::Unavailable("no answer in time".to_owned()));
        if let Err(error) = tokio::time::timeout(patience, self.send_all()).await.unwrap_or_else(late) {
            let (traces, records) = (self.traces.waiting.count(), self.records.as_ref().map_or(0, |all| all.count()));
            tracing::warn!(%error, traces, records, "the last traces and lines did not reach the collector");
        }
    }

    /// What comes meanwhile waits for the next time. Neither kind holds up the other.
    async fn send_all(&self) -> Result<()> {
        let (traces, records) = (self.send_traces().await, self.send_records().await);
        traces.and(records)
    }

    async fn send_traces(&self) -> Result<()> {
        for _ in 0..self.traces.waiting.count() {
            let part = self.traces.waiting.take(TOGETHER);
            if part.all().is_empty() {
                break;
            }
            let sent = self.collector.take_traces(part.all()).await;
            self.settle("traces", part, sent)?;
        }
        Ok(())
    }

    async fn send_records(&self) -> Result<()> {
        let Some(waiting) = &self.records else { return Ok(()) };
        for _ in 0..waiting.count() {
            let part = waiting.take(TOGETHER);
            if part.all().is_empty() {
                break;
            }
            let sent = self.collector.take_records(part.all()).await;
            self.settle("records", part, sent)?;
        }
        Ok(())
    }

    fn settle<T>(&self, kind: &'static str, part: Part<'_, T>, sent: ports::Result<u64>) -> Result<()> {
        let count = part.all().len() as u64;
        match sent {
            Ok(refused) => {
                let refused = refused.min(count);
                self.metrics.collected(kind, "refused", refused);
                self.metrics.collected(kind, "sent", count - refused);
                part.settle();
                Ok(())
            }
            Err(error @ (ports::Error::Unavailable(_) | ports::Error::OutOfReach(_))) => Err(error.into()),
            // Whoever sends it again is refused again.
            Err(error) => {
                self.metrics.collected(kind, "refused", count);
                part.settle();
                Err(error.into())
            }
        }
    }

    fn note(&self, sent: Result<()>) {
        let mut trouble = self.trouble();
        match sent {
            Ok(()) if trouble.failures > 0 => {
                tracing::info!(failures = trouble.failures, "the collector takes traces and lines again");
                *trouble = Trouble::default();
            }
            Ok(()) => {}
            Err(error) => {
                if trouble.failures == 0 {
                    tracing::warn!(%error, "the collector does not take traces and lines; it is asked again from time to time");
                }
                trouble.failures += 1;
                trouble.pause = (trouble.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                trouble.since = Some(Stopwatch::start());
            }
        }
        self.metrics.sample(|sample| sample.collector_failures = Some(trouble.failures));
    }

    /// What had no room to wait.
    fn count(&self) {
        let records = self.records.as_ref().map_or(0, |records| records.let_go());
        let now = [("traces", self.traces.waiting.let_go()), ("records", records)];
        for ((kind, now), before) in now.into_iter().zip(&self.let_go) {
            self.metrics.collected(kind, "let_go", now.saturating_sub(before.swap(now, Ordering::Relaxed)));
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        clock::{FixedClock, Timestamp},
        fault::Fault,
        telemetry::{
            scope::Scope,
            traces::{End, Trace},
        },
    };

    /// Answers as it is told to, and remembers how many it was given.
    #[derive(Default)]
    struct Odd(Mutex<Vec<ports::Result<u64>>>, AtomicU64);

    #[async_trait::async_trait]
    impl collector::Collector for Odd {
        async fn take_traces(&self, traces: &[Trace]) -> ports::Result<u64> {
            self.1.fetch_add(traces.len() as u64, Ordering::Relaxed);
            let next = self.0.lock().unwrap().pop();
            match next {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }

        async fn take_records(&self, _: &[Record]) -> ports::Result<u64> {
            Ok(0)
        }
    }

    fn collector(answers: Vec<ports::Result<u64>>) -> (Collector, Arc<Odd>, Arc<Metrics>) {
        let (odd, metrics) =
            (Arc::new(Odd(Mutex::new(answers), AtomicU64::new(0))), Metrics::new(Arc::new(FixedClock(1.into()))));
        let traces = Traces::new(100);
        for _ in 0..3 {
            traces.end(&Scope::new(None, None, Some(&traces), Timestamp(1)), End::default(), || {
                ("job".to_owned(), vec![])
            });
        }
        (Collector::new(odd.clone(), traces, None, metrics.clone()), odd, metrics)
    }

    fn away() -> ports::Result<u64> {
        Err(ports::Error::Unavailable("away".to_owned()))
    }

    #[tokio::test]
    async fn one_that_is_away_is_left_alone_for_a_while_and_loses_nothing() {
        let (collector, odd, metrics) = collector(vec![Ok(1), away()]);
        collector.deliver().await;
        collector.deliver().await;
        assert_eq!(
            (odd.1.load(Ordering::Relaxed), collector.traces.waiting.count()),
            (3, 3),
            "it was asked again at once"
        );
        assert_eq!(metrics.sampled().collector_failures, Some(1));
        collector.finish(Duration::from_secs(1)).await;
        assert_eq!((odd.1.load(Ordering::Relaxed), collector.traces.waiting.count()), (6, 0), "the last was not sent");
        let text = metrics.render();
        for line in [r#"{kind="traces",fate="sent"} 2"#, r#"{kind="traces",fate="refused"} 1"#] {
            assert!(text.contains(&format!("debrouille_collector_items_total{line}")), "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_goes_and_what_is_cut_short_stays() {
        let (collector, odd, metrics) = collector(vec![Err(ports::Error::Rejected(Fault::new("collector.refused")))]);
        collector.deliver().await;
        assert!(metrics.render().contains(r#"{kind="traces",fate="refused"} 3"#));
        assert_eq!(collector.traces.waiting.count(), 0);
        let (collector, ..) = self::collector(vec![]);
        collector.finish(Duration::from_millis(5)).await;
        assert_eq!((collector.traces.waiting.count(), odd.1.load(Ordering::Relaxed)), (3, 3));
    }
}
