//! The routes of a lost password: asked for, confirmed, or handed over by an administrator.

use super::{auth::Person, body::Sent, conditions, envelope::Answer, exchange::Public, proof::By, spec::Tag};
use crate::domain::contact;
use crate::services::{Result, access::Subject};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Lost {
    email: String,
}

#[derive(Serialize, Object)]
struct Accepted {
    /// Whether or not there is such an account
    accepted: bool,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// From the link's fragment
    token: String,
    password: String,
}

#[derive(Serialize, Object)]
struct Changed {
    changed: bool,
}

/// Nothing needs to be said.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Handed {
    /// Good once; shown this once
    token: String,
    /// The same, as a page to open
    link: String,
    /// Unix seconds
    expires_at: i64,
    identity: Person,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Authentication")]
impl Routes {
    /// Ask for a link to choose another password; the answer is the same whether or not there is such an account
    #[oai(path = "/auth/recover", method = "post", operation_id = "recover")]
    async fn ask(&self, public: Public, sent: Sent<Lost>) -> Result<Answer<Accepted, 202>> {
        let (exchange, Lost { email }) = (public.0, sent.read()?);
        let caller = exchange.caller(Subject::Anonymous);
        // Never a success: each letter asked for counts, whoever it is for.
        let account = contact::email(&email).unwrap_or_else(|_| email.clone());
        let _asked = exchange.state.throttle.attempt("recovery", &account, exchange.address).await?;
        exchange.state.recoveries.ask(&caller, &email).await?;
        Answer::value(&exchange, &Accepted { accepted: true })
    }

    /// Choose another password with a link's token; every session ends, none is opened
    #[oai(path = "/auth/recover/confirm", method = "post", operation_id = "confirmRecovery")]
    async fn confirm(&self, public: Public, sent: Sent<Confirmation>, request: &Request) -> Result<Answer<Changed>> {
        conditions::no_attempt(request)?;
        let (exchange, Confirmation { token, password }) = (public.0, sent.read()?);
        let caller = exchange.caller(Subject::Anonymous);
        let (token, password) = (Zeroizing::new(token), Zeroizing::new(password));
        let attempt = exchange.attempt("recovery_confirm").await?;
        attempt.of(exchange.state.recoveries.confirm(&caller, &token, password).await)?;
        Answer::value(&exchange, &Changed { changed: true })
    }

    /// A link to hand over to a person who lost their password; `who` is an id or an email
    #[oai(
        path = "/admin/identities/:who/recovery",
        method = "post",
        operation_id = "handOverRecovery",
        tag = "Tag::Administration"
    )]
    async fn hand_over(
        &self,
        by: By,
        who: Path<String>,
        sent: Sent<Nothing>,
        request: &Request,
    ) -> Result<Answer<Handed, 201>> {
        conditions::no_attempt(request)?;
        let Nothing {} = sent.read()?;
        let handed = by.exchange.state.recoveries.hand_over(&by.caller, &who).await?;
        let (token, link) = (handed.token.to_string(), handed.link.to_string());
        let (expires_at, identity) = (handed.expires.seconds(), Person::from(&handed.identity));
        Answer::value(&by.exchange, &Handed { token, link, expires_at, identity })
    }
}
