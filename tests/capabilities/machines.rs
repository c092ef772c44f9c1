//! Machines: registered, then proven by assertions they sign.

use crate::{
    audit::{entries, find},
    house::{House, PASSWORD},
    keys::with,
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::STANDARD};
use debrouille_appliance::base::clock::{Clock, SystemClock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use poem::http::Method;
use serde_json::{Value, json};

fn pair() -> (EncodingKey, String) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let info: Vec<u8> =
        [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0], pair.public_key().as_ref()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(info));
    (EncodingKey::from_ed_der(pkcs8.as_ref()), pem)
}

fn assertion(secret: &EncodingKey, kid: &Value, subject: &str, audience: &Value, jti: &str) -> String {
    let now = SystemClock.now().seconds();
    let claims = json!({ "iss": subject, "sub": subject, "aud": audience, "iat": now, "exp": now + 50, "jti": jti });
    let header = Header { kid: kid.as_str().map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, &claims, secret).unwrap()
}

#[tokio::test]
async fn a_machine_from_its_registration_to_its_end() {
    let house = House::open().await;
    let machine = json!({ "name": "import-job", "roles": ["admin"] });
    let added = house.post("/api/v1/admin/machines", machine.clone()).await.ok(201).data();
    assert_eq!(added["kind"], "MACHINE");
    house.post("/api/v1/admin/machines", machine).await.refused(409, "CONFLICT", "machines.name_taken");
    house.post("/api/v1/admin/machines", json!({ "name": "Import Job" })).await.refused(
        422,
        "VALIDATION_ERROR",
        "machines.name",
    );
    let (secret, public) = pair();
    let scopes = json!({ "actions": ["VIEW"], "collections": ["places"] });
    let wanted = json!({ "password": PASSWORD, "name": "2026", "publicKey": public, "scopes": scopes });
    let key = house.post("/api/v1/admin/identities/import-job/keys", wanted).await.ok(201).data();
    assert_eq!((&key["kind"], key.get("token")), (&json!("ED25519"), None));

    let signed = assertion(&secret, &key["_id"], "import-job", &key["audience"], "one");
    let prove = async |signed: &str| house.post("/api/v1/auth/machine", json!({ "assertion": signed })).await;
    let granted = prove(&signed).await.ok(200).data();
    let token = granted["accessToken"].as_str().unwrap();
    assert!(granted["expiresIn"].as_i64().unwrap() <= 600 && granted.get("refreshToken").is_none());
    prove(&signed).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");

    // The key's scope narrows what the machine's role allows.
    let places = house.collection(json!({ "name": "places" })).await;
    let others = house.collection(json!({ "name": "others" })).await;
    with(&house, token, Method::GET, &places, None).await.ok(200);
    for path in [others.as_str(), "/api/v1/admin/identities", "/api/v1/auth/sessions", "/api/v1/auth/keys"] {
        with(&house, token, Method::GET, path, None).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }

    house.delete(&format!("/api/v1/admin/keys/{}", key["_id"].as_str().unwrap())).await.ok(200);
    with(&house, token, Method::GET, &places, None).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
    let again = assertion(&secret, &key["_id"], "import-job", &key["audience"], "two");
    prove(&again).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
}

#[tokio::test]
async fn who_is_no_machine_here_is_told_nothing_more() {
    let (house, other) = (House::open().await, House::open().await);
    let (secret, public) = pair();
    let register = async |house: &House| {
        house.post("/api/v1/admin/machines", json!({ "name": "job" })).await.ok(201);
        let wanted = json!({ "password": PASSWORD, "name": "k", "publicKey": public });
        house.post("/api/v1/admin/identities/job/keys", wanted).await.ok(201).data()
    };
    let (here, there) = (register(&house).await, register(&other).await);
    let unknown = json!("0198c0de-0000-7000-8000-000000000000");
    let (foreign, _) = pair();
    let mut answers = Vec::new();
    let right = |jti: &str| assertion(&secret, &here["_id"], "job", &here["audience"], jti);
    for signed in [
        assertion(&secret, &there["_id"], "job", &there["audience"], "1"),
        assertion(&secret, &here["_id"], "job", &there["audience"], "2"),
        assertion(&secret, &unknown, "job", &here["audience"], "3"),
        assertion(&foreign, &here["_id"], "job", &here["audience"], "4"),
        assertion(&secret, &here["_id"], "other", &here["audience"], "5"),
        assertion(&secret, &Value::Null, "job", &here["audience"], "6"),
        house.token.clone(),
        "nonsense".to_owned(),
    ] {
        let answer = house.post("/api/v1/auth/machine", json!({ "assertion": signed })).await;
        answer.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
        answers.push(answer.json()["error"].clone());
        // One that is right in between, so that none has to wait.
        let good = right(&format!("good {}", answers.len()));
        house.post("/api/v1/auth/machine", json!({ "assertion": good })).await.ok(200);
    }
    let answers_given = answers.len();
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let entries = entries(&house).await;
    let proofs = find(&entries, "auth.machine");
    let (good, bad): (Vec<_>, Vec<_>) = proofs.into_iter().partition(|entry| entry["outcome"] == "allowed");
    assert_eq!(good.len(), answers_given);
    assert!(good.iter().all(|entry| entry["object"] == format!("system.keys/{}", here["_id"].as_str().unwrap())));
    assert!(bad.len() >= 2 && bad.iter().any(|entry| entry["subject"] == good[0]["subject"]), "{bad:?}");
    // A machine has no password to log in with.
    house.login("job", "").await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
}
