//! Every operation of the reference, called without proof and with a foreign one: refused, but for a short list.

mod matrix;

use crate::house::{EMAIL, House, PASSWORD};
use debrouille_appliance::http;
use poem::{Request, http::Method};
use serde_json::{Value, json};

/// What anyone may call. Adding here is a decision.
const PUBLIC: [&str; 17] = [
    "GET /api/v1/health",
    "GET /api/v1/meta",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/mfa/enrol/confirm",
    "POST /api/v1/auth/mfa/enrol/start",
    "POST /api/v1/auth/mfa/verify",
    "POST /api/v1/auth/passkey/login/finish",
    "POST /api/v1/auth/passkey/login/start",
    "POST /api/v1/auth/machine",
    "POST /api/v1/auth/oidc/finish",
    "POST /api/v1/auth/oidc/start",
    "POST /api/v1/auth/recover",
    "POST /api/v1/auth/recover/confirm",
    "POST /api/v1/auth/verify",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
    "POST /api/v1/invitations/accept",
];

struct Operation {
    name: String,
    method: Method,
    path: String,
    secured: bool,
    content: Option<String>,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&http::openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let content =
                operation["requestBody"]["content"].as_object().and_then(|kinds| kinds.keys().next().cloned());
            operations.push(Operation {
                name: format!("{method} {path}"),
                path: path
                    .split('/')
                    .map(|part| if part.starts_with('{') { "x" } else { part })
                    .collect::<Vec<_>>()
                    .join("/"),
                secured: operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty()),
                method,
                content,
            });
        }
    }
    operations
}

fn request(operation: &Operation, token: Option<&str>) -> Request {
    let mut request = Request::builder().method(operation.method.clone()).uri_str(&operation.path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    match &operation.content {
        Some(kind) => request.content_type(kind).body(json!({ "data": {} }).to_string()),
        None => request.finish(),
    }
}

/// A token another instance signed for an administrator of its own.
async fn foreign() -> String {
    let other = House::open().await;
    other.token
}

#[tokio::test]
async fn without_proof_or_with_a_foreign_one_nothing_but_the_public() {
    let mut house = House::open().await;
    let foreign = foreign().await;
    let mut tampered = house.token.clone();
    tampered.replace_range(tampered.len() - 4.., if tampered.ends_with("AAAA") { "BBBB" } else { "AAAA" });
    let operations = operations();
    assert!(operations.len() >= 25, "the walk sees only {}", operations.len());
    for operation in &operations {
        let name = &operation.name;
        let public = PUBLIC.contains(&name.as_str());
        assert_eq!(operation.secured, !public, "{name}: the reference and the list differ");
        let bare = house.call(request(operation, None)).await;
        if public {
            assert!(!["AUTH_UNAUTHORIZED", "ROUTE_NOT_FOUND"].contains(&bare.code().as_str()), "{name}: {}", bare.text);
            continue;
        }
        assert_eq!((bare.status.as_u16(), bare.code().as_str()), (401, "AUTH_UNAUTHORIZED"), "{name}");
        for token in [foreign.as_str(), tampered.as_str(), "nonsense", "a.b.c"] {
            let answer = house.call(request(operation, Some(token))).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "AUTH_INVALID_TOKEN"), "{name}");
        }
        // The same request with a true proof gets further: it was the proof that was refused.
        let proven = house.call(request(operation, Some(&house.token))).await;
        let refused = ["AUTH_UNAUTHORIZED", "AUTH_INVALID_TOKEN", "AUTH_FORBIDDEN", "ROUTE_NOT_FOUND"];
        assert!(!refused.contains(&proven.code().as_str()), "{name}: {}", proven.text);
        if name.contains("/auth/logout") {
            let granted = house.login(EMAIL, PASSWORD).await.data();
            house.token = granted["accessToken"].as_str().unwrap().to_owned();
        }
    }
    for known in PUBLIC {
        assert!(operations.iter().any(|operation| operation.name == known), "{known} is gone");
    }
}

#[tokio::test]
async fn little_is_read_from_who_has_no_proof() {
    let house = House::open().await;
    for operation in operations().iter().filter(|operation| operation.content.is_some()) {
        let body = format!("{{\"data\":{{\"email\":\"{}\"}}}}", "x".repeat(17 << 10));
        let sent = Request::builder().method(operation.method.clone()).uri_str(&operation.path);
        let answer = house.call(sent.content_type("application/json").body(body)).await;
        match PUBLIC.contains(&operation.name.as_str()) {
            true => answer.refused(413, "PAYLOAD_TOO_LARGE", "http.body_size"),
            false => answer.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized"),
        }
    }
}

#[tokio::test]
async fn acting_for_an_organization_wants_a_membership() {
    let house = House::open().await;
    let answer = house.ask(Method::GET, "/api/v1/collections", &[("x-organization-id", "org")], None).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
}
