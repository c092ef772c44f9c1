//! Knows what the last restore drill came to, and when the next is due.

use super::Job;
use crate::{
    base::metrics::{Drill, Metrics},
    services::{
        Result,
        drills::{self, Drills},
        health::Health,
    },
};
use std::{sync::Arc, time::Duration};

pub struct Age {
    pub drills: Arc<Drills>,
    /// After so many a drill is overdue.
    pub days: u32,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

#[async_trait::async_trait]
impl Job for Age {
    fn name(&self) -> &'static str {
        "drill_age"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn first(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self) -> Result<()> {
        let newest = self.drills.newest().await?;
        let (stamp, now) = (&self.drills.stamp, self.drills.clock.now());
        self.health.report(drills::finding(stamp.environment, self.days, newest.as_ref(), stamp.created_at, now));
        self.metrics.sample(|sample| {
            sample.drill = newest.map(|kept| Drill {
                ended: kept.ended,
                passed: kept.passed,
                rto_seconds: kept.rto_millis.map(|millis| millis.div_ceil(1000)),
                rpo_seconds: kept.rpo_seconds,
            });
        });
        Ok(())
    }
}
