//! What leaves the instance: its mail, and where the links in it lead.

use super::problem::{Kind, Problem};
use crate::{
    backends::mail::{self, folder::Folder, smtp::Smtp},
    base::{clock::SharedClock, config::Config, environment::Environment, trust},
    ports::mail::Mailer,
    services::instance::Stamp,
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
