//! Who is told, and when: each channel on its own, what is new in one notice, once, and again until it was taken.

use super::{Alerts, Known, words};
use crate::{
    base::{clock::Timestamp, fault::Fault, metrics::alerts::Severity},
    ports::notices::Channel,
    services::health::Finding,
};
use sha2::{Digest, Sha256};
use std::sync::PoisonError;

/// Seconds for which others are waited for, so that one cause is one notice.
const GROUP: i64 = 30;
/// Seconds between two notices by one channel, unless something critical fires.
const APART: i64 = 300;
/// Seconds until the next attempt after a first failure, doubled with each, and at most.
const FIRST_PAUSE: i64 = 30;
const LONGEST_PAUSE: i64 = 1800;

/// What a channel has been through in this process.
#[derive(Debug, Default, Clone)]
pub struct Attempts {
    /// In a row.
    failures: u32,
    next: Timestamp,
    /// The last that was taken.
    last: Timestamp,
    /// Of the last notice tried.
    id: String,
}

/// One alert as a notice has it.
#[derive(Debug, Clone)]
pub struct Item {
    pub alert: Known,
    /// It ended; else it fires.
    pub ended: bool,
}

impl Alerts {
    /// Tells by one way what is new to it. What was taken is noted at once: only a kill in this very moment tells it again.
    pub async fn tell(&self, way: usize) {
        let (Some(channel), Some(tried)) = (self.channels.get(way), self.attempts.get(way)) else { return };
        let (name, now) = (channel.name(), self.clock.now());
        let attempts = tried.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let items = items(&self.state().alerts, &**channel);
        let id = id(name, &items);
        // A clock that was ahead bars nothing, nor what is urgent and was not tried yet.
        let pauses = attempts.next > now && attempts.next <= now.plus_seconds(LONGEST_PAUSE);
        let barred = pauses && (attempts.id == id || !is_urgent(&items));
        if barred || !is_due(&items, attempts.last, now) {
            return;
        }
        let notice = words::notice(&self.head, id.clone(), now, &items);
        let sent = channel.send(&notice).await;
        let attempts = match &sent {
            Ok(()) => Attempts { failures: 0, next: Timestamp(0), last: now, id },
            Err(error) => {
                let failures = attempts.failures.saturating_add(1);
                let pause = (FIRST_PAUSE << failures.min(7).saturating_sub(1)).min(LONGEST_PAUSE);
                tracing::warn!(channel = name, failures, %error, "alerts were not told");
                Attempts { failures, next: self.clock.now().plus_seconds(pause), last: attempts.last, id }
            }
        };
        let failures = attempts.failures;
        *tried.lock().unwrap_or_else(PoisonError::into_inner) = attempts;
        self.report(name, failures, sent.as_ref().err().map(ToString::to_string));
        if sent.is_ok() {
            self.note(name, &items);
            self.write().await;
        }
    }

    fn note(&self, channel: &str, items: &[Item]) {
        for alert in &mut self.state().alerts {
            if let Some(item) = items.iter().find(|item| item.alert.is(alert)) {
                alert.told.insert(channel.to_owned(), item.ended);
            }
        }
    }

    fn report(&self, name: &'static str, failures: u32, error: Option<String>) {
        let check = format!("alerts:{name}");
        self.health.report(match error {
            Some(cause) => {
                Finding::warning(check, Fault::new("alerts.untold").with("channel", name).with("cause", cause))
            }
            None => Finding::ok(check),
        });
        self.metrics.sample(|sample| {
            sample.alert_channels.retain(|(known, _)| *known != name);
            sample.alert_channels.push((name, u64::from(failures)));
        });
    }
}

/// What a channel was not told yet.
fn items(alerts: &[Known], channel: &dyn Channel) -> Vec<Item> {
    let carried = |alert: &&Known| alert.fired.is_some() && channel.carries(alert.severity == Severity::Critical);
    let untold = alerts.iter().filter(carried).filter_map(|alert| {
        let ended = alert.ended.is_some();
        let new = match alert.told.get(channel.name()) {
            None => true,
            Some(told_end) => ended && !told_end,
        };
        new.then(|| Item { alert: alert.clone(), ended })
    });
    untold.collect()
}

fn is_due(items: &[Item], last: Timestamp, now: Timestamp) -> bool {
    let since = |item: &Item| if item.ended { item.alert.ended } else { item.alert.fired };
    let Some(oldest) = items.iter().filter_map(since).min() else { return false };
    let urgent = is_urgent(items);
    let gathered = oldest.plus_seconds(GROUP) <= now || oldest > now;
    gathered && (urgent || last.plus_seconds(APART) <= now || last > now)
}

fn is_urgent(items: &[Item]) -> bool {
    items.iter().any(|item| !item.ended && item.alert.severity == Severity::Critical)
}

/// The same for the same news by the same channel.
fn id(channel: &str, items: &[Item]) -> String {
    let mut digest = Sha256::new();
    digest.update(channel);
    for Item { alert, ended } in items {
        digest.update(format!("\n{} {} {} {ended}", alert.name, alert.since.0, alert.place));
    }
    hex::encode(&digest.finalize()[..16])
}
