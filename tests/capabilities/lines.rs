//! Import and export: lines in, lines out, a report of what was not written.

use crate::house::{Answer, House, PASSWORD};
use debrouille_appliance::http::Limits;
use futures_util::StreamExt;
use poem::{Body, Request, http::Method};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const IMPORT: &str = "/api/v1/collections/places/import";
const EXPORT: &str = "/api/v1/collections/places/export";

async fn send(house: &House, query: &str, accept: &str, body: impl Into<Body>) -> Answer {
    send_as(house, &house.token, query, accept, body).await
}

async fn send_as(house: &House, token: &str, query: &str, accept: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri_str(format!("{IMPORT}{query}"))
        .header("authorization", format!("Bearer {token}"))
        .header("accept", accept)
        .header("x-locale", "en")
        .content_type("application/x-ndjson")
        .body(body);
    house.call(request).await
}

async fn import(house: &House, query: &str, lines: &str) -> Value {
    send(house, query, "application/json", lines.to_owned()).await.ok(200).data()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn good_lines_are_written_and_bad_ones_reported() {
    let house = House::open().await;
    let schema = json!({ "properties": { "n": { "type": "integer" } } });
    let path = house.collection(json!({ "name": "places", "schema": schema })).await;
    let lines = [
        r#"{"_id":"a","n":1}"#,
        r#"{"_id":"b","n":"x"}"#,
        "",
        r#"{"_id":"a","n":2}"#,
        "{",
        r#"{"_id":{"$oid":"507f1f77bcf86cd799439011"},"n":3}"#,
        r#"{"_id":"c","_rev":9,"_owner":"x","n":4}"#,
        r#"{"_other":1}"#,
    ];
    let report = import(&house, "", &lines.join("\n")).await;
    assert_eq!((&report["created"], &report["failed"], &report["line"]), (&json!(3), &json!(4), &json!(8)), "{report}");
    let faults: Vec<_> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["details"]["rule"].as_str().unwrap()))
        .collect();
    let mut sorted = faults.clone();
    sorted.sort_unstable();
    let rules = [(2, "schema.type"), (4, "documents.exists"), (5, "json.truncated"), (8, "documents.system_field")];
    assert_eq!(sorted, rules, "{report}");
    assert!(report["errors"][0]["message"].as_str().is_some_and(|words| words.len() > 10));
    let c = house.get(&format!("{path}/c")).await.ok(200).data();
    assert_eq!((&c["_rev"], &c["n"]), (&json!(1), &json!(4)));
    house.get(&format!("{path}/507f1f77bcf86cd799439011")).await.ok(200);
}

#[tokio::test]
async fn an_import_upserts_and_goes_on_where_it_stood() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    let lines: Vec<_> = (0..1200).map(|n| json!({ "_id": format!("p{n:04}"), "n": n }).to_string()).collect();
    let report = import(&house, "", &lines[..700].join("\n")).await;
    assert_eq!((&report["created"], &report["line"], &report["done"]), (&json!(700), &json!(700), &json!(true)));
    let all = lines.join("\n");
    let report = import(&house, "?skip=700", &all).await;
    assert_eq!((&report["created"], &report["failed"], &report["line"]), (&json!(500), &json!(0), &json!(1200)));
    let report = import(&house, "", &all).await;
    assert_eq!((&report["created"], &report["failed"]), (&json!(0), &json!(1200)));
    assert_eq!(report["errors"].as_array().unwrap().len(), 1000, "the report is bounded");
    let report = import(&house, "?upsert=true", &all).await;
    assert_eq!((&report["created"], &report["updated"], &report["failed"]), (&json!(0), &json!(1200), &json!(0)));
    assert_eq!(house.get(&format!("{path}/p0007")).await.data()["_rev"], 2);
}

#[tokio::test]
async fn an_import_replaces_more_than_a_batch_may_touch() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let lines = |text: &str| {
        let line = |n: u32| json!({ "_id": format!("p{n}"), "text": text }).to_string();
        (0..24).map(line).collect::<Vec<_>>().join("\n")
    };
    let report = import(&house, "", &lines(&"x".repeat(900_000))).await;
    assert_eq!((&report["created"], &report["failed"]), (&json!(24), &json!(0)));
    let report = import(&house, "?upsert=true", &lines("small")).await;
    assert_eq!((&report["updated"], &report["failed"], &report["line"]), (&json!(24), &json!(0), &json!(24)));
}

#[tokio::test]
async fn a_line_the_store_refuses_is_reported_and_the_rest_goes_on() {
    let house = House::open().await;
    house.collection(json!({ "name": "places", "indexes": ["key", "list"] })).await;
    let lines = [
        json!({ "_id": "a", "key": 1 }),
        json!({ "_id": "b", "text": "x".repeat(1_100_000) }),
        json!({ "_id": "c", "key": "k".repeat(2000) }),
        json!({ "_id": "d", "list": (0..1500).collect::<Vec<_>>() }),
        json!({ "_id": "e", "key": 2 }),
    ];
    let text = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let report = import(&house, "", &text).await;
    assert_eq!((&report["created"], &report["failed"], &report["line"]), (&json!(2), &json!(3), &json!(5)), "{report}");
    let faulty: Vec<_> = report["errors"].as_array().unwrap().iter().map(|error| error["line"].clone()).collect();
    assert!([2, 3, 4].iter().all(|line| faulty.contains(&json!(line))), "{report}");
}

#[tokio::test]
async fn a_streamed_import_reports_each_chunk() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let lines: String = (0..1100).map(|n| format!("{}\n", json!({ "n": n }))).collect();
    let chunks: Vec<_> = lines.as_bytes().chunks(1000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let body = Body::from_bytes_stream(futures_util::stream::iter(chunks));
    let answer = send(&house, "", "application/x-ndjson", body).await.ok(200);
    let reports = rows(&answer.text);
    assert!(reports.len() >= 3, "{}", answer.text);
    assert_eq!((&reports[0]["created"], &reports[0]["done"]), (&json!(500), &json!(false)));
    let last = reports.last().unwrap();
    assert_eq!((&last["created"], &last["line"], &last["done"]), (&json!(1100), &json!(1100), &json!(true)));
}

#[tokio::test]
async fn a_cut_import_keeps_what_it_reported_and_says_where_it_stands() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    let lines: String = (0..600).map(|n| format!("{}\n", json!({ "n": n }))).collect();
    let cut = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let body = Body::from_bytes_stream(futures_util::stream::iter([Ok(lines.into_bytes()), cut]));
    let answer = send(&house, "", "application/json", body).await;
    answer.refused(400, "VALIDATION_ERROR", "http.body_cut");
    assert_eq!(answer.json()["error"]["details"]["params"]["line"], "500");
    let total = house.get(&format!("{path}?limit=1&total=true")).await.json()["meta"]["page"]["total"].clone();
    assert_eq!(total, 500);
}

/// Some lines, then nothing more: what a client that vanished looks like.
fn vanished(lines: usize) -> Body {
    let lines: String = (0..lines).map(|n| format!("{}\n", json!({ "n": n }))).collect();
    let lines = futures_util::stream::iter([Ok::<_, std::io::Error>(lines.into_bytes())]);
    Body::from_bytes_stream(futures_util::StreamExt::chain(lines, futures_util::stream::pending()))
}

#[tokio::test]
async fn an_import_that_falls_silent_ends() {
    let house = House::with(Limits { silence: Duration::from_millis(300), ..Limits::default() }).await;
    house.collection(json!({ "name": "places" })).await;
    let ended = async |accept| timeout(Duration::from_secs(20), send(&house, "", accept, vanished(600))).await.unwrap();
    let whole = ended("application/json").await;
    whole.refused(400, "VALIDATION_ERROR", "http.body_cut");
    let streamed = ended("application/x-ndjson").await.ok(200);
    let last = rows(&streamed.text).pop().unwrap();
    assert_eq!(last["error"]["details"]["rule"], "http.body_cut", "{}", streamed.text);
    assert_eq!(last["error"]["details"]["params"]["line"], "500");
}

/// A streamed import into which something happens once its first chunk is written. The last line of its report.
async fn interrupted(house: &House, token: &str, happens: impl Future<Output = ()>) -> Value {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<std::io::Result<String>>();
    let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    });
    let lines = |from: usize| (from..from + 500).map(|n| format!("{}\n", json!({ "n": n }))).collect::<String>();
    sender.send(Ok(lines(0))).unwrap();
    let import = send_as(house, token, "", "application/x-ndjson", Body::from_bytes_stream(body));
    let meanwhile = async {
        while house.get("/api/v1/collections/places/count").await.data()["count"] != 500 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        happens.await;
        sender.send(Ok(lines(500))).unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(import, meanwhile);
    rows(&answer.ok(200).text).pop().unwrap()
}

#[tokio::test]
async fn an_import_ends_with_the_right_it_began_with() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let person = json!({ "email": "b@example.org", "password": PASSWORD, "roles": ["admin"] });
    house.post("/api/v1/admin/identities", person).await.ok(201);
    let token = house.login("b@example.org", PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    let last = interrupted(&house, &token, async {
        house.put("/api/v1/admin/identities/b@example.org/status", json!({ "status": "disabled" })).await.ok(200);
    });
    let last = last.await;
    assert_eq!(last["error"]["code"], "AUTH_INVALID_TOKEN", "{last}");
    assert_eq!(house.get("/api/v1/collections/places/count").await.data()["count"], 500);
}

#[tokio::test]
async fn an_import_follows_the_schema_as_it_changes() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let last = interrupted(&house, &house.token, async {
        let schema = json!({ "properties": { "n": { "type": "string" } } });
        house.patch("/api/v1/collections/places", json!({ "schema": schema })).await.ok(200);
    });
    let last = last.await;
    assert_eq!((&last["created"], &last["failed"], &last["done"]), (&json!(500), &json!(500), &json!(true)), "{last}");
}

#[tokio::test]
async fn lines_that_take_more_as_bson_are_written_in_parts() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    // Under 4 MiB as text, over 20 as BSON.
    let line = format!("{{\"a\":[{}]}}\n", vec!["1"; 80_000].join(","));
    let report = import(&house, "", &line.repeat(24)).await;
    assert_eq!((&report["created"], &report["failed"], &report["line"]), (&json!(24), &json!(0), &json!(24)));
}

#[tokio::test]
async fn a_report_says_no_more_than_what_is_on_disk() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let cut = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let body = Body::from_bytes_stream(futures_util::stream::iter([Ok(b"{\"n\":1}\n{\n".to_vec()), cut]));
    let reports = rows(&send(&house, "", "application/x-ndjson", body).await.ok(200).text);
    assert_eq!((&reports[0]["failed"], &reports[0]["line"]), (&json!(1), &json!(0)), "line 1 is not written yet");
    assert_eq!(reports.last().unwrap()["error"]["details"]["params"]["line"], "0");
}

#[tokio::test]
async fn an_export_reads_back_the_same() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    let lines: String =
        (0..1300).map(|n| format!("{}\n", json!({ "_id": format!("p{n:04}"), "n": n, "half": 0.5 }))).collect();
    import(&house, "", &lines).await;
    let export = house.get(EXPORT).await.ok(200);
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let exported = rows(&export.text);
    assert_eq!(exported.len(), 1300);
    assert_eq!(exported[7], house.get(&format!("{path}/p0007")).await.data());
    let some = house.get(&format!("{EXPORT}?filter={}", r#"{"n":{"$lt":10}}"#)).await.ok(200);
    assert_eq!(rows(&some.text).len(), 10);
    let canonical = house.ask(Method::GET, EXPORT, &[("accept", "application/x-ndjson;ejson=canonical")], None).await;
    assert_eq!(rows(&canonical.text)[7]["n"], json!({ "$numberInt": "7" }));
    house.delete("/api/v1/collections/places").await.ok(200);
    house.collection(json!({ "name": "places" })).await;
    let report = import(&house, "", &canonical.text).await;
    assert_eq!((&report["created"], &report["failed"]), (&json!(1300), &json!(0)));
    let strip = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter().map(|row| json!([row["_id"], row["n"], row["half"]])).collect()
    };
    assert_eq!(strip(rows(&house.get(EXPORT).await.text)), strip(exported));
}

/// An export under way into which something happens once its first chunk is read: whether it came to its end, and the
/// lines there were.
pub async fn cut(house: &House, token: &str, path: &str, happens: impl Future<Output = ()>) -> (bool, usize) {
    let response = house.stream(token, path).await;
    assert_eq!(response.status().as_u16(), 200);
    let mut body = response.into_body().into_bytes_stream();
    let mut lines = 0;
    let mut count = |chunk: &[u8]| lines += chunk.iter().filter(|byte| **byte == b'\n').count();
    count(&body.next().await.unwrap().unwrap());
    happens.await;
    let mut whole = true;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => count(&chunk),
            Err(_) => whole = false,
        }
    }
    (whole, lines)
}

#[tokio::test]
async fn an_export_ends_with_the_right_it_began_with() {
    const MANY: usize = 12_000;
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let lines: String = (0..MANY).map(|n| format!("{}\n", json!({ "n": n }))).collect();
    import(&house, "", &lines).await;
    let person = |email: &str| json!({ "email": email, "password": PASSWORD, "roles": ["admin"] });
    let mut tokens = Vec::new();
    for email in ["a@example.org", "b@example.org", "c@example.org"] {
        house.post("/api/v1/admin/identities", person(email)).await.ok(201);
        tokens.push(house.login(email, PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned());
    }
    let paths = [EXPORT, "/api/v1/admin/subjects/admin@example.org/export", "/api/v1/audit/export"];
    for path in paths {
        let (whole, lines) = cut(&house, &house.token, path, async {}).await;
        assert!(whole && lines >= MANY, "{path}: {lines}");
    }
    let disable = async |email: &str| {
        let path = format!("/api/v1/admin/identities/{email}/status");
        house.put(&path, json!({ "status": "disabled" })).await.ok(200);
    };
    for ((path, token), email) in paths.iter().zip(&tokens).zip(["a@example.org", "b@example.org", "c@example.org"]) {
        let (whole, lines) = cut(&house, token, path, disable(email)).await;
        assert!(!whole && lines < MANY, "{path} went on for who is disabled: {lines}");
    }

    // The session, the key, the policy.
    house.post("/api/v1/admin/identities", json!({ "email": "d@example.org", "password": PASSWORD })).await.ok(201);
    let policy = json!({ "collection": "places", "action": ["VIEW"], "roles": ["identity"] });
    house.put("/api/v1/policies/places", policy).await.ok(201);
    let login =
        async || house.login("d@example.org", PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    let token = login().await;
    let logout = async {
        house.by(&token, Method::POST, "/api/v1/auth/logout", json!({})).await.ok(200);
    };
    assert!(!cut(&house, &token, EXPORT, logout).await.0, "its session is over");
    let token = login().await;
    let key = json!({ "name": "k", "password": PASSWORD });
    let key = house.by(&token, Method::POST, "/api/v1/auth/keys", key).await.ok(201).data();
    let revoke = async {
        let path = format!("/api/v1/auth/keys/{}", key["_id"].as_str().unwrap());
        house.by(&token, Method::DELETE, &path, json!({})).await.ok(200);
    };
    assert!(!cut(&house, key["token"].as_str().unwrap(), EXPORT, revoke).await.0, "its key is over");
    let withdraw = async {
        house.delete("/api/v1/policies/places").await.ok(200);
    };
    assert!(!cut(&house, &token, EXPORT, withdraw).await.0, "its policy is gone");
}

#[tokio::test]
async fn other_bodies_are_not_lines() {
    let house = House::open().await;
    house.collection(json!({ "name": "places" })).await;
    let json = house.post(IMPORT, json!({})).await;
    json.refused(415, "UNSUPPORTED_MEDIA_TYPE", "http.media_type");
    let long = format!("{{\"a\":\"{}\"}}\n{{\"b\":1}}\n", "x".repeat(3 << 20));
    let report = import(&house, "", &long).await;
    assert_eq!((&report["created"], &report["failed"]), (&json!(1), &json!(1)));
    assert_eq!(report["errors"][0]["details"]["rule"], "import.line");
}

#[tokio::test]
async fn a_body_that_is_not_whole_in_time_changes_nothing_later() {
    let house = House::with(Limits { request: Duration::from_millis(300), ..Limits::default() }).await;
    let path = house.collection(json!({ "name": "places" })).await;
    let parts = [(0, r#"{"data":{"_id":"#), (1000, r#""late"}}"#)];
    let chunks = futures_util::stream::iter(parts).then(|(millis, part)| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok::<_, std::io::Error>(bytes::Bytes::from_static(part.as_bytes()))
    });
    let request = Request::builder().method(Method::POST).uri_str(&path).content_type("application/json");
    let request = request.header("authorization", format!("Bearer {}", house.token));
    let answer = house.call(request.body(Body::from_bytes_stream(Box::pin(chunks)))).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    house.get(&format!("{path}/late")).await.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
}
