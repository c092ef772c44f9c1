//! Invitations: by address or to a person, good once, taken back, and worth what their maker may do.

use crate::house::{House, PASSWORD};
use poem::http::Method;
use serde_json::{Value, json};

const INVITATIONS: &str = "/api/v1/invitations";
const ACCEPT: &str = "/api/v1/invitations/accept";

impl House {
    async fn invite(&self, organization: &str, role: &str, whom: (&str, &str)) -> Value {
        let invitation = json!({ "organization": organization, "role": role, whom.0: whom.1 });
        self.post(INVITATIONS, invitation).await.ok(201).data()
    }
}

#[tokio::test]
async fn a_stranger_accepts_once_and_has_an_account() {
    let house = House::open().await;
    let (owner, _) = house.person("o@example.org").await;
    let organization = house.organization("O", &owner).await;
    let made = house.invite(&organization, "STAFF", ("email", " New@Example.org")).await;
    assert_eq!((&made["email"], &made["status"]), (&json!("new@example.org"), &json!("pending")));
    let listed = house.get(INVITATIONS).await.data();
    assert!(listed[0].get("token").is_none() && listed[0].get("hash").is_none(), "{listed}");
    let token = made["token"].as_str().unwrap();
    assert!(token.len() >= 43, "256 bits");
    let accept = |data: Value| house.under(None, Method::POST, ACCEPT, Some(data));
    accept(json!({ "token": token })).await.refused(422, "VALIDATION_ERROR", "invitations.account");
    accept(json!({ "token": "x".repeat(43) })).await.refused(404, "RESOURCE_NOT_FOUND", "invitations.unknown");
    let smuggled = json!({ "token": token, "name": "N", "password": PASSWORD, "role": "OWNER" });
    accept(smuggled).await.refused(422, "VALIDATION_ERROR", "http.data");
    let short = json!({ "token": token, "name": "New", "password": "short" });
    accept(short).await.refused(422, "VALIDATION_ERROR", "identities.password_length");
    let good = json!({ "token": token, "name": "New", "password": PASSWORD });
    let member = accept(good.clone()).await.ok(201).data();
    assert_eq!((&member["organization"], &member["role"]), (&json!(organization), &json!("STAFF")));
    accept(good).await.refused(410, "GONE", "invitations.gone");
    let person = house.login("new@example.org", PASSWORD).await.ok(200).data()["identity"]["_id"].clone();
    assert_eq!(member["person"], person);
    // The token went through the inviter's hands: it proves no address.
    let filter = json!({ "email": "new@example.org" });
    let found = house.get(&format!("/api/v1/identities?filter={filter}")).await.data();
    assert_eq!((&found[0]["emailVerified"], &found[0]["name"]), (&json!(false), &json!("New")));
}

#[tokio::test]
async fn a_person_accepts_for_themselves_alone() {
    let house = House::open().await;
    let (owner, _) = house.person("o@example.org").await;
    let (person, token) = house.person("p@example.org").await;
    let (_, other) = house.person("other@example.org").await;
    let organization = house.organization("O", &owner).await;
    let second = house.organization("Second", &owner).await;
    let by_address = house.invite(&organization, "ADMIN", ("email", "P@example.org")).await;
    let by_id = house.invite(&second, "MEMBER", ("person", &person)).await;
    for invitation in [by_address, by_id] {
        let data = json!({ "token": invitation["token"] });
        let accept = |token| house.under(token, Method::POST, ACCEPT, Some(data.clone()));
        // The address has an account: whose it is must say so.
        accept(None).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
        accept(Some(&*other)).await.refused(403, "AUTH_FORBIDDEN", "invitations.other_person");
        accept(Some("nonsense")).await.refused(401, "AUTH_INVALID_TOKEN", "http.invalid_token");
        assert_eq!(accept(Some(&*token)).await.ok(201).data()["person"], json!(person));
        accept(Some(&*token)).await.refused(410, "GONE", "invitations.gone");
    }
    let again = house.invite(&organization, "STAFF", ("person", &person)).await;
    let again = house.under(Some(&token), Method::POST, ACCEPT, Some(json!({ "token": again["token"] }))).await;
    again.refused(409, "CONFLICT", "memberships.exists");
    let acting = [("x-organization-id", organization.as_str())];
    house.ask_as(Some(&token), Method::GET, "/api/v1/auth/sessions", &acting, None).await.ok(200);
}

#[tokio::test]
async fn taken_back_or_made_by_who_is_gone_it_is_worth_nothing() {
    let house = House::open().await;
    let (owner, _) = house.person("o@example.org").await;
    let organization = house.organization("O", &owner).await;
    let accept = |made: &Value, name: &str| {
        let data = json!({ "token": made["token"], "name": name, "password": PASSWORD });
        let house = &house;
        async move { house.under(None, Method::POST, ACCEPT, Some(data)).await }
    };
    let made = house.invite(&organization, "STAFF", ("email", "a@example.org")).await;
    let path = format!("{INVITATIONS}/{}", made["_id"].as_str().unwrap());
    assert_eq!(house.delete(&path).await.ok(200).data()["status"], "revoked");
    house.delete(&path).await.refused(410, "GONE", "invitations.gone");
    accept(&made, "A").await.refused(410, "GONE", "invitations.gone");
    // The administrator who invited is one no more.
    let made = house.invite(&organization, "STAFF", ("email", "b@example.org")).await;
    let second = json!({ "email": "second@example.org", "password": PASSWORD, "roles": ["admin"] });
    house.post("/api/v1/admin/identities", second).await.ok(201);
    let token = house.token_of("second@example.org").await;
    let path = format!("/api/v1/admin/identities/{}/roles", crate::house::EMAIL);
    house.under(Some(&token), Method::PUT, &path, Some(json!({ "roles": [] }))).await.ok(200);
    accept(&made, "B").await.refused(410, "GONE", "invitations.gone");
    house.login("b@example.org", PASSWORD).await.refused(401, "AUTH_UNAUTHORIZED", "http.unauthorized");
    house.under(Some(&token), Method::PUT, &path, Some(json!({ "roles": ["admin"] }))).await.ok(200);
    accept(&made, "B").await.ok(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_accept_at_once_one_does() {
    let house = House::open().await;
    let (owner, _) = house.person("o@example.org").await;
    let organization = house.organization("O", &owner).await;
    let made = house.invite(&organization, "STAFF", ("email", "a@example.org")).await;
    let data = json!({ "token": made["token"], "name": "A", "password": PASSWORD });
    let tries = (0..10).map(|_| house.under(None, Method::POST, ACCEPT, Some(data.clone())));
    let answers = futures_util::future::join_all(tries).await;
    let won = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(won, 1);
    let filter = json!({ "organization": organization, "role": "STAFF" });
    let members = house.get(&format!("/api/v1/memberships?filter={filter}")).await.data();
    assert_eq!(members.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bodies_say_whom_and_as_what_alone() {
    let house = House::open().await;
    let (owner, token) = house.person("o@example.org").await;
    let organization = house.organization("O", &owner).await;
    let base = json!({ "organization": organization, "role": "STAFF" });
    let with = |fields: Value| {
        let mut body = base.clone();
        fields.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    house.post(INVITATIONS, base.clone()).await.refused(422, "VALIDATION_ERROR", "invitations.whom");
    let both = with(json!({ "email": "a@example.org", "person": owner }));
    house.post(INVITATIONS, both).await.refused(422, "VALIDATION_ERROR", "invitations.whom");
    for field in ["status", "expires", "mailed", "hash", "by"] {
        let body = with(json!({ "email": "a@example.org", field: "x" }));
        house.post(INVITATIONS, body).await.refused(422, "VALIDATION_ERROR", "http.data");
    }
    let nowhere = json!({ "organization": "nowhere", "role": "STAFF", "email": "a@example.org" });
    house.post(INVITATIONS, nowhere).await.refused(422, "VALIDATION_ERROR", "memberships.not_active");
    // By the first policies an owner invites, to the own organization alone; without them nobody but administrators.
    let body = || Some(with(json!({ "email": "a@example.org" })));
    house.under(Some(&token), Method::POST, INVITATIONS, body()).await.ok(201);
    let elsewhere = house.organization("P", &house.person("p@example.org").await.0).await;
    let foreign = Some(with(json!({ "email": "b@example.org", "organization": elsewhere })));
    let answer = house.under(Some(&token), Method::POST, INVITATIONS, foreign).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "AUTH_FORBIDDEN"), "{}", answer.text);
    house.without(&["membership-leaders"]).await;
    let answer = house.under(Some(&token), Method::POST, INVITATIONS, body()).await;
    answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
}
