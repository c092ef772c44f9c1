//! The routes of a login through an OpenID Connect provider.

use super::{
    auth::{Tokens, device},
    body::Sent,
    envelope::Answer,
    exchange::Public,
};
use crate::{
    http::spec::Tag,
    services::{Result, access::Subject, mfa::Method},
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Start {}

#[derive(Serialize, Object)]
struct Started {
    /// The provider's page, to open in a browser
    url: String,
    /// To be kept by the client, which goes on only if it comes back the same
    state: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Finish {
    state: String,
    code: String,
}

#[OpenApi(prefix_path = "/api/v1/auth/oidc", tag = "Tag::Authentication")]
impl Routes {
    /// Begin a login with the provider
    #[oai(path = "/start", method = "post", operation_id = "startOidc")]
    async fn start(&self, public: Public, sent: Sent<Start>) -> Result<Answer<Started>> {
        let (exchange, Start {}) = (public.0, sent.read()?);
        let started = exchange.state.oidc.start().await?;
        Answer::value(&exchange, &Started { url: started.url, state: started.state })
    }

    /// Open a session for whom the provider vouches; a state is good once, for ten minutes
    #[oai(path = "/finish", method = "post", operation_id = "finishOidc")]
    async fn finish(&self, public: Public, sent: Sent<Finish>, request: &Request) -> Result<Answer<Tokens>> {
        let (exchange, Finish { state, code }) = (public.0, sent.read()?);
        let caller = exchange.caller(Subject::Anonymous);
        let attempt = exchange.attempt("oidc").await?;
        let identity = attempt.of(exchange.state.oidc.finish(&caller, &state, &code).await)?;
        let device = device(None, request);
        let granted = exchange.state.mfa.admit(&caller, identity, device, &[Method::Fed], None).await?;
        Answer::value(&exchange, &Tokens::from(granted))
    }
}
