//! What may be asked of a new key: its name, its life, its scope, a machine's public half.

use super::*;
use crate::domain::collection::check_name;

/// Modules that make or change proofs and rights: a key looks at them at most, or it could outgrow its scope.
const GUARDED: [&str; 4] = ["identities", "organizations", "memberships", "policies"];
const MOST_NAMES: usize = 100;
const LONGEST_MODULE: usize = 32;

pub fn name(given: &str) -> Result<String> {
    let name = given.trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(Error::Invalid(Fault::new("keys.name").at("name").with("limit", LONGEST_NAME)));
    }
    Ok(name.to_owned())
}

pub fn days(given: Option<i64>) -> Result<i64> {
    match given.unwrap_or(DAYS) {
        days @ 1..=MOST_DAYS => Ok(days),
        other => {
            let fault = Fault::new("keys.days").at("expiresInDays").with("days", other).with("limit", MOST_DAYS);
            Err(Error::Invalid(fault))
        }
    }
}

pub fn check(asked: Restriction) -> Result<Restriction> {
    let refuse = |key, path: &str| Err(Error::Invalid(Fault::new(key).at(format!("scopes.{path}"))));
    if asked.actions.is_empty() {
        return refuse("keys.no_action", "actions");
    }
    let collections = asked.collections.as_deref().unwrap_or_default();
    for (place, name) in collections.iter().enumerate() {
        check_name(name).map_err(|fault| Error::Invalid(fault.at(format!("scopes.collections.{place}"))))?;
    }
    if collections.len() > MOST_NAMES || asked.modules.len() > MOST_NAMES {
        return refuse("keys.many_names", "collections");
    }
    let only_view = asked.actions.iter().all(|action| *action == Action::View);
    for (place, module) in asked.modules.iter().enumerate() {
        let at = || format!("scopes.modules.{place}");
        if module.is_empty() || module.len() > LONGEST_MODULE || !module.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(Error::Invalid(Fault::new("keys.module").at(at()).with("module", module)));
        }
        if GUARDED.contains(&module.as_str()) && !only_view {
            return Err(Error::Invalid(Fault::new("keys.module_guarded").at(at()).with("module", module)));
        }
    }
    Ok(asked)
}

/// A machine's Ed25519 public key: PEM (`openssl pkey -pubout`), or its 32 bytes in base64.
pub fn public(given: &str, owner: &Identity) -> Result<String> {
    if owner.kind != Kind::Machine {
        return Err(Error::Invalid(Fault::new("keys.not_a_machine").at("publicKey").with("who", owner.label())));
    }
    let body: String = given.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let bytes = STANDARD.decode(body).unwrap_or_default();
    // The prefix of an Ed25519 key as SubjectPublicKeyInfo (RFC 8410, section 4).
    let raw = bytes.strip_prefix(&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0]).unwrap_or(&bytes);
    match raw.len() {
        32 => Ok(STANDARD.encode(raw)),
        _ => Err(Error::Invalid(Fault::new("keys.public").at("publicKey"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_cannot_reach_what_makes_proofs() {
        let scope = |actions: &[Action], modules: &[&str]| Restriction {
            actions: actions.to_vec(),
            collections: None,
            modules: modules.iter().map(|module| (*module).to_owned()).collect(),
        };
        assert!(check(scope(&[Action::View], &["identities"])).is_ok());
        assert!(check(scope(&[Action::Manage], &["backups"])).is_ok());
        for module in GUARDED {
            assert!(check(scope(&[Action::View, Action::Manage], &[module])).is_err(), "{module}");
        }
        assert!(check(scope(&[], &[])).is_err());
        assert!(check(scope(&[Action::View], &["Backups"])).is_err());
        let system = Restriction { collections: Some(vec!["system.keys".to_owned()]), ..scope(&[Action::View], &[]) };
        assert!(check(system).is_err(), "a key reached the appliance's own collections");
    }

    #[test]
    fn a_life_is_bounded() {
        assert_eq!(days(None).unwrap(), DAYS);
        assert_eq!(days(Some(MOST_DAYS)).unwrap(), MOST_DAYS);
        for bad in [0, -1, MOST_DAYS + 1, i64::MAX] {
            assert!(days(Some(bad)).is_err(), "{bad}");
        }
    }
}
