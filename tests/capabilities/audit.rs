//! The audit log through the routes: what is told of whom, read, proven, exported and verified.

use crate::house::{EMAIL, House, PASSWORD};
use debrouille_appliance::services::audit::{Verifier, verify_proof};
use serde_json::{Value, json};

const AUDIT: &str = "/api/v1/audit";

/// Every entry, oldest first.
pub async fn entries(house: &House) -> Vec<Value> {
    let lines = house.get(&format!("{AUDIT}/export")).await.ok(200);
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let lines = lines.text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["index"].is_number()).collect()
}

pub fn find<'a>(entries: &'a [Value], action: &str) -> Vec<&'a Value> {
    entries.iter().filter(|entry| entry["action"] == action).collect()
}

#[tokio::test]
async fn logins_good_and_bad_are_told_without_saying_whose() {
    let house = House::open().await;
    house.login(EMAIL, "wrong").await.ok(401);
    house.login(EMAIL, "wrong").await.ok(401);
    house.login("nobody@example.org", PASSWORD).await.ok(401);
    house.post("/api/v1/auth/logout", json!({})).await.ok(200);
    let mut house = house;
    house.token = house.login(EMAIL, PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    let entries = entries(&house).await;
    let text = json!(entries).to_string();
    assert!(!text.contains("example.org") && !text.contains(PASSWORD), "{text}");
    let logins = find(&entries, "auth.login");
    let failed: Vec<_> = logins.iter().filter(|entry| entry["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 2, "the same again within a minute is counted, not told");
    assert_ne!(failed[0]["subject"], failed[1]["subject"]);
    assert_eq!(failed[0]["why"], failed[1]["why"], "whether there is an account is not said");
    let good: Vec<_> = logins.iter().filter(|entry| entry["outcome"] == "allowed").collect();
    assert_eq!(good.len(), 2);
    let ended = find(&entries, "auth.end");
    assert_eq!((&ended[0]["who"], &ended[0]["subject"]), (&good[0]["subject"], &good[0]["subject"]));
    assert!(ended[0]["request"].is_string() && ended[0]["trace"].is_string());
}

#[tokio::test]
async fn a_refresh_token_used_twice_is_told() {
    let house = House::open().await;
    let granted = house.login(EMAIL, PASSWORD).await.data();
    let body = json!({ "refreshToken": granted["refreshToken"] });
    house.post("/api/v1/auth/refresh", body.clone()).await.ok(200);
    house.post("/api/v1/auth/refresh", body).await.ok(401);
    let entries = entries(&house).await;
    let replay = find(&entries, "auth.refresh");
    assert_eq!((replay.len(), &replay[0]["outcome"]), (1, &json!("denied")));
    assert_eq!(find(&entries, "auth.end").len(), 1);
}

#[tokio::test]
async fn keys_machines_and_recoveries_are_told() {
    let house = House::open().await;
    let key = house.post("/api/v1/auth/keys", json!({ "name": "reports", "password": PASSWORD })).await.ok(201).data();
    house.delete(&format!("/api/v1/auth/keys/{}", key["_id"].as_str().unwrap())).await.ok(200);
    house.post("/api/v1/auth/machine", json!({ "assertion": "nonsense" })).await.ok(401);
    house.post("/api/v1/auth/recover", json!({ "email": EMAIL })).await.ok(202);
    house.recoveries.deliver().await.unwrap();
    let confirmed = json!({ "token": "nonsense", "password": PASSWORD });
    house.post("/api/v1/auth/recover/confirm", confirmed).await.ok(410);
    house.person("p@example.org").await;
    house.post("/api/v1/admin/identities/p@example.org/recovery", json!({})).await.ok(201);
    let entries = entries(&house).await;
    let text = json!(entries).to_string();
    assert!(!text.contains("example.org"), "{text}");
    let login = find(&entries, "auth.login")[0];
    assert_eq!(login["details"]["methods"], json!(["pwd"]));
    let object = format!("system.keys/{}", key["_id"].as_str().unwrap());
    for (action, outcome) in [
        ("keys.issue", "allowed"),
        ("keys.revoke", "allowed"),
        ("auth.machine", "failed"),
        ("recovery.ask", "allowed"),
        ("recovery.letter", "allowed"),
        ("recovery.hand", "allowed"),
        ("recovery.confirm", "failed"),
    ] {
        let told = find(&entries, action);
        assert_eq!((told.len(), &told[0]["outcome"]), (1, &json!(outcome)), "{action}");
        if action.starts_with("keys.") {
            assert_eq!((&told[0]["object"], &told[0]["subject"]), (&json!(object), &login["subject"]), "{action}");
        }
    }
    // What says it better says it alone.
    assert!(
        entries.iter().all(|entry| !["recoveries.create", "outbox.create"].map(Value::from).contains(&entry["action"]))
    );
}

#[tokio::test]
async fn changes_exports_imports_backups_and_denials_are_told() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    let made = house.post(&path, json!({ "n": 1 })).await.ok(201).data();
    house.patch(&format!("{path}/{}", made["_id"].as_str().unwrap()), json!({ "n": 2 })).await.ok(200);
    house.get("/api/v1/collections/places/export").await.ok(200);
    house.post("/api/v1/admin/backups", json!({})).await.ok(201);
    house.post("/api/v1/admin/backups/verify", json!({})).await.ok(200);
    let person = json!({ "email": "a@example.org", "password": PASSWORD, "roles": ["operator"] });
    let person = house.post("/api/v1/admin/identities", person).await.ok(201).data();
    house.put("/api/v1/admin/identities/a@example.org/status", json!({ "status": "disabled" })).await.ok(200);
    house.put("/api/v1/admin/identities/a@example.org/status", json!({ "status": "active" })).await.ok(200);
    let administrator = house.token.clone();
    let mut house = house;
    house.token = house.login("a@example.org", PASSWORD).await.data()["accessToken"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        house.get("/api/v1/policies").await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
    house.get(AUDIT).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    house.token = administrator;
    let entries = entries(&house).await;
    assert!(!json!(entries).to_string().contains(person["_id"].as_str().unwrap()));
    let object = format!("places/{}", made["_id"].as_str().unwrap());
    let changes: Vec<_> = entries.iter().filter(|entry| entry["object"] == object.as_str()).collect();
    assert_eq!(
        (&changes[0]["action"], &changes[1]["action"]),
        (&json!("documents.create"), &json!("documents.update"))
    );
    assert_eq!(changes[0]["after"], changes[1]["before"]);
    assert_eq!(find(&entries, "collections.create").last().unwrap()["object"], "system.collections/places");
    for action in ["documents.export", "backups.create", "backups.created", "backups.verify", "audit.export"] {
        assert_eq!(find(&entries, action).len(), 1, "{action}");
    }
    assert!(find(&entries, "backups.created")[0]["details"]["manifest"].is_string());
    assert_eq!(find(&entries, "identities.update").len(), 2);
    let denied = find(&entries, "access.denied");
    let objects: Vec<_> = denied.iter().map(|entry| &entry["object"]).collect();
    assert_eq!(objects, [&json!("GET /api/v1/policies"), &json!("GET /api/v1/audit")], "each once a minute");
    assert!(denied.iter().all(|entry| entry["who"] == denied[0]["who"] && entry["outcome"] == "denied"));
    // By the person's own id, an administrator finds what concerns them.
    let listed = house.get(&format!("{AUDIT}?who={}&limit=50", person["_id"].as_str().unwrap())).await.data();
    let actions: Vec<_> = listed.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions.first(), Some(&"access.denied"), "newest first");
    assert!(actions.contains(&"identities.create") && actions.contains(&"auth.login"), "{actions:?}");
}

#[tokio::test]
async fn entries_are_paged_and_filters_checked() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    for n in 0..25 {
        house.post(&path, json!({ "n": n })).await.ok(201);
    }
    house.get(&format!("{AUDIT}/export")).await.ok(200);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = house.get(&format!("{AUDIT}?action=documents.create&limit=10{cursor}")).await.ok(200).json();
        seen.extend(answer["data"].as_array().unwrap().iter().map(|entry| entry["index"].as_u64().unwrap()));
        match answer["meta"]["page"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted_by(|one, other| one > other));
    for (query, code, rule) in [
        ("outcome=maybe", 422, "audit.outcome"),
        ("from=yesterday", 422, "base.unreadable_time"),
        ("limit=5000", 422, "search.limit"),
        ("cursor=x", 400, "audit.cursor"),
    ] {
        house.get(&format!("{AUDIT}?{query}")).await.refused(code, "VALIDATION_ERROR", rule);
    }
    let none = house.get(&format!("{AUDIT}?to=1969-01-01T00:00:00Z")).await.data();
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn an_export_and_a_proof_verify_with_the_public_key_alone() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    house.post(&path, json!({ "n": 1 })).await.ok(201);
    let export = house.get(&format!("{AUDIT}/export")).await.ok(200).text;
    let told = house.get(&format!("{AUDIT}/checkpoint")).await.data();
    let keys: Vec<_> =
        told["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect();
    let against = told["checkpoint"].as_str().unwrap().parse().unwrap();
    let mut verifier = Verifier::new(keys.clone(), vec![against]);
    export.lines().for_each(|line| verifier.line(line.as_bytes()));
    let verdict = verifier.finish();
    assert_eq!((verdict.wrong.as_slice(), verdict.vouched), (&[][..], true));
    let proof = house.get(&format!("{AUDIT}/prove?index=2")).await.data();
    assert_eq!(verify_proof(&json!({ "proof": proof }), &keys).unwrap().wrong, []);
    house.get(&format!("{AUDIT}/prove?index=99999")).await.refused(404, "RESOURCE_NOT_FOUND", "audit.unknown");
    let size = proof["size"].as_u64().unwrap();
    let consistent = house.get(&format!("{AUDIT}/consistency?from=3&to={size}")).await.data();
    assert_eq!((&consistent["from"], &consistent["to"]), (&json!(3), &json!(size)));
    house.get(&format!("{AUDIT}/consistency?from=9&to=3")).await.refused(404, "RESOURCE_NOT_FOUND", "audit.unknown");
}
