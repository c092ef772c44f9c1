//! Runs each job at its interval, one run at a time, until the drain; counts runs, failures and panics.

use super::Job;
use crate::base::{
    clock::{self, SharedClock, Stopwatch},
    metrics::Metrics,
    random,
    stop::Stop,
    telemetry::{
        scope::Scope,
        traces::{End, Traces},
    },
};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

pub struct Scheduler {
    pub clock: SharedClock,
    pub metrics: Arc<Metrics>,
    /// Absent: none are kept.
    pub traces: Option<Arc<Traces>>,
    pub stop: Stop,
}

impl Scheduler {
    /// A run under way at the drain is finished; at the abort it is cut, and its next run mends it.
    pub fn start(&self, job: impl Job + 'static) {
        let (clock, metrics, traces) = (self.clock.clone(), self.metrics.clone(), self.traces.clone());
        let (mut draining, mut aborting) = (self.stop.clone(), self.stop.clone());
        self.stop.spawn(async move {
            let mut pause = job.first();
            loop {
                tokio::select! {
                    () = clock::pause(pause) => {}
                    () = draining.draining() => return,
                }
                tokio::select! {
                    () = traced(&job, (&clock, &metrics), traces.as_deref()) => {}
                    () = aborting.aborting() => return,
                }
                pause = jittered(job.every());
            }
        });
    }
}

/// A trace of its own for each run, which its lines bear.
async fn traced(job: &dyn Job, (clock, metrics): (&SharedClock, &Metrics), traces: Option<&Traces>) {
    let traces = traces.filter(|_| job.is_traced());
    let scope = match job.is_traced() {
        true => Scope::new(None, None, traces, clock.now()),
        false => Scope::unsent(clock.now()),
    };
    let succeeded = scope.run(run(job, clock, metrics)).await;
    if let Some(traces) = traces {
        let end = End { failed: !succeeded, ..End::default() };
        traces.end(&scope, end, || (format!("job {}", job.name()), Vec::new()));
    }
}

/// Whether it succeeded.
async fn run(job: &dyn Job, clock: &SharedClock, metrics: &Metrics) -> bool {
    let watch = Stopwatch::start();
    let outcome = AssertUnwindSafe(job.run()).catch_unwind().await;
    let millis = watch.millis();
    let succeeded = match outcome {
        Ok(Ok(())) => {
            tracing::debug!(job = job.name(), millis, "job done");
            Some(clock.now())
        }
        Ok(Err(error)) => {
            tracing::error!(job = job.name(), millis, %error, "job failed");
            None
        }
        // Logged where it happened.
        Err(_) => None,
    };
    metrics.job_ran(job.name(), succeeded);
    succeeded.is_some()
}

/// So that machines started together do not work together.
fn jittered(every: Duration) -> Duration {
    let [byte] = random::array::<1>();
    every.mul_f64(0.9 + 0.2 * f64::from(byte) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::SystemClock, stop::Stopper},
        services::{Error, Result},
    };
    use std::sync::atomic::{AtomicUsize, Ordering};

    const STEP: Duration = Duration::from_millis(20);

    struct Odd(Arc<AtomicUsize>);

    #[async_trait::async_trait]
    impl Job for Odd {
        fn name(&self) -> &'static str {
            "odd"
        }

        fn every(&self) -> Duration {
            STEP
        }

        async fn run(&self) -> Result<()> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Error::Unavailable("not yet".to_owned())),
                1 => panic!("on purpose"),
                _ => Ok(()),
            }
        }
    }

    struct Long(Arc<AtomicUsize>);

    #[async_trait::async_trait]
    impl Job for Long {
        fn name(&self) -> &'static str {
            "long"
        }

        fn every(&self) -> Duration {
            STEP
        }

        async fn run(&self) -> Result<()> {
            tokio::time::sleep(STEP * 20).await;
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    fn scheduler(stopper: &Stopper) -> Scheduler {
        let clock: SharedClock = Arc::new(SystemClock);
        Scheduler { clock: clock.clone(), metrics: Metrics::new(clock), traces: None, stop: stopper.stop() }
    }

    #[tokio::test]
    async fn failures_and_panics_are_counted_and_runs_go_on() {
        let stopper = Stopper::default();
        let scheduler = scheduler(&stopper);
        let runs = Arc::new(AtomicUsize::new(0));
        scheduler.start(Odd(runs.clone()));
        while runs.load(Ordering::Relaxed) < 4 {
            tokio::time::sleep(STEP).await;
        }
        assert!(stopper.drain(STEP * 50).await);
        let text = scheduler.metrics.render();
        assert!(text.contains("debrouille_job_failures_total{job=\"odd\"} 2"), "{text}");
        assert!(text.contains("debrouille_job_last_success_timestamp_seconds{job=\"odd\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn the_drain_finishes_a_run_and_starts_no_other() {
        let stopper = Stopper::default();
        let runs = Arc::new(AtomicUsize::new(0));
        scheduler(&stopper).start(Long(runs.clone()));
        tokio::time::sleep(STEP * 4).await;
        assert!(stopper.drain(STEP * 100).await);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn jitter_is_a_tenth() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_secs(10));
            assert!(pause >= Duration::from_secs(9) && pause <= Duration::from_secs(11), "{pause:?}");
        }
    }
}
