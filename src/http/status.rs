//! The routes of the status: everything an operator wants to see first, and what is held.

use super::{alerts::Alert, envelope::Answer, proof::By, spec::Tag};
use crate::{
    base::{
        clock::Timestamp,
        messages::{Language, render},
        metrics::{
            Sample,
            alerts::{AVAILABILITY, MEAN_SECONDS, P95_SECONDS},
            backups,
        },
        process::Usage,
        release,
    },
    domain::holdings::Held,
    services::{
        Result,
        alerts::{CPU, FAILURES, History, REQUESTS},
        health::{Finding, Level},
        status::Glance,
    },
};
use poem_openapi::{Object, OpenApi, param::Query};
use serde::Serialize;
use std::collections::BTreeMap;

pub struct Routes;

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Status {
    version: String,
    environment: String,
    /// RFC 3339
    time: String,
    started_at: String,
    /// `starting`, `serving` or `draining`
    phase: String,
    /// `ready`, `degraded` or `unready`
    ready: String,
    checks: Vec<StatusCheck>,
    objectives: StatusObjectives,
    alerts: Vec<Alert>,
    storage: StatusStorage,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<StatusProcess>,
    backups: Vec<StatusBackup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drill: Option<StatusDrill>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_ends_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_lag_seconds: Option<u64>,
    minutes: StatusMinutes,
}

/// One that is not as it should be
#[derive(Serialize, Object)]
struct StatusCheck {
    check: String,
    /// `warning` or `failure`
    level: String,
    message: String,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct StatusObjectives {
    /// Of requests, the part that must not fail
    availability_target: f64,
    /// In thirty days, by this instance's own count; absent: there were no requests
    #[serde(skip_serializing_if = "Option::is_none")]
    availability: Option<f64>,
    requests: u64,
    failures: u64,
    /// Of the errors allowed in thirty days, the part left; under 0: more were made
    budget_left: f64,
    /// How many times too fast errors come, over an hour, six hours, three days
    burns: Vec<f64>,
    mean_target_seconds: f64,
    p95_target_seconds: f64,
    /// Of the last five minutes
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95_seconds: Option<f64>,
    /// In the last hour, by this process
    answers: u64,
    /// Of these, those that took longer than `p95TargetSeconds`
    slow_answers: u64,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct StatusStorage {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    free_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume_bytes: Option<u64>,
    read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_batches: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_bytes: Option<u64>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct StatusProcess {
    cpu_seconds: f64,
    memory_bytes: u64,
    open_files: u64,
    open_files_limit: u64,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct StatusBackup {
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_full_at: Option<String>,
    /// Failures in a row
    failing: u64,
    damaged: u64,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct StatusDrill {
    ended_at: String,
    passed: bool,
}

/// The last hour, minute by minute, the one that runs last
#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct StatusMinutes {
    requests: Vec<f64>,
    failures: Vec<f64>,
    p95_seconds: Vec<f64>,
    cpu_seconds: Vec<f64>,
    memory_bytes: Vec<f64>,
}

/// What is held at one moment
#[derive(Serialize, Object)]
struct StatusHoldings {
    /// The newest change
    sequence: u64,
    collections: BTreeMap<String, CollectionHeld>,
}

/// The last three: since the place that was given
#[derive(Serialize, Object)]
struct CollectionHeld {
    documents: u64,
    created: u64,
    deleted: u64,
    /// Made, altered or dropped as a whole
    redefined: bool,
}

#[OpenApi(prefix_path = "/api/v1/admin/status", tag = "Tag::Administration")]
impl Routes {
    /// How the instance is, at a glance
    #[oai(path = "/", method = "get", operation_id = "showStatus")]
    async fn show(&self, by: By) -> Result<Answer<Status>> {
        let (state, language) = (&by.exchange.state, by.exchange.language);
        let glance = state.status.glance(&by.caller)?;
        Answer::value(&by.exchange, &Status::of(glance, state.environment.name(), language))
    }

    /// Count the documents of each collection, and those that came and went since a place of the journal
    #[oai(path = "/holdings", method = "get", operation_id = "showHoldings")]
    async fn holdings(&self, by: By, since: Query<Option<u64>>) -> Result<Answer<StatusHoldings>> {
        let holdings = by.exchange.state.status.holdings(&by.caller, since.0).await?;
        let held = |held: Held| {
            let Held { documents, created, deleted, redefined } = held;
            CollectionHeld { documents, created, deleted, redefined }
        };
        let collections = holdings.collections.into_iter().map(|(name, found)| (name, held(found))).collect();
        Answer::value(&by.exchange, &StatusHoldings { sequence: holdings.sequence, collections })
    }
}

impl Status {
    fn of(glance: Glance, environment: &str, language: Language) -> Self {
        let ready = glance.word().to_owned();
        let Glance { seen, started, phase, findings, sample, usage, .. } = glance;
        let checks = findings.into_iter().filter_map(|finding| StatusCheck::of(finding, language)).collect();
        let minutes = StatusMinutes::of(&seen.history, seen.now.seconds());
        Self {
            version: release::version().to_owned(),
            environment: environment.to_owned(),
            time: seen.now.rfc3339(),
            started_at: started.rfc3339(),
            phase: phase.name().to_owned(),
            ready,
            checks,
            objectives: StatusObjectives::of(&seen.objectives),
            alerts: seen.alerts.into_iter().map(|alert| Alert::of(alert, language)).collect(),
            storage: StatusStorage::of(&sample),
            process: usage.map(StatusProcess::of),
            backups: sample.backups.into_iter().map(StatusBackup::of).collect(),
            drill: sample.drill.map(|drill| StatusDrill { ended_at: drill.ended.rfc3339(), passed: drill.passed }),
            certificate_ends_at: sample.certificate_end.map(Timestamp::rfc3339),
            audit_lag_seconds: sample.audit_lag_seconds,
            minutes,
        }
    }
}

impl StatusCheck {
    fn of(finding: Finding, language: Language) -> Option<Self> {
        let level = match finding.level {
            Level::Ok => return None,
            Level::Warning => "warning",
            Level::Failure => "failure",
        };
        let message = finding.fault.map(|fault| render(language, &fault)).unwrap_or_default();
        Some(Self { check: finding.check.into_owned(), level: level.to_owned(), message })
    }
}

impl StatusObjectives {
    fn of(known: &crate::services::alerts::Objectives) -> Self {
        let whole = |count: f64| count.max(0.0) as u64;
        Self {
            availability_target: AVAILABILITY,
            availability: (known.requests > 0.0).then(|| 1.0 - known.failures / known.requests),
            requests: whole(known.requests),
            failures: whole(known.failures),
            budget_left: known.budget_left,
            burns: known.burns.to_vec(),
            mean_target_seconds: MEAN_SECONDS,
            p95_target_seconds: P95_SECONDS,
            mean_seconds: known.mean,
            p95_seconds: known.p95,
            answers: whole(known.answers),
            slow_answers: whole(known.slow),
        }
    }
}

impl StatusStorage {
    fn of(sample: &Sample) -> Self {
        Self {
            bytes: sample.stored_bytes,
            free_bytes: sample.volume_free_bytes,
            volume_bytes: sample.volume_size_bytes,
            read_only: sample.read_only.unwrap_or_default(),
            queued_batches: sample.queued_batches,
            journal_bytes: sample.journal_bytes,
        }
    }
}

impl StatusProcess {
    fn of(usage: Usage) -> Self {
        let Usage { cpu_seconds, resident_bytes, open_files, open_files_limit } = usage;
        Self { cpu_seconds, memory_bytes: resident_bytes, open_files, open_files_limit }
    }
}

impl StatusBackup {
    fn of(target: backups::Target) -> Self {
        let backups::Target { name, full, segment, next, failing, damaged } = target;
        let time = |time: Option<Timestamp>| time.map(Timestamp::rfc3339);
        let (full_at, segment_at, next_full_at) = (time(full.last), time(segment.last), time(next));
        Self { target: name, full_at, segment_at, next_full_at, failing, damaged }
    }
}

impl StatusMinutes {
    fn of(history: &History, now: i64) -> Self {
        Self {
            requests: history.minutes(REQUESTS, now),
            failures: history.minutes(FAILURES, now),
            p95_seconds: history.p95_minutes(now),
            cpu_seconds: history.minutes(CPU, now),
            memory_bytes: history.memory_minutes(now),
        }
    }
}
