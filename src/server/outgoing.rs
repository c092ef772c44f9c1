//! What leaves the instance: its mail and where the links in it lead, its requests to an identity provider.

use super::problem::{Kind, Problem};
use crate::{
    backends::{
        mail::{self, folder::Folder, smtp::Smtp},
        web::https::Https,
    },
    base::{clock::SharedClock, config::Config, environment::Environment, fault::Fault, trust},
    ports::{
        mail::Mailer,
        web::{Web, is_safe},
    },
    services::{
        audit::{self, Place},
        instance::Stamp,
        oidc::Settings,
    },
};
use std::sync::Arc;

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

/// The page a recovery's link opens.
pub fn recovery_page(config: &Config) -> String {
    let host = config.server.hostnames.first().map_or("localhost", String::as_str);
    let port = config.server.https.port();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    config.identity.recovery_url.clone().unwrap_or_else(|| format!("https://{host}{port}/console/recover"))
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

/// How an identity provider and the audit log's witnesses are reached.
pub fn web(config: &Config) -> Result<Arc<dyn Web>, Problem> {
    // Read only where it is used: a command alone asks nobody.
    let roots = match config.oidc.issuer.is_some() || config.audit.witness.iter().any(|place| is_url(place)) {
        true => trust::roots(config.tls.trusted.as_deref()),
        false => Ok(rustls::RootCertStore::empty()),
    };
    let roots = roots.map_err(|error| Problem::file("tls.trusted", error))?;
    let https = Https::new(roots);
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
