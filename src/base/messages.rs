//! The one catalogue of words people read, in French and English: `messages/*.toml`, a file per capability.
//!
//! Every entry is `["noun.rule"]` with `fr` and `en`; `{name}` is filled from the fault's parameters,
//! `{path}` from its path. A message says what is wrong, where, and what to do next.

use super::fault::Fault;
use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

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

    /// The language of an environment, as locale(7) ranks its names, the product's own first.
    /// French when none says.
    pub fn of_environment(environment: &BTreeMap<String, String>) -> Self {
        ["DEBROUILLE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"]
            .iter()
            .filter_map(|name| environment.get(*name))
            .find(|value| !value.is_empty())
            .and_then(|value| Self::from_tag(value))
            .unwrap_or_default()
    }

    pub fn tag(self) -> &'static str {
        match self {
            Self::French => "fr",
            Self::English => "en",
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
    include_str!("messages/alerts.toml"),
    include_str!("messages/archive.toml"),
    include_str!("messages/audit.toml"),
    include_str!("messages/backups.toml"),
    include_str!("messages/base.toml"),
    include_str!("messages/certificates.toml"),
    include_str!("messages/cli.toml"),
    include_str!("messages/cli_help.toml"),
    include_str!("messages/collections.toml"),
    include_str!("messages/config.toml"),
    include_str!("messages/documents.toml"),
    include_str!("messages/drills.toml"),
    include_str!("messages/health.toml"),
    include_str!("messages/http.toml"),
    include_str!("messages/identities.toml"),
    include_str!("messages/instance.toml"),
    include_str!("messages/json.toml"),
    include_str!("messages/policies.toml"),
    include_str!("messages/ldap.toml"),
    include_str!("messages/limits.toml"),
    include_str!("messages/mfa.toml"),
    include_str!("messages/migrations.toml"),
    include_str!("messages/keys.toml"),
    include_str!("messages/mail.toml"),
    include_str!("messages/oidc.toml"),
    include_str!("messages/memberships.toml"),
    include_str!("messages/organizations.toml"),
    include_str!("messages/preconditions.toml"),
    include_str!("messages/query.toml"),
    include_str!("messages/restore.toml"),
    include_str!("messages/schema.toml"),
    include_str!("messages/sealed.toml"),
    include_str!("messages/sealing.toml"),
    include_str!("messages/secrets.toml"),
    include_str!("messages/server.toml"),
    include_str!("messages/subjects.toml"),
    include_str!("messages/telemetry.toml"),
    include_str!("messages/trust.toml"),
    include_str!("messages/update.toml"),
    include_str!("messages/updates.toml"),
    include_str!("messages/vault.toml"),
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
    let Some(words) = lookup(language, fault.key) else { return fault.key.to_owned() };
    fill(words, |name| match name {
        "path" => Some(&fault.path),
        _ => fault.params.iter().find(|param| param.0 == name).map(|param| param.1.as_str()),
    })
}

/// Puts values in the place of `{name}`, once: braces within a value stay as they are.
fn fill<'a>(words: &'a str, value: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut filled = String::with_capacity(words.len() + 32);
    let mut rest = words;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        match after.split_once('}').and_then(|(name, end)| Some((value(name)?, end))) {
            Some((value, end)) => {
                filled.push_str(value);
                rest = end;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// The words of a computed key (a setting's, a command's), if the catalogue has it.
pub fn lookup(language: Language, key: &str) -> Option<&'static str> {
    let entry = CATALOGUE.get(key)?;
    Some(match language {
        Language::French => entry.fr.as_str(),
        Language::English => entry.en.as_str(),
    })
}

/// A message without parameters.
pub fn text(language: Language, key: &'static str) -> String {
    render(language, &Fault::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_once() {
        let fault = Fault::new("config.unreadable").at("{why}").with("why", "{path}");
        assert!(render(Language::English, &fault).starts_with("{why}: cannot read the file ({path});"));
    }

    #[test]
    fn the_language_is_that_of_the_first_name_set() {
        let of = |pairs: &[(&str, &str)]| {
            Language::of_environment(&pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect())
        };
        assert_eq!(of(&[]), Language::French);
        assert_eq!(of(&[("LANG", "en_GB.UTF-8")]), Language::English);
        assert_eq!(of(&[("LC_ALL", "fr_CD.UTF-8"), ("LANG", "en_GB.UTF-8")]), Language::French);
        assert_eq!(of(&[("LC_ALL", ""), ("LANG", "C.UTF-8")]), Language::English);
        assert_eq!(of(&[("DEBROUILLE_LANG", "en"), ("LC_ALL", "fr_FR")]), Language::English);
        assert_eq!(of(&[("LANG", "sw_CD.UTF-8")]), Language::French);
    }
}
