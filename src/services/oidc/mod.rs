//! Login through an OpenID Connect provider: the authorization code flow with PKCE and a nonce. What the provider vouches
//! for opens a session of ours; its own tokens are kept nowhere.

mod provider;
mod token;

use super::{
    Error, Result,
    access::Caller,
    audit::{Audit, Event},
    identities::{self, IDENTITIES, Identities, Identity, Kind, Status},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        config::Secret,
        fault::Fault,
        random,
    },
    domain::contact,
    ports::{
        self,
        documents::{Batch, Change, Conflict, Documents, Expect, Operation},
        web::Web,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::rawdoc;
use provider::Provider;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use token::Claims;

/// Which identity a provider's subject is.
pub const LINKS: &str = "system.links";

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
    documents: Arc<dyn Documents>,
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
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        identities: Arc<Identities>,
        audit: Arc<Audit>,
        web: Arc<dyn Web>,
        settings: Option<Settings>,
    ) -> Self {
        let provider = settings.map(|settings| Provider::new(settings, web, clock.clone()));
        Self { documents, clock, identities, audit, provider, begun: Mutex::default() }
    }

    /// Begins a login: the provider's page to open.
    pub async fn start(&self) -> Result<Started> {
        let provider = self.provider()?;
        let [state, nonce, verifier] = [(); 3].map(|()| URL_SAFE_NO_PAD.encode(random::array::<32>()));
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
        begun.insert(hash(&state), Begun { nonce, verifier, expires: now.plus_seconds(LIFE) });
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
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(state));
        let begun = begun.filter(|begun| begun.expires > self.clock.now());
        let begun = begun.ok_or(Error::InvalidProof("unknown or used state"))?;
        let claims = provider.redeem(code, &begun.verifier, &begun.nonce).await?;
        let identity = self.identity(caller, provider, &claims).await?;
        match identity.kind == Kind::Person && identity.status == Status::Active {
            true => Ok(identity),
            false => Err(Error::Unauthorized),
        }
    }

    fn provider(&self) -> Result<&Provider> {
        self.provider.as_ref().ok_or_else(|| Error::NotFound(Fault::new("oidc.off")))
    }

    /// By the subject once linked; the first time by an address the provider has verified.
    async fn identity(&self, caller: &Caller, provider: &Provider, claims: &Claims) -> Result<Identity> {
        let link = hash(&format!("{}\n{}", provider.issuer(), claims.sub));
        if let Some(linked) = self.documents.get(LINKS, &link).await? {
            let id = linked.get_str("identity").map_err(|error| Error::Internal(Box::new(error)))?;
            let identity = self.documents.get(IDENTITIES, id).await?.ok_or(Error::Unauthorized)?;
            return identities::read(&identity);
        }
        let email = claims.email.as_deref().filter(|_| claims.email_verified == Some(true));
        let email = contact::email(email.ok_or(Error::Unauthorized)?).map_err(|_| Error::Unauthorized)?;
        let identity = match self.identities.known(&email).await? {
            Some(identity) => identity,
            None if provider.creates_accounts() => self.identities.add_vouched(caller, &email).await?,
            None => return Err(Error::Unauthorized),
        };
        // An address that whoever registered it never proved is not theirs: they would share the account.
        let sound = identity.kind == Kind::Person && identity.status == Status::Active && identity.email_verified;
        if !sound {
            return Err(Error::Unauthorized);
        }
        let document = rawdoc! { "identity": &*identity.id, "issuer": provider.issuer(), "subject": &*claims.sub };
        let operation =
            Operation { collection: LINKS.to_owned(), id: link, expect: Expect::Absent, change: Change::Put(document) };
        let (time, origin) = (self.clock.now(), caller.origin());
        let batch = Batch { time, origin, operations: vec![operation], check: None, receipt: None };
        match self.documents.commit(batch).await {
            // Two logins at once, of the same subject and so of the same identity.
            Ok(_) | Err(ports::Error::Conflict(Conflict::Exists { .. })) => Ok(identity),
            Err(error) => Err(error.into()),
        }
    }
}

/// RFC 7636, S256.
fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

fn hash(words: &str) -> String {
    hex::encode(Sha256::digest(words.as_bytes()))
}

#[cfg(test)]
mod tests;
