//! Sessions as people see them: named, listed, ended, and never two from one refresh.

use crate::house::{EMAIL, House, PASSWORD};
use futures_util::future::join_all;
use poem::http::Method;
use serde_json::{Value, json};

const SESSIONS: &str = "/api/v1/auth/sessions";

async fn login(house: &House, device: &str) -> Value {
    let sent = json!({ "email": EMAIL, "password": PASSWORD, "device": device });
    house.anyone("/api/v1/auth/login", sent).await.ok(200).data()
}

fn token(granted: &Value) -> &str {
    granted["accessToken"].as_str().unwrap()
}

#[tokio::test]
async fn a_session_says_which_device_since_when_and_how() {
    let house = House::open().await;
    let granted = login(&house, "Téléphone d'Ana").await;
    let listed = house.by(token(&granted), Method::GET, SESSIONS, json!({})).await.ok(200).data();
    let own = listed.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
    assert_eq!((&own["device"], &own["methods"]), (&json!("Téléphone d'Ana"), &json!(["pwd"])));
    assert!(own["openedAt"].as_i64().unwrap() > 0 && own["lastUsedAt"].as_i64() >= own["openedAt"].as_i64(), "{own}");
    assert_eq!(own["network"], Value::Null);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let house = House::open().await;
    let (one, other) = (login(&house, "one").await, login(&house, "other").await);
    let change = async |current: &str, new: &str| {
        let sent = json!({ "current": current, "new": new });
        house.by(token(&one), Method::PUT, "/api/v1/auth/password", sent).await
    };
    change("not the present one", "une autre longue phrase").await.refused(
        401,
        "AUTH_UNAUTHORIZED",
        "http.unauthorized",
    );
    change(PASSWORD, "motdepasse123456").await.refused(422, "VALIDATION_ERROR", "identities.password_common");
    house.by(token(&other), Method::GET, SESSIONS, json!({})).await.ok(200);
    change(PASSWORD, "une autre longue phrase").await.ok(200);
    assert_eq!(house.by(token(&other), Method::GET, SESSIONS, json!({})).await.code(), "AUTH_INVALID_TOKEN");
    let refresh = house.anyone("/api/v1/auth/refresh", json!({ "refreshToken": other["refreshToken"] })).await;
    assert_eq!(refresh.code(), "AUTH_INVALID_TOKEN");
    let left = house.by(token(&one), Method::GET, SESSIONS, json!({})).await.ok(200).data();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(house.login(EMAIL, PASSWORD).await.code(), "AUTH_UNAUTHORIZED");
}

#[tokio::test]
async fn operators_see_and_end_the_sessions_of_a_person() {
    let house = House::open().await;
    const PEOPLE: &str = "/api/v1/admin/identities";
    let person = json!({ "email": "ana@example.org", "password": "encore une longue phrase" });
    house.post(PEOPLE, person).await.ok(201);
    let enter = async || house.login("ana@example.org", "encore une longue phrase").await.ok(200).data();
    let (one, two) = (enter().await, enter().await);
    let sessions = format!("{PEOPLE}/ana@example.org/sessions");
    let listed = house.get(&sessions).await.ok(200).data();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    // Everybody sees their own, and nobody else's.
    assert_eq!(house.by(token(&one), Method::GET, &sessions, json!({})).await.data().as_array().unwrap().len(), 2);
    let other = house.by(token(&one), Method::GET, &format!("{PEOPLE}/{EMAIL}/sessions"), json!({})).await;
    other.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
    house.by(token(&one), Method::DELETE, &sessions, json!({})).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    // A session of one is not ended under the name of another.
    let id = listed[0]["_id"].as_str().unwrap();
    let elsewhere = house.delete(&format!("{PEOPLE}/{EMAIL}/sessions/{id}")).await;
    elsewhere.refused(404, "RESOURCE_NOT_FOUND", "sessions.unknown");
    house.delete(&format!("{sessions}/{id}")).await.ok(200);
    assert_eq!(house.get(&sessions).await.data().as_array().unwrap().len(), 1);
    house.delete(&sessions).await.ok(200);
    for granted in [&one, &two] {
        assert_eq!(house.by(token(granted), Method::GET, SESSIONS, json!({})).await.code(), "AUTH_INVALID_TOKEN");
    }
}

#[tokio::test]
async fn of_fifty_refreshes_at_once_one_wins_and_the_family_ends() {
    let house = House::open().await;
    let granted = login(&house, "one").await;
    let sent = json!({ "refreshToken": granted["refreshToken"] });
    let answers = join_all((0..50).map(|_| house.anyone("/api/v1/auth/refresh", sent.clone()))).await;
    let won: Vec<_> = answers.iter().filter(|answer| answer.status.is_success()).collect();
    assert!(won.len() <= 1, "{} won", won.len());
    for answer in answers.iter().filter(|answer| !answer.status.is_success()) {
        answer.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    }
    for granted in won.iter().map(|answer| answer.data()).chain([granted]) {
        assert_eq!(house.by(token(&granted), Method::GET, SESSIONS, json!({})).await.code(), "AUTH_INVALID_TOKEN");
        let again = house.anyone("/api/v1/auth/refresh", json!({ "refreshToken": granted["refreshToken"] })).await;
        assert_eq!(again.code(), "AUTH_INVALID_TOKEN");
    }
}
