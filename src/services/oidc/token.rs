//! The provider's ID token: signed by a key of its own, for us, now, and for the login that asked.

use crate::{
    base::clock::Timestamp,
    services::{Error, Result},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use subtle::ConstantTimeEq;

/// Public keys only: `none` and shared secrets are not among them.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
pub const UNKNOWN_KEY: &str = "signed by no key of the provider";
/// Seconds by which the provider's clock may differ from ours.
const SLACK: i64 = 60;
const LONGEST: usize = 16 << 10;

#[derive(Debug, serde::Deserialize)]
pub struct Claims {
    pub sub: String,
    pub email: Option<String>,
    pub email_verified: Option<bool>,
    nonce: Option<String>,
    azp: Option<String>,
    aud: Option<Audience>,
    #[serde(default)]
    exp: i64,
    #[serde(default)]
    iat: i64,
}

#[derive(Debug, serde::Deserialize)]
#[serde(untagged)]
enum Audience {
    One(#[allow(dead_code, reason = "checked by the library")] String),
    Several(Vec<String>),
}

pub fn check(token: &str, keys: &JwkSet, issuer: &str, client: &str, nonce: &str, now: Timestamp) -> Result<Claims> {
    const REFUSED: Error = Error::InvalidProof("not an ID token of the provider for us");
    if token.len() > LONGEST {
        return Err(REFUSED);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| REFUSED)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Error::InvalidProof("an algorithm we do not take"));
    }
    let key = match (&header.kid, keys.keys.as_slice()) {
        (Some(kid), _) => keys.find(kid),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let key = key.ok_or(Error::InvalidProof(UNKNOWN_KEY))?;
    // The key's own family decides: the library refuses a header that names another.
    let key = DecodingKey::from_jwk(key).map_err(|_| REFUSED)?;
    let mut rules = Validation::new(header.alg);
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[client]);
    rules.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    // Against our own clock: the library would read the machine's.
    rules.validate_exp = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &rules).map_err(|_| REFUSED)?.claims;
    let several = matches!(&claims.aud, Some(Audience::Several(all)) if all.len() > 1);
    let party = claims.azp.as_deref();
    if (several && party.is_none()) || party.is_some_and(|party| party != client) {
        return Err(Error::InvalidProof("an ID token for another party"));
    }
    let seconds = now.seconds();
    if claims.exp <= seconds - SLACK || claims.iat > seconds + SLACK {
        return Err(Error::InvalidProof("an ID token of another time"));
    }
    let given = claims.nonce.as_deref().unwrap_or_default();
    if !bool::from(given.as_bytes().ct_eq(nonce.as_bytes())) {
        return Err(Error::InvalidProof("an ID token of another login"));
    }
    Ok(claims)
}
