//! Right: may this caller do this? One decision, asked before every use case; the default is no.

mod grant;

pub use grant::Grant;
#[cfg(test)]
pub(super) use grant::tests::grant;

use super::{Error, Result, trust::Trust};
use crate::{
    base::{clock::SharedClock, environment::Environment, telemetry::scope},
    domain::policy::{Facts, PolicySet},
    ports::documents::Origin,
};
use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

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

    /// The identity acted for: it owns what is created.
    pub fn owner(&self) -> String {
        self.organization.clone().unwrap_or_else(|| self.actor())
    }

    pub fn origin(&self) -> Origin {
        Origin { actor: self.actor(), request: self.request.clone(), trace: self.trace.clone(), grounds: String::new() }
    }
}

/// The engine: the policies in force and what they are judged with.
pub struct Access {
    environment: Environment,
    clock: SharedClock,
    trust: Arc<Trust>,
    /// None, until they are read.
    policies: RwLock<Arc<PolicySet>>,
}

impl Access {
    pub fn new(environment: Environment, clock: SharedClock, trust: Arc<Trust>) -> Self {
        Self { environment, clock, trust, policies: RwLock::default() }
    }

    /// Replaces the policies in force, for every decision from here on.
    pub(super) fn adopt(&self, policies: PolicySet) {
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies);
    }

    pub(super) fn policies(&self) -> Arc<PolicySet> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The decision. Collections named `system.*` are out of reach of the document routes whoever asks.
    pub fn decide(&self, caller: &Caller, action: Action, resource: Resource<'_>) -> Result<Grant> {
        scope::step("policy decision").enter(|| self.judge(caller, action, resource))
    }

    fn judge(&self, caller: &Caller, action: Action, resource: Resource<'_>) -> Result<Grant> {
        if let Resource::Collection(name) = resource
            && name.starts_with("system.")
        {
            return Err(Error::Forbidden);
        }
        match &caller.subject {
            Subject::Local { .. } | Subject::System => Ok(Grant::everything()),
            Subject::Identity(proven) => {
                Grant::new(self.policies().decide(&self.facts(proven), action, resource)).ok_or(Error::Forbidden)
            }
            Subject::Anonymous => Err(Error::Unauthorized),
        }
    }

    /// How far an identity is trusted, 0 to 100.
    pub fn trust(&self, identity: &str) -> u8 {
        self.trust.level(identity)
    }

    pub(super) fn facts<'a>(&self, proven: &'a Proven) -> Facts<'a> {
        Facts {
            identity: &proven.id,
            roles: &proven.roles,
            memberships: &proven.memberships,
            restriction: proven.restriction.as_deref(),
            trust: self.trust(&proven.id),
            environment: self.environment,
            now: self.clock.now(),
        }
    }
}

/// An engine without policies, over a store.
#[cfg(test)]
pub(crate) fn bare(documents: Arc<dyn crate::ports::documents::Documents>, clock: SharedClock) -> Arc<Access> {
    let trust = Trust::new(documents, clock.clone(), crate::domain::trust::Rules::default());
    Arc::new(Access::new(Environment::Development, clock, Arc::new(trust)))
}
