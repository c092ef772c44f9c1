//! One event as one line: JSON for machines, text for a terminal, JSON behind a priority for the journal.

use super::{
    super::{clock::Timestamp, release},
    About,
    fields::{Fields, Value},
};
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
    member(&mut line, "time", Value::Text(&now.rfc3339()));
    member(&mut line, "level", Value::Text(name(*metadata.level())));
    member(&mut line, "message", fields.get("message").unwrap_or(Value::Plain("null")));
    member(&mut line, "target", Value::Text(metadata.target()));
    for (name, value) in fields.iter().filter(|(name, _)| !TAKEN.contains(name)) {
        member(&mut line, name, value);
    }
    member(&mut line, "environment", Value::Text(&about.environment));
    member(&mut line, "instance", Value::Text(&about.instance));
    member(&mut line, "version", Value::Text(release::version()));
    line.push_str("}\n");
    line
}

/// Names a field cannot take over.
const TAKEN: [&str; 7] = ["time", "level", "message", "target", "environment", "instance", "version"];

fn member(line: &mut String, name: &str, value: Value<'_>) {
    if line.len() > 1 {
        line.push(',');
    }
    line.push('"');
    line.push_str(name);
    line.push_str("\":");
    match value {
        Value::Plain(value) => line.push_str(value),
        Value::Text(text) => {
            line.push('"');
            escape(line, text, true);
            line.push('"');
        }
    }
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
    let say = |line: &mut String, value: Value<'_>| match value {
        Value::Text(words) | Value::Plain(words) => escape(line, words, false),
    };
    if let Some(message) = fields.get("message") {
        say(&mut line, message);
    }
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        // Writing to a string cannot fail.
        let _ = write!(line, " {name}=");
        say(&mut line, value);
    }
    line.push('\n');
    line
}

/// Control characters by their number, the second set (C1) included, which JSON would leave as they are; and, `quoted`,
/// what would end the quotes.
fn escape(line: &mut String, text: &str, quoted: bool) {
    let marked = |letter: char| letter.is_control() || quoted && matches!(letter, '"' | '\\');
    if !text.contains(marked) {
        return line.push_str(text);
    }
    for letter in text.chars() {
        let short = "\n\r\t".find(letter).and_then(|at| ["\\n", "\\r", "\\t"].get(at)).filter(|_| quoted);
        if let Some(short) = short {
            line.push_str(short);
        } else if letter.is_control() {
            let _ = write!(line, "\\u{:04x}", u32::from(letter));
        } else {
            line.push_str(if marked(letter) { "\\" } else { "" });
            line.push(letter);
        }
    }
}
