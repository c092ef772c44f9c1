//! Organizations: made with an owner, changed, disabled; for an administrator, until policies say more.

use crate::house::House;
use poem::http::Method;
use serde_json::{Value, json};

pub const ORGANIZATIONS: &str = "/api/v1/organizations";
const ADMIN: &str = "/api/v1/admin/identities";

impl House {
    /// An organization owned by the person.
    pub async fn organization(&self, name: &str, owner: &str) -> String {
        let made = self.post(ORGANIZATIONS, json!({ "name": name, "owner": owner })).await.ok(201).data();
        made["_id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_organization_is_made_with_its_first_owner() {
    let house = House::open().await;
    let me = house.get("/api/v1/me").await.data()["_id"].clone();
    let given = json!({ "name": " Mairie  de Goma", "legalId": "CD/GOM/rccm 14-b-0042", "locale": "fr" });
    let made = house.post(ORGANIZATIONS, given).await.ok(201).data();
    let fields = ["kind", "name", "legalId", "locale", "status"].map(|field| made[field].clone());
    assert_eq!(fields, ["ORGANIZATION", "Mairie de Goma", "CDGOMRCCM14B0042", "fr", "active"].map(Value::from));
    let members = house.get("/api/v1/memberships").await.data();
    assert_eq!((&members[0]["person"], &members[0]["role"]), (&me, &json!("OWNER")));
    assert_eq!(house.get("/api/v1/me").await.data()["memberships"][0]["role"], "OWNER");
    let path = format!("{ORGANIZATIONS}/{}", made["_id"].as_str().unwrap());
    let changed = house.patch(&path, json!({ "name": "Ville de Goma", "legalId": null })).await.ok(200).data();
    assert_eq!((&changed["name"], changed.get("legalId")), (&json!("Ville de Goma"), None));
    for field in ["status", "kind", "_owner", "owner", "handles", "password"] {
        let answer = house.patch(&path, json!({ field: "x" })).await;
        answer.refused(422, "VALIDATION_ERROR", "organizations.field");
        let answer = house.post(ORGANIZATIONS, json!({ "name": "x", "roles": ["admin"] })).await;
        answer.refused(422, "VALIDATION_ERROR", "http.data");
    }
    // Not as a person, and a person not as an organization.
    let as_person = format!("/api/v1/identities/{}", made["_id"].as_str().unwrap());
    house.get(&as_person).await.refused(404, "RESOURCE_NOT_FOUND", "identities.unknown");
    let as_organization = format!("{ORGANIZATIONS}/{}", me.as_str().unwrap());
    house.get(&as_organization).await.refused(404, "RESOURCE_NOT_FOUND", "organizations.unknown");
}

#[tokio::test]
async fn a_legal_identifier_has_one_bearer_and_those_without_do_not_collide() {
    let house = House::open().await;
    for _ in 0..2 {
        house.post(ORGANIZATIONS, json!({ "name": "Same name" })).await.ok(201);
    }
    house.post(ORGANIZATIONS, json!({ "name": "A", "legalId": "rccm-1" })).await.ok(201);
    let again = house.post(ORGANIZATIONS, json!({ "name": "B", "legalId": "RCCM 1" })).await;
    again.refused(409, "CONFLICT", "organizations.legal_id_taken");
    let members = house.get("/api/v1/memberships?total=true").await.json();
    assert_eq!(members["meta"]["page"]["total"], 3, "an owner of an organization that was not made");
    let nobody = house.post(ORGANIZATIONS, json!({ "name": "C", "owner": "nobody" })).await;
    nobody.refused(422, "VALIDATION_ERROR", "memberships.not_active");
}

#[tokio::test]
async fn a_disabled_organization_counts_for_nobody_and_comes_back() {
    let house = House::open().await;
    let (owner, token) = house.person("o@example.org").await;
    let organization = house.organization("O", &owner).await;
    let acting = [("x-organization-id", organization.as_str())];
    let ask = || house.ask_as(Some(&token), Method::GET, "/api/v1/auth/sessions", &acting, None);
    ask().await.ok(200);
    house.put(&format!("{ADMIN}/{organization}/status"), json!({ "status": "disabled" })).await.ok(200);
    ask().await.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    house.put(&format!("{ADMIN}/{organization}/status"), json!({ "status": "active" })).await.ok(200);
    ask().await.ok(200);
}

#[tokio::test]
async fn without_a_policy_that_says_so_only_an_administrator_sees_and_makes_organizations() {
    let house = House::open().await;
    let (owner, token) = house.person("o@example.org").await;
    let path = format!("{ORGANIZATIONS}/{}", house.organization("O", &owner).await);
    house.without(&["own-organizations", "organization-leaders"]).await;
    let calls = [
        (Method::GET, ORGANIZATIONS, None),
        (Method::GET, path.as_str(), None),
        (Method::POST, ORGANIZATIONS, Some(json!({ "name": "x" }))),
        (Method::PATCH, path.as_str(), Some(json!({ "name": "x" }))),
    ];
    for (method, path, data) in calls {
        let answer = house.under(Some(&token), method, path, data).await;
        answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
}
