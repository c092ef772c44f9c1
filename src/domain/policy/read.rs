//! A policy as data: read, checked whole, written back.

use super::{ANY, Action, MODULES, Mask, MemberRole, Role, SCOPED, Scope};
use crate::{
    base::{environment::Environment, fault::Fault},
    domain::{collection, document::malformed, path::elements},
};
use bson::{RawArray, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

/// Names of a policy: lower case letters, digits and dashes.
const LONGEST_NAME: usize = 64;
const LONGEST_DESCRIPTION: usize = 500;
/// What everyone with proof of an identity is.
const EVERYONE: &str = "identity";

/// Who gets what: `{collection | module, action, roles, where?, fields?, min_trust?, environments?, description?}`.
#[derive(Debug, Clone)]
pub struct Policy {
    pub name: String,
    /// Of the stored document; 0 while it is not.
    pub revision: i64,
    pub target: Target,
    pub actions: Vec<Action>,
    pub roles: Roles,
    pub scope: Scope,
    pub read: Mask,
    pub write: Mask,
    pub min_trust: u8,
    /// Empty: all.
    pub environments: Vec<Environment>,
    body: RawDocumentBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Collection(String),
    Module(String),
}

/// Any of these is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles {
    pub everyone: bool,
    pub instance: Vec<Role>,
    pub member: Vec<MemberRole>,
}

impl Policy {
    pub fn check_name(name: &str) -> Result<(), Fault> {
        let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(sound) {
            true => Ok(()),
            false => Err(Fault::new("policies.name").at("name").with("name", name).with("limit", LONGEST_NAME)),
        }
    }

    pub fn read(name: &str, document: &RawDocument) -> Result<Self, Fault> {
        Self::check_name(name)?;
        let mut policy = Self {
            name: name.to_owned(),
            revision: 0,
            target: Target::Module(String::new()),
            actions: Vec::new(),
            roles: Roles::default(),
            scope: Scope::everything(),
            read: Mask::everything(),
            write: Mask::everything(),
            min_trust: 0,
            environments: Vec::new(),
            body: RawDocumentBuf::new(),
        };
        let mut target = None;
        for entry in document {
            let (field, value) = entry.map_err(malformed)?;
            match field.as_str() {
                "name" if value.as_str() == Some(name) => continue,
                "_rev" => policy.revision = value.as_i64().or(value.as_i32().map(i64::from)).unwrap_or_default(),
                system if system.starts_with('_') => {}
                known @ ("collection" | "module") => {
                    if target.replace(read_target(known, value)?).is_some() {
                        return Err(Fault::new("policies.target").at(known));
                    }
                }
                other => policy.set(other, value).map_err(|fault| within(other, fault))?,
            }
            if !field.as_str().starts_with('_') {
                policy.body.append(field, value);
            }
        }
        policy.target = target.ok_or_else(|| Fault::new("policies.target").at("collection"))?;
        if policy.actions.is_empty() {
            return Err(Fault::new("policies.action").at("action").with("action", ""));
        }
        if policy.roles == Roles::default() {
            return Err(Fault::new("policies.role").at("roles").with("role", ""));
        }
        policy.check_parts()?;
        Ok(policy)
    }

    /// As it was given, without the server's fields.
    pub fn body(&self) -> &RawDocument {
        &self.body
    }

    /// `name@revision`, as decisions are told.
    pub fn version(&self) -> String {
        format!("{}@{}", self.name, self.revision)
    }

    fn set(&mut self, field: &str, value: RawBsonRef<'_>) -> Result<(), Fault> {
        let wrong = || Fault::new("policies.type");
        match (field, value) {
            ("action", value) => {
                for name in words(value).ok_or_else(wrong)? {
                    let action = Action::from_name(name);
                    self.actions.push(action.ok_or_else(|| Fault::new("policies.action").with("action", name))?);
                }
            }
            ("roles", value) => {
                for name in words(value).ok_or_else(wrong)? {
                    self.roles.add(name)?;
                }
            }
            ("where", RawBsonRef::Document(template)) => self.scope = Scope::parse(template)?,
            ("fields", RawBsonRef::Document(fields)) => self.set_fields(fields)?,
            ("min_trust", value) => {
                let score = value.as_i32().map(i64::from).or(value.as_i64()).ok_or_else(wrong)?;
                let score = u8::try_from(score).ok().filter(|score| *score <= 100);
                self.min_trust = score.ok_or_else(|| Fault::new("policies.trust"))?;
            }
            ("environments", value) => {
                for name in words(value).ok_or_else(wrong)? {
                    let known = name.parse().map_err(|_| Fault::new("policies.environment").with("name", name))?;
                    self.environments.push(known);
                }
            }
            ("description", RawBsonRef::String(text)) if text.len() <= LONGEST_DESCRIPTION => {}
            ("where" | "fields" | "description", _) => return Err(wrong()),
            _ => return Err(Fault::new("policies.unknown_field")),
        }
        Ok(())
    }

    fn set_fields(&mut self, fields: &RawDocument) -> Result<(), Fault> {
        for entry in fields {
            let (name, value) = entry.map_err(malformed)?;
            let names = words(value).filter(|_| matches!(value, RawBsonRef::Array(_)));
            let names = names.ok_or_else(|| Fault::new("policies.type").at(name.as_str()))?;
            match name.as_str() {
                "read" => self.read = Mask::parse(&names)?,
                "write" => self.write = Mask::parse(&names)?,
                _ => return Err(Fault::new("policies.unknown_field").at(name.as_str())),
            }
        }
        Ok(())
    }

    /// What its parts ask of each other. Masks are of documents: a module's rooms show what they show.
    fn check_parts(&self) -> Result<(), Fault> {
        let masked = !self.read.is_everything() || !self.write.is_everything();
        match &self.target {
            Target::Module(_) if masked => Err(Fault::new("policies.fields_module").at("fields")),
            Target::Module(name) if !self.scope.is_everything() && !SCOPED.contains(&name.as_str()) => {
                Err(Fault::new("policies.where_module").at("where").with("module", name))
            }
            _ => Ok(()),
        }
    }
}

impl Roles {
    fn add(&mut self, name: &str) -> Result<(), Fault> {
        if let Some(role) = Role::from_name(name) {
            self.instance.push(role);
        } else if let Some(role) = MemberRole::from_name(name) {
            self.member.push(role);
        } else if name == EVERYONE {
            self.everyone = true;
        } else {
            return Err(Fault::new("policies.role").with("role", name));
        }
        Ok(())
    }
}

impl Target {
    /// Whether it is this one, or every one.
    pub fn covers(&self, resource: super::Resource<'_>) -> bool {
        match (self, resource) {
            (Self::Collection(name), super::Resource::Collection(asked))
            | (Self::Module(name), super::Resource::Module(asked)) => name == ANY || name == asked,
            _ => false,
        }
    }
}

/// The policies an instance starts with. They are documents like any other, and may be changed.
pub fn first() -> Vec<(&'static str, RawDocumentBuf)> {
    let own = || rawdoc! { "$in": "$identity.organizations" };
    vec![
        ("admin-collections", rawdoc! { "collection": ANY, "action": all(), "roles": ["admin"] }),
        ("admin-modules", rawdoc! { "module": ANY, "action": all(), "roles": ["admin"] }),
        (
            "operator-backups",
            rawdoc! { "module": "backups", "action": ["VIEW", "CREATE", "MANAGE"], "roles": ["operator"] },
        ),
        ("auditor-audit", rawdoc! { "module": "audit", "action": ["VIEW"], "roles": ["auditor"] }),
        ("auditor-access", rawdoc! { "module": "access", "action": ["VIEW"], "roles": ["auditor"] }),
        ("auditor-policies", rawdoc! { "module": "policies", "action": ["VIEW"], "roles": ["auditor"] }),
        ("auditor-identities", rawdoc! { "module": "identities", "action": ["VIEW"], "roles": ["auditor"] }),
        (
            "own-identity",
            rawdoc! {
                "module": "identities", "action": ["VIEW", "UPDATE"], "roles": [EVERYONE],
                "where": { "_id": "$identity.id" },
            },
        ),
        (
            "own-organizations",
            rawdoc! { "module": "organizations", "action": ["VIEW"], "roles": [EVERYONE], "where": { "_id": own() } },
        ),
        (
            "organization-leaders",
            rawdoc! {
                "module": "organizations", "action": ["UPDATE"], "roles": ["OWNER", "ADMIN"], "where": { "_id": own() },
            },
        ),
        (
            "own-memberships",
            rawdoc! {
                "module": "memberships", "action": ["VIEW", "DELETE"], "roles": [EVERYONE],
                "where": { "person": "$identity.id" },
            },
        ),
        (
            "membership-leaders",
            rawdoc! {
                "module": "memberships", "action": ["VIEW", "CREATE", "UPDATE", "DELETE"], "roles": ["OWNER", "ADMIN"],
                "where": { "organization": own() },
            },
        ),
    ]
}

fn all() -> RawArrayBuf {
    let mut names = RawArrayBuf::new();
    Action::ALL.into_iter().for_each(|action| names.push(action.name()));
    names
}

fn read_target(kind: &str, value: RawBsonRef<'_>) -> Result<Target, Fault> {
    let RawBsonRef::String(name) = value else { return Err(Fault::new("policies.type").at(kind)) };
    match kind {
        "module" if name == ANY || MODULES.contains(&name) => Ok(Target::Module(name.to_owned())),
        "module" => Err(Fault::new("policies.module").at(kind).with("module", name)),
        _ if name == ANY => Ok(Target::Collection(name.to_owned())),
        _ => collection::check_name(name).map(|()| Target::Collection(name.to_owned())),
    }
}

/// A word, or a list of words.
fn words(value: RawBsonRef<'_>) -> Option<Vec<&str>> {
    fn of(array: &RawArray) -> Option<Vec<&str>> {
        elements(array)
            .map(|element| match element {
                RawBsonRef::String(word) => Some(word),
                _ => None,
            })
            .collect()
    }
    match value {
        RawBsonRef::String(word) => Some(vec![word]),
        RawBsonRef::Array(array) => of(array),
        _ => None,
    }
}

fn within(field: &str, fault: Fault) -> Fault {
    let path = match fault.path.as_str() {
        "" => field.to_owned(),
        inner => format!("{field}.{inner}"),
    };
    fault.at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(document: RawDocumentBuf) -> Option<(&'static str, String)> {
        Policy::read("p", &document).map_err(|fault| (fault.key, fault.path)).err()
    }

    #[test]
    fn the_first_policies_are_sound() {
        for (name, document) in first() {
            let policy = Policy::read(name, &document).expect("a policy");
            assert_eq!(policy.body(), &*document, "{name}");
        }
    }

    #[test]
    fn a_policy_is_read_whole_or_refused_by_name() {
        let base = |more: RawDocumentBuf| {
            let mut policy = rawdoc! { "collection": "c", "action": "VIEW", "roles": ["identity", "OWNER", "auditor"] };
            more.iter().map_while(Result::ok).for_each(|(name, value)| policy.append(name, value));
            policy
        };
        let sound = base(rawdoc! {
            "where": { "team": "a" }, "fields": { "read": ["name"], "write": ["-salary"] }, "min_trust": 40,
            "environments": ["staging"], "description": "…", "_rev": 3_i64,
        });
        let policy = Policy::read("p", &sound).expect("a policy");
        assert_eq!((policy.version().as_str(), policy.min_trust), ("p@3", 40));
        assert_eq!(policy.roles.member, [MemberRole::Owner]);
        assert!(policy.body().get("_rev").is_ok_and(|rev| rev.is_none()));

        let at = |key, path: &str| Some((key, path.to_owned()));
        assert_eq!(fault(base(rawdoc! { "wher": {} })), at("policies.unknown_field", "wher"));
        assert_eq!(fault(base(rawdoc! { "where": { "a": { "$foo": 1 } } })), at("query.unknown_operator", "where.a"));
        assert_eq!(fault(base(rawdoc! { "fields": { "reads": [] } })), at("policies.unknown_field", "fields.reads"));
        assert_eq!(fault(base(rawdoc! { "fields": { "read": "name" } })), at("policies.type", "fields.read"));
        assert_eq!(fault(base(rawdoc! { "min_trust": 101 })), at("policies.trust", "min_trust"));
        assert_eq!(fault(base(rawdoc! { "environments": ["prod"] })), at("policies.environment", "environments"));
        assert_eq!(fault(base(rawdoc! { "module": "audit" })), at("policies.target", "module"));
        let bad = |document: RawDocumentBuf| fault(document).map(|(key, _)| key);
        assert_eq!(bad(rawdoc! { "action": "VIEW", "roles": ["admin"] }), Some("policies.target"));
        assert_eq!(bad(rawdoc! { "collection": "c", "roles": ["admin"] }), Some("policies.action"));
        assert_eq!(bad(rawdoc! { "collection": "c", "action": "view", "roles": ["admin"] }), Some("policies.action"));
        assert_eq!(bad(rawdoc! { "collection": "c", "action": "VIEW", "roles": [] }), Some("policies.role"));
        assert_eq!(bad(rawdoc! { "collection": "c", "action": "VIEW", "roles": ["root"] }), Some("policies.role"));
        assert_eq!(bad(rawdoc! { "module": "money", "action": "VIEW", "roles": ["admin"] }), Some("policies.module"));
        let system = rawdoc! { "collection": "system.identities", "action": "VIEW", "roles": ["admin"] };
        assert!(bad(system).is_some(), "the appliance's own collections were opened");
        let masked = rawdoc! { "module": "audit", "action": "VIEW", "roles": ["admin"], "fields": { "read": ["a"] } };
        assert_eq!(bad(masked), Some("policies.fields_module"));
        assert!(
            Policy::check_name("a-1").is_ok() && Policy::check_name("A").is_err() && Policy::check_name("").is_err()
        );
    }
}
