//! Right: may this caller do this? One decision, asked before every use case; the default is no.

use super::{Error, Result};
use crate::{domain::filter::Filter, ports::documents::Origin};
use std::sync::Arc;

/// Who asks, as proven at the boundary.
#[derive(Debug, Clone)]
pub struct Caller {
    pub subject: Subject,
    /// The organization acted for, when it is not the person itself.
    pub organization: Option<String>,
    pub request: String,
    pub trace: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// No proof was given.
    Anonymous,
    /// A proven identity and its session.
    Identity { id: String, session: String, roles: Vec<Role> },
    /// The service's own user or root, over the local socket or with the data directory in hand.
    Local { name: String },
    /// The appliance itself (start-up, jobs).
    System,
}

/// Roles over the whole instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Admin,
    Operator,
    Auditor,
}

impl Role {
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Admin, Self::Operator, Self::Auditor].into_iter().find(|role| role.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    View,
    Create,
    Update,
    Delete,
    Manage,
}

/// What the action touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    Collection(&'a str),
    /// A part of the appliance: `backups`, `identities`, `collections`…
    Module(&'a str),
}

/// What was allowed, and of it which documents.
#[derive(Debug, Clone)]
pub struct Grant {
    /// And-ed into every read, checked on both states of every write. `And([])` is everything.
    pub scope: Arc<Filter>,
}

impl Caller {
    pub fn system() -> Self {
        Self { subject: Subject::System, organization: None, request: String::new(), trace: String::new() }
    }

    /// The identity that owns what it creates and is named in the journal.
    pub fn actor(&self) -> String {
        match &self.subject {
            Subject::Anonymous => "anonymous".to_owned(),
            Subject::Identity { id, .. } => id.clone(),
            Subject::Local { name } => format!("local:{name}"),
            Subject::System => "system".to_owned(),
        }
    }

    pub fn origin(&self) -> Origin {
        Origin { actor: self.actor(), request: self.request.clone(), trace: self.trace.clone(), grounds: String::new() }
    }
}

/// The decision. Collections named `system.*` are out of reach of the document routes whoever asks.
pub fn decide(caller: &Caller, _action: Action, resource: Resource<'_>) -> Result<Grant> {
    if let Resource::Collection(name) = resource
        && name.starts_with("system.")
    {
        return Err(Error::Forbidden);
    }
    let all = || Grant { scope: Arc::new(Filter::And(Vec::new())) };
    match &caller.subject {
        Subject::Local { .. } | Subject::System => Ok(all()),
        Subject::Identity { roles, .. } if roles.contains(&Role::Admin) => Ok(all()),
        Subject::Identity { .. } => Err(Error::Forbidden),
        Subject::Anonymous => Err(Error::Unauthorized),
    }
}
