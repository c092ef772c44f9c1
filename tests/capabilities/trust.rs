//! How far an identity is trusted: what the answers say of it, what moves it, what an administrator may do.

use crate::house::{EMAIL, House, PASSWORD};
use debrouille_appliance::base::clock::FixedClock;
use poem::http::Method;
use serde_json::{Value, json};
use std::sync::Arc;

const PEOPLE: &str = "/api/v1/admin/identities";
const META: &str = "/api/v1/meta";

async fn level(house: &House, who: &str) -> Value {
    house.get(&format!("{PEOPLE}/{who}/trust")).await.ok(200).data()["level"].clone()
}

#[tokio::test]
async fn who_calls_is_said_by_the_server_and_never_by_the_caller() {
    let house = House::open().await;
    let own = house.get(&format!("{PEOPLE}/{EMAIL}/trust")).await.ok(200).data()["identity"].clone();
    let claims = [("x-identity-id", "somebody-else"), ("x-trust-level", "100")];
    for path in [META, "/api/v1/collections", "/api/v1/nothing"] {
        let answer = house.ask(Method::GET, path, &claims, None).await;
        assert_eq!((answer.header("x-identity-id"), answer.header("x-trust-level")), (own.as_str().unwrap(), "50"));
    }
    for authorization in [None, Some("Bearer a.b.c"), Some("Basic YTpi")] {
        let mut request = poem::Request::builder().uri_str(META);
        for (name, value) in claims.into_iter().chain(authorization.map(|value| ("authorization", value))) {
            request = request.header(name, value);
        }
        let answer = house.call(request.finish()).await.ok(200);
        assert_eq!((answer.header("x-identity-id"), answer.header("x-trust-level")), ("", ""));
    }
}

#[tokio::test]
async fn events_move_it_and_it_scales_the_limit() {
    let house = House::limited(Arc::new(FixedClock(1_800_000_000_000.into())), 100, &[]).await;
    assert_eq!(house.get(META).await.header("x-ratelimit-limit"), "100");
    house.login(EMAIL, "not the password").await;
    assert_eq!(level(&house, EMAIL).await, 48);
    let granted = house.login(EMAIL, PASSWORD).await.ok(200).data();
    for _ in 0..2 {
        house.post("/api/v1/auth/refresh", json!({ "refreshToken": granted["refreshToken"] })).await;
    }
    let answer = house.get(META).await;
    assert_eq!((answer.header("x-trust-level"), answer.header("x-ratelimit-limit")), ("28", "67"));
    house.ask(Method::GET, "/api/v1/collections", &[("x-organization-id", "org")], None).await;
    assert_eq!(level(&house, EMAIL).await, 27);
    let mut refused = false;
    for _ in 0..100 {
        refused |= house.get(META).await.code() == "RATE_LIMIT";
    }
    assert!(refused && house.get(META).await.header("x-trust-level") == "26");
}

#[tokio::test]
async fn an_administrator_sets_it_for_a_reason() {
    let house = House::limited(Arc::new(FixedClock(1_800_000_000_000.into())), 100, &[]).await;
    let trust = format!("{PEOPLE}/{EMAIL}/trust");
    for (body, rule) in [
        (json!({ "level": 101, "reason": "x" }), "trust.level"),
        (json!({ "level": 80, "reason": " " }), "trust.reason"),
        (json!({ "level": 80 }), "http.data"),
        (json!({ "level": -1, "reason": "x" }), "http.data"),
    ] {
        house.put(&trust, body).await.refused(422, "VALIDATION_ERROR", rule);
    }
    let set = house.put(&trust, json!({ "level": 100, "reason": "met in person" })).await.ok(200).data();
    assert_eq!((&set["level"], &set["baseline"]), (&json!(100), &json!(50)));
    assert_eq!((&set["adjusted"]["reason"], &set["adjusted"]["by"]), (&json!("met in person"), &set["identity"]));
    assert_eq!(house.get(META).await.header("x-ratelimit-limit"), "200");
    house.get(&format!("{PEOPLE}/nobody@example.org/trust")).await.refused(
        404,
        "RESOURCE_NOT_FOUND",
        "identities.unknown",
    );
    let ana = json!({ "email": "ana@example.org", "password": PASSWORD });
    house.post(PEOPLE, ana).await.ok(201);
    let token = house.login("ana@example.org", PASSWORD).await.ok(200).data()["accessToken"].clone();
    let ask = async |path: &str| house.by(token.as_str().unwrap(), Method::GET, path, json!({})).await;
    ask(&trust).await.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
    ask(&format!("{PEOPLE}/ana@example.org/trust")).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
}
