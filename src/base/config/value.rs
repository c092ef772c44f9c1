//! One setting's value: read as its kind demands, or refused with the reason.

use super::{
    references::{Place, SCHEME},
    settings::{Kind, Setting},
};
use crate::base::fault::Fault;
use ipnet::IpNet;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

/// What a source gave.
#[derive(Debug, Clone)]
pub enum Raw {
    /// From the environment, a flag or the table: the kind says how to read it.
    Word(String),
    /// From the file, typed.
    Toml(toml_edit::Value),
}

impl Raw {
    /// Nothing between the quotes.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Word(word) => word.is_empty(),
            Self::Toml(value) => value.as_str() == Some(""),
        }
    }
}

/// Reads `raw` for `setting`. `below` is the value it replaces (a port alone keeps its address).
pub fn read(setting: &Setting, raw: &Raw, below: Option<&Value>) -> Result<Value, Fault> {
    match raw {
        Raw::Word(word) => from_word(setting, word.trim(), below),
        Raw::Toml(value) => from_toml(setting, value, below),
    }
}

fn from_word(setting: &Setting, word: &str, below: Option<&Value>) -> Result<Value, Fault> {
    match setting.kind {
        Kind::Integer(low, high) => match word.parse() {
            Ok(number) => within(number, low, high),
            Err(_) => Err(expected("config.expected_integer", word)),
        },
        Kind::Flag => match word {
            "true" | "1" | "yes" => Ok(true.into()),
            "false" | "0" | "no" => Ok(false.into()),
            _ => Err(expected("config.expected_flag", word)),
        },
        _ if setting.listed() => {
            list(setting.kind, word.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned))
        }
        kind => text(kind, word, below),
    }
}

fn from_toml(setting: &Setting, value: &toml_edit::Value, below: Option<&Value>) -> Result<Value, Fault> {
    let shown = || value.to_string().trim().to_owned();
    match setting.kind {
        Kind::Integer(low, high) => match value.as_integer() {
            Some(number) => within(number, low, high),
            None => Err(expected("config.expected_integer", shown())),
        },
        Kind::Flag => value.as_bool().map(Value::from).ok_or_else(|| expected("config.expected_flag", shown())),
        _ if setting.listed() => {
            let words: Option<Vec<String>> =
                value.as_array().and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
            list(setting.kind, words.ok_or_else(|| expected("config.expected_list", shown()))?.into_iter())
        }
        kind => {
            let given = value.as_str().ok_or_else(|| {
                // A secret of the wrong type is still a secret.
                expected("config.expected_text", if setting.secret() { "…".to_owned() } else { shown() })
            })?;
            text(kind, given, below)
        }
    }
}

fn text(kind: Kind, word: &str, below: Option<&Value>) -> Result<Value, Fault> {
    match kind {
        Kind::Choice(choices) if !choices.contains(&word) => {
            Err(expected("config.expected_choice", word).with("choices", choices.join(", ")))
        }
        Kind::Address { off: true } if word == "off" => Ok(word.into()),
        Kind::Address { off } => address(word, off, below),
        Kind::Path if word.is_empty() || word.contains('\0') => Err(expected("config.expected_path", word)),
        Kind::LogFilter => match tracing_subscriber::EnvFilter::builder().parse(word) {
            Ok(_) => Ok(word.into()),
            Err(why) => Err(expected("config.expected_log_filter", word).with("why", why)),
        },
        Kind::Place(served, later) => place(word, served, later),
        Kind::Secret(_) if word.starts_with(SCHEME) => {
            Place::parse(word).map(|_| word.into()).ok_or_else(|| Fault::new("config.reference"))
        }
        // It stands in headers and lines of other protocols, where it would end them.
        Kind::Secret(_) if word.contains(char::is_control) => Err(Fault::new("config.secret_control")),
        Kind::Secret(bytes) if word.len() < bytes => {
            Err(Fault::new("config.secret_short").with("bytes", bytes).with("given", word.len()))
        }
        _ => Ok(word.into()),
    }
}

fn within(number: i64, low: i64, high: i64) -> Result<Value, Fault> {
    if (low..=high).contains(&number) {
        return Ok(number.into());
    }
    Err(expected("config.out_of_range", number).with("low", low).with("high", high))
}

fn list(kind: Kind, words: impl Iterator<Item = String>) -> Result<Value, Fault> {
    let words = words.map(|word| match kind {
        Kind::Hosts if !is_host(&word) => Err(expected("config.expected_host", word)),
        Kind::Networks => network(&word).ok_or_else(|| expected("config.expected_network", word)),
        Kind::Pairs if !is_pair(&word) => Err(expected("config.expected_pair", word)),
        _ => Ok(word),
    });
    Ok(words.collect::<Result<Vec<String>, Fault>>()?.into())
}

/// As a network, an address alone being the smallest. IPv4 is compared as such, however it is written.
fn network(word: &str) -> Option<String> {
    let network: IpNet = match word.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().into(),
        Err(_) => word.parse().ok()?,
    };
    let mapped = matches!(network, IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some());
    (!mapped).then(|| network.trunc().to_string())
}

fn is_pair(word: &str) -> bool {
    word.rsplit_once('=').is_some_and(|(name, number)| !name.trim().is_empty() && number.trim().parse::<i64>().is_ok())
}

fn address(word: &str, off: bool, below: Option<&Value>) -> Result<Value, Fault> {
    if let Ok(port) = word.parse::<u16>() {
        let ip = below.and_then(Value::as_str).and_then(|below| below.parse::<SocketAddr>().ok());
        let ip = ip.map_or(std::net::Ipv4Addr::UNSPECIFIED.into(), |address| address.ip());
        return Ok(SocketAddr::new(ip, port).to_string().into());
    }
    match word.parse::<SocketAddr>() {
        Ok(address) => Ok(address.to_string().into()),
        Err(_) if off => Err(expected("config.expected_address_or_off", word)),
        Err(_) => Err(expected("config.expected_address", word)),
    }
}

/// The URL itself is not echoed: it may hold a password.
fn place(word: &str, served: &[&str], later: &[&str]) -> Result<Value, Fault> {
    let (scheme, rest) = word.split_once(':').unwrap_or((word, ""));
    if served.contains(&scheme) && rest.is_empty() {
        return Ok(format!("{scheme}:").into());
    }
    if later.contains(&scheme) {
        return Err(Fault::new("config.place_later").with("scheme", scheme).with("served", served.join(":, ")));
    }
    Err(Fault::new("config.place_unknown").with("served", served.join(":, ")))
}

fn is_host(word: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    word.parse::<IpAddr>().is_ok() || (word.len() <= 253 && word.split('.').all(label))
}

fn expected(key: &'static str, value: impl std::fmt::Display) -> Fault {
    Fault::new(key).with("value", value)
}

/// Whether a value was never really chosen: `changeme`, `<secret>`, `password`…
pub fn is_placeholder(setting: &Setting, value: &str) -> bool {
    let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let bracketed = value.starts_with('<') && value.ends_with('>');
    let marked =
        ["changeme", "changethis", "replaceme", "yoursecret", "placeholder"].iter().any(|mark| plain.contains(mark));
    let weak = setting.secret()
        && (["password", "secret", "motdepasse", "example", "default"].iter().any(|word| plain.starts_with(word))
            || value.bytes().all(|byte| Some(byte) == value.bytes().next()));
    bracketed || marked || weak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(key: &str, word: &str) -> Result<Value, &'static str> {
        let setting = Setting::find(key).unwrap();
        read(setting, &Raw::Word(word.to_owned()), Some(&"127.0.0.1:443".into())).map_err(|fault| fault.key)
    }

    #[test]
    fn words_are_read_as_their_kind_demands() {
        assert_eq!(word("server.https", "8443"), Ok("127.0.0.1:8443".into()));
        assert_eq!(word("server.https", "[::1]:8443"), Ok("[::1]:8443".into()));
        assert_eq!(word("server.https", "off"), Err("config.expected_address"));
        assert_eq!(word("server.http", "off"), Ok("off".into()));
        assert_eq!(word("server.http", "70000"), Err("config.expected_address_or_off"));
        assert_eq!(word("server.hostnames", "a.example, 10.0.0.1"), Ok(serde_json::json!(["a.example", "10.0.0.1"])));
        assert_eq!(word("server.hostnames", "a..b"), Err("config.expected_host"));
        let networks = "10.1.2.3/8, ::ffff:192.0.2.1,2001:db8::1";
        let read = serde_json::json!(["10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128"]);
        assert_eq!(word("server.trusted_proxies", networks), Ok(read));
        for wrong in ["10.0.0.0/33", "proxy.example", "*", "::ffff:10.0.0.0/104"] {
            assert_eq!(word("server.trusted_proxies", wrong), Err("config.expected_network"), "{wrong}");
        }
        assert_eq!(word("limits.routes", "GET /a=1"), Ok(serde_json::json!(["GET /a=1"])));
        assert_eq!(word("trust.weights", "login.failed=few"), Err("config.expected_pair"));
        assert_eq!(word("storage.cache_mib", "many"), Err("config.expected_integer"));
        assert_eq!(word("storage.cache_mib", "0"), Err("config.out_of_range"));
        assert_eq!(word("instance.environment", "test"), Err("config.expected_choice"));
        assert_eq!(word("storage.database", "embedded:"), Ok("embedded:".into()));
        assert_eq!(word("storage.database", "mongodb://user:pass@host/db"), Err("config.place_later"));
        assert_eq!(word("storage.database", "postgres://host"), Err("config.place_unknown"));
        assert_eq!(word("log.level", "info,debrouille=loud"), Err("config.expected_log_filter"));
        assert_eq!(word("identity.jwt_secret", "short"), Err("config.secret_short"));
        assert_eq!(word("vault.token", "s.one\ns.two"), Err("config.secret_control"));
    }

    #[test]
    fn placeholders_are_told_from_choices() {
        let secret = Setting::find("identity.jwt_secret").unwrap();
        let host = Setting::find("server.hostnames").unwrap();
        for value in ["<your secret here>", "changeme-changeme-changeme-changeme", "password-password", "00000000"] {
            assert!(is_placeholder(secret, value), "{value}");
        }
        assert!(is_placeholder(host, "<hostname>"));
        assert!(!is_placeholder(host, "secretariat.example"));
        assert!(!is_placeholder(secret, "b5U0x2kQmT7vJp9aRz4sWc8dYf1gHn3e"));
    }
}
