//! People: added, listed, changed, registered, imported; by an administrator, and by nobody else yet.

use crate::{
    house::{Answer, EMAIL, House, PASSWORD},
    recovery::{letters, token},
};
use debrouille_appliance::{
    base::clock::Timestamp,
    http::Limits,
    ports::documents::{Batch, Change, Expect, Operation, Origin},
    services::{
        Error,
        access::Caller,
        identities::{New, Settings},
    },
};
use poem::{Request, http::Method};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const PEOPLE: &str = "/api/v1/identities";
const ADMIN: &str = "/api/v1/admin/identities";
const REGISTER: &str = "/api/v1/auth/register";
const VERIFY: &str = "/api/v1/auth/verify";

impl House {
    /// Open to all who want an account, in a country with a calling code.
    pub async fn open_to_all() -> Self {
        Self::furnished(Limits::default(), Settings { registration: true, calling_code: Some(243), directory: None })
            .await
    }

    /// A person with the tests' password, and their token.
    pub async fn person(&self, email: &str) -> (String, String) {
        let person = json!({ "email": email, "password": PASSWORD });
        let id = self.post(PEOPLE, person).await.ok(201).data()["_id"].as_str().unwrap().to_owned();
        (id, self.token_of(email).await)
    }

    pub async fn token_of(&self, who: &str) -> String {
        self.login(who, PASSWORD).await.ok(200).data()["accessToken"].as_str().unwrap().to_owned()
    }

    /// A request under a token, or without any.
    pub async fn under(&self, token: Option<&str>, method: Method, path: &str, data: Option<Value>) -> Answer {
        self.ask_as(token, method, path, &[], data.map(|data| json!({ "data": data }))).await
    }

    async fn import(&self, query: &str, lines: &[Value]) -> Value {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let request = Request::builder().method(Method::POST).uri_str(format!("{ADMIN}/import{query}"));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        self.call(request.content_type("application/x-ndjson").body(body)).await.ok(200).data()
    }
}

#[tokio::test]
async fn a_person_is_added_read_changed_and_found() {
    let house = House::open_to_all().await;
    let given = json!({ "email": " Awa@Exämple.ORG", "phone": "081 234 56 78", "name": " Awa  Ilunga", "locale": "fr_cd",
        "password": PASSWORD });
    let added = house.post(PEOPLE, given).await.ok(201);
    let person = added.data();
    assert_eq!(added.header("etag"), "\"1\"");
    let expected =
        json!(["awa@xn--exmple-cua.org", false, "+243812345678", "Awa Ilunga", "fr-CD", "PERSON", "active", []]);
    let fields = ["email", "emailVerified", "phone", "name", "locale", "kind", "status", "roles"];
    assert_eq!(Value::from_iter(fields.map(|field| person[field].clone())), expected);
    for hidden in ["password", "handles", "tokensFrom"] {
        assert!(person.get(hidden).is_none(), "{hidden} is shown");
    }
    let path = format!("{PEOPLE}/{}", person["_id"].as_str().unwrap());
    let changed = house.patch(&path, json!({ "name": "Awa I.", "phone": null })).await.ok(200).data();
    assert_eq!((&changed["name"], changed.get("phone")), (&json!("Awa I."), None));
    house.ask(Method::PATCH, &path, &[("if-match", "\"1\"")], Some(json!({ "data": { "name": "x" } }))).await.ok(412);
    assert_eq!(house.get(&path).await.ok(200).data(), changed);
    // By the address as people write it, and no more by the number given up.
    house.login("AWA@exämple.org", PASSWORD).await.ok(200);
    house.login("+243812345678", PASSWORD).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.get(&format!("{PEOPLE}/nobody")).await.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
}

#[tokio::test]
async fn nobody_exists_twice_and_those_without_an_address_do_not_collide() {
    let house = House::open_to_all().await;
    let add = |person: Value| house.post(PEOPLE, person);
    add(json!({ "email": "a@example.org", "phone": "0811111111" })).await.ok(201);
    add(json!({ "email": "A@EXAMPLE.org." })).await.refused(409, "CONFLICT", "identities.email_taken");
    add(json!({ "phone": "+243 811 111 111" })).await.refused(409, "CONFLICT", "identities.phone_taken");
    let other = add(json!({ "phone": "0822222222" })).await.ok(201).data();
    let third = add(json!({ "phone": "0833333333" })).await.ok(201).data();
    add(json!({ "name": "nobody" })).await.refused(422, "VALIDATION_ERROR", "identities.unreachable");
    let path = |person: &Value| format!("{PEOPLE}/{}", person["_id"].as_str().unwrap());
    let taken = house.patch(&path(&other), json!({ "phone": "0833333333" })).await;
    taken.refused(409, "CONFLICT", "identities.phone_taken");
    // What was given up is free, at once.
    house.patch(&path(&third), json!({ "phone": "0844444444" })).await.ok(200);
    house.patch(&path(&other), json!({ "phone": "0833333333" })).await.ok(200);
    let none = house.patch(&path(&other), json!({ "phone": null })).await;
    none.refused(422, "VALIDATION_ERROR", "identities.unreachable");
}

#[tokio::test]
async fn roles_status_and_ownership_are_not_for_bodies_to_write() {
    let house = House::open_to_all().await;
    let (id, token) = house.person("p@example.org").await;
    let base = json!({ "email": "x@example.org", "password": PASSWORD });
    let smuggled = [
        ("roles", json!(["admin"])),
        ("status", json!("active")),
        ("_owner", json!("x")),
        ("kind", json!("PERSON")),
        ("emailVerified", json!(true)),
        ("handles", json!([])),
        ("tokensFrom", json!(0)),
        ("_id", json!("x")),
    ];
    for (field, value) in smuggled {
        let mut body = base.clone();
        body[field] = value.clone();
        house.post(PEOPLE, body.clone()).await.refused(422, "VALIDATION_ERROR", "http.data");
        house.under(None, Method::POST, REGISTER, Some(body)).await.refused(422, "VALIDATION_ERROR", "http.data");
        let change = json!({ field: value });
        house.patch(&format!("{PEOPLE}/{id}"), change.clone()).await.refused(
            422,
            "VALIDATION_ERROR",
            "identities.field",
        );
        house.patch("/api/v1/me", change).await.refused(422, "VALIDATION_ERROR", "identities.field");
    }
    // Not by an administrator's own route either, but for who manages identities.
    let put = |path: String, data| house.under(Some(&token), Method::PUT, Box::leak(path.into_boxed_str()), Some(data));
    put(format!("{ADMIN}/{id}/roles"), json!({ "roles": ["admin"] })).await.refused(
        403,
        "AUTH_FORBIDDEN",
        "http.forbidden",
    );
    house.put(&format!("{ADMIN}/{id}/roles"), json!({ "roles": ["auditor"] })).await.ok(200);
    house.put(&format!("{ADMIN}/{EMAIL}/roles"), json!({ "roles": [] })).await.refused(
        409,
        "CONFLICT",
        "identities.last_administrator",
    );
}

#[tokio::test]
async fn lists_are_paged_filtered_and_show_nothing_to_the_curious() {
    let house = House::open().await;
    for n in 0..5 {
        house.post(PEOPLE, json!({ "email": format!("p{n}@example.org"), "name": format!("P{n}") })).await.ok(201);
    }
    house.post("/api/v1/organizations", json!({ "name": "O" })).await.ok(201);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = house.get(&format!("{PEOPLE}?sort=-email&limit=2&total=true{cursor}")).await.ok(200).json();
        assert_eq!(page["meta"]["page"]["total"], 6, "organizations are no people");
        seen.extend(page["data"].as_array().unwrap().iter().map(|row| row["email"].as_str().unwrap().to_owned()));
        match page["meta"]["page"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["p4@example.org", "p3@example.org", "p2@example.org", "p1@example.org", "p0@example.org", EMAIL]);
    let found = house.get(&format!(r#"{PEOPLE}?filter={{"name":"P3"}}"#)).await.ok(200).data();
    assert_eq!(found[0]["email"], "p3@example.org");
    for curious in [r#"{"password":{"$regex":"^.argon2"}}"#, r#"{"$or":[{"tokensFrom":{"$gt":0}}]}"#] {
        let answer = house.get(&format!("{PEOPLE}?filter={curious}")).await;
        answer.refused(422, "VALIDATION_ERROR", "search.hidden");
    }
    house.get(&format!("{PEOPLE}?sort=password")).await.refused(422, "VALIDATION_ERROR", "search.hidden");
}

#[tokio::test]
async fn without_a_policy_that_says_so_only_an_administrator_reads_and_writes_people() {
    let house = House::open().await;
    let (id, token) = house.person("p@example.org").await;
    let path = format!("{PEOPLE}/{id}");
    house.without(&["own-identity"]).await;
    let calls = [
        (Method::GET, PEOPLE, None),
        (Method::GET, path.as_str(), None),
        (Method::GET, "/api/v1/me", None),
        (Method::POST, PEOPLE, Some(json!({ "email": "x@example.org" }))),
        (Method::PATCH, &path, Some(json!({ "name": "x" }))),
        (Method::PATCH, "/api/v1/me", Some(json!({ "name": "x" }))),
        (Method::GET, ADMIN, None),
    ];
    for (method, path, data) in calls {
        let answer = house.under(Some(&token), method.clone(), path, data).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "AUTH_FORBIDDEN"), "{method} {path}");
    }
}

#[tokio::test]
async fn by_the_first_policies_everyone_has_oneself_and_nobody_else() {
    let house = House::open().await;
    let (id, token) = house.person("p@example.org").await;
    let (other, _) = house.person("o@example.org").await;
    let people = house.under(Some(&token), Method::GET, PEOPLE, None).await.ok(200).data();
    assert_eq!((people.as_array().unwrap().len(), &people[0]["_id"]), (1, &json!(id)));
    let change = || Some(json!({ "name": "x" }));
    house.under(Some(&token), Method::PATCH, &format!("{PEOPLE}/{id}"), change()).await.ok(200);
    house.under(Some(&token), Method::PATCH, "/api/v1/me", change()).await.ok(200);
    for method in [Method::GET, Method::PATCH] {
        let data = (method == Method::PATCH).then(change).flatten();
        let answer = house.under(Some(&token), method, &format!("{PEOPLE}/{other}"), data).await;
        answer.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
    }
    // Roles, status and ways in are not among what one changes of oneself here.
    let email = Some(json!({ "email": "q@example.org" }));
    let answer = house.under(Some(&token), Method::PATCH, &format!("{PEOPLE}/{id}"), email).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
}

#[tokio::test]
async fn one_changes_oneself_and_the_ways_in_with_the_password() {
    let house = House::open().await;
    let me = house.get("/api/v1/me").await.ok(200).data();
    assert_eq!((&me["email"], &me["roles"], &me["memberships"]), (&json!(EMAIL), &json!(["admin"]), &json!([])));
    let changed = house.patch("/api/v1/me", json!({ "name": "Admin", "locale": "en" })).await.ok(200).data();
    assert_eq!((&changed["name"], &changed["locale"]), (&json!("Admin"), &json!("en")));
    for (field, value) in [("email", "other@example.org"), ("phone", "+243812345678")] {
        for password in [None, Some("not this one, no")] {
            let mut change = json!({ field: value });
            if let Some(password) = password {
                change["password"] = password.into();
            }
            let answer = house.patch("/api/v1/me", change).await;
            answer.refused(403, "AUTH_FORBIDDEN", "identities.password_wanted");
        }
        let changed = house.patch("/api/v1/me", json!({ field: value, "password": PASSWORD })).await.ok(200).data();
        if field == "email" {
            assert_eq!((&changed["email"], &changed["pendingEmail"]), (&json!(EMAIL), &json!(value)));
        }
    }
    // It counts once who reads it says so, with the account's own password.
    house.login("other@example.org", PASSWORD).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.verifications.deliver().await.unwrap();
    let proof = |password: &str| json!({ "token": token(&letters(&house)[0]), "password": password });
    house.anyone(VERIFY, proof("not this one, no")).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.anyone(VERIFY, proof(PASSWORD)).await.ok(200);
    assert_eq!(house.get("/api/v1/me").await.data()["emailVerified"], true);
    house.login("other@example.org", PASSWORD).await.ok(200);
    house.login(EMAIL, PASSWORD).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
}

#[tokio::test]
async fn registration_is_closed_unless_opened() {
    let house = House::open().await;
    let person = json!({ "email": "x@example.org", "password": PASSWORD });
    let answer = house.under(None, Method::POST, REGISTER, Some(person)).await;
    answer.refused(403, "AUTH_FORBIDDEN", "identities.registration_off");
    house.login("x@example.org", PASSWORD).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
}

#[tokio::test]
async fn a_registration_tells_nothing_and_proves_nothing() {
    let house = House::open_to_all().await;
    let register = |person| house.under(None, Method::POST, REGISTER, Some(person));
    let fresh = register(json!({ "email": "new@example.org", "password": PASSWORD, "name": "New" })).await.ok(202);
    let taken = register(json!({ "email": EMAIL, "password": "une toute autre phrase" })).await.ok(202);
    assert_eq!(fresh.data(), taken.data());
    house.login(EMAIL, PASSWORD).await.ok(200);
    let nobody = house.login("new@example.org", PASSWORD).await;
    nobody.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.verifications.deliver().await.unwrap();
    let letters = letters(&house);
    let (link, known): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| letter.contains("#token="));
    assert!(link.len() == 1 && link[0].contains("new@example.org") && link[0].contains("https://example.org/verify"));
    assert!(known.len() == 1 && known[0].contains(EMAIL), "{known:?}");
    let verify =
        async |password: &str| house.anyone(VERIFY, json!({ "token": token(link[0]), "password": password })).await;
    // A letter opened by who did not register makes nobody's account.
    verify("une toute autre phrase").await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    verify(PASSWORD).await.ok(200);
    verify(PASSWORD).await.refused(410, "GONE", "verification.gone");
    let found = house.get(&format!(r#"{PEOPLE}?filter={{"email":"new@example.org"}}"#)).await.data();
    assert_eq!((&found[0]["emailVerified"], &found[0]["roles"]), (&json!(true), &json!([])));
    house.login("new@example.org", PASSWORD).await.ok(200);
    let number = register(json!({ "phone": "0812345678", "password": PASSWORD })).await;
    number.refused(422, "VALIDATION_ERROR", "verification.email");
    let short = register(json!({ "email": "s@example.org", "password": "short" })).await;
    short.refused(422, "VALIDATION_ERROR", "identities.password_length");
    register(json!({ "email": "nothing", "password": PASSWORD })).await.refused(
        422,
        "VALIDATION_ERROR",
        "identities.email",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_proofs_of_one_address_at_once_one_wins() {
    let house = House::open_to_all().await;
    for spelling in ["One@Example.org", " one@example.ORG "] {
        let person = json!({ "email": spelling, "password": PASSWORD });
        house.under(None, Method::POST, REGISTER, Some(person)).await.ok(202);
    }
    assert_eq!(house.verifications.deliver().await.unwrap(), 1, "somebody's mail was flooded");
    let proof = json!({ "token": token(&letters(&house)[0]), "password": PASSWORD });
    let tries = (0..50).map(|_| house.anyone(VERIFY, proof.clone()));
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    let lost = answers.iter().filter(|answer| answer.status != 200);
    assert!(lost.into_iter().all(|answer| ["GONE", "RATE_LIMIT"].contains(&answer.code().as_str())));
    let found = house.get(&format!(r#"{PEOPLE}?filter={{"email":"one@example.org"}}"#)).await.data();
    assert_eq!(found.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn guesses_at_a_letters_password_end_it() {
    let house = House::open_to_all().await;
    let person = json!({ "email": "one@example.org", "password": PASSWORD });
    house.under(None, Method::POST, REGISTER, Some(person)).await.ok(202);
    house.verifications.deliver().await.unwrap();
    let token = token(&letters(&house)[0]);
    // All at once, and beneath the throttle: each counts before it is judged.
    let guess = |words: &str| {
        let (caller, words) = (Caller::system(), Zeroizing::new(words.to_owned()));
        let (verifications, token) = (house.verifications.clone(), token.clone());
        async move { verifications.confirm(&caller, &token, words).await }
    };
    let answers = futures_util::future::join_all((0..16).map(|_| guess("a guess at a passphrase"))).await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Err(Error::Unauthorized))).count(), 5);
    assert!(matches!(guess(PASSWORD).await, Err(Error::Gone(_))));
    assert_eq!(house.stores.0.describe("system.verifications").await.unwrap().unwrap().documents, 0);
}

#[tokio::test]
async fn accounts_are_imported_with_their_hashes_which_a_login_replaces() {
    let house = House::open_to_all().await;
    let organization = house.post("/api/v1/organizations", json!({ "name": "O" })).await.ok(201).data();
    let organization = organization["_id"].as_str().unwrap();
    // Of "correct horse", as libcrypt hashes it.
    let bcrypt = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    let lines = [
        json!({ "email": "B@example.org", "name": "B", "passwordHash": bcrypt, "emailVerified": true,
            "memberships": [{ "organization": organization, "role": "STAFF" }] }),
        json!({ "email": "b@EXAMPLE.org" }),
        json!({ "email": "c@example.org", "passwordHash": "plain" }),
        json!({ "email": "d@example.org", "isAdmin": true }),
        json!({ "email": "e@example.org", "memberships": [{ "organization": "nowhere", "role": "STAFF" }] }),
        json!({ "phone": "0811111111", "roles": ["auditor"] }),
        json!({ "email": EMAIL }),
        json!({ "email": "f@example.org", "passwordHash": bcrypt.replace("$04$", "$15$") }),
    ];
    let report = house.import("", &lines).await;
    let count = |report: &Value| ["created", "updated", "failed"].map(|name| report[name].as_u64().unwrap());
    assert_eq!((count(&report), &report["done"]), ([2, 0, 6], &json!(true)), "{report}");
    let mut errors: Vec<_> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["details"]["rule"].as_str().unwrap().to_owned()))
        .collect();
    errors.sort();
    let expected = [
        (2, "identities.email_taken"),
        (3, "identities.hash"),
        (4, "http.data"),
        (5, "memberships.not_active"),
        (7, "identities.email_taken"),
        (8, "identities.hash_cost"),
    ];
    assert_eq!(errors, expected.map(|(line, rule)| (line, rule.to_owned())));
    let found = house.get(&format!(r#"{PEOPLE}?filter={{"email":"b@example.org"}}"#)).await.data();
    let (id, rev) = (found[0]["_id"].as_str().unwrap().to_owned(), found[0]["_rev"].as_i64().unwrap());
    assert_eq!(found[0]["emailVerified"], true);
    house.login("b@example.org", "wrong horse").await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    for _ in 0..2 {
        house.login("b@example.org", "correct horse").await.ok(200);
    }
    let after = house.get(&format!("{PEOPLE}/{id}")).await.data();
    assert_eq!(after["_rev"], rev + 1, "hashed anew once, at the first login");
    // The same lines again change nothing without being asked to.
    assert_eq!(count(&house.import("", &lines[..1]).await), [0, 0, 1]);
    let again = json!({ "email": "b@example.org", "name": "Bee", "passwordHash": bcrypt, "roles": ["admin"] });
    assert_eq!(count(&house.import("?upsert=true", &[again]).await), [0, 1, 0]);
    let after = house.get(&format!("{PEOPLE}/{id}")).await.data();
    assert_eq!((&after["name"], &after["roles"]), (&json!("Bee"), &json!([])));
    let (_, token) = house.person("p@example.org").await;
    let request = Request::builder().method(Method::POST).uri_str(format!("{ADMIN}/import"));
    let request = request.header("authorization", format!("Bearer {token}")).content_type("application/x-ndjson");
    house.call(request.body("{}\n")).await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
}

#[tokio::test]
async fn who_manages_some_people_makes_no_administrator_and_gets_in_as_none() {
    let house = House::open().await;
    let (_, helper) = house.person("helper@example.org").await;
    let admin = house.get("/api/v1/me").await.data()["_id"].as_str().unwrap().to_owned();
    let scope = json!({ "$or": [{ "locale": "fr" }, { "_id": admin }] });
    let policy = json!({ "module": "identities", "action": ["VIEW", "MANAGE"], "roles": ["identity"], "where": scope });
    house.put("/api/v1/policies/helping", policy).await.ok(201);
    let ask = async |method, path: &str, data| house.under(Some(&helper), method, path, Some(data)).await;
    let person =
        |roles: Value| json!({ "email": "a@example.org", "password": PASSWORD, "locale": "fr", "roles": roles });
    let forbidden = ask(Method::POST, ADMIN, person(json!(["admin"]))).await;
    forbidden.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    let line = json!({ "email": "a@example.org", "locale": "fr", "roles": ["admin"] });
    let request = Request::builder().method(Method::POST).uri_str(format!("{ADMIN}/import"));
    let request = request.header("authorization", format!("Bearer {helper}")).header("accept", "application/json");
    let report =
        house.call(request.content_type("application/x-ndjson").body(format!("{line}\n"))).await.ok(200).data();
    assert_eq!((&report["created"], &report["failed"]), (&json!(0), &json!(1)), "{report}");
    // A line out of their reach leaves the others their way.
    let lines =
        format!("{}\n{}\n", json!({ "email": "x@example.org" }), json!({ "email": "y@example.org", "locale": "fr" }));
    let request = Request::builder().method(Method::POST).uri_str(format!("{ADMIN}/import"));
    let request = request.header("authorization", format!("Bearer {helper}")).header("accept", "application/json");
    let report = house.call(request.content_type("application/x-ndjson").body(lines)).await.ok(200).data();
    assert_eq!((&report["created"], &report["failed"]), (&json!(1), &json!(1)), "{report}");
    for (method, way, data) in [
        (Method::PUT, "password", json!({ "password": "une autre longue phrase" })),
        (Method::PUT, "status", json!({ "status": "disabled" })),
        (Method::PUT, "status", json!({ "status": "active" })),
        (Method::DELETE, "sessions", json!({})),
        (Method::POST, "recovery", json!({})),
        (Method::POST, "keys", json!({ "name": "k", "password": PASSWORD })),
        (Method::DELETE, "factors", json!({})),
    ] {
        let answer = ask(method, &format!("{ADMIN}/{admin}/{way}"), data).await;
        answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
    let email = json!({ "email": "mine@example.org" });
    let answer = ask(Method::PATCH, &format!("{PEOPLE}/{admin}"), email.clone()).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    // One's own ways in are changed by one's own proof, whatever rights one has over others.
    house.patch(&format!("{PEOPLE}/{admin}"), email).await.refused(409, "CONFLICT", "identities.own_proof");
}

#[tokio::test]
async fn who_changes_people_without_reading_them_is_told_their_id_alone() {
    let house = House::open_to_all().await;
    let (ana, _) = house.person("ana@example.org").await;
    let (_, clerk) = house.person("clerk@example.org").await;
    let policy = json!({ "module": "identities", "action": "UPDATE", "roles": ["identity"], "where": { "_id": ana } });
    house.put("/api/v1/policies/renaming", policy).await.ok(201);
    let path = format!("{PEOPLE}/{ana}");
    let answer = house.under(Some(&clerk), Method::PATCH, &path, Some(json!({ "name": "Ana" }))).await.ok(200).data();
    let named: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(named, ["_id", "_rev"], "{answer}");
    let rev = answer["_rev"].as_i64().unwrap();
    let next = format!("\"{}\"", rev + 1);
    let early = house.ask(Method::PATCH, &path, &[("if-match", &next)], Some(json!({ "data": { "name": "x" } }))).await;
    early.ok(412);
}

#[tokio::test]
async fn an_address_is_ones_own_to_change_where_a_policy_says_so() {
    let house = House::open().await;
    let (_, token) = house.person("p@example.org").await;
    house.without(&["own-identity"]).await;
    let view =
        json!({ "module": "identities", "action": "VIEW", "roles": ["identity"], "where": { "_id": "$identity.id" } });
    house.put("/api/v1/policies/look", view).await.ok(201);
    let change = || Some(json!({ "email": "q@example.org", "password": PASSWORD }));
    let answer = house.under(Some(&token), Method::PATCH, "/api/v1/me", change()).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    let scope = json!({ "_id": "$identity.id", "email": { "$regex": "@example.org$" } });
    let update = json!({ "module": "identities", "action": "UPDATE", "roles": ["identity"], "where": scope });
    house.put("/api/v1/policies/of-ours", update).await.ok(201);
    let elsewhere = Some(json!({ "email": "q@elsewhere.org", "password": PASSWORD }));
    let answer = house.under(Some(&token), Method::PATCH, "/api/v1/me", elsewhere).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    house.under(Some(&token), Method::PATCH, "/api/v1/me", change()).await.ok(200);
    // Whoever had the address is told.
    house.verifications.deliver().await.unwrap();
    let proof = json!({ "token": token_of_letter(&house), "password": PASSWORD });
    house.anyone(VERIFY, proof).await.ok(200);
    house.verifications.deliver().await.unwrap();
    assert!(letters(&house).iter().any(|letter| letter.contains("To: p@example.org")), "{:?}", letters(&house));
}

fn token_of_letter(house: &House) -> String {
    token(letters(house).iter().find(|letter| letter.contains("#token=")).unwrap())
}

#[tokio::test]
async fn what_is_not_the_guessers_fault_costs_no_guess_and_the_newest_note_is_kept() {
    let house = House::open_to_all().await;
    let register = async |password: &str| {
        let new = New {
            email: Some("one@example.org".to_owned()),
            phone: Some("0812345678".to_owned()),
            password: Some(Zeroizing::new(password.to_owned())),
            ..New::default()
        };
        house.verifications.register(&Caller::system(), new).await.unwrap();
    };
    // Somebody plays with the address: its owner's request is the last.
    for n in 0..21 {
        register(&format!("the passphrase of try {n:02}")).await;
    }
    register(PASSWORD).await;
    assert_eq!(house.stores.0.describe("system.verifications").await.unwrap().unwrap().documents, 20);
    let notes = house.stores.0.snapshot().await.unwrap().documents("system.verifications", None, 100).unwrap();
    for other in &notes[..notes.len() - 1] {
        let (id, expect) = (other.get_str("_id").unwrap().to_owned(), Expect::Present);
        let operation = Operation { collection: "system.verifications".to_owned(), id, expect, change: Change::Delete };
        let (time, origin, operations) = (Timestamp(1), Origin::default(), vec![operation]);
        house.stores.0.commit(Batch { time, origin, operations, check: None, receipt: None }).await.unwrap();
    }
    house.verifications.deliver().await.unwrap();
    let token = token(&letters(&house)[0]);
    let person = json!({ "email": "two@example.org", "phone": "0812345678", "password": PASSWORD });
    let taken = house.post(PEOPLE, person).await.ok(201).data();
    let confirm = async || {
        let password = Zeroizing::new(PASSWORD.to_owned());
        house.verifications.confirm(&Caller::system(), &token, password).await
    };
    for _ in 0..6 {
        assert!(matches!(confirm().await, Err(Error::Conflict(_))));
    }
    let path = format!("{PEOPLE}/{}", taken["_id"].as_str().unwrap());
    house.patch(&path, json!({ "phone": null })).await.ok(200);
    assert_eq!(confirm().await.unwrap().email.as_deref(), Some("one@example.org"));
}
