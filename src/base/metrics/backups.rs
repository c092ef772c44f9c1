//! Backups as metrics: a series for each configured target and kind, so they are few.

use super::super::clock::Timestamp;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use std::fmt;

/// A target as it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub full: Kind,
    pub segment: Kind,
    pub next: Option<Timestamp>,
    /// Failures in a row.
    pub failing: u64,
    /// Backups there that were found damaged.
    pub damaged: u64,
}

/// Since the process began, but for the last success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kind {
    pub last: Option<Timestamp>,
    pub failures: u64,
    pub bytes: u64,
    /// What the last one took.
    pub millis: u64,
}

type OfKind<'a> = [(&'static str, &'a str); 2];
type Encoded = Result<(), fmt::Error>;

pub fn encode(targets: &[Target], now: Timestamp, encoder: &mut DescriptorEncoder<'_>) -> Encoded {
    let age = |time: Timestamp| now.seconds().saturating_sub(time.seconds()).max(0);
    let help = "When the last backup began that ended well";
    gauges(targets, encoder, "backup_last_success_timestamp_seconds", help, |kind| kind.last.map(Timestamp::seconds))?;
    let help = "How old the last backup is";
    gauges(targets, encoder, "backup_last_success_age_seconds", help, |kind| kind.last.map(age))?;
    let help = "What the last backup took, in whole seconds";
    let seconds = |kind: &Kind| kind.last.map(|_| i64::try_from(kind.millis.div_ceil(1000)).unwrap_or(i64::MAX));
    gauges(targets, encoder, "backup_duration_seconds", help, seconds)?;
    counters(targets, encoder, "backup_failures", "Backups that failed", |kind| kind.failures)?;
    counters(targets, encoder, "backup_sent_bytes", "Bytes of backups sent", |kind| kind.bytes)?;
    let next = |target: &Target| target.next.map(Timestamp::seconds);
    each(targets, encoder, "backup_next_run_timestamp_seconds", "When the next full backup is due", next)?;
    let failing = |target: &Target| i64::try_from(target.failing).ok();
    each(targets, encoder, "backup_failing", "Failures in a row, 0 once one ended well", failing)?;
    let damaged = |target: &Target| i64::try_from(target.damaged).ok();
    each(targets, encoder, "backup_damaged", "Backups at the target found damaged", damaged)
}

fn kinds(target: &Target) -> [(OfKind<'_>, &Kind); 2] {
    let of = |kind| [("target", target.name.as_str()), ("kind", kind)];
    [(of("full"), &target.full), (of("segment"), &target.segment)]
}

fn gauges(
    targets: &[Target],
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl Fn(&Kind) -> Option<i64>,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, None, ConstGauge::new(0_i64).metric_type())?;
    for (labels, kind) in targets.iter().flat_map(kinds) {
        if let Some(value) = value(kind) {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn counters(
    targets: &[Target],
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl Fn(&Kind) -> u64,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, None, ConstCounter::new(0_u64).metric_type())?;
    for (labels, kind) in targets.iter().flat_map(kinds) {
        ConstCounter::new(value(kind)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn each(
    targets: &[Target],
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl Fn(&Target) -> Option<i64>,
) -> Encoded {
    let mut family = encoder.encode_descriptor(name, help, None, ConstGauge::new(0_i64).metric_type())?;
    for target in targets {
        if let Some(value) = value(target) {
            ConstGauge::new(value).encode(family.encode_family(&[("target", target.name.as_str())])?)?;
        }
    }
    Ok(())
}
