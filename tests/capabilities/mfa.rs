//! The second factor: set up, asked for, replayed, lost.

use crate::{
    audit::{entries, find},
    house::{EMAIL, House, PASSWORD},
};
use aws_lc_rs::hmac;
use debrouille_appliance::base::{
    clock::{Clock, FixedClock},
    environment::Environment,
};
use futures_util::future::join_all;
use poem::http::Method;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const MFA: &str = "/api/v1/auth/mfa";

/// An authenticator app: what RFC 6238 says, written apart from the server's.
fn code(secret: &str, clock: &FixedClock) -> String {
    let letters = secret.bytes().map(|b| b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|l| *l == b).unwrap());
    let bits: Vec<u8> = letters.flat_map(|five| (0..5).rev().map(move |bit| (five >> bit & 1) as u8)).collect();
    let key: Vec<u8> = bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = hmac::sign(&key, &(clock.now().0 / 30_000).to_be_bytes());
    let from = usize::from(tag.as_ref()[19] & 15);
    let word = u32::from_be_bytes(tag.as_ref()[from..from + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}

fn pass(clock: &FixedClock, seconds: i64) {
    clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// What a login that owes a second factor says of it.
async fn owed(house: &House) -> Value {
    let answer = house.login(EMAIL, PASSWORD).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "AUTH_MFA_REQUIRED"), "{}", answer.text);
    assert!(!answer.text.contains("accessToken"));
    answer.json()["error"]["details"].clone()
}

async fn verify(house: &House, challenge: &Value, name: &str, value: &str) -> crate::house::Answer {
    house.anyone(&format!("{MFA}/verify"), json!({ "challenge": challenge, name: value })).await
}

/// A person of development with an app: their token, the app's secret, their recovery codes.
async fn enrolled(house: &House, clock: &FixedClock) -> (String, String, Vec<String>) {
    let token = word(&house.login(EMAIL, PASSWORD).await.ok(200).data()["accessToken"]);
    let start = house.by(&token, Method::POST, &format!("{MFA}/totp/start"), json!({ "password": PASSWORD })).await;
    let secret = word(&start.ok(200).data()["secret"]);
    let confirm = json!({ "code": code(&secret, clock) });
    let codes = house.by(&token, Method::POST, &format!("{MFA}/totp/confirm"), confirm).await.ok(200).data();
    let codes = codes["recoveryCodes"].as_array().unwrap().iter().map(word).collect();
    pass(clock, 30);
    (token, secret, codes)
}

/// The token of an administrator of another environment, who enrolled there.
pub async fn administrator(environment: Environment) -> String {
    let (house, clock) = House::at(environment).await;
    let owed = owed(&house).await;
    let begun = house.anyone(&format!("{MFA}/enrol/start"), json!({ "challenge": owed["challenge"] })).await;
    let code = code(&word(&begun.ok(200).data()["secret"]), &clock);
    let sent = json!({ "challenge": owed["challenge"], "code": code });
    let granted = house.anyone(&format!("{MFA}/enrol/confirm"), sent).await.ok(200).data();
    granted.pointer("/accessToken").or(granted.pointer("/tokens/accessToken")).map(word).unwrap()
}

#[tokio::test]
async fn an_administrator_in_production_sets_up_a_second_factor_first() {
    for environment in [Environment::Staging, Environment::Production] {
        let (house, clock) = House::at(environment).await;
        let owed = owed(&house).await;
        assert_eq!((&owed["enrol"], &owed["methods"]), (&json!(true), &json!(["totp"])));
        let challenge = &owed["challenge"];
        // The challenge is no token, and gives nothing but the enrolment.
        let as_token = house.by(&word(challenge), Method::GET, "/api/v1/collections", json!({})).await;
        assert_eq!(as_token.code(), "AUTH_INVALID_TOKEN");
        assert_eq!(verify(&house, challenge, "code", "000000").await.code(), "AUTH_INVALID_TOKEN");

        let owed = self::owed(&house).await;
        let (start, confirm) = (format!("{MFA}/enrol/start"), format!("{MFA}/enrol/confirm"));
        let begun = house.anyone(&start, json!({ "challenge": owed["challenge"] })).await.ok(200).data();
        let secret = word(&begun["secret"]);
        assert!(word(&begun["uri"]).starts_with("otpauth://totp/localhost:admin%40example.org?secret="), "{begun}");
        let sent = |code: String| json!({ "challenge": owed["challenge"], "code": code });
        assert_eq!(house.anyone(&confirm, sent("000000".to_owned())).await.code(), "AUTH_UNAUTHORIZED");
        let granted = house.anyone(&confirm, sent(code(&secret, &clock))).await.ok(200).data();
        assert_eq!(granted["recoveryCodes"].as_array().unwrap().len(), 10);
        let token = word(&granted["accessToken"]);
        let status = house.by(&token, Method::GET, MFA, json!({})).await.ok(200).data();
        assert_eq!((&status["required"], &status["recoveryCodes"]), (&json!(true), &json!(10)));
        assert!(!status.to_string().contains(&secret), "the secret is shown again");
        assert_eq!(house.anyone(&confirm, sent(code(&secret, &clock))).await.code(), "AUTH_INVALID_TOKEN");

        // From now on the app is asked for, and its last factor cannot be taken away.
        let owed = self::owed(&house).await;
        assert_eq!((&owed["enrol"], &owed["methods"]), (&json!(false), &json!(["totp", "recovery"])));
        pass(&clock, 30);
        let removal = json!({ "password": PASSWORD });
        let removed = house.by(&token, Method::DELETE, &format!("{MFA}/totp"), removal).await;
        removed.refused(409, "CONFLICT", "mfa.last");
        verify(&house, &owed["challenge"], "code", &code(&secret, &clock)).await.ok(200);
    }
}

#[tokio::test]
async fn an_enrolment_begun_before_another_ended_is_void() {
    let (house, clock) = House::at(Environment::Production).await;
    let (mine, theirs) = (owed(&house).await, owed(&house).await);
    let confirm = async |owed: &Value| {
        let begun = house.anyone(&format!("{MFA}/enrol/start"), json!({ "challenge": owed["challenge"] })).await;
        let code = code(&word(&begun.ok(200).data()["secret"]), &clock);
        let sent = json!({ "challenge": owed["challenge"], "code": code });
        house.anyone(&format!("{MFA}/enrol/confirm"), sent).await
    };
    confirm(&mine).await.ok(200);
    assert_eq!(confirm(&theirs).await.code(), "AUTH_INVALID_TOKEN");
}

#[tokio::test]
async fn in_development_it_is_a_choice() {
    let (house, clock) = House::at(Environment::Development).await;
    let token = word(&house.login(EMAIL, PASSWORD).await.ok(200).data()["accessToken"]);
    let other = word(&house.login(EMAIL, PASSWORD).await.ok(200).data()["accessToken"]);
    let ask = async |method, path: &str, data| house.by(&token, method, &format!("{MFA}{path}"), data).await;
    // Each change is proven anew.
    ask(Method::POST, "/totp/start", json!({})).await.refused(422, "VALIDATION_ERROR", "mfa.prove_again");
    assert_eq!(ask(Method::POST, "/totp/start", json!({ "password": "no" })).await.code(), "AUTH_UNAUTHORIZED");
    ask(Method::POST, "/totp/confirm", json!({ "code": "1" })).await.refused(409, "CONFLICT", "mfa.not_started");
    ask(Method::POST, "/recovery", json!({ "password": PASSWORD })).await.refused(409, "CONFLICT", "mfa.none");
    let begun = ask(Method::POST, "/totp/start", json!({ "password": PASSWORD })).await.ok(200).data();
    let secret = word(&begun["secret"]);
    let wrong = ask(Method::POST, "/totp/confirm", json!({ "code": "000000" })).await;
    wrong.refused(422, "VALIDATION_ERROR", "mfa.code");
    assert!(house.login(EMAIL, PASSWORD).await.status.is_success(), "asked for before it was confirmed");
    ask(Method::POST, "/totp/confirm", json!({ "code": code(&secret, &clock) })).await.ok(200);

    // The others end; the one that asked goes on.
    let ended = house.by(&other, Method::GET, MFA, json!({})).await;
    assert_eq!(ended.code(), "AUTH_INVALID_TOKEN");
    assert!(ask(Method::GET, "", json!({})).await.data()["totpSince"].is_number());

    pass(&clock, 30);
    let whole = json!({ "email": EMAIL, "password": PASSWORD, "code": code(&secret, &clock) });
    house.anyone("/api/v1/auth/login", whole).await.ok(200);
    let challenge = owed(&house).await["challenge"].clone();
    // Ten minutes after the factor was last given, the password alone takes nothing away and makes no key.
    pass(&clock, 601);
    let login = json!({ "email": EMAIL, "password": PASSWORD, "code": code(&secret, &clock) });
    let renewed = house.anyone("/api/v1/auth/login", login).await.ok(200).data();
    pass(&clock, 301);
    let token = refreshed(&house, &renewed).await;
    pass(&clock, 301);
    let ask = async |method, path: &str, data| house.by(&token, method, path, data).await;
    let alone = json!({ "password": PASSWORD });
    let key = json!({ "name": "k", "password": PASSWORD });
    let refused = ask(Method::DELETE, "/api/v1/auth/mfa/totp", alone).await;
    refused.refused(422, "VALIDATION_ERROR", "mfa.prove_again_code");
    let refused = ask(Method::POST, "/api/v1/auth/keys", key).await;
    refused.refused(422, "VALIDATION_ERROR", "mfa.prove_again_code");
    // Nor where it has just been changed: that proved the password once more, and no factor.
    let (old, new) = (PASSWORD, "une tout autre phrase de passe");
    ask(Method::PUT, "/api/v1/auth/password", json!({ "current": old, "new": new })).await.ok(200);
    let refused = ask(Method::DELETE, "/api/v1/auth/mfa/totp", json!({ "password": new })).await;
    refused.refused(422, "VALIDATION_ERROR", "mfa.prove_again_code");
    ask(Method::PUT, "/api/v1/auth/password", json!({ "current": new, "new": old })).await.ok(200);
    let given = json!({ "code": code(&secret, &clock) });
    ask(Method::DELETE, "/api/v1/auth/mfa/totp", given).await.ok(200);
    let ask = async |method, path: &str, data| house.by(&token, method, &format!("{MFA}{path}"), data).await;
    assert_eq!(ask(Method::GET, "", json!({})).await.data()["recoveryCodes"], 0);
    pass(&clock, 30);
    assert!(!verify(&house, &challenge, "code", &code(&secret, &clock)).await.status.is_success());
    house.login(EMAIL, PASSWORD).await.ok(200);
}

async fn refreshed(house: &House, granted: &Value) -> String {
    let token = json!({ "refreshToken": granted["refreshToken"] });
    word(&house.anyone("/api/v1/auth/refresh", token).await.ok(200).data()["accessToken"])
}

#[tokio::test]
async fn of_fifty_with_the_same_code_one_wins() {
    let (house, clock) = House::at(Environment::Development).await;
    let (_, secret, codes) = enrolled(&house, &clock).await;
    for (name, value) in [("code", code(&secret, &clock)), ("recoveryCode", codes[3].clone())] {
        // Each with a challenge of its own.
        let mut challenges = Vec::new();
        for _ in 0..50 {
            challenges.push(owed(&house).await["challenge"].clone());
        }
        let all = challenges.iter().map(|challenge| verify(&house, challenge, name, &value));
        let answers = join_all(all).await;
        let won = answers.iter().filter(|answer| answer.status.is_success()).count();
        assert_eq!(won, 1, "{name}");
        for lost in answers.iter().filter(|answer| !answer.status.is_success()) {
            assert!(["AUTH_UNAUTHORIZED", "RATE_LIMIT"].contains(&lost.code().as_str()), "{}", lost.text);
        }
        pass(&clock, 900);
        let challenge = owed(&house).await["challenge"].clone();
        assert_eq!(verify(&house, &challenge, name, &value).await.code(), "AUTH_UNAUTHORIZED", "{name} replayed");
    }
    // Fifty with one challenge.
    let challenge = owed(&house).await["challenge"].clone();
    let answers = join_all((0..50).map(|n| verify(&house, &challenge, "recoveryCode", &codes[4 + n % 2]))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status.is_success()).count(), 1);
}

#[tokio::test]
async fn guesses_run_out() {
    let (house, clock) = House::at(Environment::Development).await;
    let (_, secret, _) = enrolled(&house, &clock).await;
    let wrong = |right: &str| if right == "000000" { "000001" } else { "000000" };
    let guess = wrong(&code(&secret, &clock));
    let mut codes = Vec::new();
    for _ in 0..3 {
        let challenge = owed(&house).await["challenge"].clone();
        for _ in 0..6 {
            codes.push(verify(&house, &challenge, "code", guess).await.code());
        }
    }
    let of = |code: &str| codes.iter().filter(|known| known.as_str() == code).count();
    assert_eq!((of("AUTH_UNAUTHORIZED"), of("AUTH_INVALID_TOKEN"), of("RATE_LIMIT")), (10, 3, 5), "{codes:?}");
    let challenge = owed(&house).await["challenge"].clone();
    let right = verify(&house, &challenge, "code", &code(&secret, &clock)).await;
    assert_eq!(right.code(), "RATE_LIMIT", "a right code among guesses told itself");
    assert!(right.header("retry-after").parse::<u64>().unwrap() <= 900);
    pass(&clock, 900);
    let challenge = owed(&house).await["challenge"].clone();
    verify(&house, &challenge, "code", &code(&secret, &clock)).await.ok(200);
}

#[tokio::test]
async fn a_challenge_ends_with_its_time_its_use_and_the_password() {
    let (house, clock) = House::at(Environment::Development).await;
    let (token, secret, codes) = enrolled(&house, &clock).await;
    let challenge = owed(&house).await["challenge"].clone();
    pass(&clock, 300);
    let late = verify(&house, &challenge, "code", &code(&secret, &clock)).await;
    late.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    assert_eq!(verify(&house, &json!("made up"), "code", "1").await.json()["error"], late.json()["error"]);

    let challenge = owed(&house).await["challenge"].clone();
    verify(&house, &challenge, "code", &code(&secret, &clock)).await.ok(200);
    assert_eq!(verify(&house, &challenge, "recoveryCode", &codes[0]).await.code(), "AUTH_INVALID_TOKEN");

    let challenge = owed(&house).await["challenge"].clone();
    pass(&clock, 1);
    let change = json!({ "current": PASSWORD, "new": "une autre longue phrase" });
    house.by(&token, Method::PUT, "/api/v1/auth/password", change).await.ok(200);
    pass(&clock, 1);
    let stale = verify(&house, &challenge, "recoveryCode", &codes[0]).await;
    assert_eq!(stale.code(), "AUTH_INVALID_TOKEN", "a proof of the old password opened a session");
    let both = json!({ "challenge": challenge, "code": "1", "recoveryCode": "2" });
    let both = house.anyone(&format!("{MFA}/verify"), both).await;
    both.refused(422, "VALIDATION_ERROR", "mfa.one_answer");
}

#[tokio::test]
async fn who_lost_everything_is_helped_by_another_administrator() {
    let (mut house, clock) = House::at(Environment::Development).await;
    let (token, _, codes) = enrolled(&house, &clock).await;
    let admin = "/api/v1/admin/identities";
    let other = json!({ "email": "b@example.org", "password": PASSWORD, "roles": ["admin"] });
    house.by(&token, Method::POST, admin, other).await.ok(201);
    let own = house.by(&token, Method::DELETE, &format!("{admin}/{EMAIL}/factors"), json!({})).await;
    own.refused(409, "CONFLICT", "identities.own_proof");
    let other = word(&house.login("b@example.org", PASSWORD).await.ok(200).data()["accessToken"]);
    let renewed = house.by(&token, Method::POST, &format!("{MFA}/recovery"), json!({ "password": PASSWORD })).await;
    assert_eq!(renewed.ok(200).data()["recoveryCodes"].as_array().unwrap().len(), 10);
    let challenge = owed(&house).await["challenge"].clone();
    assert_eq!(verify(&house, &challenge, "recoveryCode", &codes[0]).await.code(), "AUTH_UNAUTHORIZED", "an old code");
    house.token = other.clone();
    let told = entries(&house).await;
    assert_eq!(find(&told, "auth.factor")[0]["outcome"], "failed");
    pass(&clock, 1);
    for _ in 0..2 {
        house.by(&other, Method::DELETE, &format!("{admin}/{EMAIL}/factors"), json!({})).await.ok(200);
    }
    let ended = house.by(&token, Method::GET, MFA, json!({})).await;
    assert_eq!(ended.code(), "AUTH_INVALID_TOKEN");
    pass(&clock, 1);
    house.login(EMAIL, PASSWORD).await.ok(200);
    let nobody = house.by(&other, Method::DELETE, &format!("{admin}/x/factors"), json!({})).await;
    nobody.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
}

#[tokio::test]
async fn an_app_whose_setting_up_began_before_the_password_changed_is_not_kept() {
    let (house, clock) = House::at(Environment::Development).await;
    let token = word(&house.login(EMAIL, PASSWORD).await.ok(200).data()["accessToken"]);
    let ask = async |method, path: &str, data| house.by(&token, method, path, data).await;
    let start = format!("{MFA}/totp/start");
    let begun = ask(Method::POST, &start, json!({ "password": PASSWORD })).await.ok(200).data();
    pass(&clock, 1);
    let change = json!({ "current": PASSWORD, "new": "une tout autre phrase de passe" });
    ask(Method::PUT, "/api/v1/auth/password", change).await.ok(200);
    let confirm = json!({ "code": code(&word(&begun["secret"]), &clock) });
    let late = ask(Method::POST, &format!("{MFA}/totp/confirm"), confirm).await;
    assert_eq!(late.code(), "AUTH_INVALID_TOKEN", "{}", late.text);
    assert!(ask(Method::GET, MFA, json!({})).await.ok(200).data()["totpSince"].is_null());
}
