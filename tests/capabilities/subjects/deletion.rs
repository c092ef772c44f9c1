//! Documents deleted whole with a person, theirs alone; what the certificate says of the others; the largest there may be.

use super::{PATIENTS, PHRASE, place, prepared, subject};
use crate::{
    house::{House, keys, memory},
    sealing::patient,
};
use bson::{rawdoc, spec::BinarySubtype};
use debrouille_appliance::{
    backends::documents::embedded::{Embedded, Options},
    base::clock::SystemClock,
    http::Limits,
    ports::documents::{Documents, Sequence},
};
use poem::http::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

const CONSENTS: &str = "/api/v1/collections/consents/documents";
const FILES: &str = "/api/v1/collections/files/documents";

fn remaining<'a>(certificate: &'a Value, what: &str) -> Option<&'a Value> {
    certificate["remains"].as_array().unwrap().iter().find(|one| one["what"] == what)
}

/// Collections whose documents may name several people, and what the person made in them.
async fn several() -> (House, String) {
    let (house, id) = prepared().await;
    house.collection(json!({ "name": "consents", "subject": "people" })).await;
    house.collection(json!({ "name": "files", "subject": "pages.person" })).await;
    for (path, document) in [
        (CONSENTS, json!({ "_id": "alone", "people": id })),
        (CONSENTS, json!({ "_id": "both", "people": [id, "q"] })),
        (FILES, json!({ "_id": "between", "pages": [{ "person": "q" }, { "person": id }] })),
        (CONSENTS, json!({ "_id": "stranger's", "people": ["q"] })),
    ] {
        house.post(path, document).await.ok(201);
    }
    let login = house.login("awa@example.org", PHRASE).await.data();
    let token = login["accessToken"].as_str().unwrap();
    let policy = json!({ "collection": "*", "action": ["CREATE"], "roles": ["identity"] });
    house.put("/api/v1/policies/all", policy).await.ok(201);
    for (path, document) in [
        (PATIENTS, patient("q")),
        (CONSENTS, json!({ "_id": "own-about-q", "people": ["q"] })),
        (FILES, json!({ "_id": "own-page-of-q", "pages": [{ "person": "q" }] })),
        (CONSENTS, json!({ "_id": "own" })),
        (FILES, json!({ "_id": "own-blank", "pages": [{ "person": null }, {}] })),
    ] {
        house.by(token, Method::POST, path, document).await.ok(201);
    }
    (house, id)
}

#[tokio::test]
async fn who_is_named_among_others_is_handed_that_too() {
    let (house, id) = several().await;
    let answer = house.get(&format!("{}/export", subject(&id))).await.ok(200);
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let documents = lines.iter().filter(|line| line["type"] == "document");
    let ids: BTreeSet<_> = documents.map(|line| line["document"]["_id"].as_str().unwrap().to_owned()).collect();
    let own = format!("d-{id}");
    let all = ["alone", "between", "both", "d-q", "own", "own-about-q", "own-blank", "own-page-of-q", &own];
    assert_eq!(ids, all.map(str::to_owned).into());
    let changed = |id: &str| lines.iter().any(|line| line["type"] == "change" && line["after"]["_id"] == id);
    assert!(changed("both") && changed("between") && !changed("stranger's"));
}

#[tokio::test]
async fn documents_about_others_stay_and_the_certificate_says_so() {
    let (house, id) = several().await;
    let erase = format!("{}/erase", subject(&id));
    let erased = house.post(&erase, json!({ "deleteOwned": true })).await.ok(201).data();
    for (path, gone) in [(CONSENTS, "alone"), (CONSENTS, "own"), (FILES, "own-blank"), (PATIENTS, &format!("d-{id}"))] {
        house.get(&format!("{path}/{gone}")).await.ok(404);
    }
    for (path, kept) in [
        (CONSENTS, "both"),
        (CONSENTS, "own-about-q"),
        (CONSENTS, "stranger's"),
        (FILES, "between"),
        (FILES, "own-page-of-q"),
        (PATIENTS, "d-q"),
        (PATIENTS, "d-p1"),
    ] {
        house.get(&format!("{path}/{kept}")).await.ok(200);
    }
    let certificate = &erased["certificate"];
    let kept = remaining(certificate, "documents-about-others").expect("told");
    assert_eq!(kept["collections"], json!({ "consents": 2, "files": 2, "patients": 1 }));
}

#[tokio::test]
async fn what_is_deleted_whole_still_stands_in_journal_and_backups_and_is_certified_so() {
    let (house, id) = prepared().await;
    let erased = house.post(&format!("{}/erase", subject("p1")), json!({ "deleteOwned": true })).await.ok(201).data();
    let certificate = &erased["certificate"];
    let records = house.stores.0.snapshot().await.unwrap().records(Sequence(0), 10_000).unwrap();
    let deleted = records.iter().filter(|record| record.id == "d-p1").find_map(|record| record.before.as_ref());
    assert_eq!(deleted.unwrap().get_str("ward").unwrap(), "B", "in clear, until the journal lets go of it");
    let journal = remaining(certificate, "unsealed-fields-in-journal").expect("told");
    assert_eq!(journal["longerWhile"], "not-backed-up");
    assert!(journal["until"].as_str() > certificate["unreadableEverywhereFrom"].as_str(), "90 days, not 30");
    assert!(remaining(certificate, "unsealed-fields-in-older-backups").is_some());
    assert!(
        remaining(certificate, "unsealed-fields").is_none()
            && remaining(certificate, "documents-about-others").is_none()
    );

    let person = house.post(&format!("{}/erase", subject(&id)), json!({})).await.ok(201).data();
    assert_eq!(remaining(&person["certificate"], "identity-in-journal").unwrap()["longerWhile"], "not-backed-up");
    assert!(remaining(&person["certificate"], "unsealed-fields").is_some());
    let book = include_str!("../../../docs/subjects.md");
    for one in [certificate, &person["certificate"]].into_iter().flat_map(|one| one["remains"].as_array().unwrap()) {
        let what = one["what"].as_str().unwrap();
        assert!(book.contains(&format!("`{what}`")), "{what} is in no documentation");
    }
}

#[tokio::test]
async fn documents_as_large_as_a_commit_are_written_one_by_one() {
    // As `server.document_mib = 16` makes it.
    let options = Options { max_document: 16 << 20, ..Options::default() };
    let store = Embedded::open_over(redb::backends::InMemoryBackend::new(), options, Arc::new(SystemClock)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("backups")).unwrap();
    let stores = (Arc::new(store) as Arc<dyn Documents>, memory());
    let house = House::over(stores, keys(), folder, Limits::default()).await;
    house.collection(json!({ "name": "scans", "subject": "person", "classes": { "note": "confidential" } })).await;
    let documents = &house.stores.0;
    let put = async |id: &str, bytes: usize| {
        let note = bson::Binary { subtype: BinarySubtype::UserDefined(0xd5), bytes: vec![0; 40] };
        place(&house, "scans", &rawdoc! { "_id": id, "person": "p1", "note": note, "page": "x".repeat(bytes) }).await;
        documents.get("scans", id).await.unwrap().unwrap().as_bytes().len()
    };
    // Read together to the last byte; written together, with their ids, more than a commit takes.
    let ids = ["a".repeat(200), "b".repeat(200)];
    let (first, beside) = (put(&ids[0], 3 << 20).await, put(&ids[1], 0).await);
    let room = (16 << 20) - first;
    assert_eq!(put(&ids[1], room - beside).await, room);
    house.post(&format!("{}/erase", subject("p1")), json!({})).await.ok(201);
    for id in &ids {
        assert!(documents.get("scans", id).await.unwrap().unwrap().get("note").unwrap().is_none(), "stripped");
    }
}
