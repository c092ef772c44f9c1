//! How the instance is, at a glance: health, objectives, alerts and the last hour.

use super::{
    Result,
    access::Caller,
    alerts::{Alerts, Seen},
    health::{Finding, Health, Level, Phase},
};
use crate::base::{
    clock::Timestamp,
    metrics::{Metrics, Sample},
    process::{self, Usage},
};
use std::sync::Arc;

pub struct Status {
    pub alerts: Arc<Alerts>,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// When this process began.
    pub started: Timestamp,
}

pub struct Glance {
    pub seen: Seen,
    pub started: Timestamp,
    pub phase: Phase,
    pub ready: bool,
    pub findings: Vec<Finding>,
    pub sample: Sample,
    pub usage: Option<Usage>,
}

impl Status {
    /// For who may see alerts.
    pub fn glance(&self, caller: &Caller) -> Result<Glance> {
        let seen = self.alerts.seen(caller)?;
        let (phase, ready, findings) = (self.health.phase(), self.health.ready(), self.health.findings());
        let (sample, usage) = (self.metrics.sampled(), process::usage());
        Ok(Glance { seen, started: self.started, phase, ready, findings, sample, usage })
    }
}

impl Glance {
    /// `ready`, `degraded` or `unready`, as `/readyz` has it.
    pub fn word(&self) -> &'static str {
        match self.ready {
            true if self.findings.iter().all(|finding| finding.level == Level::Ok) => "ready",
            true => "degraded",
            false => "unready",
        }
    }
}
