//! Who is told of alerts, from the configuration.

use super::{
    open::Opened,
    outgoing,
    problem::{Kind, Problem},
    running::Senses,
};
use crate::{
    backends::notices::{letters::Letters, push::Push, sms::Sms, webhook::Webhook},
    base::{
        clock::SharedClock,
        config::{Config, Secret},
        environment::Environment,
        fault::Fault,
    },
    ports::{notices::Channel, web::is_safe},
    services::{
        alerts::{Alerts, FILE, Head},
        health::Finding,
        instance::Stamp,
    },
};
use std::{path::PathBuf, sync::Arc};

pub const CHECK: &str = "alerts";

pub fn alerts(config: &Config, opened: &Opened, senses: &Senses) -> Result<Arc<Alerts>, Problem> {
    let channels = channels(config, &opened.stamp, &senses.clock)?;
    let host = config.server.hostnames.first().cloned().unwrap_or_else(|| "localhost".to_owned());
    let head = Head { host, environment: opened.stamp.environment.name() };
    let told = (senses.clock.clone(), senses.metrics.clone(), senses.health.clone());
    Ok(Arc::new(Alerts::new(told, (opened.access.clone(), opened.audit.clone()), file(config), head, channels)))
}

/// How alerts stand, for who asks while nothing runs, too.
pub fn file(config: &Config) -> PathBuf {
    config.instance.data_dir.join(FILE)
}

/// Whether the ways by which alerts leave can be used.
pub fn check(config: &Config, stamp: &Stamp, clock: &SharedClock) -> Result<(), Problem> {
    channels(config, stamp, clock).map(drop)
}

/// Whether alerts reach anybody: for `doctor`, since another's Prometheus may watch too. Elsewhere than in production nobody
/// need be.
pub fn reach(config: &Config, stamp: &Stamp, clock: &SharedClock) -> Finding {
    let nobody = channels(config, stamp, clock).is_ok_and(|ways| ways.is_empty());
    match nobody && stamp.environment == Environment::Production {
        true => Finding::warning(CHECK, Fault::new("alerts.nobody")),
        false => Finding::ok(CHECK),
    }
}

fn channels(config: &Config, stamp: &Stamp, clock: &SharedClock) -> Result<Vec<Arc<dyn Channel>>, Problem> {
    let settings = &config.alerts;
    let refused = |key, path: &str| Problem::new(Kind::Refused, Fault::new(key).at(path));
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    if !settings.mail.is_empty() {
        let mailer = outgoing::mailer(config, stamp, clock)?;
        let mailer = mailer.ok_or_else(|| refused("alerts.no_mail_server", "alerts.mail"))?;
        channels.push(Arc::new(Letters::new(mailer, settings.mail.clone())));
    }
    let safe = |url: &Secret, path| match is_safe(url.expose()) {
        true => Ok(()),
        false => Err(refused("alerts.unsafe", path)),
    };
    let unfit = |fault| Problem::new(Kind::Refused, fault);
    match (&settings.webhook, &settings.webhook_secret) {
        (Some(url), Some(secret)) => {
            safe(url, "alerts.webhook")?;
            let webhook = Webhook::new(outgoing::web(config)?, url.expose().to_owned(), secret);
            channels.push(Arc::new(webhook.map_err(unfit)?));
        }
        (Some(_), None) => return Err(refused("alerts.webhook_unsigned", "alerts.webhook_secret")),
        (None, _) => {}
    }
    if let Some(url) = &settings.push {
        safe(url, "alerts.push")?;
        let push = Push::new(outgoing::web(config)?, url, settings.push_token.clone());
        channels.push(Arc::new(push.map_err(unfit)?));
    }
    match &settings.sms_program {
        Some(_) if settings.sms_numbers.is_empty() => return Err(refused("alerts.no_numbers", "alerts.sms_numbers")),
        Some(program) => {
            let (program, numbers) = (program.clone(), settings.sms_numbers.clone());
            channels.push(Arc::new(Sms { program, numbers }));
        }
        None if settings.sms_numbers.is_empty() => {}
        None => return Err(refused("alerts.no_program", "alerts.sms_program")),
    }
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::{SystemClock, Timestamp},
        services::health::Level,
    };

    fn judged(environment: Environment, words: &[(&'static str, &str)]) -> Result<Level, &'static str> {
        let (config, clock): (_, SharedClock) = (Config::of(words).unwrap(), Arc::new(SystemClock));
        let stamp = Stamp::new(environment, Timestamp(1));
        check(&config, &stamp, &clock).map_err(|problem| problem.fault.key)?;
        Ok(reach(&config, &stamp, &clock).level)
    }

    #[test]
    fn somebody_is_told_safely_or_it_is_said() {
        let production = |words: &[(&'static str, &str)]| judged(Environment::Production, words);
        assert_eq!(production(&[]), Ok(Level::Warning));
        assert_eq!(judged(Environment::Staging, &[]), Ok(Level::Ok));
        let mail = ("alerts.mail", "ops@example.cd");
        assert_eq!(production(&[mail]), Err("alerts.no_mail_server"));
        assert_eq!(production(&[mail, ("mail.server", "smtps://mail.example.cd")]), Ok(Level::Ok));
        let secret = ("alerts.webhook_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(production(&[("alerts.webhook", "https://x.cd/a")]), Err("alerts.webhook_unsigned"));
        assert_eq!(production(&[("alerts.webhook", "http://x.cd/a"), secret]), Err("alerts.unsafe"));
        assert_eq!(production(&[("alerts.webhook", "https://x.cd/a"), secret]), Ok(Level::Ok));
        assert_eq!(production(&[("alerts.push", "https://ntfy.example.cd")]), Err("alerts.push_topic"));
        assert_eq!(production(&[("alerts.push", "http://ntfy.example.cd/t")]), Err("alerts.unsafe"));
        assert_eq!(production(&[("alerts.push", "https://ntfy.example.cd/t")]), Ok(Level::Ok));
        assert_eq!(production(&[("alerts.sms_program", "/bin/true")]), Err("alerts.no_numbers"));
        assert_eq!(production(&[("alerts.sms_numbers", "+243")]), Err("alerts.no_program"));
    }
}
