//! Who may see a document: the list is what each of them gets by asking.

use crate::{
    audit::{entries, find},
    house::House,
};
use poem::http::Method;
use serde_json::{Value, json};

const WHO: &str = "/api/v1/access/who";
const DOCUMENTS: &str = "/api/v1/collections/patients/documents";

/// A hospital's patient; people who stand nearer and farther.
struct Hospital {
    house: House,
    people: Vec<(&'static str, String, String)>,
    patient: String,
}

impl Hospital {
    async fn open() -> Self {
        let house = House::open().await;
        let own = json!({ "_organization": { "$in": "$identity.organizations" } });
        let policies = json!([
            { "name": "owners", "action": ["VIEW", "CREATE", "UPDATE", "DELETE"], "roles": ["OWNER"], "where": own },
            { "name": "staff", "action": ["VIEW", "UPDATE"], "roles": ["STAFF"], "where": own,
              "fields": { "read": ["-diagnosis", "-address.street"], "write": ["name"] } },
            { "name": "trusted", "action": "VIEW", "roles": ["auditor"], "min_trust": 90 },
        ]);
        house.collection(json!({ "name": "patients", "policies": policies })).await;
        let (owner, token) = house.person("owner@example.org").await;
        let hospital = house.organization("Hospital", &owner).await;
        let mut people = vec![("owner", owner, token.clone())];
        for name in ["staff", "gone", "auditor", "other"] {
            let (id, token) = house.person(&format!("{name}@example.org")).await;
            people.push((name, id, token));
        }
        let id = |name: &str| people.iter().find(|person| person.0 == name).unwrap().1.clone();
        for name in ["staff", "gone"] {
            let membership = json!({ "person": id(name), "organization": hospital, "role": "STAFF" });
            house.post("/api/v1/memberships", membership).await.ok(201);
        }
        house.organization("Elsewhere", &id("other")).await;
        for (name, role) in [("auditor", "auditor"), ("gone", "admin")] {
            let roles = json!({ "roles": [role] });
            house.put(&format!("/api/v1/admin/identities/{}/roles", id(name)), roles).await.ok(200);
        }
        let status = json!({ "status": "disabled" });
        house.put(&format!("/api/v1/admin/identities/{}/status", id("gone")), status).await.ok(200);
        let acting = [("x-organization-id", hospital.as_str())];
        let patient = json!({ "name": "Awa", "diagnosis": "x", "address": { "city": "Goma", "street": "y" } });
        let body = Some(json!({ "data": patient }));
        let made = house.ask_as(Some(&token), Method::POST, DOCUMENTS, &acting, body).await.ok(201).data();
        Self { house, people, patient: made["_id"].as_str().unwrap().to_owned() }
    }

    async fn who(&self, more: Value) -> Vec<Value> {
        let mut asked = json!({ "collection": "patients", "id": self.patient });
        more.as_object().unwrap().iter().for_each(|(name, value)| asked[name] = value.clone());
        self.house.post(WHO, asked).await.ok(200).data().as_array().unwrap().clone()
    }
}

fn names(found: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> = found.iter().map(|found| found["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn the_list_is_what_each_gets_by_asking() {
    let hospital = Hospital::open().await;
    let path = format!("{DOCUMENTS}/{}", hospital.patient);
    let found = hospital.who(json!({})).await;
    assert_eq!(names(&found), ["admin@example.org", "owner@example.org", "staff@example.org"]);
    for (name, id, _) in &hospital.people {
        // Roles ended the sessions of before; who is disabled gets none.
        let login = hospital.house.login(&format!("{name}@example.org"), crate::house::PASSWORD).await;
        let token =
            if login.status == 200 { login.data()["accessToken"].as_str().unwrap().to_owned() } else { continue };
        let seen = hospital.house.under(Some(&token), Method::GET, &path, None).await;
        let listed = found.iter().find(|found| found["identity"] == id.as_str());
        assert_eq!(seen.status == 200, listed.is_some(), "{name}: {}", seen.text);
        if let Some(listed) = listed {
            let shown = seen.data();
            assert_eq!(shown["diagnosis"].is_null(), !listed["masked"].as_array().unwrap().is_empty(), "{name}");
        }
    }
    let staff = found.iter().find(|found| found["name"] == "staff@example.org").unwrap();
    assert_eq!(staff["masked"], json!(["diagnosis", "address.street"]));
    assert_eq!(staff["policies"][0]["policy"], "staff@1");
    assert_eq!(staff["policies"][0]["fields"]["write"], json!(["name"]));
    let writers = hospital.who(json!({ "action": "UPDATE" })).await;
    assert_eq!(names(&writers), ["admin@example.org", "owner@example.org", "staff@example.org"]);
    let staff = writers.iter().find(|found| found["name"] == "staff@example.org").unwrap();
    assert_eq!(staff["masked"], json!(["diagnosis", "address"]), "what may not be written");
    let deleters = hospital.who(json!({ "action": "DELETE" })).await;
    assert_eq!(names(&deleters), ["admin@example.org", "owner@example.org"]);
    // Trust is asked for as at any request.
    let auditor = hospital.people.iter().find(|person| person.0 == "auditor").unwrap();
    let trust = json!({ "level": 95, "reason": "checked" });
    hospital.house.put(&format!("/api/v1/admin/identities/{}/trust", auditor.1), trust).await.ok(200);
    assert!(names(&hospital.who(json!({})).await).contains(&"auditor@example.org"));
}

#[tokio::test]
async fn a_list_is_paged_over_identities_and_is_itself_told() {
    let hospital = Hospital::open().await;
    let (mut all, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let asked = json!({ "collection": "patients", "id": hospital.patient, "limit": 1, "cursor": cursor });
        let answer = hospital.house.post(WHO, asked).await.ok(200).json();
        let page = answer["data"].as_array().unwrap();
        assert!(page.len() <= 1);
        all.extend(page.iter().cloned());
        cursor = answer["meta"]["page"]["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(all, hospital.who(json!({})).await);
    let told = entries(&hospital.house).await;
    let told = find(&told, "access.who");
    assert_eq!(told[0]["object"], format!("patients/{}", hospital.patient));
}

#[tokio::test]
async fn it_is_for_who_may_explain_and_tells_them_no_field_they_do_not_see() {
    let mut hospital = Hospital::open().await;
    let asked = json!({ "collection": "patients", "id": hospital.patient });
    for (name, _, token) in &hospital.people {
        if ["owner", "staff", "other"].contains(name) {
            let answer = hospital.house.by(token, Method::POST, WHO, asked.clone()).await;
            answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
        }
    }
    for (asked, code, rule) in [
        (json!({ "collection": "patients", "id": "none" }), 404, "documents.missing"),
        (json!({ "collection": "system.identities", "id": "x" }), 403, "http.forbidden"),
        (json!({ "collection": "patients" }), 422, "access.who_document"),
        (json!({ "collection": "patients", "id": "x", "action": "CREATE" }), 422, "access.who_action"),
        (json!({ "collection": "patients", "id": "x", "limit": 1001 }), 422, "search.limit"),
        (json!({ "collection": "patients", "id": "x", "since": "now" }), 422, "policies.unknown_field"),
        (json!({ "collection": "patients", "id": "x", "at": "yesterday" }), 422, "base.unreadable_time"),
        (json!({ "collection": "patients", "id": "x", "at": "2999-01-01T00:00:00Z" }), 422, "access.who_future"),
        (json!({ "collection": "patients", "id": "x", "at": "1960-01-01T00:00:00Z" }), 409, "access.who_before"),
        (json!({ "collection": "system.keys", "id": "x", "at": "2020-01-01T00:00:00Z" }), 403, "http.forbidden"),
    ] {
        let refusal = hospital.house.post(WHO, asked.clone()).await.refusal();
        assert_eq!((refusal.0, refusal.2.as_str()), (code, rule), "{asked}");
    }
    // Who may explain, and sees neither the document nor people.
    let explainer = json!({ "module": "access", "action": "VIEW", "roles": ["operator"] });
    hospital.house.put("/api/v1/policies/explainers", explainer).await;
    let (id, _) = hospital.house.person("explainer@example.org").await;
    let roles = json!({ "roles": ["operator"] });
    hospital.house.put(&format!("/api/v1/admin/identities/{id}/roles"), roles).await.ok(200);
    hospital.house.token = hospital.house.token_of("explainer@example.org").await;
    let found = hospital.who(json!({})).await;
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|found| found.get("masked").is_none()), "{found:?}");
}

/// A moment by itself: nothing else happens within it.
async fn moment() -> String {
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let now = bson::DateTime::now().try_to_rfc3339_string().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    now
}

#[tokio::test]
async fn who_might_is_known_as_far_back_as_the_journal_reaches() {
    let hospital = Hospital::open().await;
    let house = &hospital.house;
    let id = |name: &str| hospital.people.iter().find(|person| person.0 == name).unwrap().1.clone();
    let path = format!("{DOCUMENTS}/{}", hospital.patient);
    let mut before = hospital.who(json!({})).await;
    let then = moment().await;
    // Everything a right hangs on becomes another.
    house.patch(&path, json!({ "diagnosis": "z", "more": 1 })).await.ok(200);
    let held = house.get(&format!(r#"/api/v1/memberships?filter={{"person":"{}"}}"#, id("staff"))).await.data();
    house.delete(&format!("/api/v1/memberships/{}", held[0]["_id"].as_str().unwrap())).await.ok(200);
    let narrower = json!({ "collection": "patients", "action": "VIEW", "roles": ["OWNER"], "fields": { "read": [] } });
    house.put("/api/v1/policies/owners", narrower).await.ok(200);
    house.delete("/api/v1/policies/trusted").await.ok(200);
    house.put(&format!("/api/v1/admin/identities/{}/roles", id("other")), json!({ "roles": ["admin"] })).await.ok(200);
    house.person("late@example.org").await;
    let status = json!({ "status": "active" });
    house.put(&format!("/api/v1/admin/identities/{}/status", id("gone")), status).await.ok(200);
    let mut nobodys = Vec::new();
    for n in 0..40 {
        let made =
            house.post("/api/v1/identities", json!({ "email": format!("n{n}@example.org") })).await.ok(201).data();
        nobodys.push(made["_id"].as_str().unwrap().to_owned());
    }
    let after = hospital.who(json!({})).await;
    let between = moment().await;
    house.delete(&path).await.ok(200);
    let asked = json!({ "collection": "patients", "id": hospital.patient });
    house.post(WHO, asked.clone()).await.refused(404, "RESOURCE_NOT_FOUND", "documents.missing");

    // As it was answered at the time; but trust then is not known, so who would have needed it is in the list.
    let mut past = hospital.who(json!({ "at": then })).await;
    let place = past.iter().position(|found| found["name"] == "auditor@example.org").unwrap();
    assert_eq!(past.remove(place)["policies"], json!([{ "policy": "trusted@1", "minTrust": 90 }]));
    before.iter_mut().for_each(|found| drop(found.as_object_mut().unwrap().remove("trust")));
    assert_eq!(past, before);
    assert_eq!(
        past.iter().find(|found| found["name"] == "staff@example.org").unwrap()["policies"][0]["policy"],
        "staff@1"
    );
    let past = hospital.who(json!({ "at": between, "limit": 2 })).await;
    assert_eq!(names(&past).len(), 2);
    assert_eq!(names(&hospital.who(json!({ "at": between })).await), names(&after));
    assert!(names(&after).contains(&"other@example.org") && names(&after).contains(&"gone@example.org"));

    // Whatever changes while it is looked at.
    let changes = async {
        for id in &nobodys {
            let roles = json!({ "roles": ["admin"] });
            house.put(&format!("/api/v1/admin/identities/{id}/roles"), roles).await.ok(200);
        }
    };
    let asks = async {
        loop {
            assert_eq!(names(&hospital.who(json!({ "at": between })).await), names(&after));
        }
    };
    tokio::select! {
        () = changes => {}
        () = asks => {}
    }

    // What went with its collection is not told.
    house.delete("/api/v1/collections/patients").await.ok(200);
    let mut asked = asked;
    asked["at"] = between.into();
    house.post(WHO, asked).await.refused(409, "CONFLICT", "access.who_dropped");
}
