//! Login, refresh, logout: through the routes, as clients do.

use crate::house::{EMAIL, House, PASSWORD};
use poem::{
    Request,
    http::{Method, StatusCode},
};
use serde_json::json;

impl House {
    async fn keyed(&self, method: Method, path: &str, kind: &str, data: serde_json::Value) -> crate::house::Answer {
        let request = Request::builder().method(method).uri_str(path).content_type(kind);
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let request = request.header("idempotency-key", "k-1");
        self.call(request.body(json!({ "data": data }).to_string())).await
    }

    async fn with_token(&self, method: Method, path: &str, token: &str) -> crate::house::Answer {
        let request =
            Request::builder().method(method).uri_str(path).header("authorization", format!("Bearer {token}"));
        self.call(request.finish()).await
    }
}

#[tokio::test]
async fn a_session_from_login_to_logout() {
    let house = House::open().await;
    let granted = house.login(EMAIL, PASSWORD).await.ok(200).data();
    assert_eq!((&granted["identity"]["email"], &granted["identity"]["roles"]), (&json!(EMAIL), &json!(["admin"])));
    assert!(granted["expiresIn"].as_i64().is_some_and(|seconds| (1..=600).contains(&seconds)));
    let access = granted["accessToken"].as_str().unwrap();
    let sessions = house.with_token(Method::GET, "/api/v1/auth/sessions", access).await.ok(200).data();
    assert_eq!(sessions.as_array().unwrap().len(), 2);
    assert_eq!(sessions.as_array().unwrap().iter().filter(|session| session["current"] == true).count(), 1);

    let refreshed =
        house.post("/api/v1/auth/refresh", json!({ "refreshToken": granted["refreshToken"] })).await.ok(200).data();
    let newer = refreshed["accessToken"].as_str().unwrap().to_owned();
    house.with_token(Method::POST, "/api/v1/auth/logout", &newer).await.ok(200);
    for ended in [access, newer.as_str()] {
        let answer = house.with_token(Method::GET, "/api/v1/collections", ended).await;
        answer.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    let refresh = house.post("/api/v1/auth/refresh", json!({ "refreshToken": refreshed["refreshToken"] })).await;
    assert_eq!(refresh.status, StatusCode::UNAUTHORIZED);
    house.get("/api/v1/collections").await.ok(200);
}

#[tokio::test]
async fn a_replayed_refresh_ends_the_family() {
    let house = House::open().await;
    let granted = house.login(EMAIL, PASSWORD).await.data();
    let refresh = || house.post("/api/v1/auth/refresh", json!({ "refreshToken": granted["refreshToken"] }));
    let newer = refresh().await.ok(200).data()["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(refresh().await.status, StatusCode::UNAUTHORIZED);
    let answer = house.with_token(Method::GET, "/api/v1/collections", &newer).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "the family lives on");
}

#[tokio::test]
async fn a_wrong_login_says_nothing_of_which_part() {
    let house = House::open().await;
    let wrong = house.login(EMAIL, "not the password").await;
    wrong.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    let nobody = house.login("nobody@example.org", PASSWORD).await;
    assert_eq!(wrong.json()["error"], nobody.json()["error"]);
    house.post("/api/v1/auth/login", json!({ "email": EMAIL })).await.refused(422, "VALIDATION_ERROR", "http.data");
}

#[tokio::test]
async fn operators_keep_the_people() {
    let house = House::open().await;
    const PEOPLE: &str = "/api/v1/admin/identities";
    let person = json!({ "email": "Ana@Example.org ", "password": "encore une longue phrase" });
    let made = house.post(PEOPLE, person.clone()).await.ok(201).data();
    assert_eq!((&made["email"], &made["status"]), (&json!("ana@example.org"), &json!("active")));
    assert!(!made.to_string().contains("argon2"));
    house.post(PEOPLE, person).await.refused(409, "CONFLICT", "identities.email_taken");
    house.post(PEOPLE, json!({ "email": "b@example.org", "password": "x", "roles": ["king"] })).await.refused(
        422,
        "VALIDATION_ERROR",
        "identities.role",
    );
    assert_eq!(house.get(PEOPLE).await.ok(200).data().as_array().unwrap().len(), 2);
    let ana = house.login("ana@example.org", "encore une longue phrase").await.ok(200).data();
    let token = ana["accessToken"].as_str().unwrap();
    // Identified, and allowed nothing but to see herself: no policy says otherwise.
    let seen = house.with_token(Method::GET, PEOPLE, token).await.ok(200).data();
    assert_eq!((seen.as_array().unwrap().len(), &seen[0]["_id"]), (1, &made["_id"]));
    house.with_token(Method::GET, "/api/v1/collections", token).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    house
        .put(&format!("{PEOPLE}/ana@example.org/password"), json!({ "password": "une autre longue phrase" }))
        .await
        .ok(200);
    house.with_token(Method::GET, PEOPLE, token).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    house.put(&format!("{PEOPLE}/ana@example.org/status"), json!({ "status": "disabled" })).await.ok(200);
    house.login("ana@example.org", "une autre longue phrase").await.refused(
        401,
        "AUTH_UNAUTHORIZED",
        "http.unauthorized",
    );
    house.put(&format!("{PEOPLE}/{EMAIL}/status"), json!({ "status": "disabled" })).await.refused(
        409,
        "CONFLICT",
        "identities.last_administrator",
    );
    // An administrator disabled already is not the last one that is active.
    let other = json!({ "email": "c@example.org", "password": PASSWORD, "roles": ["admin"] });
    house.post(PEOPLE, other).await.ok(201);
    for _ in 0..2 {
        house.put(&format!("{PEOPLE}/c@example.org/status"), json!({ "status": "disabled" })).await.ok(200);
    }
}

#[tokio::test]
async fn a_person_is_added_once_however_often_it_is_tried() {
    let house = House::open().await;
    const PEOPLE: &str = "/api/v1/admin/identities";
    let add = async |password: &str| {
        let person = json!({ "data": { "email": "ana@example.org", "password": password } });
        house.ask(Method::POST, PEOPLE, &[("idempotency-key", "k-1")], Some(person)).await
    };
    let first = add(PASSWORD).await.ok(201).data();
    assert_eq!(add(PASSWORD).await.ok(201).data(), first);
    add("une autre longue phrase").await.refused(409, "CONFLICT", "documents.idempotency_reused");
    let again = json!({ "email": "ana@example.org", "password": PASSWORD });
    house.post(PEOPLE, again).await.refused(409, "CONFLICT", "identities.email_taken");
}

#[tokio::test]
async fn where_no_answer_is_kept_a_retry_is_told_so() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let (plain, lines) = ("application/json", "application/x-ndjson");
    let password = format!("/api/v1/admin/identities/{EMAIL}/password");
    for (method, path, kind, data) in [
        (Method::POST, "/api/v1/admin/backups", plain, json!({})),
        (Method::POST, "/api/v1/collections/places/import", lines, json!({})),
        (Method::PUT, password.as_str(), plain, json!({ "password": PASSWORD })),
    ] {
        let answer = house.keyed(method, path, kind, data).await;
        answer.refused(400, "VALIDATION_ERROR", "http.idempotency_unkept");
    }
    assert_eq!(house.get("/api/v1/admin/backups").await.data(), json!([]));
}
