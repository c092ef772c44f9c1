//! The routes of the certificate shown over HTTPS: what it is, and another one.

use super::{conditions, envelope::Answer, proof::By, spec::Tag};
use crate::services::{Result, certificates::Shown};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;

pub struct Routes;

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct ServerCertificate {
    issuer: String,
    /// Host names and addresses it is for
    names: Vec<String>,
    /// RFC 3339
    not_before: String,
    not_after: String,
    /// When another takes its place
    renews_at: String,
    /// SHA-256 in hex
    fingerprint: String,
}

#[OpenApi(prefix_path = "/api/v1/admin/certificate", tag = "Tag::Administration")]
impl Routes {
    /// The certificate shown over HTTPS
    #[oai(path = "/", method = "get", operation_id = "showCertificate")]
    async fn show(&self, by: By) -> Result<Answer<ServerCertificate>> {
        Answer::value(&by.exchange, &ServerCertificate::of(by.exchange.state.secrets.certificate(&by.caller)?))
    }

    /// Show another one, under another key; connections that are open keep the one they saw
    #[oai(path = "/renew", method = "post", operation_id = "renewCertificate")]
    async fn renew(&self, by: By, request: &Request) -> Result<Answer<ServerCertificate>> {
        conditions::no_attempt(request)?;
        Answer::value(
            &by.exchange,
            &ServerCertificate::of(by.exchange.state.secrets.renew_certificate(&by.caller).await?),
        )
    }
}

impl ServerCertificate {
    fn of(shown: Shown) -> Self {
        let Shown { issuer, names, start, renewal, end, fingerprint } = shown;
        let (not_before, not_after, renews_at) = (start.rfc3339(), end.rfc3339(), renewal.rfc3339());
        Self { issuer, names, not_before, not_after, renews_at, fingerprint }
    }
}
