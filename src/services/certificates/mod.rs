//! The certificates shown over HTTPS: one of our own authority always, and for the names that others certify, theirs, from
//! files or from a public authority, with what that says of it. Whatever fails, the last good one is shown, else our own; each is
//! swapped live.

mod bundle;
mod challenges;
mod orders;
mod staples;

pub use bundle::Bundle;
pub use challenges::Challenges;
pub use orders::{ORDERS, Orders};
pub use staples::{Staple, Stapled, Staples};

use super::{
    Error, Result,
    health::{Finding, Health},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        metrics::Metrics,
    },
    domain::certificate::Certificate,
    ports::{
        self,
        certificates::{Issuer, Kept, Leaf},
    },
};
use staples::Ask;
use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Semaphore;

/// The name of its check.
pub const CHECK: &str = "certificate";
/// Another's certificate is not for all names.
const UNCOVERED: &str = "certificates.uncovered";
/// For files to be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where connections take their certificates from.
pub trait Show: Send + Sync {
    /// Shows another one of our own from now on, unless its key does not fit it.
    fn show(&self, leaf: &Leaf) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;
    /// The same, to those who ask for a name that it is for; `None`: our own to all.
    fn show_public(&self, leaf: Option<&Leaf>) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;
    /// Shows this with others' certificate from now on, if that is the one of this fingerprint, which it must be about.
    fn staple(&self, fingerprint: &str, staple: Option<Staple>);
}

/// Who certifies the configured names.
#[derive(Clone)]
pub enum Mode {
    Internal,
    Files(Arc<dyn Kept>),
    /// In the order they are asked.
    Acme(Vec<Arc<dyn Issuer>>),
}

impl Mode {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Files(_) => "files",
            Self::Acme(_) => "acme",
        }
    }
}

pub struct Certificates {
    /// Our own authority.
    pub issuer: Arc<dyn ports::certificates::Certificates>,
    pub show: Arc<dyn Show>,
    /// Host names and addresses that our own is for.
    pub names: Vec<String>,
    pub clock: SharedClock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub orders: Orders,
    pub staples: Staples,
    pub sources: Sources,
}

/// Who certifies, and what is shown of theirs and of ours.
pub struct Sources {
    mode: RwLock<Mode>,
    own: Mutex<Option<Shown>>,
    public: Mutex<Option<Shown>>,
    /// Why the last attempt came to nothing.
    trouble: Mutex<Option<Fault>>,
    reading: Arc<Semaphore>,
}

impl Sources {
    pub fn of(mode: Mode) -> Self {
        let (own, public, trouble) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { mode: mode.into(), own, public, trouble, reading: Arc::new(Semaphore::new(1)) }
    }
}

/// A certificate that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub certificate: Certificate,
    /// When its successor is asked for; `None`: that is another's work.
    pub renewal: Option<Timestamp>,
    /// DER, itself first.
    pub chain: Vec<Vec<u8>>,
}

/// What those see who come by the configured names.
pub struct Served {
    pub mode: &'static str,
    pub shown: Shown,
    /// For some or all names it is our own, since the one wanted is not there.
    pub fallback: bool,
    /// In a row.
    pub failures: u32,
    /// When it is tried again, after failures.
    pub next: Option<Timestamp>,
    pub trouble: Option<Fault>,
    /// What its authority says of it; `None`: it has nobody answer, and the certificate does not want it.
    pub staple: Option<Stapled>,
}

impl Shown {
    fn of(leaf: &Leaf, renewal: Option<Timestamp>) -> Result<Self> {
        let der = leaf.chain.first().map(Vec::as_slice).unwrap_or_default();
        let certificate = Certificate::read(der).map_err(|error| Error::Internal(error.into()))?;
        Ok(Self { certificate, renewal, chain: leaf.chain.clone() })
    }
}

impl Certificates {
    /// Another one, at once: of our own, read from its files again, or ordered.
    pub async fn renew(&self) -> Result<()> {
        let outcome = match self.mode() {
            Mode::Internal => return self.renew_own().await,
            Mode::Files(kept) => self.read(kept).await,
            Mode::Acme(issuers) => match self.orders.order(&issuers).await {
                Ok(leaf) => self.show_ordered(&leaf),
                Err(error) => Err(error),
            },
        };
        let outcome = self.settle(outcome);
        self.staple(Ask::Now).await;
        self.tell(None);
        outcome
    }

    /// One of our own under a new key. The one before stays when anything fails.
    pub async fn renew_own(&self) -> Result<()> {
        let leaf = self.own().await?;
        let shown = Shown::of(&leaf, Some(leaf.renewal()))?;
        self.show.show(&leaf).map_err(Error::Internal)?;
        let Certificate { names, not_after, .. } = &shown.certificate;
        tracing::info!(names = names.join(" "), end = not_after.rfc3339(), "certificate issued");
        *lock(&self.sources.own) = Some(shown);
        self.tell(None);
        Ok(())
    }

    /// Where others certify the names, ours is for those of them that our authority was made for.
    async fn own(&self) -> Result<Leaf> {
        let now = self.clock.now();
        match self.issuer.issue(&self.names, now).await {
            Err(ports::Error::Rejected(fault)) if !matches!(self.mode(), Mode::Internal) => {
                tracing::warn!(%fault, "our own certificate is for fewer names");
                let mut fit = Vec::new();
                for name in &self.names {
                    if self.issuer.issue(std::slice::from_ref(name), now).await.is_ok() {
                        fit.push(name.clone());
                    }
                }
                Ok(self.issuer.issue(&fit, now).await?)
            }
            issued => Ok(issued?),
        }
    }

    /// Shows what there was before this start. Only where our own is all there is must it be there.
    pub async fn begin(&self) -> Result<()> {
        if let Err(error) = self.orders.recall().await {
            tracing::error!(%error, "the certificate ordered before is not found again: another is ordered");
        }
        let own = self.renew_own().await;
        match (self.mode(), own) {
            (Mode::Internal, own) => return own,
            (_, Err(error)) => tracing::error!(%error, "no certificate of our own"),
            (_, Ok(())) => {}
        }
        if let Err(error) = self.resume().await {
            tracing::warn!(%error, "no certificate from where the configuration says, so far");
        }
        self.staple(Ask::No).await;
        self.tell(None);
        Ok(())
    }

    /// What its authority says of others' certificate is shown with it, as far as there is something.
    async fn staple(&self, ask: Ask) {
        let public = lock(&self.sources.public).clone();
        let chain = public.as_ref().map(|shown| &*shown.chain).unwrap_or_default();
        let show = |staple| {
            if let Some(Shown { certificate, .. }) = &public {
                self.show.staple(&certificate.fingerprint, staple);
            }
        };
        self.staples.tend(chain, ask, show).await;
    }

    /// What can be shown without asking anybody.
    async fn resume(&self) -> Result<()> {
        match self.mode() {
            Mode::Internal => Ok(()),
            Mode::Files(kept) => {
                let read = self.read(kept).await;
                self.settle(read)
            }
            Mode::Acme(_) => self.orders.leaf().map_or(Ok(()), |leaf| self.show_ordered(&leaf)),
        }
    }

    /// Another source from now on; what was shown of the one before stays until there is something in its place.
    pub async fn switch(&self, mode: Mode) -> Result<()> {
        let (from, to) = (self.mode().name(), mode.name());
        if let Mode::Internal = mode {
            self.withdraw()?;
        }
        *self.sources.mode.write().unwrap_or_else(PoisonError::into_inner) = mode;
        *lock(&self.sources.trouble) = None;
        tracing::info!(from, to, "certificates come from where the configuration says");
        // Orders take their time, and those who call this have none.
        let resumed = self.resume().await;
        self.staple(Ask::No).await;
        self.tell(None);
        resumed
    }

    /// Renews what is due, reads what others keep, and says how it stands; to be called every so often.
    pub async fn tend(&self) -> Result<()> {
        let own = self.tend_own().await;
        let now = self.clock.now();
        if lock(&self.sources.public).as_ref().is_some_and(|shown| now >= shown.certificate.not_after) {
            tracing::error!("the certificate has ended: one of our own is shown");
            self.withdraw()?;
        }
        let public = match self.mode() {
            // An order that was on its way when the source changed.
            Mode::Internal if lock(&self.sources.public).is_some() => self.withdraw(),
            Mode::Internal => Ok(()),
            Mode::Files(_) => {
                let told = lock(&self.sources.trouble).clone();
                // Said when it begins, not twice a minute.
                match self.resume().await {
                    Err(_) if told.is_some() && told == *lock(&self.sources.trouble) => Ok(()),
                    read => read,
                }
            }
            Mode::Acme(issuers) => match self.orders.tend(&issuers).await {
                // Taken away by a clock that was ahead, it is shown again.
                Ok(None) if lock(&self.sources.public).is_none() => self.resume().await,
                Ok(None) => Ok(()),
                Ok(Some(leaf)) => {
                    let shown = self.show_ordered(&leaf);
                    self.settle(shown)
                }
                Err(error) => self.settle(Err(error)),
            },
        };
        self.staple(Ask::IfDue).await;
        self.tell(own.as_ref().err());
        own.and(public)
    }

    /// Renews our own if it is time, or another authority's turn.
    async fn tend_own(&self) -> Result<()> {
        let now = self.clock.now();
        let shown = lock(&self.sources.own).clone();
        // Told at the start: our authority was made for none of the names.
        if shown.is_none() && !matches!(self.mode(), Mode::Internal) {
            return Ok(());
        }
        if let Some(Shown { certificate, renewal: Some(renewal), .. }) = shown
            && now < renewal
            && now >= certificate.not_before
            && self.issuer.issuer(now).is_ok_and(|issuer| issuer == certificate.issuer)
        {
            return Ok(());
        }
        self.renew_own().await
    }

    /// Keeps why it came to nothing, until it no longer does.
    fn settle(&self, outcome: Result<()>) -> Result<()> {
        let fault = outcome.as_ref().err().map(|error| match error {
            Error::Invalid(fault) | Error::OutOfReach(fault) | Error::Refused(fault) => fault.clone(),
            other => Fault::new("certificates.trouble").with("cause", other),
        });
        *lock(&self.sources.trouble) = fault;
        self.tell(None);
        outcome
    }

    /// Files may lie on a disk that does not answer: one read at a time waits for it, and nobody for that one.
    async fn read(&self, kept: Arc<dyn Kept>) -> Result<()> {
        let away = || Error::OutOfReach(Fault::new("certificates.file_away").with("file", kept.place()));
        let permit = self.sources.reading.clone().try_acquire_owned().map_err(|_| away())?;
        let (now, from) = (self.clock.now(), kept.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            from.read(now)
        });
        let leaf = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| away())?.map_err(|_| away())??;
        let shown = Shown::of(&leaf, None)?;
        if lock(&self.sources.public).as_ref() == Some(&shown) {
            return Ok(());
        }
        self.show.show_public(Some(&leaf)).map_err(Error::Internal)?;
        let Certificate { names, not_after, .. } = &shown.certificate;
        tracing::info!(file = kept.place(), names = names.join(" "), end = not_after.rfc3339(), "certificate read");
        *lock(&self.sources.public) = Some(shown);
        Ok(())
    }

    fn show_ordered(&self, leaf: &Leaf) -> Result<()> {
        // Another source may have been chosen while it was ordered.
        if !matches!(self.mode(), Mode::Acme(_)) {
            return Ok(());
        }
        let shown = Shown::of(leaf, self.orders.renewal())?;
        self.show.show_public(Some(leaf)).map_err(Error::Internal)?;
        *lock(&self.sources.public) = Some(shown);
        Ok(())
    }

    fn withdraw(&self) -> Result<()> {
        self.show.show_public(None).map_err(Error::Internal)?;
        *lock(&self.sources.public) = None;
        Ok(())
    }

    /// Tells metrics and health. `own`: why our own was not renewed.
    fn tell(&self, own: Option<&Error>) {
        let Some(served) = self.served() else { return };
        let (end, failures) = (served.shown.certificate.not_after, u64::from(served.failures));
        let wanted = served.mode != Mode::Internal.name();
        self.metrics.sample(|sample| {
            sample.certificate_end = Some(end);
            sample.certificate_fallback = wanted.then_some(served.fallback);
            sample.certificate_failures = wanted.then_some(failures);
            let asked = served.staple.as_ref().filter(|staple| staple.next.is_some());
            sample.certificate_revoked = asked.map(|staple| staple.revoked().is_some());
        });
        self.health.report(self.finding(&served, own));
    }

    fn finding(&self, served: &Served, own: Option<&Error>) -> Finding {
        let end = served.shown.certificate.not_after;
        let fault =
            |key, cause: &dyn std::fmt::Display| Fault::new(key).with("end", end.rfc3339()).with("cause", cause);
        let ours = served.fallback || served.mode == Mode::Internal.name();
        let staple = served.staple.as_ref();
        let revoked = staple.and_then(Stapled::revoked);
        let bare = staple.filter(|staple| staple.required && staple.answer.is_none());
        match (own, &served.trouble) {
            (Some(error), _) if ours && self.clock.now() >= end => {
                Finding::failure(CHECK, fault("certificates.ended", error))
            }
            _ if let Some(since) = revoked => {
                Finding::warning(CHECK, Fault::new("certificates.revoked").with("time", since.rfc3339()))
            }
            (Some(error), _) if ours => Finding::warning(CHECK, fault("certificates.not_renewed", error)),
            (_, Some(cause)) if cause.key == UNCOVERED => Finding::warning(CHECK, cause.clone()),
            (_, Some(cause)) if served.fallback => Finding::warning(CHECK, fault("certificates.fallback", cause)),
            (_, Some(cause)) => Finding::warning(CHECK, fault("certificates.not_renewed", cause)),
            (_, None) if served.fallback => Finding::warning(CHECK, fault("certificates.awaited", &served.mode)),
            _ => match bare.and_then(|staple| staple.trouble.as_ref()) {
                Some(cause) => Finding::warning(CHECK, fault("certificates.unstapled", cause)),
                None => Finding::ok(CHECK),
            },
        }
    }

    /// `None`: nothing is shown yet.
    pub fn served(&self) -> Option<Served> {
        let (mode, public) = (self.mode(), lock(&self.sources.public).clone());
        let own = lock(&self.sources.own).clone();
        let (failures, next, renewal) = match mode {
            Mode::Acme(_) => {
                let (failures, next) = self.orders.attempts();
                (failures, next, self.orders.renewal())
            }
            _ => (u32::from(lock(&self.sources.trouble).is_some()), None, None),
        };
        let trouble = lock(&self.sources.trouble).clone();
        let bare = match (&mode, &public) {
            (Mode::Internal, _) => Vec::new(),
            (_, Some(public)) => self.uncovered(&public.certificate),
            (_, None) => self.orders.names().to_vec(),
        };
        let fallback = !bare.is_empty();
        let trouble = trouble.or_else(|| match &public {
            Some(_) if fallback => Some(Fault::new(UNCOVERED).with("names", bare.join(" "))),
            _ => None,
        });
        let public = public.map(|shown| Shown { renewal: renewal.filter(|_| shown.renewal.is_some()), ..shown });
        let staple = public.as_ref().and_then(|_| self.staples.status());
        let shown = public.or(own)?;
        Some(Served { mode: mode.name(), shown, fallback, failures, next, trouble, staple })
    }

    /// The configured names that another's certificate is not for.
    fn uncovered(&self, certificate: &Certificate) -> Vec<String> {
        self.orders.names().iter().filter(|name| !certificate.covers(name)).cloned().collect()
    }

    fn mode(&self) -> Mode {
        self.sources.mode.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
