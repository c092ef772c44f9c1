//! Backups by the schedule: a job for each target, so that one that is away holds up no other; how they stand; and
//! their shares read again.

use super::Job;
use crate::{
    base::{clock::SharedClock, fault::Fault, metrics, metrics::Metrics, stop::Stop},
    services::{
        Result,
        backups::{Backups, Failure, Kind, Sent, Tally, Watch},
        health::{Finding, Health},
    },
};
use std::{sync::Arc, time::Duration};

/// A full backup this late is told: its hours never come, or the target takes none.
const LATE_SECONDS: i64 = 24 * 3600;

/// At a stop, a target where nothing moves for so long is not waited for.
pub const AWAY: Duration = Duration::from_secs(3);

/// Sends what is due to one target, and drops what the plan drops after a full backup. Its pauses run by the steady
/// clock: whatever the other does, segments go on.
pub struct Shipping {
    pub backups: Arc<Backups>,
    pub target: String,
    pub stop: Stop,
}

#[async_trait::async_trait]
impl Job for Shipping {
    fn name(&self) -> &'static str {
        "backup"
    }

    fn every(&self) -> Duration {
        self.backups.every()
    }

    fn first(&self) -> Duration {
        Duration::from_secs(2).min(self.every())
    }

    async fn run(&self) -> Result<()> {
        let mut stop = self.stop.clone();
        let made = tokio::select! {
            made = self.backups.ship(&self.target) => made?,
            () = async {
                stop.draining().await;
                self.backups.stalled(&self.target, AWAY).await;
            } => return Ok(()),
        };
        if made.is_some_and(|made| made.header.kind == Kind::Full) {
            self.backups.prune_target(&self.target).await?;
        }
        Ok(())
    }
}

/// Shows how each target stands.
pub struct Watching {
    pub backups: Arc<Backups>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub clock: SharedClock,
}

#[async_trait::async_trait]
impl Job for Watching {
    fn name(&self) -> &'static str {
        "backup_watching"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn first(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self) -> Result<()> {
        let all = self.backups.watch().await?;
        for watch in &all {
            self.health.report(self.finding(watch));
        }
        self.metrics.sample(|sample| sample.backups = all.iter().map(sampled).collect());
        Ok(())
    }
}

impl Watching {
    /// What is worst of a target.
    fn finding(&self, Watch { name, state, next, .. }: &Watch) -> Finding {
        let check = format!("backup:{name}");
        let fault = |key| Fault::new(key).with("target", name);
        if let Some(damaged) = state.damaged.last() {
            let good = damaged.good.clone().unwrap_or_default();
            let until = damaged.good_until.map(|until| until.rfc3339()).unwrap_or_default();
            let fault = fault("backups.found_damaged").with("count", state.damaged.len()).with("good", good);
            return Finding::warning(check, fault.with("name", &damaged.name).with("until", until));
        }
        if let Some(Failure { text, since, times, .. }) = &state.failure {
            let fault = fault("backups.failing").with("times", times).with("since", since.rfc3339());
            return Finding::warning(check, fault.with("cause", text));
        }
        if self.backups.are_configured() && next.plus_seconds(LATE_SECONDS) < self.clock.now() {
            return Finding::warning(check, fault("backups.late").with("since", next.rfc3339()));
        }
        Finding::ok(check)
    }
}

fn sampled(Watch { name, state, next, full, segment }: &Watch) -> metrics::backups::Target {
    let kind = |sent: &Option<Sent>, Tally { failures, bytes, millis, .. }: Tally| {
        let last = sent.as_ref().map(|sent| sent.created);
        metrics::backups::Kind { last, failures, bytes, millis }
    };
    metrics::backups::Target {
        name: name.clone(),
        full: kind(&state.full, *full),
        // A full one holds what a segment would.
        segment: kind(&state.last().cloned(), *segment),
        next: Some(*next),
        failing: state.failure.as_ref().map_or(0, |failure| failure.times.into()),
        damaged: state.damaged.len() as u64,
    }
}

/// Reads a target's share of the week again.
pub struct Rereading {
    pub backups: Arc<Backups>,
    pub target: String,
    /// It may take hours, and begins anew.
    pub stop: Stop,
}

#[async_trait::async_trait]
impl Job for Rereading {
    fn name(&self) -> &'static str {
        "backup_rereading"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(&self) -> Result<()> {
        let mut stop = self.stop.clone();
        tokio::select! {
            read = self.backups.reread(&self.target) => {
                let read = read?;
                if read > 0 {
                    tracing::info!(backup_target = self.target, read, "backups read again are sound");
                }
                Ok(())
            }
            () = stop.draining() => Ok(()),
        }
    }
}
