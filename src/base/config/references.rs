//! Secrets that are kept elsewhere: `vault:MOUNT/PATH#FIELD` stands for one, which is unset until it is brought.

use super::{Config, Entry, Origin, Secret, Setting, refuse_placeholders, value};
use crate::base::fault::Fault;
use serde_json::Value;

/// How a reference begins.
pub const SCHEME: &str = "vault:";

/// A setting whose value is elsewhere.
#[derive(Debug, Clone)]
pub struct Reference {
    pub setting: &'static Setting,
    pub place: Place,
    pub origin: Origin,
}

/// A field of a secret of the vault's KV engine, version 2.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub mount: String,
    pub path: String,
    pub field: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mount, path, field } = self;
        write!(f, "{SCHEME}{mount}/{path}#{field}")
    }
}

impl Place {
    /// `None`: not a reference as it must be written.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, field) = text.strip_prefix(SCHEME)?.split_once('#')?;
        let (mount, path) = place.split_once('/')?;
        let fits = is_path(mount) && is_path(path) && !field.is_empty();
        fits.then(|| Self { mount: mount.to_owned(), path: path.to_owned(), field: field.to_owned() })
    }
}

/// Names of the vault, between slashes, that stand in a URL as they are.
pub fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.split('/').all(|name| name.bytes().all(plain) && !name.trim_matches('.').is_empty())
}

/// Takes the references out of the values. The vault's own secrets cannot be in it.
pub(super) fn take(entries: &mut [Entry], faults: &mut Vec<Fault>) -> Vec<(Reference, usize)> {
    let mut references = Vec::new();
    let served = entries.iter().any(|entry| entry.setting.key == "vault.address" && !entry.value.is_null());
    for (index, entry) in entries.iter_mut().enumerate().filter(|(_, entry)| entry.setting.secret()) {
        let Some(place) = entry.value.as_str().and_then(Place::parse) else { continue };
        let key = match (entry.setting.parts().0, served) {
            ("vault", _) => "config.reference_of_vault",
            (_, false) => "config.reference_unserved",
            (_, true) => {
                let (setting, origin) = (entry.setting, entry.origin.clone());
                entry.value = Value::Null;
                references.push((Reference { setting, place, origin }, index));
                continue;
            }
        };
        faults.push(Fault::new(key).at(entry.origin.to_string()).with("key", entry.setting.key));
    }
    references
}

impl Config {
    /// With what its references stand for, each in its order; held to the same rules as what is written out.
    pub fn with_secrets(&self, brought: Vec<Secret>) -> Result<Self, Vec<Fault>> {
        let (mut config, mut faults) = (self.clone(), Vec::new());
        for (reference, secret) in self.references.iter().zip(brought) {
            let (setting, origin) = (reference.setting, &reference.origin);
            let fault = |fault: Fault| fault.at(format!("{origin} {}", reference.place)).with("key", setting.key);
            let raw = value::Raw::Word(secret.expose().to_owned());
            match value::read(setting, &raw, None) {
                // What is brought is no reference again.
                Ok(_) if secret.expose().starts_with(SCHEME) => faults.push(fault(Fault::new("config.reference"))),
                Ok(value) => {
                    let entry = Entry { setting, value, origin: origin.clone() };
                    let held: Vec<_> = self.entry("instance.environment").into_iter().chain([entry]).collect();
                    refuse_placeholders(&held, &mut faults);
                    if let Some(slot) = config.slot(setting.key) {
                        *slot = Some(Secret(secret.expose().trim().to_owned()));
                    }
                }
                Err(wrong) => faults.push(fault(wrong)),
            }
        }
        config.references.clear();
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        self.entries.iter().find(|entry| entry.setting.key == key).cloned()
    }

    /// Where the section keeps a secret of the table; those of the vault itself are not brought from it.
    fn slot(&mut self, key: &str) -> Option<&mut Option<Secret>> {
        Some(match key {
            "acme.eab_keys" => &mut self.acme.eab_keys,
            "acme.dns_key" => &mut self.acme.dns_key,
            "backup.access_key" => &mut self.backup.access_key,
            "backup.secret_key" => &mut self.backup.secret_key,
            "audit.witness_token" => &mut self.audit.witness_token,
            "alerts.webhook" => &mut self.alerts.webhook,
            "alerts.webhook_secret" => &mut self.alerts.webhook_secret,
            "alerts.push" => &mut self.alerts.push,
            "alerts.push_token" => &mut self.alerts.push_token,
            "otlp.headers" => &mut self.otlp.headers,
            "identity.jwt_secret" => &mut self.identity.jwt_secret,
            "mail.password" => &mut self.mail.password,
            "oidc.client_secret" => &mut self.oidc.client_secret,
            "ldap.service_password" => &mut self.ldap.service_password,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::SETTINGS, *};

    #[test]
    fn references_are_read_as_they_are_written() {
        let place = Place::parse("vault:kv/appliance/mail#password").unwrap();
        assert_eq!((&*place.mount, &*place.path, &*place.field), ("kv", "appliance/mail", "password"));
        assert_eq!(place.to_string(), "vault:kv/appliance/mail#password");
        for wrong in
            ["kv/a#b", "vault:kv#b", "vault:kv/a", "vault:kv/a#", "vault:/a#b", "vault:kv/../sys#b", "vault:kv/a?b#c"]
        {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_secret_can_be_brought_and_is_unset_until_then() {
        for setting in SETTINGS.iter().filter(|setting| setting.secret() && setting.parts().0 != "vault") {
            let words = [("vault.address", "https://vault.example.cd"), (setting.key, "vault:kv/a#b")];
            let mut config = Config::of(&words).unwrap();
            assert!(config.slot(setting.key).unwrap().is_none(), "{}", setting.key);
            assert_eq!(config.entry(setting.key).unwrap().value, "vault:kv/a#b");
            let secret = "b5U0x2kQmT7vJp9aRz4sWc8dYf1gHn3e";
            let mut config = config.with_secrets(vec![Secret(secret.to_owned())]).unwrap();
            assert_eq!(config.slot(setting.key).unwrap().as_ref().map(Secret::expose), Some(secret));
            assert!(config.references.is_empty() && !format!("{config:?}").contains(secret));
            assert_eq!(config.entry(setting.key).unwrap().value, "vault:kv/a#b");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let keys = |words: &[(&'static str, &str)]| {
            let faults = Config::of(words).unwrap_err();
            faults.iter().map(|fault| fault.key).collect::<Vec<_>>()
        };
        let address = ("vault.address", "https://vault.example.cd");
        assert_eq!(keys(&[("mail.password", "vault:kv/a#b")]), ["config.reference_unserved"]);
        assert_eq!(keys(&[address, ("vault.secret_id", "vault:kv/a#b")]), ["config.reference_of_vault"]);
        assert_eq!(keys(&[address, ("mail.password", "vault:kv/a")]), ["config.reference"]);
        let config = Config::of(&[address, ("identity.jwt_secret", "vault:kv/a#b")]).unwrap();
        for (brought, key) in [
            ("few", "config.secret_short"),
            ("changeme-changeme-changeme-changeme", "config.placeholder"),
            ("vault:kv/another-reference-of-many-letters#b", "config.reference"),
        ] {
            let faults = config.with_secrets(vec![Secret(brought.to_owned())]).unwrap_err();
            assert_eq!(faults.iter().map(|fault| fault.key).collect::<Vec<_>>(), [key], "{brought}");
            assert!(!format!("{faults:?}").contains(brought), "{faults:?}");
        }
    }
}
