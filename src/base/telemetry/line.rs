//! One event as one line: JSON for machines, text for a terminal, JSON behind a priority for the journal.

use super::{super::clock::Timestamp, fields::Fields};
use serde_json::Value;
use std::fmt::Write;
use tracing::{Level, Metadata};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Json,
    Text {
        colour: bool,
    },
    /// sd-daemon(3): `<6>` and the like before the line.
    Journal,
}

pub(super) fn line(style: Style, now: Timestamp, metadata: &Metadata<'_>, fields: &Fields) -> String {
    let mut line = match style {
        Style::Json => json(now, metadata, fields),
        Style::Text { colour } => text(now, metadata, fields, colour),
        Style::Journal => format!("<{}>{}", priority(*metadata.level()), json(now, metadata, fields)),
    };
    line.push('\n');
    line
}

/// syslog(3) priorities.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        _ => "trace",
    }
}

fn json(now: Timestamp, metadata: &Metadata<'_>, fields: &Fields) -> String {
    let mut object = serde_json::Map::new();
    object.insert("time".to_owned(), now.rfc3339().into());
    object.insert("level".to_owned(), name(*metadata.level()).into());
    object.insert("message".to_owned(), fields.get("message").cloned().unwrap_or_default());
    object.insert("target".to_owned(), metadata.target().into());
    for (name, value) in fields.iter() {
        object.entry(name).or_insert_with(|| value.clone());
    }
    escape(&Value::Object(object).to_string())
}

fn text(now: Timestamp, metadata: &Metadata<'_>, fields: &Fields, colour: bool) -> String {
    let time = now.rfc3339();
    let clock = time.get(11..).unwrap_or(&time);
    let (on, off) = match (colour, *metadata.level()) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
    };
    let mut line = format!("{clock} {on}{:5}{off} ", name(*metadata.level()));
    let words = |value: &Value| match value {
        Value::String(words) => escape(words),
        other => other.to_string(),
    };
    line.push_str(&fields.get("message").map(words).unwrap_or_default());
    for (name, value) in fields.iter().filter(|(name, value)| *name != "message" && !value.is_null()) {
        let _ = write!(line, " {name}={}", words(value));
    }
    line
}

/// Control characters, the second set (C1) included, which JSON leaves as they are.
fn escape(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if letter.is_control() {
            let _ = write!(escaped, "\\u{:04x}", u32::from(letter));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}
