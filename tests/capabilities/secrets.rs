//! The instance's keys: shown by their ages, rotated without ending a token or a session, revoked at once.

use crate::{
    audit::{entries, find},
    house::{EMAIL, House, PASSWORD},
    keys::with,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use poem::http::Method;
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/admin/secrets";

async fn rotate(house: &House, purpose: &str, revoke: bool) -> Value {
    let wanted = json!({ "purpose": purpose, "revoke": revoke });
    house.post(&format!("{SECRETS}/rotate"), wanted).await.ok(200).data()
}

async fn key(house: &House, purpose: &str) -> Value {
    let data = house.get(SECRETS).await.ok(200).data();
    data["keys"].as_array().unwrap().iter().find(|key| key["purpose"] == purpose).unwrap().clone()
}

/// Which key signed a token, by its own word.
fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn tokens_outlive_a_rotation_and_not_a_revocation() {
    let mut house = House::open().await;
    let granted = house.login(EMAIL, PASSWORD).await.ok(200).data();
    let old = granted["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(kid(&old), "token-1");
    let rotated = rotate(&house, "token-signing", false).await;
    assert_eq!((&rotated["version"], &rotated["revoked"]), (&json!(2), &json!([])));
    with(&house, &old, Method::GET, "/api/v1/auth/sessions", None).await.ok(200);
    let new = house.login(EMAIL, PASSWORD).await.ok(200).data()["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(kid(&new), "token-2");

    house.token = new.clone();
    let rotated = rotate(&house, "token-signing", true).await;
    assert_eq!((&rotated["version"], &rotated["revoked"]), (&json!(3), &json!([1, 2])));
    for over in [&old, &new] {
        let refused = with(&house, over, Method::GET, "/api/v1/auth/sessions", None).await;
        refused.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    }
    // The session goes on.
    let refresh = json!({ "refreshToken": granted["refreshToken"] });
    let again = house.ask_as(None, Method::POST, "/api/v1/auth/refresh", &[], Some(json!({ "data": refresh }))).await;
    let again = again.ok(200).data()["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(kid(&again), "token-3");
    house.token = again;
    assert_eq!(key(&house, "token-signing").await["older"], 0);
    let told = entries(&house).await;
    let told = find(&told, "secrets.rotate");
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["details"]["revoked"], json!([1, 2]));
}

#[tokio::test]
async fn a_store_moves_to_its_new_key_as_it_is_written_or_at_once() {
    let house = House::open().await;
    let places = house.collection(json!({ "name": "places" })).await;
    for number in 0..200 {
        house.post(&places, json!({ "_id": format!("p{number}"), "text": "x".repeat(500) })).await.ok(201);
    }
    let before = key(&house, "data").await;
    assert_eq!((&before["version"], before["pages"].as_object().unwrap().len()), (&json!(1), 1));
    rotate(&house, "data", false).await;
    house.post(&places, json!({ "_id": "since" })).await.ok(201);
    let pages = key(&house, "data").await["pages"].clone();
    assert!(pages["1"].as_u64().unwrap() > 20 && pages["2"].as_u64().unwrap() > 0, "{pages}");
    let part = json!({ "purpose": "data", "from": 0 });
    let done = house.post(&format!("{SECRETS}/rewrite"), part).await.ok(200).data();
    assert_eq!(done["next"], 0);
    let after = key(&house, "data").await;
    let under: Vec<_> = after["pages"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((&after["version"], under), (&json!(2), vec!["2"]));
    house.get(&format!("{places}/p7")).await.ok(200);
    let told = entries(&house).await;
    assert_eq!(find(&told, "secrets.rewrite").len(), 1);
}

#[tokio::test]
async fn what_cannot_be_done_changes_nothing() {
    let house = House::open().await;
    let rotation = |purpose: &str, revoke: bool| json!({ "purpose": purpose, "revoke": revoke });
    let path = format!("{SECRETS}/rotate");
    house.post(&path, rotation("nothing", false)).await.refused(422, "VALIDATION_ERROR", "secrets.purpose");
    for (wanted, rule) in
        [(rotation("data", true), "secrets.irrevocable"), (rotation("audit-signing", true), "secrets.irrevocable")]
    {
        let (_, _, told) = house.post(&path, wanted).await.refusal();
        assert_eq!(told, rule);
    }
    let part = json!({ "purpose": "media", "from": 0 });
    let (_, _, told) = house.post(&format!("{SECRETS}/rewrite"), part).await.refusal();
    assert_eq!(told, "secrets.no_store");
    let (_, _, told) = house.get("/api/v1/admin/certificate").await.refusal();
    assert_eq!(told, "certificates.unserved");
    // An administrator far away has no business with this machine's files.
    let wrapping = json!({ "file": "/tmp/debrouille-root-key" });
    let (_, _, told) = house.post(&format!("{SECRETS}/rewrap"), wrapping).await.refusal();
    assert_eq!(told, "secrets.root_local");
    let data = house.get(SECRETS).await.ok(200).data();
    assert!(data["keys"].as_array().unwrap().iter().all(|key| key["version"] == 1), "{data}");
}
