//! The one catalogue of words people read, in French and English: `messages/*.toml`, a file per capability.
//!
//! Every entry is `["noun.rule"]` with `fr` and `en`; `{name}` is filled from the fault's parameters,
//! `{path}` from its path. A message says what is wrong, where, and what to do next.

use super::fault::Fault;
use std::{collections::HashMap, sync::LazyLock};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    #[default]
    French,
    English,
}

impl Language {
    /// From a locale or language tag: `fr_CD.UTF-8`, `en-GB`, `C` (which speaks English). `None` if neither.
    pub fn from_tag(tag: &str) -> Option<Self> {
        match tag.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("fr") => Some(Self::French),
            Some("en") => Some(Self::English),
            _ if tag == "C" || tag.starts_with("C.") || tag == "POSIX" => Some(Self::English),
            _ => None,
        }
    }
}

#[derive(serde::Deserialize)]
struct Entry {
    fr: String,
    en: String,
}

/// The files of the catalogue; a new capability adds its own here.
const FILES: &[&str] = &[
    include_str!("messages/base.toml"),
    include_str!("messages/certificates.toml"),
    include_str!("messages/collections.toml"),
    include_str!("messages/documents.toml"),
    include_str!("messages/identities.toml"),
    include_str!("messages/json.toml"),
    include_str!("messages/query.toml"),
    include_str!("messages/schema.toml"),
];

static CATALOGUE: LazyLock<HashMap<String, Entry>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    for file in FILES {
        let entries: HashMap<String, Entry> = toml::from_str(file).expect("the catalogue is read by a test");
        all.extend(entries);
    }
    all
});

/// The words of a fault in a language. An unknown key shows itself (and fails the catalogue's test).
pub fn render(language: Language, fault: &Fault) -> String {
    let Some(entry) = CATALOGUE.get(fault.key) else { return fault.key.to_owned() };
    let mut words = match language {
        Language::French => entry.fr.clone(),
        Language::English => entry.en.clone(),
    };
    words = words.replace("{path}", &fault.path);
    for (name, value) in &fault.params {
        words = words.replace(&format!("{{{name}}}"), value);
    }
    words
}

/// A message without parameters.
pub fn text(language: Language, key: &'static str) -> String {
    render(language, &Fault::new(key))
}
