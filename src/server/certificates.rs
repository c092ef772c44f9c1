//! Who certifies the host names, as configured: our own authority, files, public authorities.

use super::{
    authority::Issuing,
    listener::tls::Shown,
    open::Opened,
    preconditions,
    problem::{Kind, Problem},
    running::Senses,
};
use crate::{
    backends::{
        certificates::{
            acme::{Acme, dns, hook::Hook},
            files::Files,
        },
        web::https::Https,
    },
    base::{
        clock::SharedClock,
        config::{self, Challenge, Config, Listener, Source},
        fault::Fault,
        trust,
    },
    ports::{
        certificates::{Issuer, Proofs},
        web::is_safe,
    },
    services::certificates::{Certificates, Challenges, Mode, Orders, Sources, Staples},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::RootCertStore;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use zeroize::Zeroizing;

/// A public authority may take its time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who says whether a certificate is good answers at once, or later.
const SHORT: Duration = Duration::from_secs(10);

/// What is shown over HTTPS, over an opened instance.
pub fn certificates(
    config: &Config,
    opened: &Opened,
    shown: Arc<Shown>,
    senses: &Senses,
) -> Result<Certificates, Problem> {
    let Senses { clock, metrics, health, .. } = senses.clone();
    // Asked in clear: nobody needs to be trusted for it.
    let responders = Https::new(RootCertStore::empty(), SHORT).map_err(failed)?;
    let (keys, audit) = ((opened.keyring.clone(), opened.secrets.vault.clone()), opened.audit.clone());
    Ok(Certificates {
        issuer: Arc::new(Issuing { keyring: opened.keyring.clone(), days: config.tls.certificate_days }),
        names: preconditions::names(config, &opened.stamp),
        orders: Orders::new(opened.documents.clone(), keys, audit, clock.clone(), names(config)),
        staples: Staples::new(Arc::new(responders), opened.documents.clone(), clock.clone()),
        sources: Sources::of(mode(config, &shown.challenges, &clock)?),
        show: shown,
        clock,
        metrics,
        health,
    })
}

/// As configured; refused when something is missing or does not go together.
pub fn mode(config: &Config, challenges: &Arc<Challenges>, clock: &SharedClock) -> Result<Mode, Problem> {
    let refused = |fault| Problem::new(Kind::Refused, fault);
    match config.tls.mode {
        Source::Internal => Ok(Mode::Internal),
        Source::Files => match (config.tls.certificate.clone(), config.tls.key.clone()) {
            (Some(certificate), Some(key)) => Ok(Mode::Files(Arc::new(Files { certificate, key }))),
            _ => Err(refused(Fault::new("certificates.no_files"))),
        },
        Source::Acme => {
            sound(config).map_err(refused)?;
            let roots = trust::roots(config.tls.trusted.as_deref());
            let roots = roots.map_err(|error| Problem::file("tls.trusted", error))?;
            let https = Https::new(roots, PATIENCE).map_err(failed)?;
            Ok(Mode::Acme(issuers(config, &Arc::new(https), challenges, clock).map_err(refused)?))
        }
    }
}

fn failed(error: rustls::Error) -> Problem {
    Problem::new(Kind::Failed, Fault::new("server.tls_failed").with("cause", error))
}

/// What public authorities certify: all but this machine's own names.
pub fn names(config: &Config) -> Vec<String> {
    let own = |name: &&String| match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => *name == "localhost" || name.ends_with(".localhost"),
    };
    config.server.hostnames.iter().filter(|name| !own(name)).cloned().collect()
}

fn sound(config: &Config) -> Result<(), Fault> {
    let acme = &config.acme;
    if !acme.agree_terms {
        return Err(Fault::new("certificates.terms"));
    }
    if acme.issuers.is_empty() {
        return Err(Fault::new("certificates.no_issuer"));
    }
    if names(config).is_empty() {
        return Err(Fault::new("certificates.no_public_names"));
    }
    match acme.challenge {
        Challenge::Http if config.server.http == Listener::Off => Err(Fault::new("certificates.http_off")),
        _ => Ok(()),
    }
}

fn issuers(
    config: &Config,
    https: &Arc<Https>,
    challenges: &Arc<Challenges>,
    clock: &SharedClock,
) -> Result<Vec<Arc<dyn Issuer>>, Fault> {
    let acme = &config.acme;
    let proofs: Arc<dyn Proofs> = match acme.challenge {
        Challenge::Dns => records(acme, clock)?,
        Challenge::Http | Challenge::Tls => challenges.clone(),
    };
    let issuer = |words: &String| -> Result<Arc<dyn Issuer>, Fault> {
        let asked = Asked::read(words)?;
        let external = asked.account.map(|id| external(acme, id)).transpose()?;
        Ok(Arc::new(Acme {
            directory: asked.directory.to_owned(),
            profile: asked.profile.map(str::to_owned),
            external,
            contact: acme.contact.clone(),
            challenge: acme.challenge,
            proofs: proofs.clone(),
            https: https.clone(),
        }))
    };
    acme.issuers.iter().map(issuer).collect()
}

/// `URL [profile=NAME] [eab=IDENTIFIER]`.
struct Asked<'a> {
    directory: &'a str,
    profile: Option<&'a str>,
    account: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(words: &'a str) -> Result<Self, Fault> {
        let unreadable = || Fault::new("certificates.issuer").with("issuer", words);
        let mut all = words.split_whitespace();
        let sound = |url: &&str| is_safe(url) && url.parse::<hyper::Uri>().is_ok();
        let directory = all.next().filter(sound).ok_or_else(unreadable)?;
        let mut asked = Self { directory, profile: None, account: None };
        for word in all {
            match word.split_once('=') {
                Some(("profile", name)) if !name.is_empty() => asked.profile = Some(name),
                Some(("eab", id)) if !id.is_empty() => asked.account = Some(id),
                _ => return Err(unreadable()),
            }
        }
        Ok(asked)
    }
}

/// The MAC key of an identifier, among `IDENTIFIER=KEY …`.
fn external(acme: &config::Acme, id: &str) -> Result<(String, Zeroizing<Vec<u8>>), Fault> {
    let absent = || Fault::new("certificates.eab_key").with("id", id);
    let keys = acme.eab_keys.as_ref().ok_or_else(absent)?;
    let mut pairs = keys.expose().split_whitespace().filter_map(|pair| pair.split_once('='));
    let (_, key) = pairs.find(|(named, _)| *named == id).ok_or_else(absent)?;
    let key = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).map_err(|_| absent())?;
    Ok((id.to_owned(), Zeroizing::new(key)))
}

/// How TXT records are written.
fn records(acme: &config::Acme, clock: &SharedClock) -> Result<Arc<dyn Proofs>, Fault> {
    let wait = Duration::from_secs(acme.dns_wait_seconds);
    match (&acme.dns_server, &acme.dns_key, &acme.dns_hook) {
        (Some(server), Some(key), None) => {
            let unreadable = || Fault::new("certificates.dns_server").with("server", server);
            Ok(Arc::new(dns::Updates {
                server: address(server).ok_or_else(unreadable)?,
                zone: acme.dns_zone.as_deref().map(dns::zone).transpose()?,
                signer: dns::signer(key.expose())?,
                wait,
                clock: clock.clone(),
            }))
        }
        (None, None, Some(program)) => Ok(Arc::new(Hook { program: program.clone(), wait })),
        _ => Err(Fault::new("certificates.dns_incomplete")),
    }
}

/// Port 53 where none is named.
fn address(words: &str) -> Option<SocketAddr> {
    words.parse().ok().or_else(|| Some(SocketAddr::new(words.parse().ok()?, 53)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    fn judged(words: &[(&'static str, &str)]) -> Result<&'static str, &'static str> {
        let host = ("server.hostnames", "api.example.cd");
        let words: Vec<_> = [host, ("acme.agree_terms", "true")].iter().chain(words).copied().collect();
        let clock: SharedClock = Arc::new(SystemClock);
        let mode = mode(&Config::of(&words).unwrap(), &Arc::default(), &clock);
        mode.map(|mode| mode.name()).map_err(|problem| problem.fault.key)
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let acme = ("tls.mode", "acme");
        let dns = ("acme.challenge", "dns-01");
        let (server, hook) = (("acme.dns_server", "192.0.2.53"), ("acme.dns_hook", "/usr/local/bin/dns"));
        let key = ("acme.dns_key", "hmac-sha256:k:a2V5IG9mIHRoZSB6b25l");
        assert_eq!(judged(&[]), Ok("internal"));
        assert_eq!(judged(&[acme]), Ok("acme"));
        for (words, expected) in [
            (&[("tls.mode", "files")][..], "certificates.no_files"),
            (&[("tls.mode", "files"), ("tls.key", "/k")], "certificates.no_files"),
            (&[acme, ("acme.agree_terms", "false")], "certificates.terms"),
            (&[acme, ("server.hostnames", "localhost,127.0.0.1")], "certificates.no_public_names"),
            (&[acme, ("server.http", "off")], "certificates.http_off"),
            (&[acme, ("acme.issuers", "")], "certificates.no_issuer"),
            (&[acme, ("acme.issuers", "http://ca.example.cd/dir")], "certificates.issuer"),
            (&[acme, ("acme.issuers", "https://ca.example.cd/dir profil=x")], "certificates.issuer"),
            (&[acme, ("acme.issuers", "https://[2001:db8::1/dir")], "certificates.issuer"),
            (&[acme, ("acme.issuers", "https://ca.example.cd/dir eab=a")], "certificates.eab_key"),
            (
                &[acme, ("acme.issuers", "https://a.cd/d eab=a"), ("acme.eab_keys", "b=c2VjcmV0")],
                "certificates.eab_key",
            ),
            (&[acme, dns], "certificates.dns_incomplete"),
            (&[acme, dns, server], "certificates.dns_incomplete"),
            (&[acme, dns, server, key, hook], "certificates.dns_incomplete"),
            (&[acme, dns, ("acme.dns_server", "ns.example.cd"), key], "certificates.dns_server"),
            (&[acme, dns, server, ("acme.dns_key", "unreadable")], "certificates.dns_key"),
            (&[acme, dns, server, key, ("acme.dns_zone", "a..b")], "certificates.dns_zone"),
        ] {
            assert_eq!(judged(words), Err(expected), "{words:?}");
        }
        for good in [
            &[
                ("acme.issuers", "https://a.cd/d profile=shortlived eab=a,https://b.cd/d"),
                ("acme.eab_keys", "a=c2VjcmV0"),
            ][..],
            &[dns, hook],
            &[dns, server, key, ("acme.dns_zone", "example.cd")],
            &[("acme.challenge", "tls-alpn-01"), ("server.http", "off")],
        ] {
            assert_eq!(judged(&[&[acme], good].concat()), Ok("acme"), "{good:?}");
        }
        assert_eq!(judged(&[("tls.mode", "files"), ("tls.key", "/k"), ("tls.certificate", "/c")]), Ok("files"));
    }
}
