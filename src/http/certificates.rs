//! The routes of the certificate shown over HTTPS: what it is, and another one.

use super::{conditions, envelope::Answer, proof::By, spec::Tag};
use crate::{
    base::messages::{Language, render},
    services::{
        Result,
        certificates::{Served, Stapled},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;

pub struct Routes;

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct ServerCertificate {
    /// Who certifies the host names: `internal`, `files` or `acme`
    mode: String,
    issuer: String,
    /// Host names and addresses it is for
    names: Vec<String>,
    /// RFC 3339
    not_before: String,
    not_after: String,
    /// When another takes its place; absent where that is not the server's work
    #[serde(skip_serializing_if = "Option::is_none")]
    renews_at: Option<String>,
    /// SHA-256 in hex
    fingerprint: String,
    /// For some or all host names the internal authority's is shown, since the one wanted is not there
    fallback: bool,
    /// Attempts in a row that gave none
    failures: u32,
    /// When it is tried again, after failures
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    /// Why the last attempt gave none
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// What its authority says of it (RFC 6960); absent where that has nobody answer, and the certificate does not want it
    #[serde(skip_serializing_if = "Option::is_none")]
    staple: Option<Staple>,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Staple {
    /// `good`: shown with the certificate; `revoked`, `absent`: nothing is
    state: String,
    /// Clients that know how refuse the certificate without it
    required: bool,
    /// RFC 3339
    #[serde(skip_serializing_if = "Option::is_none")]
    this_update: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_update: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    /// When the authority is asked again; absent where there is nobody to ask
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    /// Why there is no answer, or no newer one
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/admin/certificate", tag = "Tag::Administration")]
impl Routes {
    /// The certificate shown over HTTPS
    #[oai(path = "/", method = "get", operation_id = "showCertificate")]
    async fn show(&self, by: By) -> Result<Answer<ServerCertificate>> {
        let served = by.exchange.state.secrets.certificate(&by.caller)?;
        Answer::value(&by.exchange, &ServerCertificate::of(served, by.exchange.language))
    }

    /// Show another one, under another key; connections that are open keep the one they saw
    #[oai(path = "/renew", method = "post", operation_id = "renewCertificate")]
    async fn renew(&self, by: By, request: &Request) -> Result<Answer<ServerCertificate>> {
        conditions::no_attempt(request)?;
        let served = by.exchange.state.secrets.renew_certificate(&by.caller).await?;
        Answer::value(&by.exchange, &ServerCertificate::of(served, by.exchange.language))
    }
}

impl ServerCertificate {
    fn of(served: Served, language: Language) -> Self {
        let certificate = served.shown.certificate;
        Self {
            mode: served.mode.to_owned(),
            issuer: certificate.issuer,
            names: certificate.names,
            not_before: certificate.not_before.rfc3339(),
            not_after: certificate.not_after.rfc3339(),
            renews_at: served.shown.renewal.map(|time| time.rfc3339()),
            fingerprint: certificate.fingerprint,
            fallback: served.fallback,
            failures: served.failures,
            next_attempt_at: served.next.map(|time| time.rfc3339()),
            fault: served.trouble.map(|fault| render(language, &fault)),
            staple: served.staple.map(|staple| Staple::of(&staple, language)),
        }
    }
}

impl Staple {
    fn of(stapled: &Stapled, language: Language) -> Self {
        let revoked_at = stapled.revoked().map(|since| since.rfc3339());
        let state = match (&stapled.answer, &revoked_at) {
            (None, _) => "absent",
            (Some(_), Some(_)) => "revoked",
            (Some(_), None) => "good",
        };
        Self {
            state: state.to_owned(),
            required: stapled.required,
            this_update: stapled.answer.map(|answer| answer.this_update.rfc3339()),
            next_update: stapled.answer.map(|answer| answer.next_update.rfc3339()),
            revoked_at,
            next_attempt_at: stapled.next.map(|time| time.rfc3339()),
            fault: stapled.trouble.as_ref().map(|fault| render(language, fault)),
        }
    }
}
