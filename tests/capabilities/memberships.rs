//! Memberships: made, changed, ended and kept; the last owner stays; acting for an organization.

use crate::house::{EMAIL, House};
use poem::http::Method;
use serde_json::{Value, json};

const MEMBERSHIPS: &str = "/api/v1/memberships";
const ADMIN: &str = "/api/v1/admin/identities";

impl House {
    pub async fn member(&self, person: &str, organization: &str, role: &str) -> String {
        let made = json!({ "person": person, "organization": organization, "role": role });
        self.post(MEMBERSHIPS, made).await.ok(201).data()["_id"].as_str().unwrap().to_owned()
    }

    /// The membership by which a person owns an organization.
    async fn ownership(&self, person: &str, organization: &str) -> String {
        let filter = json!({ "person": person, "organization": organization, "status": "active" });
        let found = self.get(&format!("{MEMBERSHIPS}?filter={filter}")).await.data();
        found[0]["_id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_membership_ends_and_stays_in_the_history() {
    let house = House::open().await;
    let (owner, _) = house.person("o@example.org").await;
    let (person, _) = house.person("p@example.org").await;
    let organization = house.organization("O", &owner).await;
    let id = house.member(&person, &organization, "MEMBER").await;
    let twice = json!({ "person": person, "organization": organization, "role": "STAFF" });
    house.post(MEMBERSHIPS, twice.clone()).await.refused(409, "CONFLICT", "memberships.exists");
    let path = format!("{MEMBERSHIPS}/{id}");
    assert_eq!(house.patch(&path, json!({ "role": "STAFF" })).await.ok(200).data()["role"], "STAFF");
    let ended = house.delete(&path).await.ok(200).data();
    assert_eq!((&ended["status"], &ended["role"]), (&json!("ended"), &json!("STAFF")));
    assert!(ended["ended"]["$date"].is_string() && ended["since"]["$date"].is_string(), "{ended}");
    house.delete(&path).await.refused(409, "CONFLICT", "memberships.ended");
    house.patch(&path, json!({ "role": "OWNER" })).await.refused(409, "CONFLICT", "memberships.ended");
    house.post(MEMBERSHIPS, twice).await.ok(201);
    let filter = json!({ "person": person });
    let all = house.get(&format!("{MEMBERSHIPS}?filter={filter}&sort=_createdAt")).await.data();
    assert_eq!(
        Value::from_iter(all.as_array().unwrap().iter().map(|row| row["status"].clone())),
        json!(["ended", "active"])
    );
}

#[tokio::test]
async fn bodies_hold_a_person_an_organization_and_a_role_alone() {
    let house = House::open().await;
    let (person, _) = house.person("p@example.org").await;
    let organization = house.organization("O", &person).await;
    let base = json!({ "person": person, "organization": organization, "role": "OWNER" });
    for field in ["status", "since", "by", "_owner", "_id", "ended"] {
        let mut body = base.clone();
        body[field] = "x".into();
        house.post(MEMBERSHIPS, body).await.refused(422, "VALIDATION_ERROR", "http.data");
        let path = format!("{MEMBERSHIPS}/{}", house.ownership(&person, &organization).await);
        let change = json!({ "role": "OWNER", field: "x" });
        house.patch(&path, change).await.refused(422, "VALIDATION_ERROR", "http.data");
    }
    let mut body = base.clone();
    body["role"] = "BOSS".into();
    house.post(MEMBERSHIPS, body).await.refused(422, "VALIDATION_ERROR", "memberships.role");
    for (field, other) in [("person", organization.as_str()), ("organization", person.as_str()), ("person", "nobody")] {
        let mut body = base.clone();
        body[field] = other.into();
        house.post(MEMBERSHIPS, body).await.refused(422, "VALIDATION_ERROR", "memberships.not_active");
    }
}

#[tokio::test]
async fn the_last_owner_neither_leaves_nor_steps_down_nor_is_disabled() {
    let house = House::open().await;
    let (one, _) = house.person("one@example.org").await;
    let (two, _) = house.person("two@example.org").await;
    let organization = house.organization("O", &one).await;
    let path = format!("{MEMBERSHIPS}/{}", house.ownership(&one, &organization).await);
    let disable = |who: &str| {
        let path = format!("{ADMIN}/{who}/status");
        let house = &house;
        async move { house.put(&path, json!({ "status": "disabled" })).await }
    };
    house.delete(&path).await.refused(409, "CONFLICT", "memberships.last_owner");
    house.patch(&path, json!({ "role": "ADMIN" })).await.refused(409, "CONFLICT", "memberships.last_owner");
    disable(&one).await.refused(409, "CONFLICT", "identities.last_owner");
    // One who is disabled does not count as an owner.
    house.member(&two, &organization, "OWNER").await;
    disable(&two).await.ok(200);
    house.delete(&path).await.refused(409, "CONFLICT", "memberships.last_owner");
    house.put(&format!("{ADMIN}/{two}/status"), json!({ "status": "active" })).await.ok(200);
    disable(&one).await.ok(200);
    // Of an organization that is disabled itself, nobody needs to stay.
    house.put(&format!("{ADMIN}/{organization}/status"), json!({ "status": "disabled" })).await.ok(200);
    disable(&two).await.ok(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_last_owners_who_leave_at_once_one_stays() {
    let house = House::open().await;
    let (one, _) = house.person("one@example.org").await;
    let (two, _) = house.person("two@example.org").await;
    for round in 0..10 {
        let organization = house.organization(&format!("O{round}"), &one).await;
        let second = house.member(&two, &organization, "OWNER").await;
        let first = house.ownership(&one, &organization).await;
        let (first, second) = (format!("{MEMBERSHIPS}/{first}"), format!("{MEMBERSHIPS}/{second}"));
        let (left, right) = tokio::join!(house.delete(&first), house.delete(&second));
        let mut statuses = [left.status.as_u16(), right.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "round {round}");
    }
}

#[tokio::test]
async fn who_acts_for_an_organization_owns_in_its_name_as_long_as_they_are_a_member() {
    let house = House::open().await;
    let documents = house.collection(json!({ "name": "notes" })).await;
    let me = house.get("/api/v1/me").await.data()["_id"].as_str().unwrap().to_owned();
    let (other, _) = house.person("o@example.org").await;
    let organization = house.organization("O", &other).await;
    let acting = [("x-organization-id", organization.as_str())];
    let note = json!({ "data": { "n": 1 } });
    // An administrator of the instance is not a member of everything.
    let stranger = house.ask(Method::POST, &documents, &acting, Some(note.clone())).await;
    stranger.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    let membership = house.member(&me, &organization, "STAFF").await;
    let made = house.ask(Method::POST, &documents, &acting, Some(note.clone())).await.ok(201).data();
    assert_eq!((&made["_owner"], &made["_organization"]), (&json!(organization), &json!(organization)));
    let own = house.post(&documents, json!({ "n": 2 })).await.ok(201).data();
    assert_eq!((&own["_owner"], own.get("_organization")), (&json!(me), None));
    let narrowed = house.ask(Method::GET, "/api/v1/me", &acting, None).await.ok(200).data();
    assert_eq!(narrowed["memberships"], json!([{ "organization": organization, "role": "STAFF" }]));
    // Ended, it ends at the next request.
    house.delete(&format!("{MEMBERSHIPS}/{membership}")).await.ok(200);
    let late = house.ask(Method::POST, &documents, &acting, Some(note)).await;
    late.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    for wrong in ["", "nowhere", "é"] {
        let answer = house.ask(Method::GET, &documents, &[("x-organization-id", wrong)], None).await;
        answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
}

#[tokio::test]
async fn without_a_policy_that_says_so_not_even_an_owner_hands_out_memberships() {
    let house = House::open().await;
    let (owner, token) = house.person("o@example.org").await;
    let organization = house.organization("O", &owner).await;
    let path = format!("{MEMBERSHIPS}/{}", house.ownership(&owner, &organization).await);
    let made = json!({ "person": owner, "organization": organization, "role": "MEMBER" });
    house.without(&["own-memberships", "membership-leaders"]).await;
    let calls = [
        (Method::GET, MEMBERSHIPS, None),
        (Method::GET, path.as_str(), None),
        (Method::POST, MEMBERSHIPS, Some(made)),
        (Method::PATCH, path.as_str(), Some(json!({ "role": "MEMBER" }))),
        (Method::DELETE, path.as_str(), None),
    ];
    for (method, path, data) in calls {
        let answer = house.under(Some(&token), method, path, data).await;
        answer.refused(403, "AUTH_FORBIDDEN", "http.forbidden");
    }
    house.get(&format!("{MEMBERSHIPS}/nothing")).await.refused(404, "RESOURCE_NOT_FOUND", "memberships.unknown");
    house.login(EMAIL, crate::house::PASSWORD).await.ok(200);
}

#[tokio::test]
async fn by_the_first_policies_leaders_lead_their_own_organization_within_their_rank() {
    let house = House::open().await;
    let (owner, of_owner) = house.person("o@example.org").await;
    let (admin, of_admin) = house.person("a@example.org").await;
    let (staff, of_staff) = house.person("s@example.org").await;
    let (stranger, of_stranger) = house.person("x@example.org").await;
    let organization = house.organization("O", &owner).await;
    house.organization("Another", &stranger).await;
    let member =
        |person: &str, role: &str| Some(json!({ "person": person, "organization": organization, "role": role }));
    let ask = async |token: &str, method, path: &str, data| house.under(Some(token), method, path, data).await;
    // An owner makes administrators; an administrator makes staff, and nobody of their own rank.
    ask(&of_owner, Method::POST, MEMBERSHIPS, member(&admin, "ADMIN")).await.ok(201);
    let peer = ask(&of_admin, Method::POST, MEMBERSHIPS, member(&staff, "ADMIN")).await;
    assert_eq!((peer.status.as_u16(), peer.code().as_str()), (403, "AUTH_FORBIDDEN"), "{}", peer.text);
    let made = ask(&of_admin, Method::POST, MEMBERSHIPS, member(&staff, "STAFF")).await.ok(201).data();
    // Staff see their own membership and make none; a stranger who leads elsewhere sees nothing of it.
    let seen = ask(&of_staff, Method::GET, MEMBERSHIPS, None).await.ok(200).data();
    assert_eq!(seen.as_array().unwrap().len(), 1);
    for token in [&of_staff, &of_stranger] {
        let answer = ask(token, Method::POST, MEMBERSHIPS, member(&stranger, "MEMBER")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "AUTH_FORBIDDEN"), "{}", answer.text);
    }
    let path = format!("{MEMBERSHIPS}/{}", made["_id"].as_str().unwrap());
    ask(&of_stranger, Method::GET, &path, None).await.refused(404, "RESOURCE_NOT_FOUND", "memberships.unknown");
    // Nobody raises themselves; anybody leaves.
    let raised = ask(&of_staff, Method::PATCH, &path, Some(json!({ "role": "ADMIN" }))).await;
    assert_eq!((raised.status.as_u16(), raised.code().as_str()), (403, "AUTH_FORBIDDEN"), "{}", raised.text);
    ask(&of_staff, Method::DELETE, &path, None).await.ok(200);
    assert!(ask(&of_staff, Method::GET, "/api/v1/organizations", None).await.data().as_array().unwrap().is_empty());
}
