//! The certificate shown over HTTPS: issued at start-up, renewed before two thirds of its life, swapped live.

mod bundle;

pub use bundle::Bundle;

use super::{
    Result,
    health::{Finding, Health},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        metrics::Metrics,
    },
    ports::{self, certificates::Leaf},
};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// The name of its check.
pub const CHECK: &str = "certificate";

/// Where connections take their certificate from.
pub trait Show: Send + Sync {
    /// Shows another one from now on, unless its key does not fit it.
    fn show(&self, leaf: &Leaf) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

pub struct Certificates {
    pub issuer: Arc<dyn ports::certificates::Certificates>,
    pub show: Arc<dyn Show>,
    /// Host names and addresses.
    pub names: Vec<String>,
    pub clock: SharedClock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// When the one shown wants a successor, and when it ends.
    pub shown: Mutex<Option<Shown>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub issuer: String,
    pub names: Vec<String>,
    pub start: Timestamp,
    pub renewal: Timestamp,
    pub end: Timestamp,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: String,
}

impl Certificates {
    /// A new certificate, shown at once. The one before stays when anything fails.
    pub async fn renew(&self) -> Result<Shown> {
        let now = self.clock.now();
        let issuer = self.issuer.issuer(now)?;
        let leaf = self.issuer.issue(&self.names, now).await?;
        self.show.show(&leaf).map_err(super::Error::Internal)?;
        let shown = Shown {
            issuer,
            names: self.names.clone(),
            start: leaf.not_before,
            renewal: leaf.renewal(),
            end: leaf.not_after,
            fingerprint: leaf.chain.first().map(|der| hex::encode(Sha256::digest(der))).unwrap_or_default(),
        };
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.clone());
        self.metrics.sample(|sample| sample.certificate_end = Some(shown.end));
        self.health.report(Finding::ok(CHECK));
        tracing::info!(names = self.names.join(" "), end = shown.end.rfc3339(), "certificate issued");
        Ok(shown)
    }

    /// Renews if it is time, or another authority's turn; a failure shows in the instance's health as the end comes near.
    pub async fn renew_when_due(&self) -> Result<()> {
        let now = self.clock.now();
        let shown = self.shown();
        if let Some(shown) = &shown
            && now < shown.renewal
            && self.issuer.issuer(now).is_ok_and(|issuer| issuer == shown.issuer)
        {
            return Ok(());
        }
        let renewed = self.renew().await.map(drop);
        if let (Err(error), Some(shown)) = (&renewed, shown) {
            let fault = |key| Fault::new(key).with("end", shown.end.rfc3339()).with("cause", error);
            self.health.report(if now >= shown.end {
                Finding::failure(CHECK, fault("certificates.ended"))
            } else {
                Finding::warning(CHECK, fault("certificates.not_renewed"))
            });
        }
        renewed
    }

    pub fn shown(&self) -> Option<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::FixedClock,
        ports::certificates::Certificates as Issuer,
        services::health::{Level, Phase},
    };
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use zeroize::Zeroizing;

    const DAY: i64 = 86_400_000;

    /// An authority that can be out of reach.
    #[derive(Default)]
    struct Moody(AtomicBool);

    #[async_trait::async_trait]
    impl Issuer for Moody {
        async fn issue(&self, _: &[String], now: Timestamp) -> ports::Result<Leaf> {
            if self.0.load(Ordering::Relaxed) {
                return Err(ports::Error::Unavailable("on strike".to_owned()));
            }
            let not_after = now.plus_seconds(90 * DAY / 1000);
            Ok(Leaf { chain: Vec::new(), key: Zeroizing::default(), not_before: now, not_after })
        }

        fn issuer(&self, now: Timestamp) -> ports::Result<String> {
            Ok(if now < Timestamp(200 * DAY) { "the first" } else { "the second" }.to_owned())
        }
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Show for Counter {
        fn show(&self, _: &Leaf) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[tokio::test]
    async fn renews_in_time_and_warns_before_it_fails() {
        let clock = Arc::new(FixedClock(0.into()));
        let (issuer, show) = (Arc::new(Moody::default()), Arc::new(Counter::default()));
        let health = Arc::new(Health::default());
        health.enter(Phase::Serving);
        let certificates = Certificates {
            issuer: issuer.clone(),
            show: show.clone(),
            names: Vec::new(),
            clock: clock.clone(),
            metrics: Metrics::new(clock.clone()),
            health: health.clone(),
            shown: Mutex::default(),
        };
        let at = |day: i64| clock.0.store(day * DAY, Ordering::Relaxed);
        let level = || health.findings()[0].level;
        certificates.renew().await.unwrap();
        at(53);
        certificates.renew_when_due().await.unwrap();
        assert_eq!(show.0.load(Ordering::Relaxed), 1, "renewed too soon");

        issuer.0.store(true, Ordering::Relaxed);
        at(59);
        assert!(certificates.renew_when_due().await.is_err());
        assert_eq!((level(), health.ready()), (Level::Warning, true));
        at(91);
        assert!(certificates.renew_when_due().await.is_err());
        assert_eq!((level(), health.ready()), (Level::Failure, false));

        issuer.0.store(false, Ordering::Relaxed);
        certificates.renew_when_due().await.unwrap();
        assert_eq!((level(), show.0.load(Ordering::Relaxed)), (Level::Ok, 2));
        assert_eq!(certificates.shown().unwrap().end, Timestamp(181 * DAY));

        // Another authority's turn, long before the end.
        at(199);
        certificates.renew().await.unwrap();
        at(201);
        certificates.renew_when_due().await.unwrap();
        certificates.renew_when_due().await.unwrap();
        assert_eq!((certificates.shown().unwrap().issuer.as_str(), show.0.load(Ordering::Relaxed)), ("the second", 4));
    }
}
