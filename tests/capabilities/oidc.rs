//! Login through a real OpenID Connect provider on loopback (`scripts/services` starts it and sets `OIDC_PROVIDER_URL`).

use crate::{
    audit::{entries, find},
    house::{EMAIL, House, PASSWORD},
};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

const PEOPLE: &str = "/api/v1/admin/identities";

/// A house that knows the provider: without one nothing here would be proven.
async fn house() -> House {
    let started = std::env::var("OIDC_PROVIDER_URL").is_ok();
    assert!(
        started,
        "OIDC_PROVIDER_URL is not set: run `eval \"$(scripts/services start)\"`, which starts the provider"
    );
    House::open().await
}

/// Logs in at the provider, as a person's browser would, and answers the code it sends back.
fn authorize(url: &str, subject: &str) -> String {
    let rest = url.strip_prefix("http://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let form = format!("sub={subject}");
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Length: {}\r\n",
        form.len()
    );
    let mut stream = TcpStream::connect(authority).unwrap();
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n\r\n";
    stream.write_all(format!("{head}{kind}{form}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let back = answer.lines().find_map(|line| line.strip_prefix("location: ").or(line.strip_prefix("Location: ")));
    let back = back.unwrap_or_else(|| panic!("{answer}"));
    assert!(back.starts_with("https://example.org/back?"), "{back}");
    back.split(['?', '&']).find_map(|part| part.strip_prefix("code=")).unwrap().to_owned()
}

async fn start(house: &House) -> (String, Value) {
    let started = house.post("/api/v1/auth/oidc/start", json!({})).await.ok(200).data();
    (started["url"].as_str().unwrap().to_owned(), started["state"].clone())
}

#[tokio::test]
async fn a_login_from_the_providers_page_to_a_session() {
    let house = house().await;
    let (url, state) = start(&house).await;
    for part in
        ["response_type=code", "code_challenge_method=S256", "nonce=", "redirect_uri=https%3A%2F%2Fexample.org%2Fback"]
    {
        assert!(url.contains(part), "{part} is not in {url}");
    }
    let code = authorize(&url, "s-ana");
    let finish = async |state: &Value, code: &str| {
        house.post("/api/v1/auth/oidc/finish", json!({ "state": state, "code": code })).await
    };
    let granted = finish(&state, &code).await.ok(200).data();
    assert_eq!((&granted["identity"]["email"], &granted["identity"]["roles"]), (&json!("ana@example.org"), &json!([])));
    assert!(granted["refreshToken"].is_string());
    // Neither the state nor the code is good twice.
    finish(&state, &code).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    let (_, other) = start(&house).await;
    finish(&other, &code).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");

    // The second time by the subject: the address may have changed meanwhile.
    let (url, state) = start(&house).await;
    let again = finish(&state, &authorize(&url, "s-ana")).await.ok(200).data();
    assert_eq!(again["identity"]["_id"], granted["identity"]["_id"]);
    house.put(&format!("{PEOPLE}/ana@example.org/status"), json!({ "status": "disabled" })).await.ok(200);
    let (url, state) = start(&house).await;
    let disabled = finish(&state, &authorize(&url, "s-ana")).await;
    disabled.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    let told = entries(&house).await;
    assert!(find(&told, "auth.oidc").iter().all(|entry| entry["outcome"] == "failed"));
    assert!(find(&told, "auth.oidc").len() >= 2, "each way to fail, once a minute");
    // An account the provider vouches for has no password.
    house.login("ana@example.org", PASSWORD).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
}

#[tokio::test]
async fn an_address_the_provider_has_not_verified_opens_nothing() {
    let house = house().await;
    let (url, state) = start(&house).await;
    let code = authorize(&url, "s-eve");
    let answer = house.post("/api/v1/auth/oidc/finish", json!({ "state": state, "code": code })).await;
    answer.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.login(EMAIL, PASSWORD).await.ok(200);
}

#[tokio::test]
async fn a_code_of_another_login_is_refused() {
    let house = house().await;
    let ((stolen, _), (_, mine)) = (start(&house).await, start(&house).await);
    let code = authorize(&stolen, "s-ana");
    let answer = house.post("/api/v1/auth/oidc/finish", json!({ "state": mine, "code": code })).await;
    answer.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
}
