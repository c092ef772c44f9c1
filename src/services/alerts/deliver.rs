//! Who is told, and when: each channel on its own, what is new in one notice, once, and again until it was taken.

use super::{Alerts, Known, words};
use crate::{
    base::{clock::Timestamp, fault::Fault, metrics::alerts::Severity},
    ports::notices::Channel,
    services::health::Finding,
};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds for which others are waited for, so that one cause is one notice.
const GROUP: i64 = 30;
/// Seconds between two notices by one channel, unless something critical fires.
const APART: i64 = 300;
/// Seconds until the next attempt after a first failure, doubled with each, and at most.
const FIRST_PAUSE: i64 = 30;
const LONGEST_PAUSE: i64 = 1800;

/// What a channel has been through in this process.
#[derive(Debug, Default, Clone, Copy)]
pub struct Attempts {
    /// In a row.
    failures: u32,
    next: Timestamp,
    /// The last that was taken.
    last: Timestamp,
}

/// One alert as a notice has it.
#[derive(Debug, Clone)]
pub struct Item {
    pub alert: Known,
    /// It ended; else it fires.
    pub ended: bool,
}

impl Alerts {
    /// Tells by each channel what is new to it.
    pub async fn deliver(&self) {
        let channels = self.channels.iter().zip(&self.attempts);
        futures_util::future::join_all(channels.map(|(channel, tried)| self.tell(channel, tried))).await;
    }

    /// What was taken is noted at once: only a kill in this very moment tells it again.
    async fn tell(&self, channel: &Arc<dyn Channel>, tried: &Mutex<Attempts>) {
        let (name, now) = (channel.name(), self.clock.now());
        let attempts = *tried.lock().unwrap_or_else(PoisonError::into_inner);
        let items = items(&self.state().alerts, name);
        // A clock that was ahead bars nothing.
        let barred = attempts.next > now && attempts.next <= now.plus_seconds(LONGEST_PAUSE);
        if barred || !is_due(&items, attempts.last, now) {
            return;
        }
        let notice = words::notice(&self.head, id(name, &items), now, &items);
        let sent = channel.send(&notice).await;
        let attempts = match &sent {
            Ok(()) => Attempts { failures: 0, next: Timestamp(0), last: now },
            Err(error) => {
                let failures = attempts.failures.saturating_add(1);
                let pause = (FIRST_PAUSE << failures.min(7).saturating_sub(1)).min(LONGEST_PAUSE);
                tracing::warn!(channel = name, failures, %error, "alerts were not told");
                Attempts { failures, next: self.clock.now().plus_seconds(pause), ..attempts }
            }
        };
        *tried.lock().unwrap_or_else(PoisonError::into_inner) = attempts;
        self.report(name, attempts.failures, sent.as_ref().err().map(ToString::to_string));
        if sent.is_ok() {
            self.note(name, &items);
            self.write().await;
        }
    }

    fn note(&self, channel: &str, items: &[Item]) {
        for alert in &mut self.state().alerts {
            let same = |item: &&Item| {
                (&item.alert.name, &item.alert.place, item.alert.since) == (&alert.name, &alert.place, alert.since)
            };
            if let Some(item) = items.iter().find(same) {
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
fn items(alerts: &[Known], channel: &str) -> Vec<Item> {
    let untold = alerts.iter().filter(|alert| alert.fired.is_some()).filter_map(|alert| {
        let ended = alert.ended.is_some();
        let new = match alert.told.get(channel) {
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
    let urgent = items.iter().any(|item| !item.ended && item.alert.severity == Severity::Critical);
    let gathered = oldest.plus_seconds(GROUP) <= now || oldest > now;
    gathered && (urgent || last.plus_seconds(APART) <= now || last > now)
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
