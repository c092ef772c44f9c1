//! What leaves the instance: its mail and where the links in it lead, its requests to an identity provider.

use super::problem::{Kind, Problem};
use crate::{
    backends::{
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
    services::{instance::Stamp, oidc::Settings},
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

/// How an identity provider is reached.
pub fn web(config: &Config) -> Result<Arc<dyn Web>, Problem> {
    // Read only where it is used: a command alone asks nobody.
    let roots = match &config.oidc.issuer {
        Some(_) => trust::roots(config.tls.trusted.as_deref()),
        None => Ok(rustls::RootCertStore::empty()),
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
