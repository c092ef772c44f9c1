//! A lost password, through the routes and the letters written while developing.

use crate::{
    house::{EMAIL, House, PASSWORD},
    keys::with,
};
use poem::http::Method;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

const ANOTHER: &str = "une tout autre phrase de passe";

/// The letters so far, decoded as far as these tests read them.
pub fn letters(house: &House) -> Vec<String> {
    let Ok(folder) = std::fs::read_dir(house.folder.path().join("mail")) else { return Vec::new() };
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in &paths {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    let decode = |text: String| text.replace("=\r\n", "").replace("=3D", "=");
    paths.iter().map(|path| decode(std::fs::read_to_string(path).unwrap())).collect()
}

pub fn token(letter: &str) -> String {
    let after = letter.split("#token=").nth(1).unwrap_or_else(|| panic!("{letter}"));
    after.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_lost_password_is_replaced_by_a_link_in_a_letter() {
    let house = House::open().await;
    let ask = async |email: &str| house.post("/api/v1/auth/recover", json!({ "email": email })).await;
    let (known, unknown) = (ask(EMAIL).await.ok(202).data(), ask("nobody@example.org").await.ok(202).data());
    assert_eq!(known, unknown);
    assert_eq!(house.recoveries.deliver().await.unwrap(), 1);
    let letters = letters(&house);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].contains("https://example.org/recover#token="), "{}", letters[0]);
    let token = token(&letters[0]);

    let confirm = async |password: &str| {
        house.post("/api/v1/auth/recover/confirm", json!({ "token": token, "password": password })).await
    };
    confirm("short").await.refused(422, "VALIDATION_ERROR", "identities.password_length");
    let answer = confirm(ANOTHER).await.ok(200);
    assert!(!answer.text.contains("Token"), "a recovery opened a session: {}", answer.text);
    confirm(ANOTHER).await.refused(410, "GONE", "recovery.gone");
    house.get("/api/v1/collections").await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    house.login(EMAIL, PASSWORD).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.login(EMAIL, ANOTHER).await.ok(200);
}

#[tokio::test]
async fn an_administrator_hands_a_link_over_and_nobody_else_does() {
    let house = House::open().await;
    let person = json!({ "email": "ana@example.org", "password": PASSWORD });
    house.post("/api/v1/admin/identities", person).await.ok(201);
    let ana = house.login("ana@example.org", PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    let of = |who: &str| format!("/api/v1/admin/identities/{who}/recovery");
    let answer = with(&house, &ana, Method::POST, &of(EMAIL), Some(json!({}))).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    house.post(&of("nobody@example.org"), json!({})).await.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");

    let handed = house.post(&of("ana@example.org"), json!({})).await.ok(201).data();
    assert!(handed["link"].as_str().unwrap().ends_with(handed["token"].as_str().unwrap()));
    let confirmed = json!({ "token": handed["token"], "password": ANOTHER });
    house.post("/api/v1/auth/recover/confirm", confirmed.clone()).await.ok(200);
    house.post("/api/v1/auth/recover/confirm", confirmed).await.refused(410, "GONE", "recovery.gone");
    house.login("ana@example.org", ANOTHER).await.ok(200);
    assert!(letters(&house).is_empty());
}
