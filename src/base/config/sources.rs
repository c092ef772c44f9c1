//! Where settings come from: the file, `.env`, the environment, flags; each value with its origin.

use super::{
    settings::{SETTINGS, Setting, sections},
    value::Raw,
};
use crate::base::fault::Fault;
use std::{
    collections::{BTreeMap, HashSet},
    fmt, io,
    path::{Path, PathBuf},
};

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// A line of `.env`.
    DotEnv {
        path: PathBuf,
        line: usize,
        name: String,
    },
    Environment {
        name: String,
    },
    Flag {
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::DotEnv { path, line, name } => write!(f, "{}:{line} {name}", path.display()),
            Self::Environment { name } => write!(f, "env {name}"),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

/// One value as a source gave it.
#[derive(Debug, Clone)]
pub struct Given {
    pub setting: &'static Setting,
    pub raw: Raw,
    pub origin: Origin,
}

/// Names of the product's own in the environment that are no setting: see `cli`.
const OTHER_NAMES: &[&str] = &["DEBROUILLE_CONFIG", "DEBROUILLE_LANG", "DEBROUILLE_JSON", "DEBROUILLE_QUIET"];

/// The process's environment; names and values that are not UTF-8 are left out.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn process() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The settings of a TOML file. An absent file gives none, unless it was asked for by name.
pub fn file(path: &Path, required: bool, faults: &mut Vec<Fault>) -> Vec<Given> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Vec::new(),
        Err(error) => {
            faults.push(Fault::new("config.unreadable").at(path.display().to_string()).with("why", error));
            return Vec::new();
        }
    };
    let place = |start: Option<usize>| format!("{}:{}", path.display(), line_of(&text, start));
    let document = match toml_edit::Document::parse(text.as_str()) {
        Ok(document) => document,
        Err(error) => {
            let why = error.message().replace('\n', " ");
            faults.push(Fault::new("config.syntax").at(place(error.span().map(|span| span.start))).with("why", why));
            return Vec::new();
        }
    };
    let mut given = Vec::new();
    let known = sections();
    for (section, item) in document.as_table() {
        let start = document.as_table().key(section).and_then(toml_edit::Key::span).map(|span| span.start);
        let start = start.or_else(|| item.span().map(|span| span.start));
        if !known.contains(&section) {
            faults.push(
                Fault::new("config.unknown_section")
                    .at(place(start))
                    .with("section", section)
                    .with("known", known.join(", ")),
            );
            continue;
        }
        let Some(table) = item.as_table_like() else {
            faults.push(Fault::new("config.not_a_section").at(place(start)).with("section", section));
            continue;
        };
        for (name, item) in table.iter() {
            let start = table.key(name).and_then(toml_edit::Key::span).map(|span| span.start);
            let setting = Setting::find(&format!("{section}.{name}"));
            let (Some(setting), Some(value)) = (setting, item.as_value()) else {
                faults.push(unknown_key(section, name).at(place(start)));
                continue;
            };
            let line = line_of(&text, start);
            given.push(Given {
                setting,
                raw: Raw::Toml(value.clone()),
                origin: Origin::File { path: path.to_owned(), line },
            });
        }
    }
    given
}

fn unknown_key(section: &str, name: &str) -> Fault {
    let known: Vec<&str> =
        SETTINGS.iter().map(Setting::parts).filter(|parts| parts.0 == section).map(|parts| parts.1).collect();
    Fault::new("config.unknown_key").with("section", section).with("name", name).with("known", known.join(", "))
}

fn line_of(text: &str, start: Option<usize>) -> usize {
    let before = text.as_bytes().get(..start.unwrap_or(0)).unwrap_or_default();
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// The settings of an environment, names in the order of the table.
pub fn environment(names: &BTreeMap<String, String>, faults: &mut Vec<Fault>) -> Vec<Given> {
    named(names, |name| Origin::Environment { name: name.to_owned() }, faults)
}

/// The settings of a `.env` file, if there is one.
pub fn dotenv(path: &Path, faults: &mut Vec<Fault>) -> Vec<Given> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.push(Fault::new("config.unreadable").at(path.display().to_string()).with("why", error));
            return Vec::new();
        }
    };
    let mut names = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        match assignment(line) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                lines.insert(name.clone(), number);
                names.insert(name, value);
            }
            Err(()) => faults.push(Fault::new("config.dotenv_line").at(format!("{}:{number}", path.display()))),
        }
    }
    let origin = |name: &str| Origin::DotEnv {
        path: path.to_owned(),
        line: lines.get(name).copied().unwrap_or(1),
        name: name.to_owned(),
    };
    named(&names, origin, faults)
}

/// `NAME=value`, `export NAME="value"`, `NAME='value' # note`; blank lines and comments are nothing.
fn assignment(line: &str) -> Result<Option<(String, String)>, ()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=').ok_or(())?;
    let (name, value) = (name.trim(), value.trim());
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !named {
        return Err(());
    }
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (inside, rest) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)).ok_or(())?;
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                return Err(());
            }
            inside
        }
        _ => value.split(" #").next().unwrap_or_default().trim(),
    };
    Ok(Some((name.to_owned(), value.to_owned())))
}

fn named(names: &BTreeMap<String, String>, origin: impl Fn(&str) -> Origin, faults: &mut Vec<Fault>) -> Vec<Given> {
    let mut known: HashSet<String> = OTHER_NAMES.iter().map(|&name| name.to_owned()).collect();
    let mut given: Vec<Given> = Vec::new();
    for setting in SETTINGS {
        let mut first: Option<(String, String)> = None;
        for name in setting.environment() {
            let from_file = format!("{name}_FILE");
            let value = names.get(&name).filter(|value| !value.is_empty());
            let path = names.get(&from_file).filter(|path| setting.secret() && !path.is_empty());
            let found = match (value, path) {
                (Some(_), Some(_)) => {
                    faults.push(Fault::new("config.secret_twice").at(origin(&name).to_string()).with("name", &name));
                    None
                }
                (None, Some(path)) => {
                    secret_file(path, &origin(&from_file), faults).map(|secret| (from_file.clone(), secret))
                }
                (value, None) => value.map(|value| (name.clone(), value.clone())),
            };
            match (&first, found) {
                (Some((earlier, other)), Some((found, value))) if *other != value => faults.push(
                    Fault::new("config.contradiction")
                        .at(origin(&found).to_string())
                        .with("name", &found)
                        .with("other", earlier),
                ),
                (None, found) => first = found,
                _ => {}
            }
            if setting.secret() {
                known.insert(from_file);
            }
            known.insert(name);
        }
        if let Some((name, value)) = first {
            given.push(Given { setting, raw: Raw::Word(value), origin: origin(&name) });
        }
    }
    for name in names.keys().filter(|name| name.starts_with("DEBROUILLE_") && !known.contains(*name)) {
        faults.push(Fault::new("config.unknown_name").at(origin(name).to_string()).with("name", name));
    }
    given
}

/// A secret kept in a file of its own; a last line feed is not part of it.
fn secret_file(path: &str, origin: &Origin, faults: &mut Vec<Fault>) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(secret) => Some(secret.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => {
            let fault = Fault::new("config.secret_file").at(origin.to_string());
            faults.push(fault.with("file", path).with("why", error));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_dotenv_are_read_as_shells_write_them() {
        let read = |line: &str| assignment(line).map(|pair| pair.map(|(_, value)| value));
        assert_eq!(read("# note"), Ok(None));
        assert_eq!(read("A=b"), Ok(Some("b".into())));
        assert_eq!(read("export A = b # note"), Ok(Some("b".into())));
        assert_eq!(read("A=\"b # c\" # note"), Ok(Some("b # c".into())));
        assert_eq!(read("A='it'"), Ok(Some("it".into())));
        assert_eq!(read("A='it's"), Err(()));
        assert_eq!(read("no assignment"), Err(()));
        assert_eq!(read("é=1"), Err(()));
    }
}
