//! Seals what happened into the audit log, and lets go of entries past their time.

use super::Job;
use crate::{
    base::{fault::Fault, metrics::Metrics},
    services::{
        Result,
        audit::Audit,
        health::{Finding, Health},
    },
};
use std::{sync::Arc, time::Duration};

/// The log is signed a second behind; past this somebody should look.
const LAG_SECONDS: i64 = 10;
const LOG: &str = "audit";
const WITNESS: &str = "audit_witness";

pub struct Sealing {
    pub audit: Arc<Audit>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

#[async_trait::async_trait]
impl Job for Sealing {
    fn name(&self) -> &'static str {
        "audit_sealing"
    }

    fn every(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn first(&self) -> Duration {
        Duration::ZERO
    }

    async fn run(&self) -> Result<()> {
        let sealed = self.seal().await;
        let lag = self.audit.lag_seconds();
        self.metrics.sample(|sample| sample.audit_lag_seconds = u64::try_from(lag).ok());
        self.health.report(match lag > LAG_SECONDS {
            true => Finding::warning(LOG, Fault::new("audit.behind").with("seconds", lag)),
            false => Finding::ok(LOG),
        });
        sealed
    }
}

impl Sealing {
    async fn seal(&self) -> Result<()> {
        self.audit.tell_repeats(false).await?;
        self.audit.seal().await?;
        let (witnessed, fault) = self.audit.witness(false).await?;
        self.health.report(match fault {
            Some(fault) => Finding::warning(WITNESS, fault),
            None => Finding::ok(WITNESS),
        });
        let entries = self.audit.size().await;
        self.metrics.sample(|sample| {
            sample.audit_entries = entries;
            sample.audit_witnessed = witnessed;
        });
        Ok(())
    }
}

pub struct Pruning(pub Arc<Audit>);

#[async_trait::async_trait]
impl Job for Pruning {
    fn name(&self) -> &'static str {
        "audit_pruning"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(&self) -> Result<()> {
        let gone = self.0.prune().await?;
        tracing::debug!(gone, "entries past their time let go");
        Ok(())
    }
}
