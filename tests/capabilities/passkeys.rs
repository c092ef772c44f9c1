//! Passkeys, made and used with a software authenticator of others.

use crate::house::{Answer, EMAIL, House, PASSWORD};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use passkey::{
    authenticator::{Authenticator, UiHint, UserCheck, UserValidationMethod},
    client::{Client, DefaultClientData},
    crypto::rust_crypto::RustCryptoBackend,
    types::{Passkey, ctap2, ctap2::Aaguid},
};
use poem::http::Method;
use serde_json::{Value, json};
use webauthn_rs::prelude::Url;

const REGISTER: &str = "/api/v1/auth/passkey/register";
const LOGIN: &str = "/api/v1/auth/passkey/login";
const ORIGIN: &str = "https://localhost";

/// Someone at the device who lets it look at their finger, or does not.
struct Person {
    verified: bool,
}

#[async_trait::async_trait]
impl UserValidationMethod for Person {
    type PasskeyItem = Passkey;

    async fn check_user<'a>(&self, _: UiHint<'a, Passkey>, _: bool, _: bool) -> Result<UserCheck, ctap2::Ctap2Error> {
        Ok(UserCheck { presence: true, verification: self.verified })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}

/// An authenticator and the browser before it.
struct Device {
    kept: Option<Passkey>,
    verified: bool,
    counts: bool,
    origin: &'static str,
}

impl Device {
    fn new() -> Self {
        Self { kept: None, verified: true, counts: true, origin: ORIGIN }
    }

    /// `navigator.credentials.create` or `.get`; what it was asked is what a route offered.
    async fn answer(&mut self, offered: &Value) -> Value {
        let person = Person { verified: self.verified };
        let mut device = Authenticator::new(Aaguid::new_empty(), self.kept.clone(), person, RustCryptoBackend);
        device.set_make_credentials_with_signature_counter(self.counts);
        let mut browser = Client::new(device).allows_insecure_localhost(true);
        let (origin, asked) = (Url::parse(self.origin).unwrap(), json!({ "publicKey": offered["publicKey"] }));
        let answer = if offered["publicKey"]["user"].is_object() {
            let asked = serde_json::from_value(asked).unwrap();
            serde_json::to_value(browser.register(&origin, asked, DefaultClientData).await.unwrap())
        } else {
            let asked = serde_json::from_value(asked).unwrap();
            serde_json::to_value(browser.authenticate(&origin, asked, DefaultClientData).await.unwrap())
        };
        self.kept = browser.authenticator().store().clone();
        json!({ "ceremony": offered["ceremony"], "credential": texts(answer.unwrap()) })
    }
}

/// Byte strings as browsers write them.
fn texts(value: Value) -> Value {
    match value {
        Value::Array(all) if !all.is_empty() && all.iter().all(Value::is_u64) => {
            let bytes: Vec<u8> = all.iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
            URL_SAFE_NO_PAD.encode(bytes).into()
        }
        Value::Object(all) => all.into_iter().map(|(name, value)| (name, texts(value))).collect(),
        other => other,
    }
}

/// What was offered, by someone in between who asks for less.
fn lax(mut offered: Value) -> Value {
    offered["publicKey"]["userVerification"] = "discouraged".into();
    if offered["publicKey"]["user"].is_object() {
        offered["publicKey"]["authenticatorSelection"]["userVerification"] = "discouraged".into();
    }
    offered
}

async fn start(house: &House) -> Value {
    house.post(&format!("{REGISTER}/start"), json!({ "password": PASSWORD })).await.ok(200).data()
}

/// Makes a passkey of the administrator's.
async fn register(house: &House, device: &mut Device, name: &str) -> Value {
    let mut sent = device.answer(&start(house).await).await;
    sent["name"] = name.into();
    house.post(&format!("{REGISTER}/finish"), sent).await.ok(200).data()
}

async fn offered(house: &House) -> Value {
    let request = poem::Request::builder().method(Method::POST).uri_str(format!("{LOGIN}/start"));
    house.call(request.finish()).await.ok(200).data()
}

async fn finish(house: &House, sent: Value) -> Answer {
    house.anyone(&format!("{LOGIN}/finish"), sent).await
}

#[tokio::test]
async fn a_passkey_opens_a_session_by_itself() {
    let house = House::open().await;
    let other = house.login(EMAIL, PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    let mut device = Device::new();
    let made = register(&house, &mut device, "Clé du bureau").await;
    assert_eq!(made["passkey"]["name"], "Clé du bureau");
    assert_eq!(made["recoveryCodes"].as_array().unwrap().len(), 10);
    let ended = house.by(&other, Method::GET, "/api/v1/auth/mfa", json!({})).await;
    assert_eq!(ended.code(), "AUTH_INVALID_TOKEN", "a new factor left the others open");

    let mut sent = device.answer(&offered(&house).await).await;
    sent["device"] = "laptop".into();
    let granted = finish(&house, sent.clone()).await.ok(200).data();
    assert_eq!(granted["identity"]["email"], EMAIL);
    let token = granted["accessToken"].as_str().unwrap();
    let sessions = house.by(token, Method::GET, "/api/v1/auth/sessions", json!({})).await.ok(200).data();
    let own = sessions.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap().clone();
    assert_eq!((&own["device"], &own["methods"]), (&json!("laptop"), &json!(["swk", "mfa"])));
    let status = house.get("/api/v1/auth/mfa").await.ok(200).data();
    assert!(status["passkeys"][0]["lastUsedAt"].is_number(), "{status}");
    // What was sent once opens nothing twice.
    finish(&house, sent).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
}

#[tokio::test]
async fn after_a_password_it_is_the_second_factor() {
    let house = House::open().await;
    let mut device = Device::new();
    register(&house, &mut device, "").await;
    let owed = house.login(EMAIL, PASSWORD).await;
    assert_eq!(owed.code(), "AUTH_MFA_REQUIRED");
    let details = owed.json()["error"]["details"].clone();
    assert_eq!(details["methods"], json!(["recovery", "passkey"]));
    let answer = device.answer(&offered(&house).await).await;
    let sent = json!({ "challenge": details["challenge"], "passkey": answer });
    house.anyone("/api/v1/auth/mfa/verify", sent.clone()).await.ok(200);
    assert_eq!(house.anyone("/api/v1/auth/mfa/verify", sent).await.code(), "AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn the_passkey_of_another_answers_for_nobody_else() {
    let house = House::open().await;
    let mut device = Device::new();
    register(&house, &mut device, "").await;
    let person = json!({ "email": "ana@example.org", "password": "encore une longue phrase" });
    house.post("/api/v1/admin/identities", person).await.ok(201);
    let ana = house.login("ana@example.org", "encore une longue phrase").await.data();
    let ana = ana["accessToken"].as_str().unwrap();
    let mine = device.answer(&start(&house).await).await;
    let hers = house.by(ana, Method::POST, &format!("{REGISTER}/finish"), mine).await;
    hers.refused(409, "CONFLICT", "mfa.not_started");
    let mut her_device = Device::new();
    let begun = json!({ "password": "encore une longue phrase" });
    let begun = house.by(ana, Method::POST, &format!("{REGISTER}/start"), begun).await.ok(200).data();
    let made = her_device.answer(&begun).await;
    house.by(ana, Method::POST, &format!("{REGISTER}/finish"), made).await.ok(200);
    let details = house.login(EMAIL, PASSWORD).await.json()["error"]["details"].clone();
    let answer = her_device.answer(&offered(&house).await).await;
    let sent = json!({ "challenge": details["challenge"], "passkey": answer });
    assert_eq!(house.anyone("/api/v1/auth/mfa/verify", sent).await.code(), "AUTH_UNAUTHORIZED");
}

#[tokio::test]
async fn what_is_not_right_in_every_part_is_refused_alike() {
    let house = House::open().await;
    let mut device = Device::new();
    register(&house, &mut device, "").await;
    let copy = device.kept.clone();
    finish(&house, device.answer(&offered(&house).await).await).await.ok(200);

    let mut cloned = Device { kept: copy, ..Device::new() };
    let mut unverified = Device { kept: device.kept.clone(), verified: false, ..Device::new() };
    let mut elsewhere = Device { kept: device.kept.clone(), origin: "https://localhost:9999", ..Device::new() };
    let mut stranger = Device { kept: device.kept.clone(), ..Device::new() };
    stranger.kept.as_mut().unwrap().user_handle = Some(vec![7; 16].into());
    for (what, device) in [
        ("an older copy", &mut cloned),
        ("nobody verified", &mut unverified),
        ("another origin", &mut elsewhere),
        ("an unknown account", &mut stranger),
    ] {
        let asked = if device.verified { offered(&house).await } else { lax(offered(&house).await) };
        let answer = finish(&house, device.answer(&asked).await).await;
        assert_eq!(answer.refusal(), (401, "AUTH_UNAUTHORIZED".into(), "http.unauthorized".into()), "{what}");
    }
    // Another ceremony, a signature of something else, no credential at all.
    let mut swapped = device.answer(&offered(&house).await).await;
    swapped["ceremony"] = offered(&house).await["ceremony"].clone();
    let mut forged = device.answer(&offered(&house).await).await;
    forged["credential"]["response"]["signature"] = "MEUCIQ".into();
    let empty = json!({ "ceremony": offered(&house).await["ceremony"], "credential": {} });
    let unknown = json!({ "ceremony": "x", "credential": {} });
    for sent in [swapped, forged, empty, unknown] {
        finish(&house, sent).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    }
    finish(&house, device.answer(&offered(&house).await).await).await.ok(200);
}

#[tokio::test]
async fn a_registration_is_proven_anew_and_answered_once() {
    let house = House::open().await;
    house.post(&format!("{REGISTER}/start"), json!({})).await.refused(422, "VALIDATION_ERROR", "mfa.prove_again");
    let mut device = Device::new();
    let sent = device.answer(&start(&house).await).await;
    let broken = json!({ "ceremony": start(&house).await["ceremony"], "credential": sent["credential"] });
    let broken = house.post(&format!("{REGISTER}/finish"), broken).await;
    broken.refused(422, "VALIDATION_ERROR", "mfa.passkey");
    let mut unverified = Device { verified: false, ..Device::new() };
    let unverified = unverified.answer(&lax(start(&house).await)).await;
    house.post(&format!("{REGISTER}/finish"), unverified).await.refused(422, "VALIDATION_ERROR", "mfa.passkey");
    assert_eq!(house.get("/api/v1/auth/mfa").await.data()["passkeys"], json!([]));
    house.post(&format!("{REGISTER}/finish"), sent.clone()).await.ok(200);
    house.post(&format!("{REGISTER}/finish"), sent).await.refused(409, "CONFLICT", "mfa.not_started");
}

#[tokio::test]
async fn a_passkey_taken_away_opens_nothing() {
    let house = House::open().await;
    let mut device = Device::new();
    let id = register(&house, &mut device, "").await["passkey"]["_id"].as_str().unwrap().to_owned();
    let remove = async |id: &str| {
        let sent = json!({ "data": { "password": PASSWORD } });
        house.ask(Method::DELETE, &format!("/api/v1/auth/mfa/passkeys/{id}"), &[], Some(sent)).await
    };
    remove("x").await.refused(404, "RESOURCE_NOT_FOUND", "mfa.no_passkey");
    remove(&id).await.ok(200);
    let answer = finish(&house, device.answer(&offered(&house).await).await).await;
    answer.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.login(EMAIL, PASSWORD).await.ok(200);
}
