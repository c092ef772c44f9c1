//! Right: may this caller do this? One decision, asked before every use case; the default is no.

use super::{Error, Result};
use crate::{base::environment::Environment, domain::filter::Filter, ports::documents::Origin};
use std::{net::IpAddr, sync::Arc};

pub use crate::domain::policy::{Action, MemberRole, Membership, Resource, Restriction, Role};

/// Who asks, as proven at the boundary.
#[derive(Debug, Clone)]
pub struct Caller {
    pub subject: Subject,
    /// The organization acted for, when it is not the person itself.
    pub organization: Option<String>,
    /// Where the request came from; `None` over the local socket.
    pub address: Option<IpAddr>,
    pub request: String,
    pub trace: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// No proof was given.
    Anonymous,
    Identity(Proven),
    /// The service's own user or root, over the local socket or with the data directory in hand.
    Local {
        name: String,
    },
    /// The appliance itself (start-up, jobs).
    System,
}

/// An identity that gave proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    pub id: String,
    /// The session whose token was the proof; a key has none.
    pub session: Option<String>,
    /// The API key, or the machine's key, that was the proof.
    pub key: Option<String>,
    pub roles: Vec<Role>,
    /// The organizations the identity belongs to: only the one acted for, when there is one.
    pub memberships: Arc<[Membership]>,
    /// Narrows what the proof is good for.
    pub restriction: Option<Arc<Restriction>>,
}

/// What was allowed, and of it which documents.
#[derive(Debug, Clone)]
pub struct Grant {
    /// And-ed into every read, checked on both states of every write. `And([])` is everything.
    pub scope: Arc<Filter>,
}

impl Proven {
    /// By a session's token, with nothing but instance roles.
    pub fn session(id: String, session: String, roles: Vec<Role>) -> Self {
        Self { id, session: Some(session), key: None, roles, memberships: Arc::default(), restriction: None }
    }

    /// By a key, or by a token that a machine's key obtained.
    pub fn key(id: String, key: String, roles: Vec<Role>, restriction: Option<Arc<Restriction>>) -> Self {
        Self { id, session: None, key: Some(key), roles, memberships: Arc::default(), restriction }
    }
}

impl Caller {
    pub fn system() -> Self {
        let (request, trace) = Default::default();
        Self { subject: Subject::System, organization: None, address: None, request, trace }
    }

    /// Who is named in the journal.
    pub fn actor(&self) -> String {
        match &self.subject {
            Subject::Anonymous => "anonymous".to_owned(),
            Subject::Identity(proven) => proven.id.clone(),
            Subject::Local { name } => format!("local:{name}"),
            Subject::System => "system".to_owned(),
        }
    }

    pub fn origin(&self) -> Origin {
        Origin { actor: self.actor(), request: self.request.clone(), trace: self.trace.clone() }
    }
}

/// The engine: the policies in force and what they are judged with.
pub struct Access {
    #[allow(dead_code, reason = "policies of one environment come next")]
    environment: Environment,
}

impl Access {
    pub fn new(environment: Environment) -> Self {
        Self { environment }
    }

    /// The decision. Collections named `system.*` are out of reach of the document routes whoever asks.
    pub fn decide(&self, caller: &Caller, action: Action, resource: Resource<'_>) -> Result<Grant> {
        if let Resource::Collection(name) = resource
            && name.starts_with("system.")
        {
            return Err(Error::Forbidden);
        }
        let all = || Grant { scope: Arc::new(Filter::And(Vec::new())) };
        match &caller.subject {
            Subject::Local { .. } | Subject::System => Ok(all()),
            Subject::Identity(proven) if !proven.restriction.as_ref().is_none_or(|r| r.allows(action, resource)) => {
                Err(Error::Forbidden)
            }
            Subject::Identity(proven) if proven.roles.contains(&Role::Admin) => Ok(all()),
            Subject::Identity(_) => Err(Error::Forbidden),
            Subject::Anonymous => Err(Error::Unauthorized),
        }
    }
}
