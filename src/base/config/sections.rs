//! The sections of the configuration, as what they are read into.

use super::Secret;
use crate::base::environment::Environment;
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

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
    pub mode: Source,
    /// Life of a certificate of our own authority; renewed before two thirds of it.
    pub certificate_days: u32,
    /// PEM files that something else renews.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Authorities trusted beside the system's, where we are the client.
    pub trusted: Option<PathBuf>,
}

/// Who certifies the host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Internal,
    Files,
    Acme,
}

/// Public authorities.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acme {
    /// To the terms of each.
    pub agree_terms: bool,
    /// `URL [profile=NAME] [eab=IDENTIFIER]`, in the order they are asked.
    pub issuers: Vec<String>,
    pub contact: Option<String>,
    /// `IDENTIFIER=KEY`, the key in base64url; several with blanks between.
    pub eab_keys: Option<Secret>,
    pub challenge: Challenge,
    /// A zone's primary, `ADDRESS[:PORT]`, which takes signed updates.
    pub dns_server: Option<String>,
    /// Absent: asked of the server.
    pub dns_zone: Option<String>,
    /// `ALGORITHM:NAME:SECRET`, as nsupdate takes it.
    pub dns_key: Option<Secret>,
    /// Or a program that writes the records.
    pub dns_hook: Option<PathBuf>,
    /// For the zone's servers to have them.
    pub dns_wait_seconds: u64,
}

/// How a name is proven (RFC 8555, 8.3 and 8.4; RFC 8737).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Challenge {
    #[serde(rename = "http-01")]
    Http,
    #[serde(rename = "tls-alpn-01")]
    Tls,
    #[serde(rename = "dns-01")]
    Dns,
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

/// OpenBao or HashiCorp Vault.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    pub address: Option<String>,
    pub namespace: Option<String>,
    /// Either a token, or a role and its secret.
    pub token: Option<Secret>,
    pub role_id: Option<String>,
    pub secret_id: Option<Secret>,
    /// What keeps the root key. Absent: the vault does not.
    pub transit_key: Option<String>,
    pub transit_mount: String,
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

/// New releases of this program: where they come from, which are wanted, what is done of itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// An https URL or a folder. Absent: none is asked.
    pub source: Option<String>,
    /// The trusted `root.json`.
    pub root: PathBuf,
    /// Of what is seen, kept and brought; only the system's administrator may write there.
    pub directory: PathBuf,
    pub channel: String,
    /// The beginning of a version that is not left: `0.4`.
    pub pin: Option<String>,
    /// When a scheduled run may act: `22:00-06:00`. Absent: at any time.
    pub window: Option<String>,
    /// Scheduled runs wait a random part of this, so that not all machines come at once.
    pub delay_minutes: u64,
    /// How far a scheduled run goes.
    pub automatic: Automatic,
    /// Whether the system's packages may be installed.
    pub packages: Switch,
    /// Restarted by systemd.
    pub unit: String,
    /// A program that is called with `restart`, `kill` or `halt` where there is no systemd.
    pub control: Option<PathBuf>,
    /// For a new release to answer.
    pub ready_seconds: u64,
    /// A new release is watched for so long.
    pub watch_minutes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Automatic {
    Off,
    Check,
    Download,
    Apply,
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

/// Who is told what the appliance finds wrong with itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Addresses.
    pub mail: Vec<String>,
    /// Whoever knows it can send there: a secret, as the topic of a push is.
    pub webhook: Option<Secret>,
    /// What its requests are signed with.
    pub webhook_secret: Option<Secret>,
    /// `https://SERVER/TOPIC` of a server like ntfy.
    pub push: Option<Secret>,
    pub push_token: Option<Secret>,
    /// Run with a number and a message for each of the numbers.
    pub sms_program: Option<PathBuf>,
    pub sms_numbers: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
    pub output: LogOutput,
    /// Absent: `logs` in the data directory.
    pub dir: Option<PathBuf>,
    /// A central log beside them: `tls://HOST[:PORT]`.
    pub syslog: Option<String>,
    /// Daily files kept.
    pub keep_files: usize,
}

/// A collector of traces and lines (OpenTelemetry).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Absent: none is kept.
    pub endpoint: Option<String>,
    pub protocol: OtlpProtocol,
    /// `NAME=VALUE`, with commas between.
    pub headers: Option<Secret>,
    /// Of all traces; those that failed or took long are kept whatever it says.
    pub traces_percent: u8,
    pub logs: bool,
}

/// As `OTEL_EXPORTER_OTLP_PROTOCOL` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum OtlpProtocol {
    #[serde(rename = "http/protobuf")]
    Http,
    #[serde(rename = "grpc")]
    Grpc,
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
