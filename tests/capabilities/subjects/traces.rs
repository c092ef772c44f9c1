//! What the appliance itself keeps of a person: handed over whole, and after an erasure nowhere in clear.

use super::{PATIENTS, PHRASE, place, subject};
use crate::{
    house::House,
    lines::cut,
    sealing::{patient, patients},
};
use bson::{DateTime, rawdoc};
use debrouille_appliance::services::subjects::verify;
use poem::http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

const EMAIL: &str = "awa.tshisekedi@example.org";
const PHONE: &str = "+243990000222";
const NAME: &str = "Awa Tshisekedi-Mbuyi";
const CODE: &str = "ABCD";

/// A person everything is kept of, and the exchange of a login that waits for its second factor.
struct Traced {
    house: House,
    id: String,
    organization: String,
    waiting: Value,
    /// Of a session, and of a key.
    proofs: [String; 2],
}

async fn traced() -> Traced {
    let house = House::open().await;
    patients(&house).await;
    let person = json!({ "email": EMAIL, "phone": PHONE, "name": NAME, "password": PHRASE });
    let id = house.post("/api/v1/admin/identities", person).await.ok(201).data()["_id"].as_str().unwrap().to_owned();
    let (key, document) = ([("idempotency-key", EMAIL)], Some(json!({ "data": patient(&id) })));
    house.ask(Method::POST, PATIENTS, &key, document).await.ok(201);
    house.login(EMAIL, "not the phrase").await.ok(401);
    let login = json!({ "email": EMAIL, "password": PHRASE, "device": format!("Telephone of {NAME}") });
    let granted = house.anyone("/api/v1/auth/login", login.clone()).await.ok(200).data();
    let token = granted["accessToken"].as_str().unwrap();
    let named = json!({ "name": format!("Key of {NAME}"), "password": PHRASE });
    let key = house.by(token, Method::POST, "/api/v1/auth/keys", named).await.ok(201).data();
    let proofs = [token.to_owned(), key["token"].as_str().unwrap().to_owned()];
    for proof in &proofs {
        house.by(proof, Method::GET, "/api/v1/collections", json!({})).await.ok(403);
    }
    house.post("/api/v1/auth/recover", json!({ "email": EMAIL })).await.ok(202);
    let trust = json!({ "level": 40, "reason": format!("{NAME} called") });
    house.put(&format!("/api/v1/admin/identities/{id}/trust"), trust).await.ok(200);

    let (owner, _) = house.person("owner@example.org").await;
    let organization = house.organization("Clinic", &owner).await;
    house.member(&id, &organization, "STAFF").await;
    let invitation = json!({ "organization": organization, "role": "MEMBER", "email": EMAIL });
    house.post("/api/v1/invitations", invitation).await.ok(201);
    let hash = hex::encode(Sha256::new().chain_update(&id).chain_update([0]).chain_update(CODE).finalize());
    let passkey =
        rawdoc! { "id": "credential", "name": "Key ring", "created": 1_000_i64, "used": 2_000_i64, "credential": "{}" };
    let totp = rawdoc! { "secret": "5ec2e7", "step": 1_i64, "since": 3_000_i64 };
    let expires = DateTime::from_millis(4_000_000_000_000);
    for (collection, document) in [
        ("system.factors", rawdoc! { "_id": &*id, "totp": totp, "recovery": [hash], "passkeys": [passkey] }),
        (
            "system.recoveries",
            rawdoc! { "_id": &*id, "hash": "5ec2e7", "made": 1_i64, "expires": 4_000_000_000_000_i64 },
        ),
        (
            "system.verifications",
            rawdoc! {
                "_id": &*id, "email": format!("newer.{EMAIL}"), "asked": 1_i64, "expires": 4_000_000_000_000_i64,
                "attempts": 0, "wrong": 0, "identity": &*id,
            },
        ),
        ("system.links", rawdoc! { "_id": "l", "identity": &*id, "issuer": "https://idp.example", "subject": EMAIL }),
        (
            "system.invitations",
            rawdoc! {
                "_id": "by", "hash": "5ec2e7", "organization": &*organization, "role": "MEMBER", "by": &*id,
                "email": "another@example.org", "status": "pending", "expires": expires,
            },
        ),
        (
            "system.invitations",
            rawdoc! {
                "_id": "once", "hash": "5ec2e8", "organization": &*organization, "role": "MEMBER", "by": &*owner,
                "email": format!("former.{EMAIL}"), "acceptedBy": &*id, "status": "accepted", "expires": expires,
            },
        ),
    ] {
        place(&house, collection, &document).await;
    }
    let owed = house.anyone("/api/v1/auth/login", login).await.ok(401);
    let waiting = owed.json()["error"]["details"]["challenge"].clone();
    assert!(waiting.is_string(), "{}", owed.text);
    // Everything told until here is in the log.
    house.get("/api/v1/audit/export").await.ok(200);
    Traced { house, id, organization, waiting, proofs }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn everything_kept_of_a_person_is_handed_over() {
    let Traced { house, id, organization, .. } = traced().await;
    let text = house.get(&format!("{}/export", subject(EMAIL))).await.ok(200).text;
    let lines = lines(&text);
    let of = |kind: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["type"] == kind).map(|line| &line[kind]).collect()
    };
    assert_eq!((of("identity")[0]["name"].as_str(), of("identity")[0]["phone"].as_str()), (Some(NAME), Some(PHONE)));
    let trust = of("trust")[0];
    assert_eq!(
        (&trust["level"], &trust["record"]["adjusted"]["reason"]),
        (&json!(40), &json!(format!("{NAME} called")))
    );
    assert!(trust["record"]["events"]["login.failed"]["last"]["$date"].is_string(), "{trust}");
    let session = of("session")[0];
    assert_eq!(session["device"], format!("Telephone of {NAME}"));
    assert!(session["opened"]["$date"].is_string() && session["methods"] == json!(["pwd"]), "{session}");
    let factors = of("factor");
    let kinds: Vec<_> = factors.iter().map(|factor| factor["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["totp", "passkey", "recovery"]);
    assert_eq!((&factors[1]["name"], &factors[2]["left"]), (&json!("Key ring"), &json!(1)));
    assert_eq!(factors[1]["lastUsed"]["$date"], "1970-01-01T00:00:02Z");
    let key = of("key")[0];
    assert_eq!((&key["kind"], &key["name"]), (&json!("api"), &json!(format!("Key of {NAME}"))));
    assert!(key["restriction"].is_object() && key["expires"]["$date"].is_string(), "{key}");
    assert_eq!(
        of("link"),
        [&json!({ "issuer": "https://idp.example", "subject": EMAIL, "_createdAt": of("link")[0]["_createdAt"] })]
    );
    assert_eq!((&of("membership")[0]["organization"], of("membership").len()), (&json!(organization), 1));
    let invitations: BTreeSet<_> = of("invitation")
        .iter()
        .map(|one| (one["by"].as_str() == Some(&id), one["email"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(invitations, BTreeSet::from([(false, "-"), (false, EMAIL), (true, "-")]));
    assert_eq!(of("recovery").len(), 2, "one to be confirmed, one letter to be sent");
    assert_eq!(of("verification").len(), 1);
    let entries = of("audit");
    let told = |action: &str, outcome: &str| {
        entries.iter().any(|entry| entry["action"] == action && entry["outcome"] == outcome)
    };
    assert!(told("auth.login", "allowed") && told("keys.issue", "allowed") && told("recovery.ask", "allowed"));
    assert!(told("auth.login", "failed"), "by the address that was tried: {entries:?}");

    for secret in ["5ec2e7", "credential", "argon2", "hash", "another@example.org"] {
        let found: Vec<_> = text.lines().filter(|line| line.contains(secret)).collect();
        assert!(found.is_empty(), "{secret}: {found:?}");
    }
    // Other people are named nowhere: neither who invited them nor who moved their trust.
    let own = |line: &&Value| {
        ["membership", "invitation", "trust", "key"].contains(&line["type"].as_str().unwrap_or_default())
    };
    let people = house.get("/api/v1/admin/identities").await.data();
    for other in people.as_array().unwrap().iter().filter(|person| person["_id"] != id.as_str()) {
        let other = other["_id"].as_str().unwrap();
        assert!(!lines.iter().filter(own).any(|line| line.to_string().contains(other)), "{other}");
    }

    let certificate = verify(text.lines().last().unwrap(), None).unwrap().certificate;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines.iter().filter_map(|line| line["type"].as_str()) {
        *counts.entry(line).or_default() += 1;
    }
    assert_eq!(
        (&certificate["counts"], certificate["lines"].as_u64().unwrap()),
        (&json!(counts), counts.values().sum())
    );
}

/// Where, among the appliance's own collections of both stores, a person shows in clear.
async fn shown(house: &House) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for store in [&house.stores.0, &house.stores.1] {
        let snapshot = store.snapshot().await.unwrap();
        for name in snapshot.collections().unwrap().into_iter().filter(|name| name.starts_with("system.")) {
            let documents = snapshot.documents(&name, None, 10_000).unwrap();
            assert!(documents.len() < 10_000);
            let shows = |document: &bson::RawDocumentBuf| {
                let text = String::from_utf8_lossy(document.as_bytes()).to_lowercase();
                [EMAIL, NAME, PHONE, "tshisekedi"].iter().any(|word| text.contains(&word.to_lowercase()))
            };
            if documents.iter().any(shows) {
                places.insert(name);
            }
        }
    }
    places
}

#[tokio::test]
async fn an_erased_person_shows_in_clear_nowhere_in_the_appliances_own_collections() {
    let Traced { house, id, waiting, proofs, .. } = traced().await;
    let before = ["identities", "invitations", "keys", "links", "outbox", "sessions", "trust", "verifications"];
    assert_eq!(shown(&house).await, before.map(|name| format!("system.{name}")).into());
    let told = house.get(&subject(EMAIL)).await.ok(200).data()["traces"].clone();
    let session = house.stores.0.snapshot().await.unwrap().documents("system.sessions", None, 1000).unwrap();
    let erased = house.post(&format!("{}/erase", subject(EMAIL)), json!({})).await.ok(201).data();

    // A login that waited for its second factor opens nothing and leaves nothing.
    let verify = json!({ "challenge": waiting, "recoveryCode": CODE });
    house.anyone("/api/v1/auth/mfa/verify", verify).await.ok(401);
    for proof in &proofs {
        house.by(proof, Method::GET, "/api/v1/collections", json!({})).await.ok(401);
    }
    house.get("/api/v1/audit/export").await.ok(200);
    assert_eq!(shown(&house).await, BTreeSet::new());

    let snapshot = house.stores.0.snapshot().await.unwrap();
    let naming = |collection: &str, field: &str, id: &str| {
        let documents = snapshot.documents(collection, None, 10_000).unwrap();
        documents.iter().filter(|document| document.get_str(field).is_ok_and(|named| named == id)).count()
    };
    for (collection, field) in [
        ("factors", "_id"),
        ("recoveries", "_id"),
        ("verifications", "_id"),
        ("trust", "_id"),
        ("keys", "identity"),
        ("links", "identity"),
        ("sessions", "identity"),
        ("invitations", "person"),
        ("invitations", "acceptedBy"),
    ] {
        assert_eq!(naming(&format!("system.{collection}"), field, &id), 0, "{collection}.{field}");
    }
    for session in session.iter().filter(|session| session.get_str("identity").is_ok_and(|named| named == id)) {
        assert_eq!(naming("system.refreshes", "session", session.get_str("_id").unwrap()), 0);
    }
    let certificate = &erased["certificate"];
    let removed = json!({
        "factors": 1, "invitations": 2, "keys": 1, "links": 1, "outbox": 1, "recoveries": 1, "sessions": 1, "trust": 1,
        "verifications": 1,
    });
    assert_eq!((&certificate["removed"], &certificate["ended"]), (&removed, &json!({ "memberships": 1 })));
    let mut whole = removed;
    whole["memberships"] = json!(1);
    assert_eq!(told, whole, "as it was told before");
    let remains: Vec<_> =
        certificate["remains"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    let book = include_str!("../../../docs/subjects.md");
    for what in remains {
        assert!(book.contains(&format!("`{what}`")), "{what} is in no documentation");
    }
}

#[tokio::test]
async fn an_erased_organization_has_no_members_and_invites_nobody() {
    let Traced { house, id, organization, .. } = traced().await;
    // More than one commit takes.
    for n in 0..1100 {
        let invitation = rawdoc! {
            "_id": format!("many-{n}"), "hash": format!("{n}"), "organization": &*organization, "role": "MEMBER",
            "by": &*id, "status": "revoked", "expires": DateTime::from_millis(1),
        };
        place(&house, "system.invitations", &invitation).await;
    }
    let erased = house.post(&format!("{}/erase", subject(&organization)), json!({})).await.ok(201).data();
    assert_eq!(erased["certificate"]["ended"], json!({ "memberships": 2 }));
    assert_eq!(erased["certificate"]["removed"], json!({ "invitations": 1103 }));
    let active = json!({ "organization": organization, "status": "active" });
    assert_eq!(house.get(&format!("/api/v1/memberships?filter={active}")).await.ok(200).data(), json!([]));
    let of = json!({ "organization": organization });
    assert_eq!(house.get(&format!("/api/v1/invitations?filter={of}")).await.ok(200).data(), json!([]));
    let people = house.get("/api/v1/identities").await.ok(200);
    assert!(!people.text.contains("Clinic") && people.text.contains(&id), "{}", people.text);
}

#[tokio::test]
async fn an_export_ends_where_an_erasure_begins() {
    let house = House::open().await;
    patients(&house).await;
    let line = |n: usize| format!("{}\n", json!({ "_id": format!("d{n}"), "person": "p1", "diagnosis": "flu" }));
    let request = poem::Request::builder()
        .method(Method::POST)
        .uri_str("/api/v1/collections/patients/import")
        .header("authorization", format!("Bearer {}", house.token))
        .content_type("application/x-ndjson")
        .body((0..6000).map(line).collect::<String>());
    assert_eq!(house.call(request).await.ok(200).data()["created"], 6000);
    let erase = async {
        house.post(&format!("{}/erase", subject("p1")), json!({})).await.ok(201);
    };
    let (whole, lines) = cut(&house, &house.token, &format!("{}/export", subject("p1")), erase).await;
    assert!(!whole && lines < 12_000, "{lines}");
}
