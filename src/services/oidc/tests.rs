//! A provider that lies in every way it can, against a clock that is moved by hand.

use super::*;
use crate::{
    base::{
        clock::{Clock, FixedClock},
        environment::Environment,
    },
    ports::{
        self,
        web::{Body, Request, Response},
    },
    services::{access::Role, bench::Bench},
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use zeroize::Zeroizing;

const ISSUER: &str = "https://id.example.cd";

struct Key {
    kid: &'static str,
    secret: EncodingKey,
    public: Vec<u8>,
}

fn key(kid: &'static str) -> Key {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap().public_key().as_ref().to_vec();
    Key { kid, secret: EncodingKey::from_ed_der(pkcs8.as_ref()), public }
}

/// What the provider shows and gives, as a test sets it.
struct Fake {
    issuer: Mutex<String>,
    keys: Mutex<Vec<Value>>,
    id_token: Mutex<String>,
    asked: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Web for Fake {
    async fn fetch(&self, request: Request) -> ports::Result<Response> {
        let path = request.url.trim_start_matches(ISSUER).to_owned();
        let body = match path.as_str() {
            "/.well-known/openid-configuration" => json!({
                "issuer": *self.issuer.lock().unwrap(), "authorization_endpoint": format!("{ISSUER}/authorize"),
                "token_endpoint": format!("{ISSUER}/token"), "jwks_uri": format!("{ISSUER}/keys"),
            }),
            "/keys" => json!({ "keys": *self.keys.lock().unwrap() }),
            _ => json!({ "id_token": *self.id_token.lock().unwrap(), "access_token": "a" }),
        };
        let form = match request.body {
            Some(Body::Form(form)) => form,
            _ => String::new(),
        };
        self.asked.lock().unwrap().push(format!("{path} {form}"));
        Ok(Response { status: 200, body: body.to_string().into_bytes() })
    }
}

struct Desk {
    clock: Arc<FixedClock>,
    fake: Arc<Fake>,
    oidc: Oidc,
    key: Key,
}

fn shown(key: &Key) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": key.kid, "x": URL_SAFE_NO_PAD.encode(&key.public) })
}

async fn bench(create_accounts: bool) -> Desk {
    let Bench { clock, identities, audit, .. } = Bench::of(Environment::Production).await;
    let password = Zeroizing::new("correct horse battery staple".to_owned());
    identities.add(&Caller::system(), "ana@example.cd", password, vec![Role::Auditor]).await.unwrap();
    let key = key("one");
    let fake = Arc::new(Fake {
        issuer: Mutex::new(ISSUER.to_owned()),
        keys: Mutex::new(vec![shown(&key)]),
        id_token: Mutex::default(),
        asked: Mutex::default(),
    });
    let (client, redirect) = ("us".to_owned(), "https://example.cd/back".to_owned());
    let settings = Settings { issuer: ISSUER.to_owned(), client, secret: None, redirect, create_accounts };
    let oidc = Oidc::new(clock.clone(), identities, audit, fake.clone(), Some(settings));
    Desk { clock, fake, oidc, key }
}

fn query(url: &str, name: &str) -> String {
    url.split(['?', '&']).find_map(|part| part.strip_prefix(&format!("{name}="))).unwrap().to_owned()
}

impl Desk {
    /// A login whose ID token is what `change` makes of a sound one's claims, signed as `sign` does.
    async fn login(&self, change: impl FnOnce(&mut Value), sign: impl FnOnce(&Value) -> String) -> Result<Identity> {
        let started = self.oidc.start().await?;
        let now = self.clock.now().seconds();
        let mut claims = json!({
            "iss": ISSUER, "aud": "us", "sub": "s-1", "iat": now, "exp": now + 300,
            "nonce": query(&started.url, "nonce"), "email": "ana@example.cd", "email_verified": true,
        });
        change(&mut claims);
        *self.fake.id_token.lock().unwrap() = sign(&claims);
        self.oidc.finish(&Caller::system(), &started.state, "code").await
    }

    async fn with(&self, change: impl FnOnce(&mut Value)) -> Result<Identity> {
        self.login(change, |claims| signed(&self.key, claims)).await
    }
}

fn signed(key: &Key, claims: &Value) -> String {
    let header = Header { kid: Some(key.kid.to_owned()), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, &key.secret).unwrap()
}

fn refused(answer: &Result<Identity>) -> bool {
    matches!(answer, Err(Error::InvalidProof(_)))
}

#[tokio::test]
async fn an_id_token_that_differs_in_anything_is_refused() {
    let bench = bench(false).await;
    let now = bench.clock.now().seconds();
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("aud", json!("them")),
        ("aud", json!(["us", "them"])),
        ("azp", json!("them")),
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("exp", json!(now - 61)),
        ("exp", Value::Null),
        ("iat", json!(now + 61)),
        ("sub", Value::Null),
    ] {
        let answer = bench.with(|claims| claims[name] = value.clone()).await;
        assert!(refused(&answer), "{name} {value}: {answer:?}");
    }
    assert_eq!(bench.with(|_| ()).await.unwrap().email.as_deref(), Some("ana@example.cd"));
    let both = bench.with(|claims| (claims["aud"], claims["azp"]) = (json!(["us", "them"]), json!("us"))).await;
    assert!(both.is_ok(), "{both:?}");
}

#[tokio::test]
async fn another_key_or_algorithm_signs_nothing() {
    let bench = bench(false).await;
    let foreign = key("one");
    assert!(refused(&bench.login(|_| (), |claims| signed(&foreign, claims)).await));
    for secret in [bench.key.public.clone(), shown(&bench.key)["x"].as_str().unwrap().as_bytes().to_vec()] {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::HS256) };
        let forge = |claims: &Value| jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(&secret)).unwrap();
        assert!(refused(&bench.login(|_| (), forge).await), "a public key passed for a secret");
    }
    let none = |claims: &Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&json!({ "alg": "none", "kid": "one" })), part(claims))
    };
    assert!(refused(&bench.login(|_| (), none).await));
    assert!(bench.with(|_| ()).await.is_ok());
}

#[tokio::test]
async fn a_state_is_good_once_and_for_ten_minutes() {
    let bench = bench(false).await;
    let finish = async |state: &str| bench.oidc.finish(&Caller::system(), state, "code").await;
    let started = bench.oidc.start().await.unwrap();
    assert!(refused(&finish(&started.state).await), "without an ID token");
    assert!(refused(&finish(&started.state).await));
    let started = bench.oidc.start().await.unwrap();
    bench.clock.0.fetch_add(LIFE * 1000, Ordering::Relaxed);
    let redeemed = bench.fake.asked.lock().unwrap().len();
    assert!(refused(&finish(&started.state).await) && refused(&finish("made up").await));
    assert_eq!(bench.fake.asked.lock().unwrap().len(), redeemed, "a dead state reached the provider");
}

#[tokio::test]
async fn the_code_goes_with_the_verifier_of_its_challenge() {
    let bench = bench(false).await;
    let started = bench.oidc.start().await.unwrap();
    let _ = bench.oidc.finish(&Caller::system(), &started.state, "c&d").await;
    let asked = bench.fake.asked.lock().unwrap().iter().find(|asked| asked.starts_with("/token")).unwrap().clone();
    let verifier = query(&format!("?{}", asked.split(' ').nth(1).unwrap()), "code_verifier");
    assert_eq!(challenge(&verifier), query(&started.url, "code_challenge"));
    assert!(asked.contains("code=c%26d") && asked.contains("redirect_uri=https%3A%2F%2Fexample.cd%2Fback"), "{asked}");
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_learnt_once_a_minute() {
    let mut bench = bench(false).await;
    assert!(bench.with(|_| ()).await.is_ok());
    bench.key = key("two");
    *bench.fake.keys.lock().unwrap() = vec![shown(&bench.key)];
    assert!(refused(&bench.with(|_| ()).await), "asked again within the minute");
    bench.clock.0.fetch_add(61_000, Ordering::Relaxed);
    assert!(bench.with(|_| ()).await.is_ok(), "a new key was not learnt");
}

#[tokio::test]
async fn who_has_no_account_gets_one_only_where_that_is_wanted() {
    let strangers = |claims: &mut Value| (claims["sub"], claims["email"]) = (json!("s-2"), json!("new@example.cd"));
    assert!(matches!(bench(false).await.with(strangers).await, Err(Error::Unauthorized)));
    let made = bench(true).await.with(strangers).await.unwrap();
    assert_eq!((made.email.as_deref(), made.roles.len()), (Some("new@example.cd"), 0));
}

#[tokio::test]
async fn only_a_verified_address_links_and_afterwards_the_subject_counts() {
    let bench = bench(false).await;
    for value in [json!(false), Value::Null] {
        let answer = bench.with(|claims| claims["email_verified"] = value.clone()).await;
        assert!(matches!(answer, Err(Error::Unauthorized)), "{value}: {answer:?}");
    }
    let linked = bench.with(|_| ()).await.unwrap();
    let moved = bench.with(|claims| claims["email"] = json!("elsewhere@example.cd")).await.unwrap();
    assert_eq!(linked.id, moved.id);
}

#[tokio::test]
async fn a_provider_that_calls_itself_otherwise_is_not_believed() {
    let bench = bench(false).await;
    *bench.fake.issuer.lock().unwrap() = "https://evil.example".to_owned();
    assert!(matches!(bench.oidc.start().await, Err(Error::Unavailable(_))));
}
