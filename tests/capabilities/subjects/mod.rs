//! Citizens' rights: everything about someone handed over, and destroyed so that no copy brings it back.

mod deletion;
mod traces;

use crate::{
    house::House,
    sealing::{hidden, patient, patients, restored},
};
use debrouille_appliance::{
    http::Limits,
    ports::documents::{Batch, Change, Expect, Operation, Origin, Sequence},
    services::subjects::verify,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PATIENTS: &str = "/api/v1/collections/patients/documents";
const PHRASE: &str = "a person's own phrase";

/// Patients p1 and p2, and an identity whose documents are about p-identity.
async fn prepared() -> (House, String) {
    let house = House::open().await;
    patients(&house).await;
    let person = json!({ "email": "awa@example.org", "password": PHRASE });
    let id = house.post("/api/v1/admin/identities", person).await.ok(201).data()["_id"].as_str().unwrap().to_owned();
    for person in ["p1", "p2", &id] {
        house.post(PATIENTS, patient(person)).await.ok(201);
    }
    (house, id)
}

fn subject(who: &str) -> String {
    format!("/api/v1/admin/subjects/{who}")
}

#[tokio::test]
async fn an_export_holds_everything_and_nobody_else() {
    let (house, id) = prepared().await;
    house.login("awa@example.org", PHRASE).await.ok(200);
    let describe = house.get(&subject("awa@example.org")).await.ok(200).data();
    assert_eq!((&describe["subject"], &describe["holdings"][0]["about"]), (&json!(id), &json!(1)));
    let answer = house.get(&format!("{}/export", subject("awa@example.org"))).await.ok(200);
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("header")[0]["subject"], id.as_str());
    assert_eq!(of("header")[0]["absent"], json!(["media"]));
    assert_eq!(of("identity")[0]["identity"]["email"], "awa@example.org");
    assert_eq!(of("session").len(), 1);
    let documents = of("document");
    assert_eq!(documents.len(), 1);
    assert_eq!(documents[0]["document"]["diagnosis"], patient("x")["diagnosis"]);
    assert!(
        of("change").iter().any(|change| change["after"]["address"]["street"] == patient("x")["address"]["street"])
    );
    for secret in ["argon2", "password", "_hashes", "$binary", "d-p1", "d-p2"] {
        assert!(!answer.text.contains(secret), "{secret}: {}", answer.text);
    }
    // The last line vouches for all the others.
    let (rest, last) = answer.text.trim_end().rsplit_once('\n').unwrap();
    let signed = verify(last, None).unwrap();
    assert_eq!(signed.certificate["lines"], rest.lines().count());
    assert_eq!(signed.certificate["sha256"], hex::encode(Sha256::digest(format!("{rest}\n"))));
    house.get(&format!("{}/export", subject("nobody"))).await.refused(404, "RESOURCE_NOT_FOUND", "subjects.unknown");

    // What one owns about somebody else comes without what is sealed for them.
    let login = house.login("awa@example.org", PHRASE).await.data();
    let bearer = format!("Bearer {}", login["accessToken"].as_str().unwrap());
    let policy = json!({ "collection": "patients", "action": ["CREATE"], "roles": ["identity"] });
    house.put("/api/v1/policies/all", policy).await.ok(201);
    let body = json!({ "data": patient("p7") });
    let headers = [("authorization", bearer.as_str())];
    house.ask(poem::http::Method::POST, PATIENTS, &headers, Some(body)).await.ok(201);
    let answer = house.get(&format!("{}/export", subject(&id))).await.ok(200);
    let owned = answer.text.lines().find(|line| line.contains("\"document\"") && line.contains("\"d-p7\"")).unwrap();
    let owned: Value = serde_json::from_str(owned).unwrap();
    assert_eq!((&owned["document"]["diagnosis"], &owned["document"]["ward"]), (&Value::Null, &json!("B")));
}

#[tokio::test]
async fn who_may_not_manage_people_may_neither_see_nor_erase() {
    let (house, _) = prepared().await;
    let login = house.login("awa@example.org", PHRASE).await.data();
    let bearer = format!("Bearer {}", login["accessToken"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    use poem::http::Method;
    for (method, path) in [
        (Method::GET, subject("p1")),
        (Method::GET, subject("p1") + "/export"),
        (Method::POST, subject("p1") + "/erase"),
        (Method::GET, "/api/v1/admin/erasures".to_owned()),
        (Method::GET, "/api/v1/admin/erasures/x".to_owned()),
    ] {
        let body = (method == Method::POST).then(|| json!({ "data": {} }));
        house.ask(method, &path, &headers, body).await.ok(403);
    }
    // Nor who may manage some of them.
    let some =
        json!({ "module": "identities", "action": ["MANAGE"], "roles": ["identity"], "where": { "kind": "PERSON" } });
    house.put("/api/v1/policies/some", some).await.ok(201);
    house.ask(Method::POST, &(subject("p1") + "/erase"), &headers, Some(json!({ "data": {} }))).await.ok(403);
    house.ask(Method::GET, &(subject("p1") + "/export"), &headers, None).await.ok(403);
    assert_eq!(house.get(&format!("{PATIENTS}/d-p1")).await.data()["diagnosis"], patient("p1")["diagnosis"]);
}

#[tokio::test]
async fn what_proves_and_reaches_someone_goes_with_them_and_it_is_told() {
    let (house, id) = prepared().await;
    let of = |collection: &'static str, document: bson::RawDocumentBuf| (collection, document);
    let rooms = [
        of("system.factors", bson::rawdoc! { "_id": &*id, "passkeys": [] }),
        of("system.recoveries", bson::rawdoc! { "_id": &*id, "hash": "h" }),
        of("system.keys", bson::rawdoc! { "_id": "k", "identity": &*id }),
        of("system.links", bson::rawdoc! { "_id": "l", "identity": &*id }),
        of("system.invitations", bson::rawdoc! { "_id": "i", "hash": "1", "person": &*id, "email": "awa@example.org" }),
        of("system.invitations", bson::rawdoc! { "_id": "j", "hash": "2", "email": "awa@example.org" }),
        of("system.outbox", bson::rawdoc! { "_id": "o", "email": "awa@example.org" }),
    ];
    let membership =
        of("system.memberships", bson::rawdoc! { "_id": "m", "person": &*id, "organization": "x", "status": "active" });
    let all: Vec<_> = rooms.iter().chain([&membership]).collect();
    for (collection, document) in &all {
        place(&house, collection, document).await;
    }
    house.get(&format!("{}/export", subject(&id))).await.ok(200);
    house.post(&format!("{}/erase", subject(&id)), json!({})).await.ok(201);
    for (collection, document) in &rooms {
        let kept = house.stores.0.get(collection, document.get_str("_id").unwrap()).await.unwrap();
        assert!(kept.is_none(), "{collection}: {kept:?}");
    }
    let ended = house.stores.0.get("system.memberships", "m").await.unwrap().unwrap();
    assert_eq!((ended.get_str("status").unwrap(), ended.get_datetime("ended").is_ok()), ("ended", true));
    let person = house.stores.0.get("system.identities", &id).await.unwrap().unwrap();
    let handles: Vec<_> = person.get_array("handles").unwrap().into_iter().flatten().collect();
    assert_eq!(handles, [bson::RawBsonRef::String(&format!("id:{id}"))]);
    // Whoever bears the address next is somebody else.
    let next = json!({ "email": "awa@example.org", "password": PHRASE });
    house.post("/api/v1/admin/identities", next).await.ok(201);

    let entries = crate::audit::entries(&house).await;
    for action in ["subjects.export", "subjects.erase"] {
        let told = crate::audit::find(&entries, action);
        assert_eq!(told.len(), 1, "{action}: {entries:?}");
        assert!(told[0]["subject"].is_string() && !told[0].to_string().contains(&id), "{}", told[0]);
    }
}

#[tokio::test]
async fn an_erasure_leaves_nothing_to_read() {
    let (house, id) = prepared().await;
    house.login("awa@example.org", PHRASE).await.ok(200);
    house.post("/api/v1/admin/backups", json!({})).await.ok(201);
    let before = house.stores.0.get("patients", &format!("d-{id}")).await.unwrap().unwrap();
    let key = house.stores.1.get("system.subjects", &id).await.unwrap().unwrap();
    let key = key.get_binary("key").unwrap().bytes.to_vec();
    let erased = house.post(&format!("{}/erase", subject("awa@example.org")), json!({})).await.ok(201).data();

    let signed = json!({ "certificate": erased["certificate"], "signature": erased["signature"] }).to_string();
    let certificate = verify(&signed, None).unwrap().certificate;
    assert_eq!(certificate["holdings"][0]["about"], 1);
    assert_eq!((&certificate["keyDestroyed"], &certificate["identityPseudonymised"]), (&json!(true), &json!(true)));
    assert!(certificate["unreadableEverywhereFrom"].as_str() > certificate["erasedAt"].as_str());
    assert!(!signed.contains("awa@example.org"));
    let kept = house.get(&format!("/api/v1/admin/erasures/{}", erased["id"].as_str().unwrap())).await.ok(200).data();
    assert_eq!(kept, erased);
    assert_eq!(house.get("/api/v1/admin/erasures").await.data(), json!([erased]));

    // Nobody comes in any more; the identity is a pseudonym.
    house.login("awa@example.org", PHRASE).await.ok(401);
    let people = house.get("/api/v1/admin/identities").await.ok(200);
    assert!(!people.text.contains("awa@example.org") && people.text.contains("@erased.invalid"), "{}", people.text);
    // The document is there, without what was sealed; others' are whole.
    let path = format!("{PATIENTS}/d-{id}");
    let shown = house.get(&path).await.ok(200).data();
    assert_eq!(
        (&shown["diagnosis"], &shown["ward"], &shown["visits"]),
        (&Value::Null, &json!("B"), &json!([{ "day": 1 }, { "day": 2 }]))
    );
    assert_eq!(house.get(&format!("{PATIENTS}/d-p1")).await.data()["diagnosis"], patient("p1")["diagnosis"]);
    let stored = house.stores.0.get("patients", &format!("d-{id}")).await.unwrap().unwrap();
    assert!(stored.get_binary("diagnosis").is_err());
    house.patch(&path, json!({ "ward": "C" })).await.ok(200);
    house.patch(&path, json!({ "diagnosis": "anew" })).await.ok(200);
    assert_eq!(house.get(&path).await.data()["diagnosis"], "anew");

    // The key is nowhere in the subjects' store, nor in its journal; what the journal still holds opens no more.
    let snapshot = house.stores.1.snapshot().await.unwrap();
    let records = snapshot.records(Sequence(0), 1000).unwrap();
    let mut images: Vec<_> = records.into_iter().flat_map(|record| [record.before, record.after]).flatten().collect();
    images.extend(snapshot.documents("system.subjects", None, 1000).unwrap());
    assert!(images.len() > 3);
    let holds = |image: &bson::RawDocumentBuf| image.as_bytes().windows(32).any(|window| window == key);
    assert!(!images.iter().any(holds), "the key is still there");
    hidden(&*house.stores.0).await;
    let export = house.get(&format!("{}/export", subject(&id))).await.ok(200);
    assert!(!export.text.contains(patient("x")["diagnosis"].as_str().unwrap()));

    // An older state of the document, put back, is as unreadable.
    put_back(&house, &before).await;
    assert_eq!(house.get(&path).await.data()["diagnosis"], Value::Null);
    // A change of something else keeps what cannot be read.
    let bytes = |document: &bson::RawDocument| document.get_binary("diagnosis").unwrap().bytes.to_vec();
    house.patch(&path, json!({ "visits": [] })).await.refused(422, "VALIDATION_ERROR", "sealing.unreadable");
    let unlisted = house.stores.0.get("patients", &format!("d-{id}")).await.unwrap().unwrap();
    assert_eq!(bytes(&unlisted), bytes(&before));
    house.delete(&path).await.ok(200);
}

async fn put_back(house: &House, document: &bson::RawDocument) {
    place(house, "patients", document).await;
}

async fn place(house: &House, collection: &str, document: &bson::RawDocument) {
    let operation = Operation {
        collection: collection.to_owned(),
        id: document.get_str("_id").unwrap().to_owned(),
        expect: Expect::Any,
        change: Change::Put(document.to_owned()),
    };
    let time = debrouille_appliance::base::clock::Timestamp(1);
    let batch = Batch { time, origin: Origin::default(), operations: vec![operation], check: None, receipt: None };
    house.stores.0.commit(batch).await.unwrap();
}

#[tokio::test]
async fn an_older_backup_brings_nobody_back() {
    let (house, id) = prepared().await;
    let backups = house.folder.path().join("backups");
    house.post("/api/v1/admin/backups", json!({})).await.ok(201);
    let older = restored(&house, &backups).await;
    let old_keys = restored(&house, &backups.join("subjects")).await;
    house.post(&format!("{}/erase", subject(&id)), json!({})).await.ok(201);
    // The erasure itself renewed the backup of the keys.
    let keys = restored(&house, &backups.join("subjects")).await;
    assert!(old_keys.get("system.subjects", &id).await.unwrap().is_some());
    assert!(keys.get("system.subjects", &id).await.unwrap().is_none());
    assert!(keys.get("system.subjects", "p1").await.unwrap().is_some());

    let folder = || {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("backups")).unwrap();
        folder
    };
    // The older documents under the newest keys: erased, and on the way up erased again.
    let again = House::over((older, keys), house.keys.clone(), folder(), Limits::default()).await;
    let path = format!("{PATIENTS}/d-{id}");
    assert_eq!(again.get(&path).await.data()["diagnosis"], Value::Null);
    assert_eq!(again.get(&format!("{PATIENTS}/d-p1")).await.data()["diagnosis"], patient("p1")["diagnosis"]);
    assert!(again.get("/api/v1/admin/identities").await.text.contains("awa@example.org"));
    again.subjects.resume().await.unwrap();
    assert!(!again.get("/api/v1/admin/identities").await.text.contains("awa@example.org"));
    again.login("awa@example.org", PHRASE).await.ok(401);
    assert_eq!(again.get("/api/v1/admin/erasures").await.data().as_array().unwrap().len(), 1);
    let stored = again.stores.0.get("patients", &format!("d-{id}")).await.unwrap().unwrap();
    assert!(stored.get_binary("diagnosis").is_err(), "stripped once more");

    // Without any keys what is sealed is absent.
    let older = restored(&house, &backups).await;
    let blind = House::over((older, crate::house::memory()), house.keys.clone(), folder(), Limits::default()).await;
    let path = format!("{PATIENTS}/d-p1");
    assert_eq!(blind.get(&path).await.ok(200).data()["phone"], Value::Null);
    let listed = blind.get(PATIENTS).await.ok(200);
    assert!(!listed.text.contains("$binary") && !listed.text.contains("_hashes"), "{}", listed.text);
}

#[tokio::test]
async fn an_erasure_that_was_cut_short_is_gone_on_with() {
    let (house, id) = prepared().await;
    // As a crash leaves it: noted, nothing done.
    let note = bson::rawdoc! {
        "subject": id.as_str(), "pseudonym": "erased-x", "identity": true, "deleteOwned": false, "holdings": [],
        "requestedBy": "someone", "requestedAt": 1_i64,
    };
    let operation = Operation {
        collection: "system.erasures".to_owned(),
        id: "e1".to_owned(),
        expect: Expect::Any,
        change: Change::Put(note),
    };
    let time = debrouille_appliance::base::clock::Timestamp(1);
    let batch = Batch { time, origin: Origin::default(), operations: vec![operation], check: None, receipt: None };
    house.stores.1.commit(batch).await.unwrap();
    house.subjects.resume().await.unwrap();
    assert_eq!(house.get(&format!("{PATIENTS}/d-{id}")).await.data()["diagnosis"], Value::Null);
    assert_eq!(house.stores.1.get("system.subjects", &id).await.unwrap(), None);
    assert_eq!(house.get("/api/v1/admin/erasures/e1").await.ok(200).data()["certificate"]["requestedBy"], "someone");
    let sequence = house.stores.0.statistics().await.unwrap().sequence;
    house.subjects.resume().await.unwrap();
    assert_eq!(house.stores.0.statistics().await.unwrap().sequence, sequence, "done twice");
}

#[tokio::test]
async fn the_last_administrator_and_strangers_stay() {
    let (house, _) = prepared().await;
    let refused = house.post(&format!("{}/erase", subject("admin@example.org")), json!({})).await;
    refused.refused(409, "CONFLICT", "identities.last_administrator");
    assert!(house.subjects.resume().await.is_ok());
    house.get("/api/v1/admin/identities").await.ok(200);
    house.post(&format!("{}/erase", subject("nobody")), json!({})).await.refused(
        404,
        "RESOURCE_NOT_FOUND",
        "subjects.unknown",
    );
    house.get("/api/v1/admin/erasures/x").await.refused(404, "RESOURCE_NOT_FOUND", "subjects.certificate_unknown");
}

#[tokio::test]
async fn documents_go_whole_where_that_is_asked() {
    let (house, id) = prepared().await;
    house.collection(json!({ "name": "letters" })).await;
    // Someone documents are about need not be an identity.
    let erased = house.post(&format!("{}/erase", subject("p1")), json!({ "deleteOwned": true })).await.ok(201).data();
    assert_eq!(erased["certificate"]["documentsDeleted"], true);
    assert_eq!(erased["certificate"]["identityPseudonymised"], false);
    house.get(&format!("{PATIENTS}/d-p1")).await.ok(404);
    house.get(&format!("{PATIENTS}/d-p2")).await.ok(200);

    // What an identity owns goes, but for what is about somebody else.
    let login = house.login("awa@example.org", PHRASE).await.data();
    let bearer = format!("Bearer {}", login["accessToken"].as_str().unwrap());
    let policy = json!({ "collection": "*", "action": ["CREATE"], "roles": ["identity"] });
    house.put("/api/v1/policies/all", policy).await.ok(201);
    let headers = [("authorization", bearer.as_str())];
    let letters = "/api/v1/collections/letters/documents";
    for (path, document) in [(PATIENTS, patient("p7")), (letters, json!({ "_id": "own" }))] {
        let body = Some(json!({ "data": document }));
        house.ask(poem::http::Method::POST, path, &headers, body).await.ok(201);
    }
    house.post(letters, json!({ "_id": "another's" })).await.ok(201);
    house.post(&format!("{}/erase", subject(&id)), json!({ "deleteOwned": true })).await.ok(201);
    house.get(&format!("{PATIENTS}/d-{id}")).await.ok(404);
    house.get(&format!("{letters}/own")).await.ok(404);
    house.get(&format!("{PATIENTS}/d-p7")).await.ok(200);
    house.get(&format!("{letters}/another's")).await.ok(200);
}

#[tokio::test]
async fn writers_do_not_race_an_erasure() {
    let (house, id) = prepared().await;
    let over = std::cell::Cell::new(false);
    let writer = async {
        let (mut n, mut after) = (0, 0);
        // Through the erasure, and a few more once it is over.
        while after < 5 {
            after += usize::from(over.get());
            let document = json!({ "_id": format!("n{n}"), "person": id, "diagnosis": "Kimbangu-diagnosis" });
            let answer = house.post(PATIENTS, document).await;
            assert!([201, 409].contains(&answer.status.as_u16()), "{}", answer.text);
            n += 1;
        }
        n
    };
    let erase = format!("{}/erase", subject(&id));
    let eraser = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let erased = house.post(&erase, json!({})).await;
        over.set(true);
        erased
    };
    let (written, erased) = futures_util::future::join(writer, eraser).await;
    erased.ok(201);
    hidden(&*house.stores.0).await;
    // What is sealed still was written after, under another key, and stays readable over a restart.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("backups")).unwrap();
    let again = House::over(house.stores.clone(), house.keys.clone(), folder, Limits::default()).await;
    let (mut readable, mut erased) = (0, 0);
    for n in 0..written {
        let Some(stored) = house.stores.0.get("patients", &format!("n{n}")).await.unwrap() else { continue };
        let shown = again.get(&format!("{PATIENTS}/n{n}")).await.ok(200).data();
        match stored.get_binary("diagnosis") {
            Ok(_) => assert_eq!(shown["diagnosis"], "Kimbangu-diagnosis", "n{n} was lost"),
            Err(_) => assert_eq!(shown["diagnosis"], Value::Null),
        }
        *(if shown["diagnosis"].is_null() { &mut erased } else { &mut readable }) += 1;
    }
    assert!(readable > 0 && erased > 0, "{readable} after, {erased} before: no race at all");
}
