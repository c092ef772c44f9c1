//! Policies and what they open: documents, fields, writes, and the question why.

mod visibility;
mod who;

use crate::house::{Answer, EMAIL, House, PASSWORD};
use futures_util::FutureExt;
use poem::{Request, http::Method};
use serde_json::{Value, json};
use std::time::Duration;

const DOCUMENTS: &str = "/api/v1/collections/patients/documents";

/// An instance with a collection of patients, and a person who is nothing but a person.
struct Ward {
    house: House,
    nurse: String,
    nurse_id: String,
}

impl Ward {
    async fn open(policies: Value) -> Self {
        let house = House::open().await;
        let definition = json!({ "name": "patients", "indexes": ["team", "salary"], "policies": policies });
        house.collection(definition).await;
        let person = json!({ "email": "nurse@example.org", "password": "a nurse's own phrase" });
        let added = house.post("/api/v1/admin/identities", person).await.ok(201).data();
        let login = house.login("nurse@example.org", "a nurse's own phrase").await.data();
        let nurse = login["accessToken"].as_str().unwrap().to_owned();
        Self { house, nurse, nurse_id: added["_id"].as_str().unwrap().to_owned() }
    }

    async fn fill(self) -> Self {
        for (id, team, salary) in [("a1", "a", 1), ("a2", "a", 2), ("b1", "b", 3)] {
            let patient = json!({ "_id": id, "team": team, "salary": salary, "name": format!("n{id}") });
            self.house.post(DOCUMENTS, patient).await.ok(201);
        }
        self
    }

    async fn ask(&self, method: Method, path: &str, data: Option<Value>) -> Answer {
        let bearer = format!("Bearer {}", self.nurse);
        let data = data.map(|data| json!({ "data": data }));
        self.house.ask(method, path, &[("authorization", bearer.as_str())], data).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    async fn ids(&self, path: &str) -> Vec<String> {
        let rows = self.get(path).await.ok(200).data();
        rows.as_array().unwrap().iter().map(|row| row["_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn policy(&self, name: &str, policy: Value) -> Answer {
        self.house.put(&format!("/api/v1/policies/{name}"), policy).await
    }
}

fn view(scope: Value, fields: Value) -> Value {
    json!([{ "action": "VIEW", "roles": ["identity"], "where": scope, "fields": fields }])
}

#[tokio::test]
async fn nothing_is_open_until_a_policy_opens_it() {
    let ward = Ward::open(json!([])).await.fill().await;
    for path in ["", "/a1"] {
        ward.get(&format!("{DOCUMENTS}{path}")).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
    let made = ward.ask(Method::POST, DOCUMENTS, Some(json!({ "team": "a" }))).await;
    made.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    // In force once answered, and gone once answered.
    let policy = json!({ "collection": "patients", "action": "VIEW", "roles": ["identity"] });
    ward.policy("everyone-reads", policy.clone()).await.ok(201);
    assert_eq!(ward.ids(DOCUMENTS).await, ["a1", "a2", "b1"]);
    ward.policy("everyone-reads", policy).await.ok(200);
    ward.house.delete("/api/v1/policies/everyone-reads").await.ok(200);
    ward.get(DOCUMENTS).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    // Nor are policies open to who may not manage them.
    let policy = json!({ "collection": "*", "action": "VIEW", "roles": ["identity"] });
    let put = ward.ask(Method::PUT, "/api/v1/policies/mine", Some(policy)).await;
    put.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    ward.get("/api/v1/policies").await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
}

#[tokio::test]
async fn what_where_hides_shows_through_nothing() {
    let ward = Ward::open(view(json!({ "team": "a" }), json!({}))).await.fill().await;
    assert_eq!(ward.ids(DOCUMENTS).await, ["a1", "a2"]);
    assert_eq!(ward.ids(&format!("{DOCUMENTS}?sort=-salary&limit=1&total=true")).await, ["a2"]);
    let page = ward.get(&format!("{DOCUMENTS}?total=true")).await.json();
    assert_eq!(page["meta"]["page"]["total"], 2);
    assert!(ward.ids(&format!(r#"{DOCUMENTS}?filter={{"team":"b"}}"#)).await.is_empty());
    assert!(ward.ids(&format!(r#"{DOCUMENTS}?filter={{"$or":[{{"team":"b"}},{{"salary":3}}]}}"#)).await.is_empty());
    let missing = (404, "RESOURCE_NOT_FOUND".to_owned(), "documents.missing".to_owned());
    assert_eq!(ward.get(&format!("{DOCUMENTS}/b1")).await.refusal(), missing);
    assert_eq!(ward.get(&format!("{DOCUMENTS}/none")).await.refusal(), missing);
    let count = ward.get("/api/v1/collections/patients/count").await.data();
    assert_eq!(count["count"], 2);
    let asked = json!({ "filter": { "team": "b" }, "total": true });
    let found = ward.ask(Method::POST, "/api/v1/collections/patients/query", Some(asked)).await.json();
    assert_eq!((found["data"].as_array().unwrap().len(), &found["meta"]["page"]["total"]), (0, &json!(0)));
    let lines = ward.get("/api/v1/collections/patients/export").await.ok(200).text;
    assert!(lines.contains("\"a1\"") && !lines.contains("\"b1\""), "{lines}");
    // What was examined would tell of what is hidden.
    let explain = ward.get(r#"/api/v1/collections/patients/explain?filter={"salary":3}"#).await;
    explain.refused(403, "AUTH_FORBIDDEN", "access.explain");
    // An edit out of view takes it away at once.
    ward.house.patch(&format!("{DOCUMENTS}/a1"), json!({ "team": "b" })).await.ok(200);
    assert_eq!(ward.ids(DOCUMENTS).await, ["a2"]);
    assert_eq!(ward.get(&format!("{DOCUMENTS}/a1")).await.refusal(), missing);
}

#[tokio::test]
async fn hidden_fields_are_neither_shown_nor_felt() {
    let ward = Ward::open(view(json!({}), json!({ "read": ["-salary"] }))).await.fill().await;
    let row = ward.get(&format!("{DOCUMENTS}/a1")).await.data();
    assert_eq!((&row["name"], &row["salary"]), (&json!("na1"), &Value::Null));
    let rows = ward.get(DOCUMENTS).await.text;
    assert!(!rows.contains("salary"), "{rows}");
    let named = ward.get(&format!("{DOCUMENTS}?fields=salary")).await.text;
    assert!(!named.contains("salary"), "{named}");
    assert!(!ward.get("/api/v1/collections/patients/export").await.text.contains("salary"));
    for path in [
        format!(r#"{DOCUMENTS}?filter={{"salary":{{"$gt":2}}}}"#),
        format!(r#"{DOCUMENTS}?filter={{"$nor":[{{"salary":1}}]}}"#),
        format!("{DOCUMENTS}?sort=salary"),
        format!("{DOCUMENTS}?sort=name,-salary"),
        r#"/api/v1/collections/patients/count?filter={"salary":1}"#.to_owned(),
        r#"/api/v1/collections/patients/export?filter={"salary":1}"#.to_owned(),
    ] {
        let answer = ward.get(&path).await;
        answer.refused(403, "AUTH_FORBIDDEN", "access.field_read");
        assert_eq!(answer.json()["error"]["details"]["path"], "salary", "{path}");
    }
}

#[tokio::test]
async fn writes_stay_within_rows_and_fields() {
    let own = json!({ "_owner": "$identity.id" });
    let policies = json!([
        { "name": "see", "action": "VIEW", "roles": ["identity"], "fields": { "read": ["-salary"] } },
        { "name": "make", "action": "CREATE", "roles": ["identity"], "where": own, "fields": { "write": ["name", "team"] } },
        { "name": "edit", "action": "UPDATE", "roles": ["identity"], "where": { "team": "a" }, "fields": { "write": ["name", "salary"] } },
    ]);
    let ward = Ward::open(policies).await.fill().await;
    let make = |data: Value| ward.ask(Method::POST, DOCUMENTS, Some(data));
    let made = make(json!({ "_id": "mine", "name": "x", "team": "a" })).await.ok(201).data();
    assert_eq!(made["_owner"], ward.nurse_id.as_str());
    make(json!({ "name": "x", "salary": 9 })).await.refused(403, "AUTH_FORBIDDEN", "access.field_write");
    make(json!({ "name": "x", "_owner": "other" })).await.refused(422, "VALIDATION_ERROR", "documents.system_field");

    let patch = |id: &str, data: Value| {
        let path = format!("{DOCUMENTS}/{id}");
        let ward = &ward;
        async move { ward.ask(Method::PATCH, &path, Some(data)).await }
    };
    let changed = patch("a1", json!({ "name": "y", "salary": 7 })).await.ok(200).data();
    assert_eq!((&changed["name"], &changed["salary"]), (&json!("y"), &Value::Null), "a write showed a hidden field");
    patch("a1", json!({ "team": "b" })).await.refused(403, "AUTH_FORBIDDEN", "documents.outside");
    patch("b1", json!({ "name": "z" })).await.refused(403, "AUTH_FORBIDDEN", "documents.read_only");
    patch("a1", json!({ "note": "z" })).await.refused(403, "AUTH_FORBIDDEN", "access.field_write");
    // A hidden field is not found out by moving it, nor by how it takes a change.
    for change in [
        json!({ "$rename": { "salary": "name" } }),
        json!({ "$inc": { "salary": 1 } }),
        json!({ "$max": { "salary": 1 } }),
    ] {
        patch("a1", change).await.refused(403, "AUTH_FORBIDDEN", "access.field_read");
    }
    let replaced = ward.ask(Method::PUT, &format!("{DOCUMENTS}/a1"), Some(json!({ "name": "w" }))).await;
    replaced.refused(403, "AUTH_FORBIDDEN", "access.replace");
    let removed = ward.ask(Method::DELETE, &format!("{DOCUMENTS}/a1"), None).await;
    removed.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    let operations = json!({ "operations": [
        { "action": "patch", "collection": "patients", "id": "a2", "patch": { "name": "q" } },
        { "action": "patch", "collection": "patients", "id": "b1", "patch": { "name": "q" } },
    ] });
    let batch = ward.ask(Method::POST, "/api/v1/batch", Some(operations)).await;
    batch.refused(403, "AUTH_FORBIDDEN", "documents.read_only");
    assert_eq!(batch.json()["error"]["details"]["params"]["operation"], "1", "{}", batch.text);
    assert_eq!(ward.house.get(&format!("{DOCUMENTS}/a2")).await.data()["name"], "na2", "half a batch was done");
}

#[tokio::test]
async fn a_retry_shows_no_more_than_may_be_seen_now() {
    let policies = json!([
        { "name": "see", "action": "VIEW", "roles": ["identity"] },
        { "name": "make", "action": "CREATE", "roles": ["identity"] },
    ]);
    let ward = Ward::open(policies).await;
    let bearer = format!("Bearer {}", ward.nurse);
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "k")];
    let body = Some(json!({ "data": { "_id": "x", "name": "secret" } }));
    let first = ward.house.ask(Method::POST, DOCUMENTS, &headers, body.clone()).await.ok(201);
    assert_eq!(first.data()["name"], "secret");
    ward.house.delete("/api/v1/policies/see").await.ok(200);
    let again = ward.house.ask(Method::POST, DOCUMENTS, &headers, body).await.ok(201);
    assert_eq!(again.data(), json!({ "_id": "x", "_rev": 1 }));
}

#[tokio::test]
async fn a_collection_comes_and_goes_with_its_policies() {
    let ward = Ward::open(view(json!({}), json!({}))).await;
    let described = ward.house.get("/api/v1/collections/patients").await.data();
    assert_eq!(described["policies"][0]["name"], "patients-0", "{described}");
    assert_eq!(ward.house.get("/api/v1/policies/patients-0").await.data()["collection"], "patients");
    // Altering something else leaves them; giving others replaces them.
    ward.house.patch("/api/v1/collections/patients", json!({ "indexes": [] })).await.ok(200);
    assert!(ward.ids(DOCUMENTS).await.is_empty());
    let wrong = json!({ "policies": [{ "collection": "other", "action": "VIEW", "roles": ["identity"] }] });
    let answer = ward.house.patch("/api/v1/collections/patients", wrong).await;
    answer.refused(422, "VALIDATION_ERROR", "policies.elsewhere");
    ward.house.patch("/api/v1/collections/patients", json!({ "policies": [] })).await.ok(200);
    ward.get(DOCUMENTS).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    ward.house.get("/api/v1/policies/patients-0").await.refused(404, "RESOURCE_NOT_FOUND", "policies.unknown");
    // A collection made anew under an old name starts with nobody's rights.
    let policies = json!({ "policies": view(json!({}), json!({})) });
    ward.house.patch("/api/v1/collections/patients", policies).await.ok(200);
    ward.house.delete("/api/v1/collections/patients").await.ok(200);
    ward.house.collection(json!({ "name": "patients" })).await;
    ward.get(DOCUMENTS).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
}

#[tokio::test]
async fn administrators_rights_are_policies_too() {
    let house = House::open().await;
    house.collection(json!({ "name": "secrets" })).await;
    house.delete("/api/v1/policies/admin-collections").await.ok(200);
    let path = "/api/v1/collections/secrets/documents";
    house.get(path).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    // The last way back stays open.
    house.delete("/api/v1/policies/admin-modules").await.refused(409, "CONFLICT", "policies.lockout");
    let narrow = json!({ "module": "*", "action": ["VIEW"], "roles": ["admin"] });
    house.put("/api/v1/policies/admin-modules", narrow).await.refused(409, "CONFLICT", "policies.lockout");
    let policy = json!({ "collection": "*", "action": ["VIEW"], "roles": ["admin"] });
    house.put("/api/v1/policies/admin-collections", policy).await.ok(201);
    house.get(path).await.ok(200);
}

#[tokio::test]
async fn a_policy_is_changed_as_it_was_read() {
    let house = House::open().await;
    let policy = json!({ "module": "backups", "action": "VIEW", "roles": ["auditor"] });
    let made = house.put("/api/v1/policies/p", policy.clone()).await.ok(201);
    assert_eq!(made.header("etag"), "\"1\"");
    let with = |revision: &'static str| {
        let body = Some(json!({ "data": policy }));
        let house = &house;
        async move { house.ask(Method::PUT, "/api/v1/policies/p", &[("if-match", revision)], body).await }
    };
    assert_eq!(with("\"1\"").await.ok(200).header("etag"), "\"2\"");
    with("\"1\"").await.refused(412, "PRECONDITION_FAILED", "documents.revision");
    with("*").await.ok(200);
    let body = || Some(json!({ "data": policy }));
    house.ask(Method::PUT, "/api/v1/policies/none", &[("if-match", "*")], body()).await.ok(404);
    house.ask(Method::PUT, "/api/v1/policies/p", &[("if-none-match", "*")], body()).await.ok(409);
    let wrong = json!({ "module": "backups", "action": "VIEW", "roles": ["auditor"], "were": {} });
    house.put("/api/v1/policies/p", wrong).await.refused(422, "VALIDATION_ERROR", "policies.unknown_field");
    let name = house.put("/api/v1/policies/P", json!({})).await;
    name.refused(422, "VALIDATION_ERROR", "policies.name");
}

#[tokio::test]
async fn why_is_told_and_what_would_be_is_tried() {
    let ward = Ward::open(view(json!({ "team": "a" }), json!({ "read": ["name"] }))).await.fill().await;
    let explain = |data: Value| ward.house.post("/api/v1/access/explain", data);
    let asked = json!({ "identity": ward.nurse_id, "action": "VIEW", "collection": "patients", "id": "b1" });
    let denied = explain(asked).await.ok(200).data();
    assert_eq!(denied["allowed"], false, "{denied}");
    let said = |told: &Value, policy: &str| {
        let said = told["policies"]
            .as_array()
            .unwrap()
            .iter()
            .find(|said| said["policy"].as_str().unwrap().starts_with(policy));
        said.unwrap_or_else(|| panic!("{policy}: {told}")).clone()
    };
    assert_eq!(said(&denied, "patients-0@1")["rule"], "policies.says_where");
    assert_eq!(said(&denied, "admin-collections@1")["rule"], "policies.says_role");
    let asked = json!({ "identity": ward.nurse_id, "action": "VIEW", "collection": "patients", "id": "a1" });
    let allowed = explain(asked).await.ok(200).data();
    assert_eq!((&allowed["allowed"], &allowed["document"]["name"]), (&json!(true), &json!("na1")));
    assert_eq!(allowed["document"]["salary"], Value::Null);

    // Of oneself anyone may ask, and learns of no document that is out of sight.
    let own = |id: &str| json!({ "action": "VIEW", "collection": "patients", "id": id });
    let seen = ward.ask(Method::POST, "/api/v1/access/explain", Some(own("a1"))).await.ok(200).data();
    assert_eq!(seen["allowed"], true);
    let hidden = ward.ask(Method::POST, "/api/v1/access/explain", Some(own("b1"))).await;
    hidden.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    let other = json!({ "identity": "someone", "action": "VIEW", "collection": "patients" });
    let other = ward.ask(Method::POST, "/api/v1/access/explain", Some(other)).await;
    other.refused(403, "AUTH_FORBIDDEN", "http.forbidden");

    // Tried, and not kept.
    let trial = json!({
        "as": { "roles": [], "memberships": [{ "organization": "o1", "role": "STAFF" }] }, "action": "UPDATE", "collection": "patients",
        "before": { "_organization": "o1", "name": "x" }, "document": { "_organization": "o1", "name": "x", "salary": 2 },
        "policies": [{
            "name": "staff", "collection": "patients", "action": "UPDATE", "roles": ["STAFF"],
            "where": { "_organization": { "$in": "$identity.organizations" } }, "fields": { "write": ["name"] },
        }],
    });
    let told = ward.house.post("/api/v1/policies/test", trial.clone()).await.ok(200).data();
    assert_eq!((&told["allowed"], &told["barred"]), (&json!(false), &json!("salary")), "{told}");
    ward.house.get("/api/v1/policies/staff").await.refused(404, "RESOURCE_NOT_FOUND", "policies.unknown");
    explain(trial).await.refused(422, "VALIDATION_ERROR", "policies.unknown_field");
    let without =
        json!({ "identity": ward.nurse_id, "action": "VIEW", "collection": "patients", "without": ["patients-0"] });
    let told = ward.house.post("/api/v1/policies/test", without).await.ok(200).data();
    assert_eq!(told["allowed"], false);
}

/// A body with a name twice says two things: refused before it means either.
#[tokio::test]
async fn a_policy_said_twice_is_refused() {
    let house = House::open().await;
    let body = r#"{"data":{"module":"audit","action":"VIEW","roles":["auditor"],"roles":["identity"]}}"#;
    let request = Request::builder()
        .method(Method::PUT)
        .uri_str("/api/v1/policies/p")
        .header("authorization", format!("Bearer {}", house.token))
        .content_type("application/json")
        .body(body);
    assert_eq!(house.call(request).await.code(), "VALIDATION_ERROR");
    house.login(EMAIL, PASSWORD).await.ok(200);
}

#[tokio::test]
async fn what_is_out_of_sight_is_not_felt_by_how_a_change_fails() {
    let policies = json!([
        { "name": "see", "action": "VIEW", "roles": ["identity"], "where": { "team": "a" }, "fields": { "read": ["-salary"] } },
        { "name": "edit", "action": ["UPDATE", "DELETE"], "roles": ["identity"], "where": { "team": "a" }, "fields": { "write": ["-salary"] } },
    ]);
    let ward = Ward::open(policies).await.fill().await;
    let bearer = format!("Bearer {}", ward.nurse);
    let call = async |method: Method, id: &str, when: &str, data: Value| {
        let headers = [("authorization", bearer.as_str()), ("if-match", when)];
        let headers = if when.is_empty() { &headers[..1] } else { &headers[..] };
        ward.house.ask(method, &format!("{DOCUMENTS}/{id}"), headers, Some(json!({ "data": data }))).await
    };
    // Overflow, a wrong kind, a wrong revision: of what is not seen there is none of it.
    for change in [json!({ "$inc": { "team": 1 } }), json!({ "$set": { "team.x": 1 } }), json!({ "name": "x" })] {
        let answer = call(Method::PATCH, "b1", "", change).await;
        answer.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    }
    for method in [Method::PATCH, Method::DELETE] {
        let answer = call(method, "b1", "\"999\"", json!({ "name": "x" })).await;
        answer.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    }
    let none = [("authorization", bearer.as_str()), ("if-none-match", "*")];
    for id in ["b1", "nothing"] {
        let change = Some(json!({ "data": { "name": "x" } }));
        let answer = ward.house.ask(Method::PATCH, &format!("{DOCUMENTS}/{id}"), &none, change).await;
        answer.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    }
    call(Method::PATCH, "a1", "\"999\"", json!({ "name": "x" })).await.refused(
        412,
        "PRECONDITION_FAILED",
        "documents.revision",
    );
    // A guess at a field that is shut is refused whether it is right or wrong.
    for guess in [
        json!({ "salary": 1 }),
        json!({ "salary": 7 }),
        json!({ "$set": { "salary": 1 } }),
        json!({ "$unset": { "salary.x": 1 } }),
    ] {
        let answer = call(Method::PATCH, "a1", "", guess).await;
        answer.refused(403, "AUTH_FORBIDDEN", "access.field_write");
    }
}

#[tokio::test]
async fn an_explanation_shows_no_more_than_its_reader_may_see() {
    let ward = Ward::open(view(json!({}), json!({}))).await.fill().await;
    ward.house.without(&["auditor-access"]).await;
    let policy = json!({ "module": "access", "action": "VIEW", "roles": ["identity"] });
    ward.policy("all-ask", policy).await.ok(201);
    ward.house.patch("/api/v1/collections/patients", json!({ "policies": [] })).await.ok(200);
    let administrator = ward.house.get("/api/v1/me").await.data()["_id"].clone();
    let asked = json!({ "identity": administrator, "action": "VIEW", "collection": "patients", "id": "a1" });
    let told = ward.ask(Method::POST, "/api/v1/access/explain", Some(asked)).await.ok(200);
    assert!(told.data()["allowed"] == true && !told.text.contains("na1"), "{}", told.text);
    let status = json!({ "status": "disabled" });
    let (other, _) = ward.house.person("other@example.org").await;
    ward.house.put(&format!("/api/v1/admin/identities/{other}/status"), status).await.ok(200);
    let disabled = json!({ "identity": other, "action": "VIEW", "module": "identities" });
    let told = ward.ask(Method::POST, "/api/v1/access/explain", Some(disabled)).await;
    told.refused(409, "CONFLICT", "policies.no_proof");
    // Suppositions of one's own would answer guesses at what is hidden.
    let reader = json!({ "module": "policies", "action": "VIEW", "roles": ["identity"] });
    ward.policy("all-read", reader).await.ok(201);
    let guess = json!({ "name": "guess", "collection": "patients", "action": "VIEW", "roles": ["identity"],
        "where": { "name": { "$regex": "^na" } } });
    let nobody = json!({ "id": "na1", "roles": ["admin"] });
    for (path, supposed) in [("access/explain", ("as", nobody)), ("policies/test", ("policies", json!([guess])))] {
        let mut asked = json!({ "action": "VIEW", "collection": "patients", "id": "a1" });
        asked[supposed.0] = supposed.1;
        let told = ward.ask(Method::POST, &format!("/api/v1/{path}"), Some(asked)).await;
        told.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");
    }
    let beside = json!({ "action": "UPDATE", "collection": "patients", "id": "a1", "before": { "salary": 1 } });
    let told = ward.house.post("/api/v1/access/explain", beside).await;
    told.refused(422, "VALIDATION_ERROR", "policies.unknown_field");
    let bounded =
        json!({ "module": "policies", "action": "MANAGE", "roles": ["operator"], "where": { "collection": "x" } });
    ward.policy("bounded", bounded).await.refused(422, "VALIDATION_ERROR", "policies.where_module");
}

#[tokio::test]
async fn a_change_is_carried_through_when_its_client_leaves() {
    let ward = Ward::open(json!([])).await.fill().await;
    let mut gone = 0;
    for patience in 1..12 {
        let opening = json!({ "collection": "patients", "action": "VIEW", "roles": ["identity"] });
        ward.policy("opening", opening).await;
        ward.get(DOCUMENTS).await.ok(200);
        let mut request = Box::pin(ward.house.delete("/api/v1/policies/opening"));
        // It gets so far, and no farther.
        for _ in 0..patience {
            if (&mut request).now_or_never().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(request);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let kept = ward.house.get("/api/v1/policies/opening").await.status.as_u16();
        let seen = ward.get(DOCUMENTS).await.status.as_u16();
        assert!(matches!((kept, seen), (200, 200) | (404, 403)), "after {patience} steps: {kept}, yet {seen}");
        gone += u32::from(kept == 404);
    }
    assert!(gone > 0);
}

#[tokio::test]
async fn what_everyone_would_pay_for_is_bounded() {
    let ward = Ward::open(json!([])).await;
    let parts = |count: usize| (0..count).map(|n| json!({ "f": n })).collect::<Vec<_>>();
    let dear = |conditions| {
        let scope = json!({ "$or": parts(conditions) });
        json!({ "collection": "patients", "action": "VIEW", "roles": ["identity"], "where": scope })
    };
    // About all: each counts once.
    let every = json!({ "collection": "*", "action": "VIEW", "roles": ["identity"], "where": { "$or": parts(90) } });
    for n in 0..4 {
        ward.policy(&format!("every-{n}"), every.clone()).await.ok(201);
    }
    let names: Vec<_> = (0..4).map(|n| format!("every-{n}")).collect();
    ward.house.without(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for n in 0..5 {
        ward.policy(&format!("dear-{n}"), dear(90)).await.ok(201);
    }
    ward.policy("one-more", dear(90)).await.refused(409, "CONFLICT", "policies.of_one");
    ward.policy("dear-4", dear(50)).await.ok(200);
    ward.policy("every", every).await.refused(409, "CONFLICT", "policies.of_one");
    let own: Vec<_> = (0..101).map(|_| json!({ "action": "VIEW", "roles": ["identity"] })).collect();
    let definition = json!({ "name": "others", "policies": own });
    ward.house.post("/api/v1/collections", definition).await.refused(409, "CONFLICT", "policies.of_one");
}
