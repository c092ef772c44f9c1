//! What leaves the instance: its mail and where the links in it lead, its requests to an identity provider, its questions
//! to a directory.

use super::problem::{Kind, Problem};
use crate::{
    backends::{
        directory::ldap::{self, Ldap, Way},
        mail::{self, folder::Folder, smtp::Smtp},
        web::https::Https,
    },
    base::{
        clock::SharedClock,
        config::{Config, Identity},
        environment::Environment,
        fault::Fault,
        trust,
    },
    ports::{
        mail::Mailer,
        web::{Web, is_safe},
    },
    services::{
        audit::{self, Place},
        directory::Vouching,
        instance::Stamp,
        oidc::Settings,
    },
};
use std::{sync::Arc, time::Duration};

/// For an answer of an identity provider or a witness.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server where one is configured; a folder while developing; else nothing is sent.
pub fn mailer(config: &Config, stamp: &Stamp, clock: &SharedClock) -> Result<Option<Arc<dyn Mailer>>, Problem> {
    let settings = &config.mail;
    let refused = |fault| Problem::new(Kind::Refused, fault);
    let host = config.server.hostnames.first().map_or("localhost", String::as_str);
    let from = settings.from.clone().unwrap_or_else(|| format!("noreply@{host}"));
    let sender = || mail::sender(&from).map_err(refused);
    match &settings.server {
        Some(server) => {
            let trusted = trust::certificates(config.tls.trusted.as_deref());
            let trusted = trusted.map_err(|error| Problem::file("tls.trusted", error))?;
            let roots = trusted.iter().map(|root| root.to_vec());
            let smtp = Smtp::new(server, settings.password.as_ref(), sender()?, roots, clock.clone());
            Ok(Some(Arc::new(smtp.map_err(refused)?)))
        }
        None if stamp.environment == Environment::Development => {
            let folder = config.instance.data_dir.join("mail");
            Ok(Some(Arc::new(Folder::new(folder, sender()?, clock.clone()))))
        }
        None => Ok(None),
    }
}

/// What the links in letters open.
pub struct Pages {
    pub recovery: String,
    pub verification: String,
}

/// The application's own pages where it has some, else the console's.
pub fn pages(config: &Config) -> Pages {
    let host = config.server.hostnames.first().map_or("localhost", String::as_str);
    let port = config.server.https.port();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let console = |page| format!("https://{host}{port}/console/{page}");
    let Identity { recovery_url, verification_url, .. } = &config.identity;
    Pages {
        recovery: recovery_url.clone().unwrap_or_else(|| console("recover")),
        verification: verification_url.clone().unwrap_or_else(|| console("verify")),
    }
}

/// What the audit log is told, and its witnesses.
pub fn audit(config: &Config) -> Result<audit::Settings, Problem> {
    let settings = &config.audit;
    let place = |place: &String| match is_url(place) {
        true if is_safe(place) => Ok(Place::Server(place.clone())),
        true => Err(Problem::new(Kind::Refused, Fault::new("audit.witness_unsafe").with("url", place))),
        false => Ok(Place::Disk(place.into())),
    };
    let witness = settings.witness.iter().map(place).collect::<Result<_, _>>()?;
    Ok(audit::Settings { witness, token: settings.witness_token.clone(), keep_days: settings.keep_days })
}

fn is_url(place: &str) -> bool {
    place.contains("://")
}

/// How an identity provider, the audit log's witnesses and who is told of alerts are reached.
pub fn web(config: &Config) -> Result<Arc<dyn Web>, Problem> {
    // Read only where it is used: a command alone asks nobody.
    let alerts = config.alerts.webhook.is_some() || config.alerts.push.is_some();
    let used = alerts || config.oidc.issuer.is_some() || config.audit.witness.iter().any(|place| is_url(place));
    let roots = match used {
        true => trust::roots(config.tls.trusted.as_deref()),
        false => Ok(rustls::RootCertStore::empty()),
    };
    let roots = roots.map_err(|error| Problem::file("tls.trusted", error))?;
    let https = Https::new(roots, PATIENCE);
    let https = https.map_err(|error| Problem::new(Kind::Failed, Fault::new("server.tls_failed").with("cause", error)));
    Ok(Arc::new(https?))
}

/// The identity provider people may log in with.
pub fn provider(config: &Config) -> Result<Option<Settings>, Problem> {
    let settings = &config.oidc;
    let Some(issuer) = settings.issuer.clone() else { return Ok(None) };
    let (Some(client), Some(redirect)) = (settings.client_id.clone(), settings.redirect.clone()) else {
        return Err(Problem::new(Kind::Refused, Fault::new("oidc.incomplete")));
    };
    if !is_safe(&issuer) {
        return Err(Problem::new(Kind::Refused, Fault::new("oidc.unsafe")));
    }
    let (secret, create_accounts) = (settings.client_secret.clone(), settings.create_accounts);
    Ok(Some(Settings { issuer, client, secret, redirect, create_accounts }))
}

/// The directory that proves who has no password here.
pub fn directory(config: &Config, stamp: &Stamp) -> Result<Option<Vouching>, Problem> {
    let given = &config.ldap;
    let Some(url) = given.url.clone() else { return Ok(None) };
    let refused = |fault| Problem::new(Kind::Refused, fault);
    let words = [&given.service_dn, &given.base, &given.filter];
    let way = match (&given.user_dn, words, &given.service_password) {
        (Some(template), [None, None, None], None) => Way::Template(template.clone()),
        (None, [Some(dn), Some(base), Some(filter)], Some(password)) => {
            let (dn, base, filter, password) = (dn.clone(), base.clone(), filter.clone(), password.clone());
            Way::Search { dn, password, base, filter }
        }
        _ => return Err(refused(Fault::new("ldap.incomplete"))),
    };
    let roots = match &given.trusted {
        Some(path) => trust::only(path).map_err(|error| Problem::file("ldap.trusted", error))?,
        None => trust::roots(config.tls.trusted.as_deref()).map_err(|error| Problem::file("tls.trusted", error))?,
    };
    let settings = ldap::Settings {
        url,
        starttls: given.starttls,
        cleartext: stamp.environment == Environment::Development,
        way,
        mail: given.mail_attribute.clone(),
        patience: Duration::from_secs(given.timeout_seconds),
    };
    let directory = Arc::new(Ldap::new(settings, roots).map_err(refused)?);
    Ok(Some(Vouching { directory, create_accounts: given.create_accounts }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;

    fn asked(environment: Environment, words: &[(&'static str, &str)]) -> Result<bool, &'static str> {
        let config = Config::of(words).unwrap();
        let directory = directory(&config, &Stamp::new(environment, Timestamp(1)));
        directory.map(|directory| directory.is_some()).map_err(|problem| problem.fault.key)
    }

    #[test]
    fn a_directory_is_asked_in_one_way_and_not_in_clear() {
        let production = |words: &[(&'static str, &str)]| asked(Environment::Production, words);
        let url = ("ldap.url", "ldap://ldap.example.cd");
        let name = ("ldap.user_dn", "uid={user},dc=cd");
        let (dn, base) = (("ldap.service_dn", "cn=us,dc=cd"), ("ldap.base", "dc=cd"));
        let (word, filter) = (("ldap.service_password", "a7Kq"), ("ldap.filter", "(mail={user})"));
        assert_eq!(production(&[]), Ok(false));
        assert_eq!(production(&[url, name]), Ok(true));
        assert_eq!(production(&[url, dn, base, word, filter]), Ok(true));
        for few in
            [&[url][..], &[url, name, base], &[url, dn, base, filter], &[url, dn, base, word], &[url, name, word]]
        {
            assert_eq!(production(few), Err("ldap.incomplete"), "{few:?}");
        }
        let clear = ("ldap.starttls", "false");
        assert_eq!(production(&[url, name, clear]), Err("ldap.cleartext"));
        assert_eq!(asked(Environment::Staging, &[url, name, clear]), Err("ldap.cleartext"));
        assert_eq!(asked(Environment::Development, &[url, name, clear]), Ok(true));
        assert_eq!(production(&[("ldap.url", "ldap://127.0.0.1"), name, clear]), Ok(true));
        assert_eq!(production(&[url, name, ("ldap.trusted", "/nowhere/ca.pem")]), Err("instance.file"));
    }
}
