//! The provider as it describes itself: its endpoints and keys, fetched once and again when they turn.

use super::{
    Settings,
    token::{self, Claims},
};
use crate::{
    base::clock::{SharedClock, Timestamp},
    ports::web::{Body, Request, Web, is_safe},
    services::{Error, Result},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::jwk::JwkSet;
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Seconds a description is believed, and between two looks for keys we do not know.
const BELIEVED: i64 = 3600;
const PAUSE: i64 = 60;

#[derive(Debug, Clone, Deserialize)]
struct Description {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
}

struct Known {
    description: Description,
    keys: JwkSet,
    at: Timestamp,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

pub struct Provider {
    settings: Settings,
    web: Arc<dyn Web>,
    clock: SharedClock,
    known: Mutex<Option<Arc<Known>>>,
}

impl Provider {
    pub fn new(settings: Settings, web: Arc<dyn Web>, clock: SharedClock) -> Self {
        Self { settings, web, clock, known: Mutex::default() }
    }

    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    pub fn creates_accounts(&self) -> bool {
        self.settings.create_accounts
    }

    /// The page a login begins on.
    pub async fn authorization(&self, state: &str, nonce: &str, challenge: &str) -> Result<String> {
        let known = self.known(BELIEVED).await?;
        let endpoint = &known.description.authorization_endpoint;
        let query = form(&[
            ("response_type", "code"),
            ("scope", "openid email"),
            ("client_id", &self.settings.client),
            ("redirect_uri", &self.settings.redirect),
            ("state", state),
            ("nonce", nonce),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ]);
        Ok(format!("{endpoint}{}{query}", if endpoint.contains('?') { '&' } else { '?' }))
    }

    /// Trades a code for what the provider says of the person.
    pub async fn redeem(&self, code: &str, verifier: &str, nonce: &str) -> Result<Claims> {
        let known = self.known(BELIEVED).await?;
        let Settings { client, secret, redirect, .. } = &self.settings;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ];
        // RFC 6749, 2.3.1: both parts as a form encodes them.
        let authorization = secret.as_ref().map(|secret| {
            format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(client), encode(secret.expose()))))
        });
        if authorization.is_none() {
            fields.push(("client_id", client));
        }
        let url = known.description.token_endpoint.clone();
        let body = Some(Body::Form(form(&fields)));
        let answer = self.web.fetch(Request { url, body, authorization, ..Request::default() }).await?;
        if (400..500).contains(&answer.status) {
            return Err(Error::InvalidProof("the provider refused the code"));
        }
        let tokens: Tokens = parse(&answer.body, answer.status)?;
        let mut claims = self.check(&tokens.id_token, nonce).await?;
        if claims.email.is_none()
            && let (Some(url), Some(access)) = (&known.description.userinfo_endpoint, &tokens.access_token)
        {
            let authorization = Some(format!("Bearer {access}"));
            let said: Claims = self.get(Request { url: url.clone(), authorization, ..Request::default() }).await?;
            // OpenID Connect Core, 5.3.2: else it may be of somebody else.
            if said.sub != claims.sub {
                return Err(Error::InvalidProof("user info of another subject"));
            }
            (claims.email, claims.email_verified) = (said.email, said.email_verified);
        }
        Ok(claims)
    }

    /// A key we do not know may be a new one: the provider is asked again, once a minute at most.
    async fn check(&self, id_token: &str, nonce: &str) -> Result<Claims> {
        let (issuer, client, now) = (&self.settings.issuer, &self.settings.client, self.clock.now());
        let known = self.known(BELIEVED).await?;
        match token::check(id_token, &known.keys, issuer, client, nonce, now) {
            Err(Error::InvalidProof(token::UNKNOWN_KEY)) => {
                let known = self.known(PAUSE).await?;
                token::check(id_token, &known.keys, issuer, client, nonce, now)
            }
            other => other,
        }
    }

    /// What the provider says of itself, not older than so many seconds.
    async fn known(&self, seconds: i64) -> Result<Arc<Known>> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        if let Some(known) = known.as_ref().filter(|known| known.at.plus_seconds(seconds) > now) {
            return Ok(known.clone());
        }
        let url = format!("{}/.well-known/openid-configuration", self.settings.issuer.trim_end_matches('/'));
        let description: Description = self.get(Request { url, ..Request::default() }).await?;
        if description.issuer != self.settings.issuer {
            return Err(Error::Unavailable(format!("the provider calls itself {}", description.issuer)));
        }
        let Description { authorization_endpoint, token_endpoint, jwks_uri, .. } = &description;
        if ![authorization_endpoint, token_endpoint, jwks_uri].iter().all(|url| is_safe(url)) {
            return Err(Error::Unavailable("the provider names endpoints without TLS".to_owned()));
        }
        let keys = self.get(Request { url: jwks_uri.clone(), ..Request::default() }).await?;
        let fresh = Arc::new(Known { description, keys, at: now });
        *known = Some(fresh.clone());
        Ok(fresh)
    }

    async fn get<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        let answer = self.web.fetch(request).await?;
        parse(&answer.body, answer.status)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8], status: u16) -> Result<T> {
    if status != 200 {
        return Err(Error::Unavailable(format!("the provider answered {status}")));
    }
    serde_json::from_slice(body).map_err(|error| Error::Unavailable(format!("the provider's answer: {error}")))
}

fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// RFC 3986's unreserved letters stay.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
