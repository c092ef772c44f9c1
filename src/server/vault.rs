//! The vault of the configuration: the root key it may keep, the secrets it is asked for, and the login that is renewed.

use super::problem::{Kind, Problem};
use crate::{
    backends::{
        keys::vault::{Login, Settings, Transit, Vault},
        web::https::Https,
    },
    base::{
        config::{self, Config, Secret, is_path},
        fault::Fault,
        trust,
    },
    ports::{self, web::is_safe},
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// For an answer of a vault.
const PATIENCE: Duration = Duration::from_secs(5);

/// One login a process: a role's secret may be good for few.
static ENTERED: Mutex<Vec<Entered>> = Mutex::new(Vec::new());

struct Entered {
    settings: config::Vault,
    trusted: Option<PathBuf>,
    vault: Arc<Vault>,
}

impl Entered {
    fn is(&self, config: &Config) -> bool {
        words(&self.settings) == words(&config.vault) && self.trusted == config.tls.trusted
    }
}

/// What a login is made with.
fn words(vault: &config::Vault) -> [Option<&str>; 5] {
    let config::Vault { address, namespace, token, role_id, secret_id, .. } = vault;
    let [token, secret_id] = [token, secret_id].map(|secret| secret.as_ref().map(Secret::expose));
    [address.as_deref(), namespace.as_deref(), token, role_id.as_deref(), secret_id]
}

/// `None`: none is configured.
pub fn vault(config: &Config) -> Result<Option<Arc<Vault>>, Problem> {
    let Some(settings) = settings(&config.vault)? else { return Ok(None) };
    let mut entered = ENTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = entered.iter().find(|known| known.is(config)) {
        return Ok(Some(known.vault.clone()));
    }
    let roots = trust::roots(config.tls.trusted.as_deref()).map_err(|error| Problem::file("tls.trusted", error))?;
    let https = Https::new(roots, PATIENCE);
    let https = https.map_err(|error| Problem::new(Kind::Failed, Fault::new("server.tls_failed").with("cause", error)));
    let vault = Arc::new(Vault::new(settings, Arc::new(https?)));
    entered.push(Entered { settings: config.vault.clone(), trusted: config.tls.trusted.clone(), vault: vault.clone() });
    Ok(Some(vault))
}

fn settings(given: &config::Vault) -> Result<Option<Settings>, Problem> {
    let refused = |fault| Err(Problem::new(Kind::Refused, fault));
    let logins = (&given.token, &given.role_id, &given.secret_id);
    let Some(address) = given.address.as_deref() else {
        // What nobody reads is not told apart from a mistake.
        let named = logins.0.is_some() || logins.1.is_some() || logins.2.is_some() || given.transit_key.is_some();
        return if named { refused(Fault::new("vault.incomplete")) } else { Ok(None) };
    };
    let login = match logins {
        (Some(token), None, None) => Login::Token(token.clone()),
        (None, Some(role), Some(secret)) => Login::AppRole { role_id: role.clone(), secret_id: secret.clone() },
        _ => return refused(Fault::new("vault.incomplete")),
    };
    if !is_safe(address) {
        return refused(Fault::new("vault.unsafe").with("address", address));
    }
    let key = given.transit_key.as_deref();
    if let Some(wrong) = [key, Some(&given.transit_mount)].into_iter().flatten().find(|name| !is_path(name)) {
        return refused(Fault::new("vault.name").with("name", wrong));
    }
    let address = address.trim_end_matches('/').to_owned();
    Ok(Some(Settings { address, namespace: given.namespace.clone(), login }))
}

/// Where it keeps the root key.
pub fn transit(config: &Config) -> Result<Option<Arc<Transit>>, Problem> {
    let (vault, key) = (vault(config)?, config.vault.transit_key.clone());
    let mount = config.vault.transit_mount.clone();
    Ok(vault.zip(key).map(|(vault, key)| Arc::new(Transit { vault, mount, key })))
}

/// The login that is to be kept, where something is asked of the vault.
pub fn lease(config: &Config) -> Option<Arc<dyn ports::keys::Lease>> {
    let asked = config.vault.transit_key.is_some()
        || config.entries.iter().any(|entry| config::Place::parse(entry.value.as_str().unwrap_or_default()).is_some());
    let vault = vault(config).ok()??;
    asked.then_some(vault as Arc<dyn ports::keys::Lease>)
}

/// The same for an instance that is to be made: the vault must be able to keep its root key, before all other work.
pub async fn prepared(config: &Config) -> Result<Config, Problem> {
    let config = resolved(config).await?;
    if let Some(transit) = transit(&config)? {
        transit.check().await?;
    }
    Ok(config)
}

/// The configuration with the secrets that are in the vault. Every one that cannot be had is told, and why.
pub async fn resolved(config: &Config) -> Result<Config, Problem> {
    if config.references.is_empty() {
        return Ok(config.clone());
    }
    let Some(vault) = vault(config)? else {
        return Err(Problem::new(Kind::Refused, Fault::new("vault.incomplete")));
    };
    let (mut brought, mut faults, mut kind) = (Vec::new(), Vec::new(), Kind::Refused);
    for reference in &config.references {
        match vault.secret(&reference.place).await {
            Ok(secret) => brought.push(secret),
            Err(error) => {
                let fault = Fault::new("vault.unresolved").at(reference.origin.to_string());
                faults.push(fault.with("key", reference.setting.key).with("place", &reference.place));
                let problem = Problem::from(error);
                kind = problem.kind;
                let told = faults.contains(&problem.fault);
                faults.extend((!told).then_some(problem.fault));
                // It would answer none of the others either.
                if kind == Kind::Unavailable {
                    break;
                }
            }
        }
    }
    if faults.is_empty() {
        return config.with_secrets(brought).map_err(|faults| Problem::all(Kind::Refused, faults));
    }
    Err(Problem::all(kind, faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_is_asked_in_one_way_and_not_in_clear() {
        let given = |words: &[(&'static str, &str)]| {
            let vault = vault(&Config::of(words).unwrap());
            vault.map(|vault| vault.is_some()).map_err(|problem| problem.fault.key)
        };
        let address = ("vault.address", "https://vault.example.cd:8200/");
        let (token, role, secret) = (("vault.token", "s.abc"), ("vault.role_id", "r"), ("vault.secret_id", "x7Kq2"));
        assert_eq!(given(&[]), Ok(false));
        assert_eq!(given(&[address, token]), Ok(true));
        assert_eq!(given(&[address, role, secret]), Ok(true));
        for few in
            [&[address][..], &[address, role], &[address, token, role, secret], &[token], &[("vault.transit_key", "k")]]
        {
            assert_eq!(given(few), Err("vault.incomplete"), "{few:?}");
        }
        assert_eq!(given(&[("vault.address", "http://vault.example.cd"), token]), Err("vault.unsafe"));
        assert_eq!(given(&[("vault.address", "http://127.0.0.1:8200"), token]), Ok(true));
        assert_eq!(given(&[address, token, ("vault.transit_key", "../sys/seal")]), Err("vault.name"));
    }

    #[test]
    fn who_logged_in_is_known_again_by_all_it_logged_in_with() {
        let of = |token: &str| {
            let words = [("vault.address", "https://vault.example.cd"), ("vault.token", token)];
            vault(&Config::of(&words).unwrap()).unwrap().unwrap()
        };
        assert!(Arc::ptr_eq(&of("one"), &of("one")) && !Arc::ptr_eq(&of("one"), &of("two")));
    }
}
