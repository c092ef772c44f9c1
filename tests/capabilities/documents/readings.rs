//! Readings told to the audit log, where a collection asks for it: who saw which document, and by which policy.

use crate::{
    audit::{entries, find},
    house::House,
};
use poem::http::Method;
use serde_json::{Value, json};

const AUDIT: &str = "/api/v1/audit";

/// A person who may read `patients`, their token, and three documents.
async fn ward(definition: Value) -> (House, String, Vec<String>) {
    let house = House::open().await;
    let policy = json!({ "name": "readers", "action": "VIEW", "roles": ["identity"], "where": { "ward": "a" } });
    let mut whole = json!({ "name": "patients", "policies": [policy] });
    for (name, value) in definition.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let path = house.collection(whole).await;
    let mut ids = Vec::new();
    for (name, ward) in [("Awa", "a"), ("Ben", "a"), ("Cla", "b")] {
        let made = house.post(&path, json!({ "name": name, "ward": ward })).await.ok(201).data();
        ids.push(made["_id"].as_str().unwrap().to_owned());
    }
    let (_, token) = house.person("nurse@example.org").await;
    (house, token, ids)
}

/// What entries about a document tell: the action, and by whom.
async fn told(house: &House, id: &str, more: &str) -> Vec<(String, Value)> {
    let listed = house.get(&format!("{AUDIT}?document=patients%2F{id}{more}")).await.data();
    let told = |entry: &Value| (entry["action"].as_str().unwrap().to_owned(), entry["who"].clone());
    listed.as_array().unwrap().iter().map(told).collect()
}

#[tokio::test]
async fn every_reading_of_an_audited_collection_is_told_before_it_is_answered() {
    let (mut house, token, ids) = ward(json!({ "audit": { "reads": true } })).await;
    let administrator = std::mem::replace(&mut house.token, token);
    let path = "/api/v1/collections/patients";
    house.get(&format!("{path}/documents/{}", ids[0])).await.ok(200);
    house.get(&format!("{path}/documents/{}", ids[2])).await.ok(404);
    let page = house.get(&format!("{path}/documents?fields=name&total=true")).await.data();
    assert_eq!(page.as_array().unwrap().len(), 2);
    house.post(&format!("{path}/query"), json!({ "filter": { "name": "Ben" } })).await.ok(200);
    house.post(&format!("{path}/query"), json!({ "filter": { "name": "nobody" } })).await.ok(200);
    house.get(&format!("{path}/count?filter=%7B%22name%22%3A%22Ben%22%7D")).await.ok(200);
    house.get(&format!("{path}/export")).await.ok(200);
    let explain = json!({ "action": "VIEW", "collection": "patients", "id": ids[1] });
    house.post("/api/v1/access/explain", explain).await.ok(200);
    house.token = administrator;
    let all = entries(&house).await;
    let readings: Vec<&Value> = all
        .iter()
        .filter(|entry| {
            let action = entry["action"].as_str().unwrap();
            ["documents.read", "documents.query", "documents.count"].contains(&action)
                || action.starts_with("documents.export")
        })
        .collect();
    let shown: Vec<_> = readings
        .iter()
        .map(|entry| {
            assert_eq!(entry["who"], readings[0]["who"]);
            assert!(entry["request"].is_string());
            let details = &entry["details"];
            let action = entry["action"].as_str().unwrap();
            (action, entry["object"].as_str().unwrap(), details["documents"].clone(), details["count"].clone())
        })
        .collect();
    let (first, second) = (format!("patients/{}", ids[0]), format!("patients/{}", ids[1]));
    let none = Value::Null;
    assert_eq!(
        shown,
        [
            ("documents.read", first.as_str(), none.clone(), none.clone()),
            ("documents.query", "patients", json!([ids[0], ids[1]]), json!(2)),
            ("documents.query", "patients", json!([ids[1]]), json!(1)),
            ("documents.query", "patients", json!([]), json!(0)),
            ("documents.count", "patients", none.clone(), json!(1)),
            ("documents.export", "patients", none.clone(), none.clone()),
            ("documents.exported", "patients", none.clone(), json!(2)),
            ("documents.read", second.as_str(), none.clone(), none.clone()),
        ]
    );
    assert_eq!(readings[1]["details"]["total"], 2);
    for entry in readings.iter().filter(|entry| entry["action"] != "documents.exported") {
        assert_eq!(entry["why"], "readers@1", "{entry}");
    }
    assert!(!json!(all).to_string().contains("Ben"), "what it looked for names a person");
    // By the document: who read it and who changed it, newest first.
    let of_first = told(&house, &ids[0], "").await;
    let actions: Vec<&str> = of_first.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "documents.export",
            "documents.count",
            "documents.query",
            "documents.query",
            "documents.read",
            "documents.create"
        ],
        "those over the whole collection too, an empty page among them, but no page it was not on"
    );
    let of_third = told(&house, &ids[2], "&action=documents.read").await;
    assert_eq!(of_third, [], "what is out of sight was not read");
    let nurse = of_first[0].1.as_str().unwrap();
    assert_eq!(told(&house, &ids[0], &format!("&actor={nurse}")).await.len(), 5);
    house.get(&format!("{AUDIT}?document=patients")).await.refused(422, "VALIDATION_ERROR", "audit.document");
}

#[tokio::test]
async fn sealed_fields_ask_for_it_and_a_collection_may_say_otherwise() {
    let reads = |definition: Value| async move {
        let (house, token, ids) = ward(definition).await;
        let path = format!("/api/v1/collections/patients/documents/{}", ids[0]);
        house.under(Some(&token), poem::http::Method::GET, &path, None).await.ok(200);
        find(&entries(&house).await, "documents.read").len()
    };
    assert_eq!(reads(json!({})).await, 0);
    assert_eq!(reads(json!({ "classes": { "name": "restricted" } })).await, 1);
    assert_eq!(reads(json!({ "classes": { "name": "confidential" } })).await, 1);
    assert_eq!(reads(json!({ "classes": { "name": "restricted" }, "audit": { "reads": false } })).await, 0);
    let house = House::open().await;
    house.collection(json!({ "name": "c", "audit": { "reads": true } })).await;
    let described = house.get("/api/v1/collections/c").await.data();
    assert_eq!(described["audit"], json!({ "reads": true }));
    let wrong = house.patch("/api/v1/collections/c", json!({ "audit": { "read": true } })).await;
    wrong.refused(422, "VALIDATION_ERROR", "collections.field_unknown");
    house.patch("/api/v1/collections/c", json!({ "audit": null })).await.ok(200);
    assert_eq!(house.get("/api/v1/collections/c").await.data()["audit"], Value::Null);
}

/// A page of more documents than one entry names.
#[tokio::test]
async fn a_large_page_is_named_to_its_last_document() {
    let (house, _, _) = ward(json!({ "audit": { "reads": true } })).await;
    let operations: Vec<_> = (0..700)
        .map(|n| json!({ "action": "create", "collection": "patients", "document": { "_id": format!("p{n:03}") } }))
        .collect();
    house.post("/api/v1/batch", json!({ "operations": operations })).await.ok(200);
    house.get("/api/v1/collections/patients/documents?limit=1000").await.ok(200);
    house.get(&format!("{AUDIT}/export")).await.ok(200);
    for id in ["p000", "p499", "p500", "p699"] {
        assert_eq!(told(&house, id, "&action=documents.query").await.len(), 1, "{id}");
    }
}

#[tokio::test]
async fn a_document_a_retry_shows_again_is_read_again() {
    let (house, _, _) = ward(json!({ "audit": { "reads": true } })).await;
    let create = async || {
        let document = Some(json!({ "data": { "_id": "d", "ward": "a" } }));
        house.ask(Method::POST, "/api/v1/collections/patients/documents", &[("idempotency-key", "k")], document).await
    };
    create().await.ok(201);
    create().await.ok(201);
    house.get("/api/v1/audit/export").await.ok(200);
    let actions: Vec<_> = told(&house, "d", "").await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["documents.read", "documents.create"]);
}
