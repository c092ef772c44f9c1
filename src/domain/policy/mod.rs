//! Rights as data: who may do what, to which documents and fields of them.

mod decide;
mod mask;
mod read;
mod scope;

pub use decide::{Clause, Facts, PolicySet, Reason, Verdict, judge};
pub use mask::{Mask, changed, hidden, shown};
pub use read::{Policy, Target, first};
pub use scope::Scope;

use std::fmt;

/// The parts of the appliance a policy may open.
pub const MODULES: [&str; 13] = [
    "access",
    "alerts",
    "audit",
    "backups",
    "collections",
    "identities",
    "logs",
    "memberships",
    "organizations",
    "policies",
    "secrets",
    "trust",
    "updates",
];
/// Those of them that hold documents a `where` can tell apart.
pub const SCOPED: [&str; 3] = ["identities", "memberships", "organizations"];
/// Stands for every collection, or every module.
pub const ANY: &str = "*";

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    View,
    Create,
    Update,
    Delete,
    Manage,
}

impl Action {
    pub const ALL: [Self; 5] = [Self::View, Self::Create, Self::Update, Self::Delete, Self::Manage];

    pub fn name(self) -> &'static str {
        match self {
            Self::View => "VIEW",
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Manage => "MANAGE",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// Roles over the whole instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Admin,
    Operator,
    Auditor,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Operator, Self::Auditor];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

/// Roles of a person in an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MemberRole {
    Owner,
    Admin,
    Staff,
    Member,
}

impl MemberRole {
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Staff, Self::Member];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "OWNER",
            Self::Admin => "ADMIN",
            Self::Staff => "STAFF",
            Self::Member => "MEMBER",
        }
    }
}

/// That a person belongs to an organization, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub organization: String,
    pub role: MemberRole,
}

/// What the action touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    Collection(&'a str),
    /// A part of the appliance: `backups`, `identities`, `collections`…
    Module(&'a str),
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collection(name) => write!(f, "collection {name}"),
            Self::Module(name) => write!(f, "module {name}"),
        }
    }
}

/// What a proof is good for, where it is less than all its identity may do: an API key's scopes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Restriction {
    pub actions: Vec<Action>,
    /// Collections it reaches; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collections: Option<Vec<String>>,
    /// Modules it reaches.
    #[serde(default)]
    pub modules: Vec<String>,
}

impl Restriction {
    pub fn allows(&self, action: Action, resource: Resource<'_>) -> bool {
        let reached = match resource {
            Resource::Collection(name) => {
                self.collections.as_ref().is_none_or(|names| names.iter().any(|known| known == name))
            }
            // What is over every collection is not for who reaches some.
            Resource::Module("collections") if self.collections.is_some() => false,
            Resource::Module(name) => self.modules.iter().any(|known| known == name),
        };
        reached && self.actions.contains(&action)
    }
}
