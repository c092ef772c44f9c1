//! Restricted and confidential fields: read and written like any other, found by equality, and never in the store's
//! bytes, its journal or a backup.

use crate::house::{self, House, memory};
use bson::{RawDocumentBuf, rawdoc};
use debrouille_appliance::{
    backends::objects::folder::Folder,
    base::clock::Timestamp,
    domain::filter::Filter,
    http::Limits,
    ports::{
        Result,
        documents::{
            Batch, COLLECTIONS, Change, Collection, Committed, Documents as Store, Expect, Explain, Load, Operation,
            Origin, Page, Query, Record, Resealed, Retention, Sequence, Snapshot, Statistics, StorageKey,
        },
    },
    services::backups::{
        Restore, Trust,
        restore::{Asked, Wanted, with_images},
    },
};
use poem::http::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

const PATIENTS: &str = "/api/v1/collections/patients/documents";
const SECRETS: [&str; 4] = ["Kimbangu-diagnosis", "+243-990-000-111", "Avenue-Lumumba-7", "note-about-malaria"];

pub async fn patients(house: &House) {
    let definition = json!({
        "name": "patients",
        "subject": "person",
        "classes": {
            "diagnosis": "confidential",
            "phone": "restricted",
            "address.street": "restricted",
            "visits.note": "confidential",
            "ward": "internal",
        },
        "indexes": ["ward", { "keys": "phone", "unique": true }, { "keys": { "diagnosis": 1, "ward": 1 } }],
    });
    house.post("/api/v1/collections", definition).await.ok(201);
}

pub fn patient(person: &str) -> Value {
    json!({
        "_id": format!("d-{person}"),
        "person": person,
        "ward": "B",
        "diagnosis": SECRETS[0],
        "phone": format!("{} {person}", SECRETS[1]),
        "address": { "street": SECRETS[2], "city": "Kinshasa" },
        "visits": [{ "day": 1, "note": SECRETS[3] }, { "day": 2 }],
    })
}

/// Nothing of it is in the bytes of the store, of the journal, or of a backup's lines.
pub async fn hidden(store: &dyn Store) {
    let snapshot = store.snapshot().await.unwrap();
    let mut bytes = Vec::new();
    for name in snapshot.collections().unwrap() {
        for document in snapshot.documents(&name, None, 1000).unwrap() {
            bytes.extend_from_slice(document.as_bytes());
        }
    }
    for record in snapshot.records(Sequence(0), 10_000).unwrap() {
        for image in [record.before, record.after].into_iter().flatten() {
            bytes.extend_from_slice(image.as_bytes());
        }
    }
    for secret in SECRETS {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in the store");
    }
    assert!(bytes.windows(8).any(|window| window == b"Kinshasa"), "the scan sees nothing");
}

fn plain(text: &str) -> bool {
    !text.contains("_hashes") && !text.contains("$binary")
}

#[tokio::test]
async fn what_is_sealed_reads_and_writes_like_anything_else() {
    let house = House::open().await;
    patients(&house).await;
    let mut expected = patient("p1");
    let made = house.post(PATIENTS, expected.clone()).await.ok(201);
    let path = format!("{PATIENTS}/d-p1");
    let shown = |answer: Value| {
        let mut fields = answer.as_object().unwrap().clone();
        fields.retain(|name, _| !name.starts_with('_') || name == "_id");
        Value::Object(fields)
    };
    assert_eq!(shown(made.data()), expected);
    assert_eq!(shown(house.get(&path).await.data()), expected);

    // Operators and merge patches meet the values, and say so.
    let push = json!({ "$push": { "visits": { "day": 3, "note": "another" } }, "$set": { "phone": 7 } });
    let patched = house.patch(&path, push).await.ok(200);
    expected["visits"].as_array_mut().unwrap().push(json!({ "day": 3, "note": "another" }));
    expected["phone"] = json!(7);
    assert_eq!(shown(patched.data()), expected);
    house.patch(&path, json!({ "$inc": { "phone": 1 } })).await.ok(200);
    house.patch(&path, json!({ "address": { "street": null } })).await.ok(200);
    expected["phone"] = json!(8);
    expected["address"] = json!({ "city": "Kinshasa" });
    assert_eq!(shown(house.get(&path).await.data()), expected);
    let conflict = house.patch(&path, json!({ "$inc": { "diagnosis": 1 } })).await;
    assert_eq!(conflict.status.as_u16(), 422, "{}", conflict.text);

    let batch = json!({ "operations": [
        { "action": "create", "collection": "patients", "document": patient("p2") },
        { "action": "patch", "collection": "patients", "id": "d-p2", "patch": { "$set": { "phone": "later" } } },
        { "action": "replace", "collection": "patients", "id": "d-p1", "document": patient("p3").as_object().map(|fields| {
            let mut fields = fields.clone();
            fields.remove("_id");
            fields
        }) },
    ] });
    house.post("/api/v1/batch", batch).await.ok(200);
    assert_eq!(house.get(&format!("{PATIENTS}/d-p2")).await.data()["phone"], "later");
    assert_eq!(house.get(&path).await.data()["person"], "p3", "another subject's key");
    assert_eq!(house.get(&path).await.data()["diagnosis"], SECRETS[0]);

    for path in [
        PATIENTS.to_owned(),
        format!("{PATIENTS}?fields=_hashes,diagnosis"),
        "/api/v1/collections/patients/export".to_owned(),
        "/api/v1/collections/patients".to_owned(),
        "/api/v1/collections".to_owned(),
    ] {
        let answer = house.get(&path).await.ok(200);
        assert!(plain(&answer.text), "{path}: {}", answer.text);
    }
    let asked = json!({ "identity": null, "as": { "roles": ["admin"] }, "action": "VIEW", "collection": "patients", "id": "d-p2" });
    let explained = house.post("/api/v1/access/explain", asked).await.ok(200);
    assert!(plain(&explained.text), "{}", explained.text);
    house.delete(&path).await.ok(200);
}

#[tokio::test]
async fn equality_finds_it_and_nothing_else_does() {
    let house = House::open().await;
    patients(&house).await;
    for person in ["p1", "p2", "p3"] {
        let mut document = patient(person);
        if person == "p3" {
            document["diagnosis"] = json!(["a", "b"]);
        }
        house.post(PATIENTS, document).await.ok(201);
    }
    house.post(PATIENTS, json!({ "_id": "none", "person": "p4", "ward": "C" })).await.ok(201);
    let found = async |filter: Value| {
        let query = json!({ "filter": filter, "total": true });
        let answer = house.post("/api/v1/collections/patients/query", query).await.ok(200);
        assert!(plain(&answer.text), "{}", answer.text);
        let ids: Vec<_> =
            answer.data().as_array().unwrap().iter().map(|found| found["_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(answer.json()["meta"]["page"]["total"], ids.len());
        ids.join(" ")
    };
    let phone = |person: &str| json!(format!("{} {person}", SECRETS[1]));
    assert_eq!(found(json!({ "phone": phone("p2") })).await, "d-p2");
    assert_eq!(found(json!({ "phone": { "$in": [phone("p1"), phone("p3"), "x"] } })).await, "d-p1 d-p3");
    assert_eq!(found(json!({ "phone": { "$ne": phone("p1") } })).await, "d-p2 d-p3 none");
    assert_eq!(found(json!({ "diagnosis": SECRETS[0], "ward": "B" })).await, "d-p1 d-p2");
    assert_eq!(found(json!({ "diagnosis": "b" })).await, "d-p3");
    assert_eq!(found(json!({ "diagnosis": ["a", "b"] })).await, "d-p3");
    assert_eq!(found(json!({ "diagnosis": null })).await, "none");
    assert_eq!(found(json!({ "$nor": [{ "diagnosis": { "$in": ["a", null] } }] })).await, "d-p1 d-p2");
    let explain = format!("/api/v1/collections/patients/explain?filter={{\"phone\":{}}}", phone("p1"));
    let explained = house.get(&explain).await.ok(200);
    assert!(explained.text.contains("\"phone_1\"") && plain(&explained.text), "{}", explained.text);

    for filter in [
        json!({ "phone": { "$gt": "+" } }),
        json!({ "phone": { "$exists": true } }),
        json!({ "phone": { "$regex": "^\\+243" } }),
        json!({ "phone": { "$not": { "$type": "string" } } }),
        json!({ "phone": null }),
        json!({ "address": { "street": SECRETS[2] } }),
        json!({ "address.street": SECRETS[2] }),
        json!({ "visits.0.note": SECRETS[3] }),
        json!({ "visits": { "$elemMatch": { "note": SECRETS[3] } } }),
        json!({ "$or": [{ "ward": "B" }, { "diagnosis.x": 1 }] }),
        json!({ "_hashes.phone": { "$exists": true } }),
    ] {
        let rule =
            if filter["phone"].is_null() && filter.get("phone").is_some() { "sealing.null" } else { "sealing.filter" };
        let query = json!({ "filter": filter });
        house.post("/api/v1/collections/patients/query", query).await.refused(422, "VALIDATION_ERROR", rule);
        for room in ["count", "export", "documents"] {
            let path = format!("/api/v1/collections/patients/{room}?filter={filter}");
            house.get(&path).await.refused(422, "VALIDATION_ERROR", rule);
        }
    }
    house.get(&format!("{PATIENTS}?sort=-phone")).await.refused(422, "VALIDATION_ERROR", "sealing.sort");
    house.get(&format!("{PATIENTS}?sort=address")).await.refused(422, "VALIDATION_ERROR", "sealing.sort");
    assert_eq!(found(json!({ "visits": { "$elemMatch": { "day": 2 } } })).await, "d-p1 d-p2 d-p3");

    // Unique by value, whoever's it is; those without one are as many as they like.
    let mut taken = patient("p9");
    taken["phone"] = phone("p1");
    house.post(PATIENTS, taken).await.refused(409, "CONFLICT", "documents.unique");
    house.post(PATIENTS, json!({ "person": "p5" })).await.ok(201);
}

#[tokio::test]
async fn a_policy_covers_by_what_is_sealed() {
    let house = House::open().await;
    let policy = json!({ "action": ["VIEW", "UPDATE"], "roles": ["identity"], "where": { "diagnosis": "flu" } });
    let definition = json!({
        "name": "patients", "classes": { "diagnosis": "confidential" }, "indexes": ["diagnosis"], "policies": [policy],
    });
    house.post("/api/v1/collections", definition).await.ok(201);
    for (id, diagnosis) in [("a", "flu"), ("b", "cold")] {
        house.post(PATIENTS, json!({ "_id": id, "diagnosis": diagnosis, "n": 1 })).await.ok(201);
    }
    let person = json!({ "email": "p@example.org", "password": "a person's own phrase" });
    house.post("/api/v1/admin/identities", person).await.ok(201);
    let login = house.login("p@example.org", "a person's own phrase").await.data();
    let bearer = format!("Bearer {}", login["accessToken"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let listed = house.ask(Method::GET, PATIENTS, &headers, None).await.ok(200).data();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["diagnosis"]), (1, &json!("flu")));
    house.ask(Method::GET, &format!("{PATIENTS}/a"), &headers, None).await.ok(200);
    house.ask(Method::GET, &format!("{PATIENTS}/b"), &headers, None).await.ok(404);
    let change = |patch: Value| Some(json!({ "data": patch }));
    house.ask(Method::PATCH, &format!("{PATIENTS}/a"), &headers, change(json!({ "n": 2 }))).await.ok(200);
    let out =
        house.ask(Method::PATCH, &format!("{PATIENTS}/a"), &headers, change(json!({ "diagnosis": "cold" }))).await;
    out.refused(403, "AUTH_FORBIDDEN", "documents.outside");
    house.ask(Method::PATCH, &format!("{PATIENTS}/b"), &headers, change(json!({ "n": 2 }))).await.ok(404);
}

#[tokio::test]
async fn a_condition_the_store_cannot_ask_is_refused_when_it_is_written() {
    let house = House::open().await;
    patients(&house).await;
    let policy = |collection: &str, action: &str, asked: &Value| json!({ "collection": collection, "action": [action], "roles": ["identity"], "where": asked });
    let refused = [
        (json!({ "diagnosis": { "$gt": "a" } }), "diagnosis"),
        (json!({ "phone": { "$regex": "^x" } }), "phone"),
        (json!({ "$or": [{ "ward": "B" }, { "visits": { "$elemMatch": { "note": "x" } } }] }), "visits.note"),
        (json!({ "address.street": "x" }), "address.street"),
        (json!({ "phone": null }), "phone"),
    ];
    for (asked, field) in &refused {
        for collection in ["patients", "*"] {
            let answer = house.put("/api/v1/policies/p", policy(collection, "VIEW", asked)).await;
            answer.refused(422, "VALIDATION_ERROR", "policies.sealed");
            let error = &answer.json()["error"]["details"];
            let said = [&error["params"]["field"], &error["params"]["collection"], &error["path"]];
            assert_eq!(said, [&json!(field), &json!("patients"), &json!(format!("where.{field}"))], "{error}");
        }
        house.put("/api/v1/policies/elsewhere", policy("letters", "VIEW", asked)).await;
        // What is written is judged opened.
        house.put("/api/v1/policies/writes", policy("patients", "CREATE", asked)).await;
        house.delete("/api/v1/policies/writes").await.ok(200);
        house.delete("/api/v1/policies/elsewhere").await.ok(200);
    }
    for asked in [json!({ "diagnosis": { "$in": ["a", "b"] } }), json!({ "phone": { "$ne": "$identity.id" } })] {
        house.put("/api/v1/policies/p", policy("patients", "VIEW", &asked)).await.ok(201);
        house.delete("/api/v1/policies/p").await.ok(200);
    }

    // Nor does a field come to be sealed under a condition that is there.
    let asked = json!({ "age": { "$gte": 18 } });
    let sealed = json!({ "age": "restricted" });
    let own = json!([{ "action": ["VIEW"], "roles": ["identity"], "where": asked }]);
    let definition = json!({ "name": "letters", "classes": sealed, "policies": own });
    house.post("/api/v1/collections", definition).await.refused(422, "VALIDATION_ERROR", "policies.sealed");
    house.collection(json!({ "name": "letters", "policies": own })).await;
    let path = "/api/v1/collections/letters";
    house.patch(path, json!({ "classes": sealed })).await.refused(422, "VALIDATION_ERROR", "policies.sealed");
    house.patch(path, json!({ "classes": sealed, "policies": [] })).await.ok(200);
    house.patch(path, json!({ "policies": own })).await.refused(422, "VALIDATION_ERROR", "policies.sealed");
}

#[tokio::test]
async fn a_write_that_is_refused_makes_no_key() {
    let house = House::open().await;
    patients(&house).await;
    house
        .patch("/api/v1/collections/patients", json!({ "schema": { "properties": { "ward": { "maxLength": 3 } } } }))
        .await
        .ok(200);
    let keys = async || {
        let snapshot = house.stores.1.snapshot().await.unwrap();
        let keys = snapshot.documents("system.subjects", None, 100).unwrap();
        keys.iter().map(|key| key.get_str("_id").unwrap().to_owned()).collect::<Vec<_>>()
    };
    let long = |person: &str| {
        let mut document = patient(person);
        document["ward"] = json!("too long");
        document
    };
    house.post(PATIENTS, long("p1")).await.ok(422);
    let create = |document: Value| json!({ "action": "create", "collection": "patients", "document": document });
    let batch = json!({ "operations": [create(patient("p2")), create(patient("p3")), create(long("p4"))] });
    house.post("/api/v1/batch", batch).await.ok(422);
    assert_eq!(keys().await, [""; 0], "made for nothing");
    // Opened again within its own batch, where its key is not made yet.
    let patch = json!({ "action": "patch", "collection": "patients", "id": "d-p2", "patch": { "$push": { "visits": { "note": "b" } } } });
    let batch = json!({ "operations": [create(patient("p2")), create(patient("p3")), patch] });
    house.post("/api/v1/batch", batch).await.ok(200);
    assert_eq!(keys().await, ["p2", "p3"]);
    let shown = house.get(&format!("{PATIENTS}/d-p2")).await.ok(200).data();
    assert_eq!((&shown["diagnosis"], &shown["visits"][2]["note"]), (&json!(SECRETS[0]), &json!("b")));
    hidden(&*house.stores.0).await;
    let mut taken = patient("p5");
    taken["phone"] = patient("p2")["phone"].clone();
    house.post(PATIENTS, taken).await.refused(409, "CONFLICT", "documents.unique");
    assert_eq!(keys().await, ["p2", "p3"]);
}

#[tokio::test]
async fn a_retry_shows_nothing_of_what_was_sealed_elsewhere() {
    let house = House::open().await;
    patients(&house).await;
    let attempt = async || {
        let body = Some(json!({ "data": patient("p1") }));
        house.ask(Method::POST, PATIENTS, &[("idempotency-key", "k")], body).await
    };
    let first = attempt().await.ok(201).data();
    assert_eq!(first["diagnosis"], SECRETS[0]);
    assert_eq!(attempt().await.ok(201).data(), first);
    house.delete("/api/v1/collections/patients").await.ok(200);
    attempt().await.refused(404, "RESOURCE_NOT_FOUND", "collections.unknown");
    // Of the same name, with nothing sealed; with other fields sealed; by another subject.
    for definition in [
        json!({ "name": "patients" }),
        json!({ "name": "patients", "subject": "person", "classes": { "phone": "restricted" } }),
        json!({ "name": "patients", "subject": "ward", "classes": { "diagnosis": "restricted" } }),
    ] {
        house.post("/api/v1/collections", definition.clone()).await.ok(201);
        let again = attempt().await.ok(201);
        assert!(plain(&again.text) && !again.text.contains("_hashes"), "{definition}: {}", again.text);
        house.delete("/api/v1/collections/patients").await.ok(200);
    }
}

/// A collection's definition, then a document of it.
type Patients = [(&'static str, &'static str, RawDocumentBuf); 2];

/// A store in which the collection becomes another between two readings of it.
struct Between {
    store: Arc<dyn Store>,
    /// Before which reading, and what then.
    next: Mutex<Option<(usize, Patients)>>,
}

impl Between {
    async fn reading(&self, collection: &str) {
        let become_now = {
            let mut next = self.next.lock().unwrap();
            match next.as_mut().filter(|_| ["patients", COLLECTIONS].contains(&collection)) {
                Some((left, _)) if *left > 1 => {
                    *left -= 1;
                    None
                }
                Some(_) => next.take(),
                None => None,
            }
        };
        if let Some((_, patients)) = become_now {
            self.become_these(&patients).await;
        }
    }

    async fn become_these(&self, patients: &Patients) {
        let put = |(collection, id, document): &(&str, &str, RawDocumentBuf)| {
            let (collection, id, change) = (collection.to_string(), id.to_string(), Change::Put(document.clone()));
            Operation { collection, id, expect: Expect::Absent, change }
        };
        let dropped = Operation { expect: Expect::Any, change: Change::Delete, ..put(&patients[0]) };
        for operation in [dropped, put(&patients[0]), put(&patients[1])] {
            let (time, origin, operations) = (Timestamp(1), Origin::default(), vec![operation]);
            self.store.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
        }
    }
}

#[async_trait::async_trait]
impl Store for Between {
    async fn commit(&self, batch: Batch) -> Result<Committed> {
        self.store.commit(batch).await
    }
    async fn get(&self, collection: &str, id: &str) -> Result<Option<RawDocumentBuf>> {
        self.reading(collection).await;
        self.store.get(collection, id).await
    }
    async fn find(&self, query: Query) -> Result<Page> {
        self.reading(&query.collection).await;
        self.store.find(query).await
    }
    async fn count(&self, collection: &str, filter: Arc<Filter>) -> Result<(u64, Explain)> {
        self.store.count(collection, filter).await
    }
    async fn describe(&self, collection: &str) -> Result<Option<Collection>> {
        self.store.describe(collection).await
    }
    async fn collections(&self) -> Result<Vec<Collection>> {
        self.store.collections().await
    }
    async fn records(&self, after: Sequence, limit: usize) -> Result<Vec<Record>> {
        self.store.records(after, limit).await
    }
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        self.reading("patients").await;
        self.store.snapshot().await
    }
    async fn statistics(&self) -> Result<Statistics> {
        self.store.statistics().await
    }
    async fn load(&self, part: Load) -> Result<()> {
        self.store.load(part).await
    }
    async fn scrub(&self, from: u64) -> Result<u64> {
        self.store.scrub(from).await
    }
    async fn take_keys(&self, keys: Vec<StorageKey>) -> Result<()> {
        self.store.take_keys(keys).await
    }
    async fn sealed_by(&self) -> Result<BTreeMap<u32, u64>> {
        self.store.sealed_by().await
    }
    async fn reseal(&self, from: u64) -> Result<Resealed> {
        self.store.reseal(from).await
    }
    async fn trim(&self, retention: Retention) -> Result<u64> {
        self.store.trim(retention).await
    }
    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}

#[tokio::test]
async fn a_collection_made_anew_while_it_is_read_shows_nothing_sealed() {
    let between = Arc::new(Between { store: memory(), next: Mutex::default() });
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("backups")).unwrap();
    let house = House::over((between.clone(), memory()), house::keys(), folder, Limits::default()).await;
    patients(&house).await;
    house.post(PATIENTS, patient("p1")).await.ok(201);
    let stored = async |collection: &'static str, id: &'static str| {
        (collection, id, house.stores.0.get(collection, id).await.unwrap().unwrap())
    };
    let sealed = [stored(COLLECTIONS, "patients").await, stored("patients", "d-p1").await];
    let open = [(COLLECTIONS, "patients", rawdoc! {}), ("patients", "d-p1", rawdoc! { "ward": "B" })];
    let explain = json!({ "action": "VIEW", "collection": "patients", "id": "d-p1" });
    let mut shown = Vec::new();
    for (before, after) in [(&sealed, &open), (&open, &sealed)] {
        for path in
            [&format!("{PATIENTS}/d-p1"), PATIENTS, "/api/v1/collections/patients/export", "/api/v1/access/explain"]
        {
            between.become_these(before).await;
            *between.next.lock().unwrap() = Some((2, after.clone()));
            let answer = match path {
                "/api/v1/access/explain" => house.post(path, explain.clone()).await,
                _ => house.get(path).await,
            };
            assert!(between.next.lock().unwrap().is_none(), "{path}: nothing happened");
            shown.extend((!plain(&answer.text)).then(|| format!("{path}: {}", answer.text)));
        }
    }
    assert_eq!(shown, [""; 0]);
    // Bytes of somebody's own that look sealed are shown, where nothing happens meanwhile.
    let own = json!({ "_id": "own", "bytes": { "$binary": { "base64": "AQID", "subType": "d5" } } });
    between.become_these(&open).await;
    house.post(PATIENTS, own.clone()).await.ok(201);
    assert_eq!(house.get(&format!("{PATIENTS}/own")).await.ok(200).data()["bytes"], own["bytes"]);
}

#[tokio::test]
async fn no_copy_holds_a_value() {
    let house = House::open().await;
    patients(&house).await;
    house.post(PATIENTS, patient("p1")).await.ok(201);
    house.patch(&format!("{PATIENTS}/d-p1"), json!({ "$set": { "ward": "C" } })).await.ok(200);
    let stored = house.stores.0.get("patients", "d-p1").await.unwrap().unwrap();
    assert!(stored.get_binary("diagnosis").is_ok() && stored.get_document("_hashes").is_ok());
    hidden(&*house.stores.0).await;

    // What did not change keeps its bytes.
    house.patch(&format!("{PATIENTS}/d-p1"), json!({ "ward": "D" })).await.ok(200);
    let again = house.stores.0.get("patients", "d-p1").await.unwrap().unwrap();
    assert_eq!(stored.get("diagnosis").unwrap(), again.get("diagnosis").unwrap());

    house.post("/api/v1/admin/backups", json!({})).await.ok(201);
    let folder = house.folder.path().join("backups");
    let restored = restored(&house, &folder).await;
    hidden(&*restored).await;
    // Moved under another id, a value does not open.
    let mut moved = bson::Document::try_from(&*stored).unwrap();
    moved.insert("_id", "d-p2");
    let moved = bson::RawDocumentBuf::try_from(&moved).unwrap();
    use debrouille_appliance::ports::documents::{Batch, Change, Expect, Operation, Origin};
    let operation = Operation {
        collection: "patients".to_owned(),
        id: "d-p2".to_owned(),
        expect: Expect::Any,
        change: Change::Put({
            let mut fields = bson::Document::try_from(&*moved).unwrap();
            fields.remove("_hashes");
            bson::RawDocumentBuf::try_from(&fields).unwrap()
        }),
    };
    let time = debrouille_appliance::base::clock::Timestamp(1);
    let batch = Batch { time, origin: Origin::default(), operations: vec![operation], check: None, receipt: None };
    house.stores.0.commit(batch).await.unwrap();
    assert_eq!(house.get(&format!("{PATIENTS}/d-p2")).await.status.as_u16(), 500);
}

/// The newest backup of a folder, in a store of its own.
pub async fn restored(house: &House, folder: &std::path::Path) -> std::sync::Arc<dyn Store> {
    let store = memory();
    let target = Folder::open(folder).unwrap();
    let (wanted, environment) = (Wanted::Latest, house.keys.0.environment);
    let (identity, trust) = (&house.recipient, Trust::Anyone);
    let asked = Asked { wanted: &wanted, identity, trust, environment, instance: None, anchor: None };
    let mut parts = Vec::new();
    let restore = Restore::begin(&target, asked, &mut |_| Ok(())).unwrap();
    let mut put = |part: Load| {
        parts.push(part);
        Ok(())
    };
    restore.load(&[], &mut put, &mut |_| Ok(())).unwrap();
    for part in parts {
        let mut whole = Vec::new();
        match part {
            Load::Records(records) => {
                let mut put = |records| {
                    whole.push(Load::Records(records));
                    Ok(())
                };
                with_images(records, &*store.snapshot().await.unwrap(), &mut put).unwrap();
            }
            part => whole.push(part),
        }
        for part in whole {
            store.load(part).await.unwrap();
        }
    }
    store
}

#[tokio::test]
async fn what_is_sealed_cannot_change_over_documents() {
    let house = House::open().await;
    let refused = async |definition: Value, rule: &str| {
        house.post("/api/v1/collections", definition).await.refused(422, "VALIDATION_ERROR", rule);
    };
    refused(json!({ "name": "c", "classes": { "_owner": "restricted" } }), "sealing.class").await;
    refused(json!({ "name": "c", "classes": { "a.0": "restricted" } }), "sealing.class").await;
    refused(json!({ "name": "c", "classes": { "a": "restricted" }, "subject": "a.b" }), "sealing.subject").await;
    refused(json!({ "name": "c", "subject": "_rev" }), "sealing.subject").await;
    refused(json!({ "name": "c", "classes": { "a": "restricted" }, "indexes": ["a.b"] }), "sealing.index").await;
    refused(json!({ "name": "c", "indexes": ["_hashes.a"] }), "sealing.index").await;

    patients(&house).await;
    let described = house.get("/api/v1/collections/patients").await.data();
    assert_eq!(described["indexes"][1]["keys"], json!({ "phone": 1 }));
    assert_eq!(described["subject"], "person");
    // Empty, it may become anything.
    let change = json!({ "classes": { "diagnosis": "confidential" }, "indexes": ["diagnosis"] });
    house.patch("/api/v1/collections/patients", change).await.ok(200);
    house.post(PATIENTS, patient("p1")).await.ok(201);
    for change in [
        json!({ "classes": null }),
        json!({ "classes": { "diagnosis": "confidential", "ward": "restricted" } }),
        json!({ "classes": { "diagnosis": "internal" } }),
        json!({ "subject": "ward" }),
        json!({ "indexes": ["diagnosis", { "keys": "diagnosis", "unique": true, "name": "u" }] }),
    ] {
        let answer = house.patch("/api/v1/collections/patients", change).await;
        answer.refused(422, "VALIDATION_ERROR", "sealing.documents");
    }
    let change = json!({ "classes": { "diagnosis": "restricted", "ward": "public" }, "indexes": ["ward"] });
    house.patch("/api/v1/collections/patients", change).await.ok(200);
    let back = json!({ "indexes": ["diagnosis"] });
    house.patch("/api/v1/collections/patients", back).await.refused(422, "VALIDATION_ERROR", "sealing.documents");
    // Without a subject there is no key to seal by.
    let nobody = json!({ "diagnosis": "x" });
    house.post(PATIENTS, nobody).await.refused(422, "VALIDATION_ERROR", "sealing.no_subject");
    house.post(PATIENTS, json!({ "ward": "x" })).await.ok(201);
}

#[tokio::test]
async fn many_people_at_once_each_get_a_key() {
    let house = House::open().await;
    patients(&house).await;
    let lines: String = (0..700).map(|number| format!("{}\n", patient(&format!("p{number}")))).collect();
    let path = "/api/v1/collections/patients/import?upsert=true";
    for _ in 0..2 {
        let request = poem::Request::builder()
            .method(Method::POST)
            .uri_str(path)
            .header("authorization", format!("Bearer {}", house.token))
            .content_type("application/x-ndjson")
            .body(lines.clone());
        let report = house.call(request).await.ok(200).data();
        assert_eq!(
            (&report["failed"], report["created"].as_u64().unwrap() + report["updated"].as_u64().unwrap()),
            (&json!(0), 700)
        );
    }
    hidden(&*house.stores.0).await;
    let keys = house.stores.1.snapshot().await.unwrap();
    assert_eq!(keys.count("system.subjects").unwrap(), 700);
}
