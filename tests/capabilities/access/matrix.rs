//! Every operation of the reference, asked by those who have no business with it. An operation without a row fails:
//! who adds one says here what each of them gets.

use super::{Operation, PUBLIC, operations};
use crate::{
    house::{House, PASSWORD},
    mfa,
};
use debrouille_appliance::base::environment::Environment;
use poem::{Request, http::Method};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write};

/// What each asks for stands in the instance: a collection open to an organization's own people, a document, people,
/// memberships, keys, policies, backups.
struct Stage {
    house: House,
    /// By the name of a parameter and the beginning of a path.
    targets: Vec<(&'static str, &'static str, String)>,
    /// A person with no role; the owner of another organization, acting for it; a key of the owner's, to read with.
    person: String,
    elsewhere: (String, String),
    key: String,
}

const DOCUMENTS: &str = "/api/v1/collections/things/documents";

impl Stage {
    async fn set() -> Self {
        let house = House::open().await;
        let own = json!({ "_organization": { "$in": "$identity.organizations" } });
        let policies = json!([{
            "name": "own-things", "action": ["VIEW", "CREATE", "UPDATE", "DELETE"], "roles": ["OWNER", "STAFF"], "where": own,
        }]);
        house.collection(json!({ "name": "things", "policies": policies })).await;
        let (owner, of_owner) = house.person("owner@example.org").await;
        let (stranger, of_stranger) = house.person("stranger@example.org").await;
        let (_, person) = house.person("person@example.org").await;
        let organization = house.organization("Here", &owner).await;
        let other = house.organization("Elsewhere", &stranger).await;
        let acting = [("x-organization-id", organization.as_str())];
        let document = Some(json!({ "data": { "_id": "d", "n": 1 } }));
        house.ask_as(Some(&of_owner), Method::POST, DOCUMENTS, &acting, document).await.ok(201);
        let scope = json!({ "name": "reader", "scopes": { "actions": ["VIEW"] }, "password": PASSWORD });
        let key = house.under(Some(&of_owner), Method::POST, "/api/v1/auth/keys", Some(scope)).await.ok(201).data();
        let memberships = house.get(&format!(r#"/api/v1/memberships?filter={{"person":"{owner}"}}"#)).await.data();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let targets = vec![
            ("collection", "", "things".to_owned()),
            ("who", "", owner.clone()),
            ("name", "", "own-things".to_owned()),
            ("id", "/api/v1/collections", "d".to_owned()),
            ("id", "/api/v1/identities", owner),
            ("id", "/api/v1/organizations", organization),
            ("id", "/api/v1/memberships", text(&memberships[0]["_id"])),
            ("id", "/api/v1/admin/keys", text(&key["_id"])),
            ("id", "/api/v1/admin/migrations", "none".to_owned()),
        ];
        let key = key.as_object().unwrap().values().filter_map(Value::as_str).find(|word| word.starts_with("dbk_"));
        let key = key.unwrap().to_owned();
        Self { house, targets, person, elsewhere: (of_stranger, other), key }
    }

    fn path(&self, operation: &Operation) -> String {
        let route = operation.name.split(' ').nth(1).unwrap();
        let part = |part: &str| match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            None => part.to_owned(),
            Some(name) => {
                let known = self.targets.iter().find(|(known, under, _)| *known == name && route.starts_with(under));
                known.map_or("none".to_owned(), |(_, _, value)| value.clone())
            }
        };
        let path: Vec<_> = route.split('/').map(part).collect();
        match operation.name.as_str() {
            "GET /api/v1/audit/prove" => path.join("/") + "?index=0",
            "GET /api/v1/audit/consistency" => path.join("/") + "?from=1&to=1",
            _ => path.join("/"),
        }
    }

    /// What would be done, were it allowed: a refusal is of the right, not of the form.
    fn data(&self, operation: &Operation) -> Value {
        let target = |name: &str, under: &str| {
            let found = self.targets.iter().find(|(known, path, _)| *known == name && *path == under);
            found.map(|(_, _, value)| value.clone()).unwrap()
        };
        let (owner, organization) = (target("who", ""), target("id", "/api/v1/organizations"));
        match operation.name.as_str() {
            "POST /api/v1/auth/keys" | "POST /api/v1/admin/identities/{who}/keys" => {
                json!({ "name": "k", "password": PASSWORD })
            }
            "POST /api/v1/admin/machines" => json!({ "name": "m" }),
            "POST /api/v1/admin/identities" => json!({ "email": "new@example.org", "password": PASSWORD }),
            "PUT /api/v1/admin/identities/{who}/password" => json!({ "password": "une autre longue phrase" }),
            "PUT /api/v1/admin/identities/{who}/status" => json!({ "status": "disabled" }),
            "PUT /api/v1/admin/identities/{who}/roles" => json!({ "roles": ["admin"] }),
            "PUT /api/v1/admin/identities/{who}/trust" => json!({ "level": 1, "reason": "x" }),
            "POST /api/v1/organizations" => json!({ "name": "Mine", "owner": owner }),
            "POST /api/v1/memberships" => json!({ "person": owner, "organization": organization, "role": "MEMBER" }),
            "PATCH /api/v1/memberships/{id}" => json!({ "role": "MEMBER" }),
            "POST /api/v1/invitations" => {
                json!({ "email": "new@example.org", "organization": organization, "role": "MEMBER" })
            }
            "POST /api/v1/access/explain" => json!({ "identity": owner, "action": "VIEW", "collection": "things" }),
            "POST /api/v1/access/who" => json!({ "collection": "things", "id": "d" }),
            "POST /api/v1/batch" => {
                json!({ "operations": [{ "action": "delete", "collection": "things", "id": "d" }] })
            }
            "PUT /api/v1/policies/{name}" => json!({ "collection": "*", "action": "VIEW", "roles": ["identity"] }),
            "POST /api/v1/admin/secrets/rotate" => json!({ "purpose": "media" }),
            "POST /api/v1/admin/logs/levels" => json!({ "module": "http", "level": "info", "seconds": 60 }),
            "POST /api/v1/admin/updates" => {
                json!({ "at": 1, "from": "0.1.0", "to": "0.2.0", "outcome": "applied", "by": "root", "seconds": 1 })
            }
            "POST /api/v1/admin/secrets/rewrite" => json!({ "purpose": "data", "from": 0 }),
            _ => json!({}),
        }
    }

    async fn ask(&self, operation: &Operation, token: &str, organization: Option<&str>) -> u16 {
        let mut request = Request::builder().method(operation.method.clone()).uri_str(self.path(operation));
        request = request.header("authorization", format!("Bearer {token}"));
        if let Some(organization) = organization {
            request = request.header("x-organization-id", organization);
        }
        let request = match &operation.content {
            Some(kind) => request.content_type(kind).body(json!({ "data": self.data(operation) }).to_string()),
            None => request.finish(),
        };
        self.house.call(request).await.status.as_u16()
    }
}

/// Operation, then what the person, the one from elsewhere and the key get.
const ROWS: &str = include_str!("matrix.txt");

#[tokio::test]
async fn everyone_gets_what_the_matrix_says_and_no_more() {
    let rows: BTreeMap<&str, &str> = ROWS.lines().filter_map(|line| line.rsplit_once(": ")).collect();
    let mut stage = Stage::set().await;
    let foreign = mfa::administrator(Environment::Staging).await;
    let mut found = String::new();
    for operation in operations().iter().filter(|operation| !PUBLIC.contains(&operation.name.as_str())) {
        let (person, key) = (stage.person.clone(), stage.key.clone());
        let (elsewhere, organization) = stage.elsewhere.clone();
        assert_eq!(stage.ask(operation, &foreign, None).await, 401, "{}: to another environment's", operation.name);
        let got = [
            stage.ask(operation, &person, None).await,
            stage.ask(operation, &elsewhere, Some(&organization)).await,
            stage.ask(operation, &key, None).await,
        ];
        writeln!(found, "{}: {} {} {}", operation.name, got[0], got[1], got[2]).unwrap();
        if operation.name.contains("/auth/logout") {
            stage.person = stage.house.token_of("person@example.org").await;
            stage.elsewhere.0 = stage.house.token_of("stranger@example.org").await;
        }
    }
    let differ: Vec<_> = found
        .lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter(|(operation, got)| rows.get(operation) != Some(got))
        .map(|(operation, got)| format!("{operation}: {got}, not {}", rows.get(operation).unwrap_or(&"in the matrix")))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    let gone: Vec<_> = rows.keys().filter(|row| !found.contains(&format!("{row}: "))).collect();
    assert!(gone.is_empty(), "rows without an operation: {gone:?}");
    // Whatever was asked, all that stood still stands.
    stage.house.get(&format!("{DOCUMENTS}/d")).await.ok(200);
    stage.house.login("owner@example.org", PASSWORD).await.ok(200);
}
