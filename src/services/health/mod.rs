//! Is it fit to serve? Named findings, the same for `/readyz`, `doctor` and the refusal to start.

mod observer;

pub use observer::{DISK, Observer, STORE, disk};

use crate::base::fault::Fault;
use std::{
    borrow::Cow,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU8, Ordering},
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// Works, and somebody should look at it.
    Warning,
    /// Must not start, or not be sent requests.
    Failure,
}

/// The outcome of one check. A warning or failure says what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One that is made of many, as backup targets are, names which: `backup:usb`.
    pub check: Cow<'static, str>,
    pub level: Level,
    pub fault: Option<Fault>,
}

impl Finding {
    pub fn ok(check: impl Into<Cow<'static, str>>) -> Self {
        Self { check: check.into(), level: Level::Ok, fault: None }
    }

    pub fn warning(check: impl Into<Cow<'static, str>>, fault: Fault) -> Self {
        Self { check: check.into(), level: Level::Warning, fault: Some(fault) }
    }

    pub fn failure(check: impl Into<Cow<'static, str>>, fault: Fault) -> Self {
        Self { check: check.into(), level: Level::Failure, fault: Some(fault) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Phase {
    Starting,
    Serving,
    /// Finishing what is in flight before the end.
    Draining,
    /// Starting, and bringing data of an earlier release along.
    Migrating,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Migrating => "migrating",
        }
    }
}

/// The running instance's state of health; jobs report to it, `/readyz` reads it.
#[derive(Default)]
pub struct Health {
    phase: AtomicU8,
    findings: RwLock<Vec<Finding>>,
}

impl Health {
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            3 => Phase::Migrating,
            _ => Phase::Draining,
        }
    }

    /// Replaces the last finding of the same check.
    pub fn report(&self, finding: Finding) {
        let mut findings = self.findings.write().unwrap_or_else(PoisonError::into_inner);
        match findings.iter_mut().find(|known| known.check == finding.check) {
            Some(known) => *known = finding,
            None => findings.push(finding),
        }
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.findings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn ready(&self) -> bool {
        let findings = self.findings.read().unwrap_or_else(PoisonError::into_inner);
        self.phase() == Phase::Serving && findings.iter().all(|finding| finding.level < Level::Failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_while_serving_without_failures() {
        let health = Health::default();
        assert!(!health.ready(), "ready while starting");
        health.enter(Phase::Serving);
        assert!(health.ready());
        health.report(Finding::warning("disk", Fault::new("certificates.no_names")));
        assert!(health.ready(), "a warning stopped it");
        health.report(Finding::failure("disk", Fault::new("certificates.no_names")));
        assert!(!health.ready());
        health.report(Finding::ok("disk"));
        assert!(health.ready());
        assert_eq!(health.findings().len(), 1);
        health.enter(Phase::Draining);
        assert!(!health.ready());
    }
}
