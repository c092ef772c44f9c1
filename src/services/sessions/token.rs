//! Access tokens: JWT (RFC 7519) signed with EdDSA, pinned to key, issuer, audience and environment.

use super::{ACCESS_LIFE, Session};
use crate::{
    base::{clock::Timestamp, environment::Environment, random},
    services::{
        Error, Result,
        access::{Restriction, Role},
        identities::Identity,
        instance::Stamp,
        keyring::{Keyring, Purpose},
        mfa::Method,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use zeroize::Zeroizing;

/// The key id of tokens signed with the shared secret.
const SHARED: &str = "hs256";
const AUDIENCE: &str = "api";
/// Tokens whose signature was checked, kept until they expire: a check costs some 50 µs, a look-up less than one.
const REMEMBERED: usize = 10_000;
/// Seconds for which a key is believed once it has a successor: its last token's life, and a minute in which it may still
/// have signed.
const OVERLAP: i64 = ACCESS_LIFE + 60;
/// A token is a few hundred bytes; what is longer is not looked at.
const LONGEST: usize = 4096;

#[derive(serde::Serialize, serde::Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sid: String,
    /// The key a machine proved itself by, and what it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Restriction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    env: Environment,
    roles: Vec<Role>,
    /// Milliseconds, beside the standard `iat` in seconds: a token made in the second of a logout is told apart.
    iat_ms: i64,
    iat: i64,
    exp: i64,
    jti: String,
    /// How and when it was proven (RFC 8176, OpenID Connect).
    #[serde(default)]
    amr: Vec<Method>,
    #[serde(default)]
    auth_time: i64,
}

/// What must be shown with the token (RFC 8705, 3.1). A confirmation of another kind makes it no token of ours.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

/// What a token proves.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    pub identity: String,
    /// Empty for a machine, which has none.
    pub session: String,
    pub key: Option<String>,
    pub restriction: Option<Arc<Restriction>>,
    pub roles: Vec<Role>,
    pub issued: Timestamp,
    pub expires: Timestamp,
    pub methods: Vec<Method>,
    /// The thumbprint of the client certificate it is good with; `None`: with any or none.
    pub bound: Option<[u8; 32]>,
}

/// By what an identity proved itself.
pub(super) enum Proof<'a> {
    Session(&'a Session),
    /// Which, narrowed to what, and bound to which certificate.
    Key(&'a str, Option<Restriction>, Option<[u8; 32]>),
}

pub(super) struct Tokens {
    issuer: String,
    environment: Environment,
    keys: RwLock<Arc<SigningKeys>>,
    /// For clients that cannot check EdDSA: then every new token is signed with it.
    shared: Option<(EncodingKey, DecodingKey)>,
    known: RwLock<HashMap<Box<str>, Arc<Verified>>>,
}

struct SigningKeys {
    signing: EncodingKey,
    kid: String,
    /// By key id: every version, with when its last token has ended.
    verifying: HashMap<String, (DecodingKey, Option<Timestamp>)>,
}

impl SigningKeys {
    fn of(keyring: &Keyring) -> Self {
        let kid = |version: u32| format!("token-{version}");
        let keys: Vec<_> = keyring.versions(Purpose::TokenSigning).collect();
        let current = keyring.current(Purpose::TokenSigning);
        let successors = keys.iter().skip(1).map(|key| Some(key.created_at.plus_seconds(OVERLAP))).chain([None]);
        Self {
            signing: EncodingKey::from_ed_der(&Zeroizing::new(pkcs8(&current.material))),
            kid: kid(current.version),
            verifying: keys
                .iter()
                .zip(successors)
                .map(|(key, until)| (kid(key.version), (DecodingKey::from_ed_der(&key.public), until)))
                .collect(),
        }
    }
}

impl Tokens {
    pub fn new(stamp: &Stamp, keyring: &Keyring) -> Self {
        Self {
            issuer: format!("debrouille:{}", stamp.id),
            environment: stamp.environment,
            keys: RwLock::new(Arc::new(SigningKeys::of(keyring))),
            shared: None,
            known: RwLock::new(HashMap::new()),
        }
    }

    pub fn sign_with_shared(&mut self, secret: &[u8]) {
        self.shared = Some((EncodingKey::from_secret(secret), DecodingKey::from_secret(secret)));
    }

    /// Whether tokens are signed with a secret that the configuration holds.
    pub fn are_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Signs with the newest of these from now on. Nothing checked before is taken on trust: its key may be revoked.
    pub fn take_keys(&self, keyring: &Keyring) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(SigningKeys::of(keyring));
        self.known.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn keys(&self) -> Arc<SigningKeys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn issue(&self, identity: &Identity, proof: Proof<'_>, now: Timestamp, life: i64) -> Result<String> {
        let (sid, amr, proven) = match &proof {
            Proof::Session(session) => (session.id.clone(), session.methods.clone(), session.proven),
            Proof::Key(..) => (String::new(), Vec::new(), now),
        };
        let (key, scope, bound) = match proof {
            Proof::Session(_) => (None, None, None),
            Proof::Key(key, restriction, bound) => (Some(key.to_owned()), restriction, bound),
        };
        let cnf = bound.map(|bound| Confirmation { thumbprint: URL_SAFE_NO_PAD.encode(bound) });
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: identity.id.clone(),
            sid,
            key,
            scope,
            cnf,
            env: self.environment,
            roles: identity.roles.clone(),
            iat_ms: now.0,
            iat: now.seconds(),
            exp: now.plus_seconds(life).seconds(),
            jti: random::id(now),
            amr,
            auth_time: proven.seconds(),
        };
        let keys = self.keys();
        let (algorithm, kid, key) = match &self.shared {
            Some((key, _)) => (Algorithm::HS256, SHARED.to_owned(), key),
            None => (Algorithm::EdDSA, keys.kid.clone(), &keys.signing),
        };
        let header = Header { kid: Some(kid), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, key).map_err(|error| Error::Internal(Box::new(error)))
    }

    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Verified>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned();
        let verified = match known {
            Some(verified) => verified,
            None => self.check(token, now)?,
        };
        if verified.expires <= now {
            return Err(Error::InvalidProof("expired"));
        }
        Ok(verified)
    }

    fn check(&self, token: &str, now: Timestamp) -> Result<Arc<Verified>> {
        if token.len() > LONGEST {
            return Err(Error::InvalidProof("too long"));
        }
        let malformed = |_| Error::InvalidProof("not a token of this instance");
        let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
        let kid = header.kid.unwrap_or_default();
        // The key says which algorithm, never the token: a public key must not pass for a shared secret.
        let keys = self.keys();
        let found = match &self.shared {
            Some((_, key)) if kid == SHARED => Some((Algorithm::HS256, key, None)),
            _ => keys.verifying.get(&kid).map(|(key, until)| (Algorithm::EdDSA, key, *until)),
        };
        let (algorithm, key, until) = found.ok_or(Error::InvalidProof("unknown key"))?;
        let mut rules = Validation::new(algorithm);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        // Against our own clock, below: the library would read the machine's.
        rules.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &rules).map_err(malformed)?.claims;
        if claims.env != self.environment {
            return Err(Error::InvalidProof("of another environment"));
        }
        let bound = claims.cnf.map(|cnf| URL_SAFE_NO_PAD.decode(cnf.thumbprint).ok()?.try_into().ok());
        let bound = bound.map(|bound| bound.ok_or(Error::InvalidProof("bound to nothing that could be shown")));
        let bound = bound.transpose()?;
        let verified = Arc::new(Verified {
            bound,
            identity: claims.sub,
            session: claims.sid,
            key: claims.key,
            restriction: claims.scope.map(Arc::new),
            roles: claims.roles,
            issued: Timestamp(claims.iat_ms),
            // Whatever a token says of itself: nothing a key signed lives longer than what it signed while in use.
            expires: until.into_iter().fold(Timestamp(claims.exp.saturating_mul(1000)), Timestamp::min),
            methods: claims.amr,
        });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Of a key that was revoked while this was checked nothing may stay.
        if !Arc::ptr_eq(&keys, &self.keys()) {
            return Ok(verified);
        }
        if known.len() >= REMEMBERED {
            known.retain(|_, verified| verified.expires > now);
        }
        if known.len() < REMEMBERED {
            known.insert(token.into(), verified.clone());
        }
        Ok(verified)
    }
}

/// An Ed25519 seed as PKCS#8 (RFC 8410, section 7).
fn pkcs8(seed: &[u8]) -> Vec<u8> {
    const PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    [&PREFIX, seed].concat()
}
