//! Configuration: defaults < file < `.env` < environment < flags, checked whole before anything starts.

pub mod generate;
mod references;
mod sections;
mod settings;
mod sources;
mod value;

pub use references::{Place, Reference, is_path};
pub use sections::{
    Acme, Alerts, Audit, Automatic, Backup, Challenge, Identity, Instance, Ldap, Limits, Listener, Log, LogFormat,
    LogOutput, Mail, Oidc, Otlp, OtlpProtocol, Secrets, Server, Source, Storage, Switch, Tls, TokenAlgorithm, Trust,
    Update, Vault,
};
pub use settings::{Kind, SETTINGS, Setting};
pub use sources::{Origin, process as process_environment};

use super::{environment::Environment, fault::Fault};
use serde::Deserialize;
use serde_json::{Map, Value};
use sources::Given;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where the file is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/debrouille-appliance/appliance.toml";

/// Every setting, read and checked. A new one goes into the table (`settings.rs`) and into its section here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub instance: Instance,
    pub server: Server,
    pub limits: Limits,
    pub trust: Trust,
    pub tls: Tls,
    pub acme: Acme,
    pub secrets: Secrets,
    pub vault: Vault,
    pub storage: Storage,
    pub backup: Backup,
    pub audit: Audit,
    pub alerts: Alerts,
    pub log: Log,
    pub otlp: Otlp,
    pub identity: Identity,
    pub mail: Mail,
    pub oidc: Oidc,
    pub ldap: Ldap,
    pub update: Update,
    /// Each value with where it was set, in the order of the table.
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// Secrets that are elsewhere, and unset until they are brought.
    #[serde(skip)]
    pub references: Vec<Reference>,
    /// The file as it was read, which travels inside backups.
    #[serde(skip)]
    pub text: Option<Secret>,
}

/// Words that must never be printed.
#[derive(Clone, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    #[cfg(test)]
    pub fn of(words: &str) -> Self {
        Self(words.to_owned())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A setting as it stands.
#[derive(Debug, Clone)]
pub struct Entry {
    pub setting: &'static Setting,
    /// `Null` when unset; a secret is masked, or the reference to it.
    pub value: Value,
    pub origin: Origin,
}

/// What to read.
#[derive(Debug, Default)]
pub struct Inputs {
    pub file: PathBuf,
    /// The file was named by the operator: its absence is a fault.
    pub file_named: bool,
    /// `.env` of the working directory; `None` leaves it aside.
    pub dotenv: Option<PathBuf>,
    pub environment: BTreeMap<String, String>,
    /// Key, flag, word: `("server.https", "--https", "8443")`.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

impl Config {
    /// Reads every source and answers all faults at once, each with its place in `path`.
    pub fn load(inputs: &Inputs) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut given = sources::file(&inputs.file, inputs.file_named, &mut faults);
        if let Some(path) = &inputs.dotenv {
            given.extend(sources::dotenv(path, &mut faults));
        }
        given.extend(sources::environment(&inputs.environment, &mut faults));
        for (key, flag, word) in &inputs.flags {
            let setting = Setting::find(key).expect("flags name settings of the table");
            let origin = Origin::Flag { name: (*flag).to_owned() };
            given.push(Given { setting, raw: value::Raw::Word(word.clone()), origin });
        }
        let mut entries = settle(&given, &mut faults);
        refuse_placeholders(&entries, &mut faults);
        let references = references::take(&mut entries, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut config = Self::assemble(&entries);
        for entry in entries.iter_mut().filter(|entry| entry.setting.secret() && !entry.value.is_null()) {
            entry.value = "********".into();
        }
        // Where it is, is no secret.
        for (reference, index) in &references {
            entries[*index].value = reference.place.to_string().into();
        }
        config.references = references.into_iter().map(|(reference, _)| reference).collect();
        config.entries = entries;
        config.text = std::fs::read_to_string(&inputs.file).ok().map(Secret);
        Ok(config)
    }

    /// Defaults and these words alone: nothing is read from the machine.
    pub fn of(words: &[(&'static str, &str)]) -> Result<Self, Vec<Fault>> {
        let flags = words.iter().map(|&(key, word)| (key, "-", word.to_owned())).collect();
        Self::load(&Inputs { flags, ..Inputs::default() })
    }

    fn assemble(entries: &[Entry]) -> Self {
        let mut root = Map::new();
        for entry in entries {
            let (section, name) = entry.setting.parts();
            let section = root.entry(section).or_insert_with(|| Value::Object(Map::new()));
            section[name] = entry.value.clone();
        }
        serde_json::from_value(Value::Object(root)).expect("a test holds the table and the sections together")
    }

    pub fn log_dir(&self) -> PathBuf {
        self.log.dir.clone().unwrap_or_else(|| self.instance.data_dir.join("logs"))
    }

    /// The socket the command line speaks to.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.instance.data_dir)
    }
}

pub fn control_socket(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Applies what was given over the defaults, lowest source first.
fn settle(given: &[Given], faults: &mut Vec<Fault>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for setting in SETTINGS {
        let default = match setting.default {
            "" if setting.listed() => Value::Array(Vec::new()),
            "" => Value::Null,
            word => value::read(setting, &value::Raw::Word(word.to_owned()), None).expect("a test reads every default"),
        };
        let mut entry = Entry { setting, value: default, origin: Origin::Default };
        for one in given.iter().filter(|one| one.setting.key == setting.key) {
            let read = match setting.default {
                // As the generated example shows it.
                "" if one.raw.is_empty() => Ok(Value::Null),
                _ => value::read(setting, &one.raw, Some(&entry.value)),
            };
            match read {
                Ok(value) => entry = Entry { setting, value, origin: one.origin.clone() },
                Err(fault) => faults.push(fault.at(one.origin.to_string()).with("key", setting.key)),
            }
        }
        entries.push(entry);
    }
    entries
}

/// An instance that does not say it is for development counts as one that matters.
fn refuse_placeholders(entries: &[Entry], faults: &mut Vec<Fault>) {
    let development = entries
        .iter()
        .any(|entry| entry.setting.key == "instance.environment" && entry.value == Environment::Development.name());
    if development {
        return;
    }
    for entry in entries.iter().filter(|entry| entry.origin != Origin::Default) {
        let words = match &entry.value {
            Value::String(word) => vec![word.as_str()],
            Value::Array(words) => words.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if words.iter().any(|word| value::is_placeholder(entry.setting, word)) {
            let fault = Fault::new("config.placeholder").at(entry.origin.to_string());
            faults.push(fault.with("key", entry.setting.key));
        }
    }
}

#[cfg(test)]
mod tests;
