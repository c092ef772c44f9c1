//! Login through an OpenID Connect provider: the authorization code flow with PKCE and a nonce. What the provider vouches
//! for opens a session of ours; its own tokens are kept nowhere.

mod provider;
mod token;

use super::{
    Error, Result,
    access::Caller,
    audit::{Audit, Event},
    identities::{Identities, Identity, Vouched},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        config::Secret,
        fault::Fault,
        secret,
    },
    ports::web::Web,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use provider::Provider;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Seconds between the start of a login and its end.
const LIFE: i64 = 600;
/// Logins begun and not ended; the oldest makes room.
const MOST: usize = 10_000;
const LONGEST: usize = 4096;

/// What the operator agreed on with the provider.
#[derive(Debug, Clone)]
pub struct Settings {
    pub issuer: String,
    pub client: String,
    pub secret: Option<Secret>,
    pub redirect: String,
    pub create_accounts: bool,
}

/// What a client opens, and must compare when people come back from it.
#[derive(Debug)]
pub struct Started {
    pub url: String,
    pub state: String,
}

struct Begun {
    nonce: String,
    verifier: String,
    expires: Timestamp,
}

pub struct Oidc {
    clock: SharedClock,
    identities: Arc<Identities>,
    audit: Arc<Audit>,
    provider: Option<Provider>,
    /// By the hash of their state. In memory: who is anonymous writes nothing to the disk, and a login cut by a
    /// restart is begun again.
    begun: Mutex<HashMap<String, Begun>>,
}

impl Oidc {
    /// Without settings, there is no provider and every login is refused.
    pub fn new(
        clock: SharedClock,
        identities: Arc<Identities>,
        audit: Arc<Audit>,
        web: Arc<dyn Web>,
        settings: Option<Settings>,
    ) -> Self {
        let provider = settings.map(|settings| Provider::new(settings, web, clock.clone()));
        Self { clock, identities, audit, provider, begun: Mutex::default() }
    }

    /// Begins a login: the provider's page to open.
    pub async fn start(&self) -> Result<Started> {
        let provider = self.provider()?;
        let [state, nonce, verifier] = [(); 3].map(|()| secret::make().to_string());
        let url = provider.authorization(&state, &nonce, &challenge(&verifier)).await?;
        let now = self.clock.now();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.len() >= MOST {
            begun.retain(|_, one| one.expires > now);
        }
        if begun.len() >= MOST {
            let oldest = begun.iter().min_by_key(|(_, one)| one.expires).map(|(state, _)| state.clone());
            oldest.map(|state| begun.remove(&state));
        }
        begun.insert(secret::hash(&state), Begun { nonce, verifier, expires: now.plus_seconds(LIFE) });
        Ok(Started { url, state })
    }

    /// Ends a login: who the provider vouches for. Each state is good once, whatever comes of it.
    pub async fn finish(&self, caller: &Caller, state: &str, code: &str) -> Result<Identity> {
        let finished = self.redeem(caller, state, code).await;
        // A success is told by the session it opens.
        let why = match &finished {
            Err(Error::InvalidProof(why)) => Some(*why),
            Err(Error::Unauthorized) => Some("vouched for nobody who may come in"),
            _ => None,
        };
        if let Some(why) = why {
            self.audit.refused(caller, Event::new("auth.oidc").failed(why)).await;
        }
        finished
    }

    async fn redeem(&self, caller: &Caller, state: &str, code: &str) -> Result<Identity> {
        let provider = self.provider()?;
        if code.is_empty() || code.len() > LONGEST || state.len() > LONGEST {
            return Err(Error::InvalidProof("no code of a provider"));
        }
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&secret::hash(state));
        let begun = begun.filter(|begun| begun.expires > self.clock.now());
        let begun = begun.ok_or(Error::InvalidProof("unknown or used state"))?;
        let claims = provider.redeem(code, &begun.verifier, &begun.nonce).await?;
        let email = claims.email.as_deref().filter(|_| claims.email_verified == Some(true));
        let (issuer, subject, create_accounts) = (provider.issuer(), claims.sub.as_str(), provider.creates_accounts());
        let vouched = Vouched { issuer, subject, email, create_accounts, beside_password: true };
        self.identities.vouched(caller, &vouched).await
    }

    fn provider(&self) -> Result<&Provider> {
        self.provider.as_ref().ok_or_else(|| Error::NotFound(Fault::new("oidc.off")))
    }
}

/// RFC 7636, S256.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests;
