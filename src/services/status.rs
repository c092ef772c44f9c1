//! How the instance is, at a glance: health, objectives, alerts and the last hour; and what it holds, for who must know
//! that nothing of it was lost.

use super::{
    Error, Result,
    access::Caller,
    alerts::{Alerts, Seen},
    health::{Finding, Health, Level, Phase},
};
use crate::{
    base::{
        clock::Timestamp,
        fault::Fault,
        metrics::{Metrics, Sample},
        process::{self, Usage},
    },
    domain::holdings::{Held, Holdings},
    ports::documents::{Action, COLLECTIONS, Documents, RECEIPTS, Sequence, Snapshot},
};
use std::sync::Arc;

/// Journal records read at once.
const RECORDS: usize = 500;

pub struct Status {
    pub alerts: Arc<Alerts>,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    /// When this process began.
    pub started: Timestamp,
    pub documents: Arc<dyn Documents>,
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

    /// For the same; what came and went since a place of the journal, where one is given. `Gone` where the journal does not
    /// reach back so far.
    pub async fn holdings(&self, caller: &Caller, since: Option<u64>) -> Result<Holdings> {
        self.alerts.seen(caller)?;
        let snapshot = self.documents.snapshot().await?;
        let read = tokio::task::spawn_blocking(move || held(&*snapshot, since)).await;
        read.map_err(|error| Error::Internal(Box::new(error)))?
    }
}

fn held(snapshot: &dyn Snapshot, since: Option<u64>) -> Result<Holdings> {
    let mut holdings = Holdings { sequence: snapshot.sequence().0, ..Holdings::default() };
    // Answers kept for retries come and go without a record.
    for name in snapshot.collections()?.into_iter().filter(|name| name != RECEIPTS) {
        let documents = snapshot.count(&name)?;
        holdings.collections.insert(name, Held { documents, ..Held::default() });
    }
    let Some(since) = since else { return Ok(holdings) };
    let mut after = since;
    loop {
        let records = snapshot.records(Sequence(after), RECORDS)?;
        let Some(last) = records.last() else { break };
        // They follow one another without a gap.
        if after == since && records.first().is_some_and(|first| first.sequence.0 != since + 1) {
            break;
        }
        after = last.sequence.0;
        for record in &records {
            if record.collection == COLLECTIONS {
                holdings.collections.entry(record.id.clone()).or_default().redefined = true;
            }
            let held = holdings.collections.entry(record.collection.clone()).or_default();
            match record.action {
                Action::Create => held.created += 1,
                Action::Update => {}
                Action::Delete => held.deleted += 1,
            }
        }
    }
    match after == holdings.sequence {
        true => Ok(holdings),
        false => Err(Error::Gone(Fault::new("updates.journal_gone").with("sequence", since))),
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
