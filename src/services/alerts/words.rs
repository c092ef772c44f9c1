//! What a notice says: one subject, text for people in both languages, a line for a telephone, the same for programs.

use super::{Head, Known, deliver::Item};
use crate::{
    base::{
        clock::Timestamp,
        fault::Fault,
        messages::{Language, lookup, render},
        metrics::alerts::Severity,
    },
    ports::notices::Notice,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Letters of one message to a telephone.
const SHORT: usize = 160;
/// Alerts of one notice, and those its subject names: what waited for days must not become too long to be taken.
const MOST: usize = 30;
const NAMED: usize = 4;
const LANGUAGES: [Language; 2] = [Language::French, Language::English];

pub fn notice(head: &Head, id: String, time: Timestamp, items: &[Item]) -> Notice {
    let firing = |item: &&Item| !item.ended;
    let urgent = items.iter().filter(firing).any(|item| item.alert.severity == Severity::Critical);
    let kind = match (urgent, items.iter().any(|item| !item.ended)) {
        (true, _) => "alerts.subject_critical",
        (false, true) => "alerts.subject_warning",
        (false, false) => "alerts.subject_ended",
    };
    let names: BTreeSet<_> = items.iter().map(|item| format!("{}{}", item.alert.name, place(&item.alert))).collect();
    let mut named: Vec<_> = names.iter().take(NAMED).map(String::as_str).collect();
    if names.len() > NAMED {
        named.push("…");
    }
    let subject = subject(head, kind, &named.join(", "));
    let text = LANGUAGES.map(|language| body(head, language, items)).join("\n— — —\n\n");
    let alerts: Vec<_> = items.iter().take(MOST).map(|item| value(&item.alert)).collect();
    let data = json!({
        "id": id,
        "time": time.rfc3339(),
        "host": head.host,
        "environment": head.environment,
        "alerts": alerts,
    });
    Notice { id, time, urgent, short: cut(&subject), subject, text, data }
}

/// One that says that the way is open.
pub fn trial(head: &Head, time: Timestamp) -> Notice {
    let subject = subject(head, "alerts.subject_test", "test");
    let words = |language| render(language, &Fault::new("alerts.test").with("host", &head.host));
    let id = format!("test-{}", time.0);
    let data = json!({
        "id": id,
        "time": time.rfc3339(),
        "host": head.host,
        "environment": head.environment,
        "test": true,
        "alerts": [],
    });
    let text = LANGUAGES.map(words).join("\n\n— — —\n\n");
    Notice { id, time, urgent: true, short: cut(&subject), subject, text, data }
}

fn subject(head: &Head, kind: &'static str, names: &str) -> String {
    let kind = LANGUAGES.map(|language| lookup(language, kind).unwrap_or_default()).join(" / ");
    format!("{kind}: {names} ({}, {})", head.host, head.environment)
}

fn body(head: &Head, language: Language, items: &[Item]) -> String {
    let told = Fault::new("alerts.head").with("host", &head.host).with("environment", head.environment);
    let mut text = format!("{}\n\n", render(language, &told));
    for Item { alert, ended } in items.iter().take(MOST) {
        let key = match (ended, alert.severity) {
            (true, _) => "alerts.item_ended",
            (false, Severity::Critical) => "alerts.item_critical",
            (false, Severity::Warning) => "alerts.item_warning",
        };
        let line = Fault::new(key)
            .with("name", &alert.name)
            .with("place", place(alert))
            .with("since", alert.fired.unwrap_or(alert.since).rfc3339())
            .with("until", alert.ended.map(Timestamp::rfc3339).unwrap_or_default());
        text.push_str(&format!("{}\n{}\n\n", render(language, &line), meaning(language, &alert.name)));
    }
    if let Some(more) = items.len().checked_sub(MOST).filter(|more| *more > 0) {
        text.push_str(&format!("{}\n", render(language, &Fault::new("alerts.more").with("count", more))));
    }
    text
}

/// Which of several it is.
fn place(alert: &Known) -> String {
    if alert.place.is_empty() { String::new() } else { format!(" [{}]", alert.place) }
}

/// What an alert means and where to look next.
pub fn meaning(language: Language, name: &str) -> &'static str {
    lookup(language, &format!("alert.{name}")).unwrap_or_default()
}

fn value(alert: &Known) -> Value {
    let labels = alert.place.split(' ').filter_map(|label| label.split_once('='));
    let labels: serde_json::Map<_, _> = labels.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    json!({
        "name": alert.name,
        "severity": alert.severity,
        "status": if alert.ended.is_some() { "resolved" } else { "firing" },
        "labels": labels,
        "startsAt": alert.fired.unwrap_or(alert.since).rfc3339(),
        "endsAt": alert.ended.map(Timestamp::rfc3339),
        "summary": meaning(Language::French, &alert.name),
        "description": meaning(Language::English, &alert.name),
    })
}

fn cut(text: &str) -> String {
    text.chars().take(SHORT).collect()
}
