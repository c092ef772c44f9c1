//! Collections: made, listed, described, altered, dropped.

use crate::house::House;
use poem::http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const ALL: &str = "/api/v1/collections";

#[tokio::test]
async fn a_collection_lives() {
    let house = House::open().await;
    let definition = json!({
        "name": "places",
        "schema": { "type": "object", "required": ["name"] },
        "indexes": ["country,-population", { "keys": { "code": 1 }, "unique": true, "name": "codes" }],
        "classes": { "phone": "confidential" },
    });
    let made = house.post(ALL, definition.clone()).await.ok(201);
    assert_eq!((made.header("location"), made.header("etag")), ("/api/v1/collections/places", "\"1\""));
    let data = made.data();
    assert_eq!(
        (&data["name"], &data["documents"], &data["classes"]),
        (&json!("places"), &json!(0), &definition["classes"])
    );
    assert_eq!(data["schema"], definition["schema"]);
    assert_eq!(data["indexes"][0]["name"], "country_1_population_-1");
    assert_eq!(data["indexes"][1], json!({ "name": "codes", "keys": { "code": 1 }, "unique": true, "state": "ready" }));
    house.post(ALL, definition).await.refused(409, "CONFLICT", "collections.exists");

    house.post(&format!("{ALL}/places/documents"), json!({ "name": "Goma" })).await.ok(201);
    let described = house.get(&format!("{ALL}/places")).await.ok(200).data();
    assert_eq!(described["documents"], 1);
    let names = |list: &Value| list.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    house.post(ALL, json!({ "name": "another" })).await.ok(201);
    let mut listed = names(&house.get(ALL).await.ok(200).data());
    listed.sort_by_key(ToString::to_string);
    assert_eq!(listed, ["another", "places"], "the appliance's own are not listed");

    let stale =
        house.ask(Method::PATCH, &format!("{ALL}/places"), &[("if-match", "\"9\"")], Some(json!({ "data": {} }))).await;
    stale.refused(412, "PRECONDITION_FAILED", "documents.revision");
    let altered =
        house.patch(&format!("{ALL}/places"), json!({ "schema": null, "indexes": ["country"] })).await.ok(200).data();
    assert_eq!(
        (&altered["schema"], &altered["_rev"], &altered["classes"]["phone"]),
        (&Value::Null, &json!(2), &json!("confidential"))
    );
    assert_eq!(altered["indexes"].as_array().unwrap().len(), 1);
    for _ in 0..2 {
        let (key, change) = ([("idempotency-key", "k-1")], json!({ "data": { "indexes": [] } }));
        let once = house.ask(Method::PATCH, &format!("{ALL}/places"), &key, Some(change)).await.ok(200).data();
        assert_eq!(once["_rev"], 3, "a retry altered again");
    }

    house.delete(&format!("{ALL}/places")).await.ok(200);
    house.get(&format!("{ALL}/places")).await.refused(404, "RESOURCE_NOT_FOUND", "collections.unknown");
    house.delete(&format!("{ALL}/places")).await.refused(404, "RESOURCE_NOT_FOUND", "collections.unknown");
    house.post(&format!("{ALL}/places/documents"), json!({})).await.refused(
        404,
        "RESOURCE_NOT_FOUND",
        "collections.unknown",
    );
    house.post(ALL, json!({ "name": "places" })).await.ok(201);
    assert_eq!(house.get(&format!("{ALL}/places")).await.data()["documents"], 0, "dropped with its documents");
}

#[tokio::test]
async fn a_retried_creation_gets_the_first_answer() {
    let house = House::open().await;
    let create = async |name: &str| {
        let body = json!({ "data": { "name": name } });
        house.ask(Method::POST, ALL, &[("idempotency-key", "k")], Some(body)).await
    };
    create("places").await.ok(201);
    create("places").await.ok(201);
    create("people").await.refused(409, "CONFLICT", "documents.idempotency_reused");
    assert_eq!(house.get(ALL).await.data().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_definition_is_told_what_is_wrong() {
    let house = House::open().await;
    let create = async |definition: Value| house.post(ALL, definition).await;
    for name in ["", "Places", "système", "system.users", "a.b", "a/b", &"a".repeat(65)] {
        create(json!({ "name": name })).await.refused(422, "VALIDATION_ERROR", "collections.name");
    }
    create(json!({})).await.refused(422, "VALIDATION_ERROR", "collections.name");
    create(json!({ "name": "a", "shape": 1 })).await.refused(422, "VALIDATION_ERROR", "collections.field_unknown");
    create(json!({ "name": "a", "schema": { "type": "objet" } })).await.refused(
        422,
        "VALIDATION_ERROR",
        "collections.schema",
    );
    create(json!({ "name": "a", "indexes": ["x,x"] })).await.refused(
        422,
        "VALIDATION_ERROR",
        "collections.index_key_twice",
    );
    let many: Vec<_> = (0..65).map(|n| format!("f{n}")).collect();
    create(json!({ "name": "a", "indexes": many })).await.refused(422, "VALIDATION_ERROR", "collections.index_count");
    assert_eq!(house.get(ALL).await.data(), json!([]), "something was made");
    for path in ["system.identities", "nowhere"] {
        house.get(&format!("{ALL}/{path}")).await.refused(404, "RESOURCE_NOT_FOUND", "collections.unknown");
        house.delete(&format!("{ALL}/{path}")).await.refused(404, "RESOURCE_NOT_FOUND", "collections.unknown");
    }
}

#[tokio::test]
async fn an_index_is_built_over_what_is_there_and_a_unique_one_names_duplicates() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    for (id, code) in [("a", 1), ("b", 2), ("c", 1)] {
        house.post(&path, json!({ "_id": id, "code": code })).await.ok(201);
    }
    let indexes = json!({ "indexes": ["code", { "keys": "code", "unique": true, "name": "unique" }] });
    house.patch(&format!("{ALL}/places"), indexes).await.ok(200);
    let mut states = Value::Null;
    for _ in 0..200 {
        states = house.get(&format!("{ALL}/places")).await.data()["indexes"].clone();
        if states.as_array().unwrap().iter().all(|index| index["state"] != "building") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(states[0]["state"], "ready", "{states}");
    assert_eq!(states[1]["state"], "failed", "{states}");
    let mut pair: Vec<_> = states[1]["duplicates"][0].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    pair.sort_unstable();
    assert_eq!(pair, ["a", "c"]);
    let found = house.get(&format!("{path}?filter={}", r#"{"code":1}"#)).await.data();
    assert_eq!(found.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_unique_index_holds() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "people", "indexes": [{ "keys": "email", "unique": true }] })).await;
    house.post(&path, json!({ "_id": "a", "email": "x@example.org" })).await.ok(201);
    let refused = house.post(&path, json!({ "email": "x@example.org" })).await;
    refused.refused(409, "CONFLICT", "documents.unique");
    assert!(!refused.text.contains("\"a\""), "the other document's id was told: {}", refused.text);
}
