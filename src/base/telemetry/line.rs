//! One event as one line: JSON for machines, text for a terminal, JSON behind a priority for the journal.

use super::{super::clock::Timestamp, About, fields::Fields};
use serde_json::Value;
use std::{borrow::Cow, cell::OnceCell, fmt::Write};
use tracing::{Level, Metadata};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Json,
    Text {
        colour: bool,
    },
    /// sd-daemon(3): `<6>` and the like before the line.
    Journal,
    /// `<6>TIME ` before the line, as `syslog.rs` takes it apart.
    Syslog,
}

/// An event in the styles asked for; JSON is made once for all who want it.
pub(super) struct Lines<'a> {
    now: Timestamp,
    about: &'a About,
    metadata: &'a Metadata<'a>,
    fields: &'a Fields,
    json: OnceCell<String>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(now: Timestamp, about: &'a About, metadata: &'a Metadata<'a>, fields: &'a Fields) -> Self {
        Self { now, about, metadata, fields, json: OnceCell::new() }
    }

    /// With its line feed.
    pub(super) fn of(&self, style: Style) -> Cow<'_, str> {
        let json = || self.json.get_or_init(|| json(self.now, self.about, self.metadata, self.fields));
        match style {
            Style::Json => json().into(),
            Style::Text { colour } => text(self.now, self.metadata, self.fields, colour).into(),
            Style::Syslog => format!("<{}>{} {}", priority(*self.metadata.level()), self.now.rfc3339(), json()).into(),
            Style::Journal => format!("<{}>{}", priority(*self.metadata.level()), json()).into(),
        }
    }
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

fn json(now: Timestamp, about: &About, metadata: &Metadata<'_>, fields: &Fields) -> String {
    let mut line = String::with_capacity(512);
    line.push('{');
    member(&mut line, "time", &now.rfc3339().into());
    member(&mut line, "level", &name(*metadata.level()).into());
    member(&mut line, "message", fields.get("message").unwrap_or(&Value::Null));
    member(&mut line, "target", &metadata.target().into());
    for (name, value) in fields.iter().filter(|(name, _)| !TAKEN.contains(name)) {
        member(&mut line, name, value);
    }
    member(&mut line, "environment", &about.environment.as_str().into());
    member(&mut line, "instance", &about.instance.as_str().into());
    member(&mut line, "version", &env!("CARGO_PKG_VERSION").into());
    let mut line = escape(line);
    line.push_str("}\n");
    line
}

/// Names a field cannot take over.
const TAKEN: [&str; 7] = ["time", "level", "message", "target", "environment", "instance", "version"];

fn member(line: &mut String, name: &str, value: &Value) {
    if line.len() > 1 {
        line.push(',');
    }
    // Writing to a string cannot fail.
    let _ = write!(line, "\"{name}\":{value}");
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
        Value::String(words) => escape(words.clone()),
        other => other.to_string(),
    };
    line.push_str(&fields.get("message").map(words).unwrap_or_default());
    for (name, value) in fields.iter().filter(|(name, value)| *name != "message" && !value.is_null()) {
        let _ = write!(line, " {name}={}", words(value));
    }
    line.push('\n');
    line
}

/// Control characters, the second set (C1) included, which JSON leaves as they are.
fn escape(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
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
