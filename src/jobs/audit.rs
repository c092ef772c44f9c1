//! Seals what happened into the audit log, and lets go of entries past their time.

use super::Job;
use crate::{
    base::{clock::Timestamp, fault::Fault, metrics::Metrics},
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
        let told = self.audit.tell_repeats(false).await;
        // What is on disk is sealed whatever cannot be told.
        self.audit.seal().await?;
        let entries = self.audit.size().await;
        self.metrics.sample(|sample| sample.audit_entries = entries);
        told
    }
}

/// Leaves checkpoints with the witnesses. A job of its own: a server that does not answer holds no sealing up.
pub struct Witnessing {
    /// When this process began: one that never answered since is as old as that.
    pub started: Timestamp,
    pub audit: Arc<Audit>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

#[async_trait::async_trait]
impl Job for Witnessing {
    fn name(&self) -> &'static str {
        "audit_witnessing"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self) -> Result<()> {
        let (witnessed, fault) = self.audit.witness().await?;
        self.health.report(match fault {
            Some(fault) => Finding::warning(WITNESS, fault),
            None => Finding::ok(WITNESS),
        });
        let witnessed = witnessed.or_else(|| self.audit.is_witnessed().then_some(self.started));
        self.metrics.sample(|sample| sample.audit_witnessed = witnessed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::documents::embedded::{Embedded, Options},
        base::{
            clock::{Clock, FixedClock},
            environment::Environment,
        },
        ports::documents::Documents,
        services::{
            audit::Settings,
            health::Level,
            instance::{self, Stamp},
            keyring::Keyring,
        },
    };
    use std::sync::atomic::Ordering;
    use zeroize::Zeroizing;

    #[tokio::test]
    async fn a_log_that_falls_behind_shows_in_health_and_metrics() {
        let clock = Arc::new(FixedClock(1_800_000_000_000.into()));
        let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
        let documents: Arc<dyn Documents> = Arc::new(store.unwrap());
        instance::furnish(&*documents, clock.now()).await.unwrap();
        let keyring = Arc::new(Keyring::generate((Zeroizing::default(), Vec::new()), clock.now()));
        let stamp = Stamp::new(Environment::Development, clock.now());
        let access = crate::services::access::bare(documents.clone(), clock.clone());
        let audit =
            Audit::new(documents.clone(), clock.clone(), stamp.clone(), keyring.clone(), Settings::default(), access);
        let (health, metrics) = (Arc::new(Health::default()), Metrics::new(clock.clone()));
        let job = Sealing { audit: Arc::new(audit), metrics: metrics.clone(), health: health.clone() };
        let level = || health.findings().iter().find(|finding| finding.check == LOG).map(|finding| finding.level);
        clock.0.fetch_add(60_000, Ordering::Relaxed);
        job.run().await.unwrap();
        assert_eq!(level(), Some(Level::Ok), "sealed to the end of the journal");
        let sample = metrics.sampled();
        assert_eq!(
            (sample.audit_lag_seconds, sample.audit_entries.is_some_and(|entries| entries > 5)),
            (Some(0), true)
        );
        // A witness that never answered is as old as this process.
        let witnessing =
            |audit| Witnessing { started: Timestamp(5), audit, metrics: metrics.clone(), health: health.clone() };
        witnessing(job.audit.clone()).run().await.unwrap();
        assert_eq!(metrics.sampled().audit_witnessed, None, "there is none");
        let settings = Settings {
            witness: vec![crate::services::audit::Place::Disk("/absent/place".into())],
            ..Settings::default()
        };
        let access = crate::services::access::bare(documents.clone(), clock.clone());
        let watched = Audit::new(documents.clone(), clock.clone(), stamp, keyring, settings, access);
        watched.seal().await.unwrap();
        witnessing(Arc::new(watched)).run().await.unwrap();
        assert_eq!(metrics.sampled().audit_witnessed, Some(Timestamp(5)));
        documents.close().await.unwrap();
        clock.0.fetch_add(11_000, Ordering::Relaxed);
        assert!(job.run().await.is_err());
        assert_eq!((level(), metrics.sampled().audit_lag_seconds), (Some(Level::Warning), Some(11)));
    }
}
