//! Documents one by one and by the batch: revisions, conditions, retries, rules.

mod queries;
mod readings;

use crate::house::House;
use poem::http::Method;
use serde_json::{Value, json};

async fn places() -> (House, String) {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    (house, path)
}

#[tokio::test]
async fn a_document_lives() {
    let (house, path) = places().await;
    let made = house.post(&path, json!({ "name": "Goma", "size": 12 })).await.ok(201);
    let data = made.data();
    let id = data["_id"].as_str().unwrap();
    assert_eq!(made.header("etag"), "\"1\"");
    assert_eq!(made.header("location"), format!("{path}/{id}"));
    assert_eq!((&data["name"], &data["size"], &data["_rev"]), (&json!("Goma"), &json!(12), &json!(1)));
    assert!(data["_createdAt"]["$date"].is_string() && data["_owner"].is_string(), "{data}");
    let meta = made.json()["meta"].clone();
    assert_eq!(meta["version"], "v1");
    assert_eq!(meta["requestId"], made.header("x-request-id"));

    let document = format!("{path}/{id}");
    let read = house.get(&document).await.ok(200);
    assert_eq!((read.data(), read.header("etag")), (data.clone(), "\"1\""));

    let patched = house.patch(&document, json!({ "size": null, "lake": { "name": "Kivu" } })).await.ok(200);
    assert_eq!(patched.header("etag"), "\"2\"");
    assert_eq!(patched.data()["size"], Value::Null);
    assert_eq!(patched.data()["lake"]["name"], "Kivu");
    let patched =
        house.patch(&document, json!({ "$inc": { "visits": 2 }, "$set": { "lake.depth": 485 } })).await.ok(200);
    assert_eq!((&patched.data()["visits"], &patched.data()["lake"]["depth"]), (&json!(2), &json!(485)));

    let replaced = house.put(&document, json!({ "name": "Bukavu" })).await.ok(200);
    let now = replaced.data();
    assert_eq!((&now["name"], &now["lake"], &now["_rev"]), (&json!("Bukavu"), &Value::Null, &json!(4)));
    assert_eq!((&now["_createdAt"], &now["_owner"]), (&data["_createdAt"], &data["_owner"]));

    let deleted = house.delete(&document).await.ok(200);
    assert_eq!(deleted.data(), json!({ "_id": id, "_rev": 5 }));
    house.get(&document).await.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    house.patch(&document, json!({ "a": 1 })).await.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    house.delete(&document).await.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
}

#[tokio::test]
async fn ids_are_the_callers_or_ours_and_put_creates() {
    let (house, path) = places().await;
    house.post(&path, json!({ "_id": "a/é b", "n": 1 })).await.ok(201);
    assert_eq!(house.get(&format!("{path}/a%2F%C3%A9%20b")).await.ok(200).data()["n"], 1);
    house.post(&path, json!({ "_id": "a/é b" })).await.refused(409, "CONFLICT", "documents.exists");
    let made = house.put(&format!("{path}/x"), json!({ "n": 2 })).await.ok(201);
    assert_eq!((made.data()["_id"].as_str(), made.header("etag")), (Some("x"), "\"1\""));
    house.put(&format!("{path}/x"), json!({ "_id": "x", "n": 3 })).await.ok(200);
    for bad in [json!(""), json!(7), json!("é".repeat(129)), json!({ "$oid": "507f1f77bcf86cd799439011" })] {
        house.post(&path, json!({ "_id": bad })).await.refused(422, "VALIDATION_ERROR", "documents.id");
    }
    house.put(&format!("{path}/x"), json!({ "_id": "y" })).await.refused(
        422,
        "VALIDATION_ERROR",
        "documents.id_differs",
    );
    house.patch(&format!("{path}/x"), json!({ "_id": "y" })).await.refused(
        422,
        "VALIDATION_ERROR",
        "documents.id_differs",
    );
}

#[tokio::test]
async fn what_the_server_keeps_is_not_written_from_outside() {
    let (house, path) = places().await;
    house.put(&format!("{path}/x"), json!({ "n": 1 })).await.ok(201);
    let document = format!("{path}/x");
    for field in ["_rev", "_owner", "_createdAt", "_anything"] {
        house.post(&path, json!({ field: 1 })).await.refused(422, "VALIDATION_ERROR", "documents.system_field");
        house.put(&document, json!({ field: 1 })).await.refused(422, "VALIDATION_ERROR", "documents.system_field");
        house.patch(&document, json!({ field: 1 })).await.refused(422, "VALIDATION_ERROR", "documents.system_field");
        let set = json!({ "$set": { field: 1 } });
        house.patch(&document, set).await.refused(422, "VALIDATION_ERROR", "documents.system_field");
        let inner = json!({ "$unset": { format!("{field}.a"): "" } });
        house.patch(&document, inner).await.refused(422, "VALIDATION_ERROR", "documents.system_field");
        let rename = json!({ "$rename": { "n": field } });
        house.patch(&document, rename).await.refused(422, "VALIDATION_ERROR", "documents.system_field");
    }
    house.post(&path, json!({ "$set": {} })).await.refused(422, "VALIDATION_ERROR", "documents.operator_field");
    assert_eq!(house.get(&document).await.data()["_rev"], 1, "something was written");
    for system in ["system.identities", "system.collections", "system.sessions"] {
        let path = format!("/api/v1/collections/{system}/documents");
        house.get(&path).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
        house.post(&path, json!({ "a": 1 })).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
}

#[tokio::test]
async fn a_write_can_say_what_it_assumes() {
    let (house, path) = places().await;
    let document = format!("{path}/x");
    let write = async |method: Method, header: (&str, &str)| {
        let body = (method != Method::DELETE).then(|| json!({ "data": { "n": 1 } }));
        house.ask(method, &document, &[header], body).await
    };
    write(Method::PUT, ("if-match", "*")).await.refused(412, "PRECONDITION_FAILED", "documents.missing");
    write(Method::PUT, ("if-match", "\"1\"")).await.refused(412, "PRECONDITION_FAILED", "documents.missing");
    write(Method::PATCH, ("if-match", "\"1\"")).await.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    write(Method::PUT, ("if-none-match", "*")).await.ok(201);
    write(Method::PUT, ("if-none-match", "*")).await.refused(412, "PRECONDITION_FAILED", "documents.exists");
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = write(method, ("if-match", "\"7\"")).await;
        answer.refused(412, "PRECONDITION_FAILED", "documents.revision");
    }
    write(Method::PATCH, ("if-match", "\"1\"")).await.ok(200);
    write(Method::PATCH, ("if-match", "\"9\", \"2\"")).await.ok(200);
    write(Method::PATCH, ("if-match", "W/\"3\"")).await.refused(412, "PRECONDITION_FAILED", "documents.revision");
    write(Method::PATCH, ("if-match", "3")).await.refused(400, "VALIDATION_ERROR", "http.condition");
    let have = house.ask(Method::GET, &document, &[("if-none-match", "\"3\"")], None).await.ok(304);
    assert_eq!((have.text.as_str(), have.header("etag")), ("", "\"3\""));
    house.ask(Method::GET, &document, &[("if-none-match", "\"2\"")], None).await.ok(200);
    write(Method::DELETE, ("if-match", "\"3\"")).await.ok(200);
}

#[tokio::test]
async fn a_retry_gets_the_first_answer() {
    let (house, path) = places().await;
    let body = |n: i32| Some(json!({ "data": { "n": n } }));
    let key = [("idempotency-key", "k-1")];
    let first = house.ask(Method::POST, &path, &key, body(1)).await.ok(201);
    let again = house.ask(Method::POST, &path, &key, body(1)).await.ok(201);
    assert_eq!((first.data(), first.header("etag")), (again.data(), again.header("etag")));
    assert_eq!(house.get(&format!("{path}?total=true")).await.json()["meta"]["page"]["total"], 1);
    let other = house.ask(Method::POST, &path, &key, body(2)).await;
    other.refused(409, "CONFLICT", "documents.idempotency_reused");
    let patch = format!("{path}/{}", first.data()["_id"].as_str().unwrap());
    let inc = || Some(json!({ "data": { "$inc": { "n": 1 } } }));
    for _ in 0..3 {
        assert_eq!(house.ask(Method::PATCH, &patch, &key, inc()).await.ok(200).data()["n"], 2, "not once");
    }
    let long = "k".repeat(256);
    let answer = house.ask(Method::POST, &path, &[("idempotency-key", &long)], body(1)).await;
    answer.refused(400, "VALIDATION_ERROR", "http.idempotency_key");
}

#[tokio::test]
async fn a_schema_holds_at_every_write() {
    let house = House::open().await;
    let schema = json!({
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {
            "name": { "type": "string" },
            "size": { "type": "integer", "maximum": 10 },
            "founded": { "type": "string", "format": "date-time" },
        },
    });
    let path = house.collection(json!({ "name": "towns", "schema": schema })).await;
    house.post(&path, json!({ "size": 1 })).await.refused(422, "VALIDATION_ERROR", "schema.required");
    let made =
        house.post(&path, json!({ "_id": "x", "name": "Uvira", "founded": "1997-05-17T01:00:00+01:00" })).await.ok(201);
    assert_eq!(made.data()["founded"], json!({ "$date": "1997-05-17T00:00:00Z" }));
    let document = format!("{path}/x");
    let late = house.patch(&document, json!({ "$inc": { "size": 11 } })).await;
    late.refused(422, "VALIDATION_ERROR", "schema.limit");
    assert_eq!(late.json()["error"]["details"]["path"], "size");
    house.patch(&document, json!({ "name": null })).await.refused(422, "VALIDATION_ERROR", "schema.required");
    house.patch(&document, json!({ "other": 1 })).await.refused(422, "VALIDATION_ERROR", "schema.unexpected");
    house.put(&document, json!({ "name": 3 })).await.refused(422, "VALIDATION_ERROR", "schema.type");
    let date = json!({ "$set": { "founded": "hier" } });
    house.patch(&document, date).await.refused(422, "VALIDATION_ERROR", "base.unreadable_time");
    assert_eq!(house.get(&document).await.data(), made.data(), "a refused write left something");
    // Another schema applies at once.
    let relaxed = json!({ "schema": null });
    house.patch("/api/v1/collections/towns", relaxed).await.ok(200);
    house.patch(&document, json!({ "other": 1 })).await.ok(200);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing() {
    let (house, path) = places().await;
    house.put(&format!("{path}/old"), json!({ "n": 1 })).await.ok(201);
    let batch = |operations: Value| json!({ "operations": operations });
    let good = batch(json!([
        { "action": "create", "collection": "places", "document": { "_id": "a", "n": 1 } },
        { "action": "patch", "collection": "places", "id": "a", "patch": { "$inc": { "n": 1 } }, "rev": 1 },
        { "action": "replace", "collection": "places", "id": "b", "document": { "n": 3 } },
        { "action": "delete", "collection": "places", "id": "old" },
    ]));
    let done = house.post("/api/v1/batch", good).await.ok(200).data();
    let states = json!([{ "_id": "a", "_rev": 1 }, { "_id": "a", "_rev": 2 }, { "_id": "b", "_rev": 1 }, { "_id": "old", "_rev": 2 }]);
    assert_eq!(done["results"], states);
    let bad = batch(json!([
        { "action": "create", "collection": "places", "document": { "_id": "c" } },
        { "action": "create", "collection": "places", "document": { "_id": "a" } },
    ]));
    let refused = house.post("/api/v1/batch", bad).await;
    refused.refused(409, "CONFLICT", "documents.exists");
    assert_eq!(refused.json()["error"]["details"]["path"], "operations.1");
    house.get(&format!("{path}/c")).await.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    let unknown = batch(json!([{ "action": "create", "collection": "nowhere", "document": {} }]));
    house.post("/api/v1/batch", unknown).await.refused(404, "RESOURCE_NOT_FOUND", "collections.unknown");
    let system = batch(json!([{ "action": "delete", "collection": "system.identities", "id": "x" }]));
    house.post("/api/v1/batch", system).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    let many: Vec<_> =
        (0..1001).map(|_| json!({ "action": "create", "collection": "places", "document": {} })).collect();
    house.post("/api/v1/batch", batch(json!(many))).await.refused(413, "PAYLOAD_TOO_LARGE", "batch.count");
    house.post("/api/v1/batch", json!({})).await.refused(422, "VALIDATION_ERROR", "batch.operations");
    assert_eq!(house.post("/api/v1/batch", batch(json!([]))).await.ok(200).data()["results"], json!([]));
}

#[tokio::test]
async fn numbers_keep_their_type_in_canonical_form() {
    let (house, path) = places().await;
    let given =
        json!({ "_id": "x", "long": { "$numberLong": "5" }, "price": { "$numberDecimal": "1.10" }, "half": 0.5 });
    house.post(&path, given).await.ok(201);
    let relaxed = house.get(&format!("{path}/x")).await.data();
    assert_eq!((&relaxed["long"], &relaxed["price"]["$numberDecimal"]), (&json!(5), &json!("1.10")));
    let accept = [("accept", "application/json;ejson=canonical")];
    let canonical = house.ask(Method::GET, &format!("{path}/x"), &accept, None).await.ok(200);
    assert_eq!(canonical.header("content-type"), "application/json;ejson=canonical");
    assert_eq!(canonical.data()["long"], json!({ "$numberLong": "5" }));
    assert_eq!(canonical.data()["half"], json!({ "$numberDouble": "0.5" }));
}
