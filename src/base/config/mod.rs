//! Configuration: defaults < file < `.env` < environment < flags, checked whole before anything starts.

pub mod generate;
mod settings;
mod sources;
mod value;

pub use settings::{Kind, SETTINGS, Setting};
pub use sources::{Origin, process as process_environment};

use super::{environment::Environment, fault::Fault};
use serde::Deserialize;
use serde_json::{Map, Value};
use sources::Given;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
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
    pub secrets: Secrets,
    pub storage: Storage,
    pub backup: Backup,
    pub audit: Audit,
    pub log: Log,
    pub identity: Identity,
    pub mail: Mail,
    pub oidc: Oidc,
    pub ldap: Ldap,
    /// Each value with where it was set, in the order of the table.
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// The file as it was read, which travels inside backups.
    #[serde(skip)]
    pub text: Option<Secret>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Absent: the data directory's own stamp decides.
    pub environment: Option<Environment>,
    pub data_dir: PathBuf,
    /// Absent: the systemd credential `root-key`, else a file in the data directory.
    pub root_key_file: Option<PathBuf>,
    /// Set by systemd (`LoadCredential=`).
    pub credentials_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Names the certificate carries, and plain HTTP is redirected for.
    pub hostnames: Vec<String>,
    pub https: SocketAddr,
    pub http: Listener,
    pub ops: Listener,
    /// Open connections at most; more wait in the kernel's queue.
    pub connections: usize,
    pub handshake_seconds: u64,
    /// For a request's head to arrive.
    pub header_seconds: u64,
    pub request_seconds: u64,
    /// Between two requests of a connection.
    pub idle_seconds: u64,
    /// For requests under way to end at a stop.
    pub drain_seconds: u64,
    pub body_mib: u64,
    pub document_mib: u64,
    /// Rows of a page when the caller does not say.
    pub page_rows: usize,
    /// Whose `X-Forwarded-For` and `Forwarded` are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Authorities of machines' client certificates. Absent: none is asked for.
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Of each identity, or address; 0: none.
    pub requests_per_minute: u32,
    /// `METHOD PATTERN=PER_MINUTE`.
    pub routes: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Where everyone begins.
    pub baseline: u8,
    /// In which half of the distance to the baseline is made good.
    pub half_life_days: u32,
    /// `EVENT=POINTS`.
    pub weights: Vec<String>,
}

/// A listener that may be turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    On(SocketAddr),
    Off,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Life of a server certificate; renewed before two thirds of it.
    pub certificate_days: u32,
    /// Authorities trusted beside the system's, where we are the client.
    pub trusted: Option<PathBuf>,
}

/// Days after which keys are rotated; 0: never by themselves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    pub token_days: u32,
    /// Of what signs backups and the audit log: others must learn the new key.
    pub signing_days: u32,
    pub storage_days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// `embedded:`, the one engine for now.
    pub database: String,
    pub cache: String,
    pub bucket: String,
    /// Pages of the database kept in memory.
    pub cache_mib: u64,
    /// Free space under which writes stop and reads go on.
    pub reserve_mib: u64,
    pub journal_days: u32,
    pub journal_mib: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// `[NAME=]PLACE`. None: `backups` in the data directory.
    pub targets: Vec<String>,
    /// For the buckets among them that name no credentials of their own.
    pub access_key: Option<Secret>,
    pub secret_key: Option<Secret>,
    /// Public keys every backup is sealed to.
    pub recipients: Vec<String>,
    /// How long backups of subjects' keys are kept: so long an erasure takes to be one everywhere.
    pub subject_days: u32,
    /// Of full ones: cron, five fields, or six with seconds first.
    pub schedule: String,
    /// Of the schedule and the calendar: an IANA name. Absent: the machine's.
    pub timezone: Option<String>,
    /// How often the journal is sent on, when there is something.
    pub segment_seconds: u64,
    /// `GENERATION=COUNT`, `within_days=DAYS`.
    pub keep: Vec<String>,
    /// After so many days without a restore drill one is overdue; 0: never.
    pub drill_days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Files or folders on other disks, or URLs of servers, where the newest checkpoint is left.
    pub witness: Vec<String>,
    /// What the servers know us by.
    pub witness_token: Option<Secret>,
    /// 0: entries stay for good.
    pub keep_days: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
    pub output: LogOutput,
    /// Absent: `logs` in the data directory.
    pub dir: Option<PathBuf>,
    /// Daily files kept.
    pub keep_files: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogOutput {
    Stdout,
    Off,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Whether people may make accounts of their own.
    pub registration: Switch,
    /// Of the country whose telephone numbers are written without one; 0: of none.
    pub calling_code: u16,
    /// Of the applications elsewhere that may ask for a passkey of this instance.
    pub origins: Vec<String>,
    /// Shared with clients that cannot check EdDSA; signs only where `token_algorithm` says so.
    pub jwt_secret: Option<Secret>,
    pub token_algorithm: TokenAlgorithm,
    /// The page a recovery's link opens. Absent: the console's own.
    pub recovery_url: Option<String>,
    /// The page opened by the link that proves an address. Absent: the console's own.
    pub verification_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TokenAlgorithm {
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "HS256")]
    Hs256,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// `smtps://USER@HOST` or `smtp://USER@HOST`. Absent: a folder in development, nothing elsewhere.
    pub server: Option<String>,
    pub password: Option<Secret>,
    pub from: Option<String>,
}

/// The one provider people may log in with. Absent issuer: none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    /// Where the provider sends people back, exactly.
    pub redirect: Option<String>,
    /// Whoever the provider vouches for gets an account.
    pub create_accounts: bool,
}

/// The one directory that proves who has no password here. Absent url: none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ldap {
    /// `ldaps://HOST` or `ldap://HOST`.
    pub url: Option<String>,
    pub starttls: bool,
    /// The only authorities trusted for it. Absent: those trusted for all.
    pub trusted: Option<PathBuf>,
    /// An entry's name, with `{user}` in it.
    pub user_dn: Option<String>,
    /// Or who looks for the entry, beneath which base, with `{user}` in which filter.
    pub service_dn: Option<String>,
    pub service_password: Option<Secret>,
    pub base: Option<String>,
    pub filter: Option<String>,
    pub mail_attribute: String,
    /// Whoever the directory knows gets an account.
    pub create_accounts: bool,
    pub timeout_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    Off,
    On,
}

/// Words that must never be printed.
#[derive(Clone, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
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
    /// `Null` when unset; a secret is masked.
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
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut config = Self::assemble(&entries);
        for entry in entries.iter_mut().filter(|entry| entry.setting.secret() && !entry.value.is_null()) {
            entry.value = "********".into();
        }
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

impl Listener {
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::On(address) => Some(address),
            Self::Off => None,
        }
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        if word == "off" {
            return Ok(Self::Off);
        }
        word.parse().map(Self::On).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
