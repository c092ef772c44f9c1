//! API keys: through the routes, as partners use them.

use crate::house::{Answer, EMAIL, House, PASSWORD};
use poem::{Request, http::Method};
use serde_json::{Value, json};

const OWN: &str = "/api/v1/auth/keys";

pub async fn with(house: &House, token: &str, method: Method, path: &str, data: Option<Value>) -> Answer {
    let request = Request::builder().method(method).uri_str(path).header("authorization", format!("Bearer {token}"));
    house
        .call(match data {
            Some(data) => request.content_type("application/json").body(json!({ "data": data }).to_string()),
            None => request.finish(),
        })
        .await
}

fn token(made: &Value) -> String {
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_from_its_making_to_its_end() {
    let house = House::open().await;
    let places = house.collection(json!({ "name": "places" })).await;
    house.post(&places, json!({ "name": "Goma" })).await.ok(201);
    // A key outlives every session: a token alone makes none.
    house.post(OWN, json!({ "name": "partner" })).await.refused(422, "VALIDATION_ERROR", "mfa.prove_again");
    let wrong = house.post(OWN, json!({ "name": "partner", "password": "no" })).await;
    assert_eq!(wrong.code(), "AUTH_UNAUTHORIZED");
    assert_eq!(house.get(OWN).await.data(), json!([]));
    let made =
        house.post(OWN, json!({ "password": PASSWORD, "name": "partner", "expiresInDays": 30 })).await.ok(201).data();
    let key = token(&made);
    assert!(key.starts_with("dbk_") && key.len() == 89, "{key}");
    assert_eq!(made["scopes"], json!({ "actions": ["VIEW"], "modules": [] }));
    with(&house, &key, Method::GET, &places, None).await.ok(200);

    let listed = house.get(OWN).await.ok(200);
    assert!(!listed.text.contains(&key) && !listed.text.contains("hash"), "{}", listed.text);
    assert_eq!(listed.data()[0]["status"], "active");
    assert!(listed.data()[0]["lastUsedAt"].is_i64());

    house.delete(&format!("{OWN}/{}", made["_id"].as_str().unwrap())).await.ok(200);
    with(&house, &key, Method::GET, &places, None).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    assert_eq!(house.get(OWN).await.data()[0]["status"], "revoked");
    house.delete(&format!("{OWN}/nothing")).await.refused(404, "RESOURCE_NOT_FOUND", "keys.unknown");
}

#[tokio::test]
async fn a_key_reaches_no_further_than_its_scope() {
    let house = House::open().await;
    let (places, patients) =
        (house.collection(json!({ "name": "places" })).await, house.collection(json!({ "name": "patients" })).await);
    let scopes = json!({ "actions": ["VIEW", "CREATE"], "collections": ["places"] });
    let key = token(
        &house.post(OWN, json!({ "password": PASSWORD, "name": "narrow", "scopes": scopes })).await.ok(201).data(),
    );
    let call = async |method, path: &str, data| with(&house, &key, method, path, data).await;
    let made = call(Method::POST, &places, Some(json!({ "name": "Goma" }))).await.ok(201).data();
    call(Method::GET, &places, None).await.ok(200);
    let one = format!("{places}/{}", made["_id"].as_str().unwrap());
    for (method, path, data) in [
        (Method::DELETE, one.as_str(), None),
        (Method::PATCH, one.as_str(), Some(json!({ "name": "Uvira" }))),
        (Method::GET, patients.as_str(), None),
        (Method::GET, "/api/v1/admin/identities", None),
        (Method::GET, "/api/v1/admin/backups", None),
        (Method::POST, "/api/v1/collections", Some(json!({ "name": "other" }))),
    ] {
        call(method.clone(), path, data).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
}

#[tokio::test]
async fn a_key_makes_no_keys_and_has_no_session() {
    let house = House::open().await;
    let scopes = json!({ "actions": ["VIEW", "CREATE", "UPDATE", "DELETE", "MANAGE"], "modules": ["backups"] });
    let key =
        token(&house.post(OWN, json!({ "password": PASSWORD, "name": "wide", "scopes": scopes })).await.ok(201).data());
    let of_admin = format!("/api/v1/admin/identities/{EMAIL}/keys");
    for (method, path, data) in [
        (Method::POST, OWN, Some(json!({ "name": "child" }))),
        (Method::GET, OWN, None),
        (Method::POST, of_admin.as_str(), Some(json!({ "name": "child" }))),
        (Method::GET, "/api/v1/auth/sessions", None),
        (Method::POST, "/api/v1/auth/logout-all", None),
        (
            Method::PUT,
            &format!("/api/v1/admin/identities/{EMAIL}/password"),
            Some(json!({ "password": "une autre longue phrase" })),
        ),
        (Method::POST, "/api/v1/admin/machines", Some(json!({ "name": "child" }))),
    ] {
        with(&house, &key, method, path, data).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
    for module in ["identities", "policies"] {
        let scopes = json!({ "actions": ["MANAGE"], "modules": [module] });
        let asked = house.post(OWN, json!({ "password": PASSWORD, "name": "wider", "scopes": scopes })).await;
        asked.refused(422, "VALIDATION_ERROR", "keys.module_guarded");
    }
}

#[tokio::test]
async fn what_a_key_may_be_is_bounded() {
    let house = House::open().await;
    for (data, rule) in [
        (json!({ "name": "" }), "keys.name"),
        (json!({ "name": "k", "expiresInDays": 366 }), "keys.days"),
        (json!({ "name": "k", "expiresInDays": 0 }), "keys.days"),
        (json!({ "name": "k", "scopes": { "actions": [] } }), "keys.no_action"),
        (json!({ "name": "k", "scopes": { "actions": ["RULE"] } }), "keys.action"),
        (json!({ "name": "k", "scopes": { "actions": ["VIEW"], "collections": ["system.keys"] } }), "collections.name"),
        (json!({ "name": "k", "scopes": { "actions": ["VIEW"], "modules": ["A"] } }), "keys.module"),
        (json!({ "name": "k", "publicKey": "x" }), "http.data"),
    ] {
        house.post(OWN, data).await.refused(422, "VALIDATION_ERROR", rule);
    }
    let of_person = format!("/api/v1/admin/identities/{EMAIL}/keys");
    let public = json!({ "name": "k", "publicKey": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=" });
    house.post(&of_person, public).await.refused(422, "VALIDATION_ERROR", "keys.not_a_machine");
    assert_eq!(house.get(OWN).await.data(), json!([]), "a refused key was kept");
}

#[tokio::test]
async fn only_administrators_see_and_end_the_keys_of_others() {
    let house = House::open().await;
    let person = json!({ "email": "ana@example.org", "password": PASSWORD });
    house.post("/api/v1/admin/identities", person).await.ok(201);
    let ana = house.login("ana@example.org", PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    let mine = house.post(OWN, json!({ "password": PASSWORD, "name": "mine" })).await.ok(201).data();
    let id = mine["_id"].as_str().unwrap();
    let as_ana = async |method, path: &str, data| with(&house, &ana, method, path, data).await;
    as_ana(Method::DELETE, &format!("{OWN}/{id}"), None).await.refused(404, "RESOURCE_NOT_FOUND", "keys.unknown");
    let all = as_ana(Method::GET, "/api/v1/admin/keys", None).await.ok(200);
    assert_eq!(all.data(), json!([]), "the keys of who is in sight: oneself");
    let answer = as_ana(Method::GET, &format!("/api/v1/admin/identities/{EMAIL}/keys"), None).await;
    answer.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
    let answer = as_ana(Method::DELETE, &format!("/api/v1/admin/keys/{id}"), None).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    // A key of who may nothing may nothing, whatever its scope says.
    let scopes = json!({ "actions": ["VIEW", "MANAGE"], "modules": ["collections"] });
    let key = token(
        &as_ana(Method::POST, OWN, Some(json!({ "password": PASSWORD, "name": "k", "scopes": scopes })))
            .await
            .ok(201)
            .data(),
    );
    let answer = with(&house, &key, Method::GET, "/api/v1/collections", None).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");

    let made = house
        .post("/api/v1/admin/identities/ana@example.org/keys", json!({ "password": PASSWORD, "name": "given" }))
        .await
        .ok(201);
    assert_eq!(house.get("/api/v1/admin/keys").await.data().as_array().unwrap().len(), 3);
    house.delete(&format!("/api/v1/admin/keys/{}", made.data()["_id"].as_str().unwrap())).await.ok(200);
    let answer = with(&house, &token(&made.data()), Method::GET, "/api/v1/collections", None).await;
    answer.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
}

#[tokio::test]
async fn a_right_over_some_people_stops_at_them() {
    let house = House::open().await;
    const PEOPLE: &str = "/api/v1/admin/identities";
    let add = async |email: &str, roles: Value| {
        let person = json!({ "email": email, "password": PASSWORD, "roles": roles });
        house.post(PEOPLE, person).await.ok(201).data()["_id"].clone()
    };
    let ana = add("ana@example.org", json!([])).await;
    add("helper@example.org", json!(["operator"])).await;
    let policy = json!({
        "module": "identities", "action": ["MANAGE"], "roles": ["operator"], "where": { "_id": ana },
    });
    house.put("/api/v1/policies/help-ana", policy).await.ok(201);
    let helper = house.login("helper@example.org", PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    let mine = house.post(OWN, json!({ "password": PASSWORD, "name": "mine" })).await.ok(201).data();
    for (method, way, data) in [
        (Method::POST, "keys", Some(json!({ "password": PASSWORD, "name": "k" }))),
        (Method::POST, "recovery", Some(json!({}))),
        (Method::DELETE, "factors", None),
    ] {
        let ask = async |who: &str| {
            with(&house, &helper, method.clone(), &format!("{PEOPLE}/{who}/{way}"), data.clone()).await
        };
        assert!(ask("ana@example.org").await.status.is_success(), "{way}");
        ask(EMAIL).await.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
    }
    let path = format!("/api/v1/admin/keys/{}", mine["_id"].as_str().unwrap());
    with(&house, &helper, Method::DELETE, &path, None).await.refused(404, "RESOURCE_NOT_FOUND", "keys.unknown");
}

#[tokio::test]
async fn an_organization_gets_no_key() {
    let house = House::open().await;
    let organization = house.post("/api/v1/organizations", json!({ "name": "O" })).await.ok(201).data();
    let path = format!("/api/v1/admin/identities/{}/keys", organization["_id"].as_str().unwrap());
    let asked = house.post(&path, json!({ "password": PASSWORD, "name": "k" })).await;
    asked.refused(422, "VALIDATION_ERROR", "identities.no_person");
}

#[tokio::test]
async fn a_key_made_before_a_new_role_ends_with_it() {
    let house = House::open().await;
    let (id, ana) = house.person("ana@example.org").await;
    let made = with(&house, &ana, Method::POST, OWN, Some(json!({ "name": "k", "password": PASSWORD }))).await;
    let key = token(&made.ok(201).data());
    with(&house, &key, Method::GET, "/api/v1/me", None).await.ok(403);
    house.put(&format!("/api/v1/admin/identities/{id}/roles"), json!({ "roles": ["auditor"] })).await.ok(200);
    with(&house, &key, Method::GET, "/api/v1/me", None).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
}
