//! Tables and progress bars, and the one way to stdout.

use super::{
    context::Context,
    failure::{Code, Failure, unwritable},
};
use crate::base::messages::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::{
    io::{ErrorKind, IsTerminal, Write},
    time::Duration,
};

/// Writes to stdout. A reader that left (`| head`) is no failure.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    show(bytes).map(drop)
}

pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// As [`write`]; answers whether somebody still reads.
pub fn show(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(unwritable("stdout", error)),
    }
}

/// What `--json` answers of a command that failed.
pub fn failure(code: Code, messages: &[String]) {
    let document = json!({ "error": { "exit": code as u8, "messages": messages } });
    let _ = write(format!("{document:#}\n").as_bytes());
}

/// Columns as wide as their widest cell, two spaces apart; no rows, no header.
pub fn table<const N: usize>(header: [String; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..N)
        .map(|column| rows.iter().chain([&header]).map(|row| width(&row[column])).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width_) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width_ + 2 - width(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `1,4 Gio` needs no locale: powers of 1024 with one decimal.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// `3 h`: in units that both languages write alike.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// A bar with rate and remaining time, shown on a terminal for what lasts over a second.
pub struct Progress {
    bar: ProgressBar,
    drawn: bool,
    draws: bool,
}

impl Progress {
    /// `total` in the unit counted, when it is known; `unit` is a key of the catalogue.
    pub fn new(context: &Context, total: Option<u64>, unit: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let unit = text(context.language, unit);
        let remaining = text(context.language, "cli.progress.remaining");
        let template = match total {
            Some(_) => {
                format!("{{wide_bar}} {{percent}} %  {{human_pos}} {unit}  {{per_sec}}  {remaining} {{eta}}")
            }
            None => format!("{{spinner}} {{human_pos}} {unit}  {{per_sec}}  {{elapsed}}"),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Self { bar, drawn: false, draws: context.draws() }
    }

    /// Counts in bytes: rates and sizes are shown in their own units.
    pub fn of_bytes(context: &Context, total: Option<u64>) -> Self {
        let progress = Self::new(context, total, "cli.progress.documents");
        let remaining = text(context.language, "cli.progress.remaining");
        let template = match total {
            Some(_) => {
                format!("{{wide_bar}} {{percent}} %  {{binary_bytes}}  {{binary_bytes_per_sec}}  {remaining} {{eta}}")
            }
            None => "{spinner} {binary_bytes}  {binary_bytes_per_sec}  {elapsed}".to_owned(),
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            progress.bar.set_style(style);
        }
        progress
    }

    /// A total learnt on the way.
    pub fn of(&mut self, position: u64, total: u64) {
        self.bar.set_length(total);
        self.at(position);
    }

    pub fn at(&mut self, position: u64) {
        if self.draws && !self.drawn && self.bar.elapsed() > Duration::from_secs(1) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.drawn = true;
        }
        self.bar.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_accents() {
        let rows = [["é".to_owned(), "1".to_owned()], ["abc".to_owned(), String::new()]];
        assert_eq!(table(["n".to_owned(), "x".to_owned()], &rows), "n    x\né    1\nabc\n");
        assert_eq!(table(["n".to_owned()], &[]), "");
    }
}
