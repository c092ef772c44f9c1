//! Why: what each policy says of a request, as it stands or as it would under other policies.

use super::{Policies, read, unknown};
use crate::{
    base::fault::Fault,
    domain::{
        collection::Definition,
        document::malformed,
        path::elements,
        policy::{Facts, Mask, Membership, Policy, PolicySet, Reason, Verdict, changed, judge, shown},
        sealing::Sealing,
    },
    ports::documents::COLLECTIONS,
    services::{
        Error, Result,
        access::{Action, Caller, MemberRole, Resource, Restriction, Role, Subject},
        audit::Event,
        identities::{self, Kind, Status},
        memberships::Memberships,
    },
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use std::{borrow::Cow, sync::Arc};

/// A request to be judged: `{identity? | as?: {roles, memberships, trust}, action, collection | module, id? |
/// document?, before?, policies?, without?}`.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Who; the caller when neither is given.
    identity: Option<String>,
    subject: Option<Supposed>,
    action: Option<Action>,
    collection: Option<String>,
    module: Option<String>,
    /// A stored document of the collection.
    id: Option<String>,
    document: Option<RawDocumentBuf>,
    /// Of an update, the state it starts from.
    before: Option<RawDocumentBuf>,
    /// Policies supposed, in place of those with the same name.
    policies: Vec<Policy>,
    /// Policies supposed gone.
    without: Vec<String>,
}

/// Someone supposed.
#[derive(Debug, Clone, Default)]
struct Supposed {
    id: String,
    roles: Vec<Role>,
    memberships: Vec<Membership>,
    trust: Option<u8>,
    /// Of the caller's own proof.
    restriction: Option<Arc<Restriction>>,
}

/// The decision, and every policy's say in it.
#[derive(Debug, Clone)]
pub struct Explained {
    pub allowed: bool,
    /// Who was judged.
    pub identity: String,
    pub trust: u8,
    pub said: Vec<Said>,
    /// The document as it would be shown, where one was judged and may be seen.
    pub shown: Option<RawDocumentBuf>,
    /// A field the change touches that may not be written.
    pub barred: Option<String>,
}

/// What one policy says.
#[derive(Debug, Clone)]
pub struct Said {
    pub policy: String,
    pub allows: bool,
    /// A message's key, where it does not.
    pub reason: Option<Fault>,
    /// The policy's own `where`.
    pub scope: RawDocumentBuf,
}

/// A stored document: what is judged, and what of it the caller may see.
pub(super) struct Stored {
    pub judged: RawDocumentBuf,
    pub visible: Option<RawDocumentBuf>,
    /// By which policies the caller sees it.
    grounds: String,
    /// Readings of its collection are told to the audit log.
    audited: bool,
}

impl Asked {
    pub fn read(document: &RawDocument) -> Result<Self> {
        let mut asked = Self::default();
        for entry in document {
            let (name, value) = entry.map_err(malformed).map_err(Error::Invalid)?;
            asked.set(name.as_str(), value).map_err(Error::Invalid)?;
        }
        Ok(asked)
    }

    fn set(&mut self, name: &str, value: RawBsonRef<'_>) -> std::result::Result<(), Fault> {
        let wrong = || Fault::new("policies.type").at(name);
        match (name, value) {
            (_, RawBsonRef::Null) => {}
            ("identity", RawBsonRef::String(id)) => self.identity = Some(id.to_owned()),
            ("as", RawBsonRef::Document(subject)) => self.subject = Some(Supposed::read(subject)?),
            ("action", RawBsonRef::String(action)) => {
                let known = Action::from_name(action);
                self.action = Some(known.ok_or_else(|| Fault::new("policies.action").at(name).with("action", action))?);
            }
            ("collection", RawBsonRef::String(collection)) => self.collection = Some(collection.to_owned()),
            ("module", RawBsonRef::String(module)) => self.module = Some(module.to_owned()),
            ("id", RawBsonRef::String(id)) => self.id = Some(id.to_owned()),
            ("document", RawBsonRef::Document(document)) => self.document = Some(document.to_owned()),
            ("before", RawBsonRef::Document(document)) => self.before = Some(document.to_owned()),
            ("policies", RawBsonRef::Array(policies)) => {
                for (place, policy) in elements(policies).enumerate() {
                    let policy = policy.as_document().ok_or_else(wrong)?;
                    let called = policy.get_str("name").map_err(|_| wrong())?;
                    let read = Policy::read(called, policy);
                    self.policies.push(read.map_err(|fault| {
                        let path = format!("policies.{place}.{}", fault.path);
                        fault.at(path)
                    })?);
                }
            }
            ("without", RawBsonRef::Array(names)) => {
                for called in elements(names) {
                    self.without.push(called.as_str().ok_or_else(wrong)?.to_owned());
                }
            }
            ("identity" | "as" | "action" | "collection" | "module" | "id" | "document" | "before", _)
            | ("policies" | "without", _) => return Err(wrong()),
            _ => return Err(Fault::new("policies.unknown_field").at(name)),
        }
        Ok(())
    }

    fn action(&self) -> Result<Action> {
        self.action.ok_or_else(|| Error::Invalid(Fault::new("policies.action").at("action").with("action", "")))
    }

    fn resource(&self) -> Result<Resource<'_>> {
        match (&self.collection, &self.module) {
            (Some(name), None) => Ok(Resource::Collection(name)),
            (None, Some(name)) => Ok(Resource::Module(name)),
            _ => Err(Error::Invalid(Fault::new("policies.target").at("collection"))),
        }
    }
}

impl Supposed {
    fn read(document: &RawDocument) -> std::result::Result<Self, Fault> {
        let mut supposed = Self { id: "supposed".to_owned(), ..Self::default() };
        for entry in document {
            let (name, value) = entry.map_err(malformed)?;
            let at = format!("as.{}", name.as_str());
            let wrong = || Fault::new("policies.type").at(at.clone());
            match (name.as_str(), value) {
                ("id", RawBsonRef::String(id)) => supposed.id = id.to_owned(),
                ("roles", RawBsonRef::Array(roles)) => {
                    for role in elements(roles) {
                        let role = role.as_str().ok_or_else(wrong)?;
                        let known = Role::from_name(role);
                        let unknown = || Fault::new("policies.role").at(at.clone()).with("role", role);
                        supposed.roles.push(known.ok_or_else(unknown)?);
                    }
                }
                ("memberships", RawBsonRef::Array(held)) => {
                    for held in elements(held) {
                        supposed.memberships.push(membership(held).ok_or_else(wrong)?);
                    }
                }
                ("trust", value) => {
                    let trust = value.as_i32().and_then(|trust| u8::try_from(trust).ok()).filter(|trust| *trust <= 100);
                    supposed.trust = Some(trust.ok_or_else(|| Fault::new("policies.trust").at(at))?);
                }
                _ => return Err(Fault::new("policies.unknown_field").at(at)),
            }
        }
        Ok(supposed)
    }
}

/// `{organization, role}`.
fn membership(held: RawBsonRef<'_>) -> Option<Membership> {
    let held = held.as_document()?;
    let organization = held.get_str("organization").ok()?.to_owned();
    Some(Membership { organization, role: MemberRole::from_name(held.get_str("role").ok()?)? })
}

impl Policies {
    /// What is decided of a request as things stand. Of others than oneself it is for who may ask.
    pub async fn explain(&self, caller: &Caller, asked: &Asked, memberships: &Memberships) -> Result<Explained> {
        if !asked.policies.is_empty() || !asked.without.is_empty() {
            return Err(Error::Invalid(Fault::new("policies.unknown_field").at("policies")));
        }
        let own = matches!(&caller.subject, Subject::Identity(proven)
            if asked.subject.is_none() && asked.identity.as_ref().is_none_or(|id| *id == proven.id));
        if !own {
            self.access.decide(caller, Action::View, Resource::Module("access"))?;
        }
        let stored = self.stored(caller, asked, own).await?;
        let who = self.who(caller, asked, memberships).await?;
        let explained = self.judge(who, asked, &self.access.policies(), stored.as_ref())?;
        self.tell(caller, asked, stored.as_ref(), &explained).await?;
        Ok(explained)
    }

    /// What would be decided under policies not yet kept, of a request and a document that need not exist.
    pub async fn test(&self, caller: &Caller, asked: &Asked, memberships: &Memberships) -> Result<Explained> {
        self.access.decide(caller, Action::View, Resource::Module("policies"))?;
        self.access.decide(caller, Action::View, Resource::Module("access"))?;
        let mut policies = Vec::new();
        let kept = self.kept().await?;
        if let Some(name) = asked.without.iter().find(|name| !kept.iter().any(|kept| kept.name == **name)) {
            return Err(unknown(name));
        }
        for kept in &kept {
            let replaced = asked.policies.iter().any(|policy| policy.name == kept.name);
            if !replaced && !asked.without.contains(&kept.name) {
                policies.push(read(kept)?);
            }
        }
        policies.extend(asked.policies.iter().cloned());
        let stored = self.stored(caller, asked, false).await?;
        let who = self.who(caller, asked, memberships).await?;
        let explained = self.judge(who, asked, &PolicySet::new(policies), stored.as_ref())?;
        self.tell(caller, asked, stored.as_ref(), &explained).await?;
        Ok(explained)
    }

    /// That a stored document is about to be shown, or what becomes of it told.
    async fn tell(&self, caller: &Caller, asked: &Asked, stored: Option<&Stored>, explained: &Explained) -> Result<()> {
        let (Some(id), Some(collection), Some(stored)) = (&asked.id, &asked.collection, stored) else { return Ok(()) };
        if !stored.audited {
            return Ok(());
        }
        let action = if explained.shown.is_some() { "documents.read" } else { "access.explain" };
        let event = Event::new(action).document(collection, id).grounds(&stored.grounds);
        self.audit.record_reading(caller, event).await
    }

    /// The stored document asked about. To who asks about itself, what it may not see is not there; nor to who
    /// supposes an identity or policies of their own, which would answer guesses at what is hidden.
    async fn stored(&self, caller: &Caller, asked: &Asked, own: bool) -> Result<Option<Stored>> {
        let (Some(id), Some(collection)) = (&asked.id, &asked.collection) else { return Ok(None) };
        // Beside a state of the caller's making it would answer guesses at what is hidden.
        if asked.before.is_some() || asked.document.is_some() || asked.action == Some(Action::Create) {
            return Err(Error::Invalid(Fault::new("policies.unknown_field").at("id")));
        }
        let mut stored = self.look(caller, collection, id).await?;
        if own && stored.visible.is_none() {
            return Err(missing(id));
        }
        if asked.subject.is_some() || !asked.policies.is_empty() {
            stored.judged = stored.visible.clone().ok_or_else(|| missing(id))?;
        }
        Ok(Some(stored))
    }

    pub(super) async fn look(&self, caller: &Caller, collection: &str, id: &str) -> Result<Stored> {
        if collection.starts_with("system.") {
            return Err(Error::Forbidden);
        }
        let definition = self.documents.get(COLLECTIONS, collection).await?;
        let found = self.documents.get(collection, id).await?.ok_or_else(|| missing(id))?;
        // Dropped between and made anew, it may seal other fields, which would show as they are stored.
        if self.documents.get(COLLECTIONS, collection).await? != definition {
            return Err(missing(id));
        }
        self.opened(caller, (collection, id), found, definition).await
    }

    /// A document as it is stored under a definition, opened, and what the caller may see of it now.
    pub(super) async fn opened(
        &self,
        caller: &Caller,
        (collection, id): (&str, &str),
        found: RawDocumentBuf,
        definition: Option<RawDocumentBuf>,
    ) -> Result<Stored> {
        let definition = definition.map(|kept| Definition::read(collection, &kept)).transpose();
        let definition = definition.map_err(|fault| Error::Internal(Box::new(fault)))?;
        let definition = definition.ok_or_else(|| missing(id))?;
        let opened = self.seals.opened(&Sealing::of(&definition), vec![found]).await?.pop();
        let judged = opened.ok_or_else(|| missing(id))?;
        // Whoever it is asked of, the caller is shown no more of it than the caller may see.
        let grant = self.access.decide(caller, Action::View, Resource::Collection(collection)).ok();
        let visible = grant.as_ref().and_then(|grant| grant.show(&judged).map(Cow::into_owned));
        let grounds = grant.map(|grant| grant.grounds_of(&judged)).unwrap_or_default();
        Ok(Stored { judged, visible, grounds, audited: definition.audits_reads() })
    }

    fn judge(&self, who: Supposed, asked: &Asked, policies: &PolicySet, stored: Option<&Stored>) -> Result<Explained> {
        let (action, resource) = (asked.action()?, asked.resource()?);
        let facts = Facts {
            identity: &who.id,
            roles: &who.roles,
            memberships: &who.memberships,
            restriction: who.restriction.as_deref(),
            trust: who.trust.unwrap_or_else(|| self.access.trust(&who.id)),
            environment: self.environment,
            now: self.clock.now(),
        };
        let document = asked.document.as_deref().or(stored.map(|stored| &*stored.judged));
        let states: Vec<&RawDocument> = asked.before.as_deref().into_iter().chain(document).collect();
        let mut explained = Explained {
            allowed: false,
            identity: who.id.clone(),
            trust: facts.trust,
            said: Vec::new(),
            shown: None,
            barred: None,
        };
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for policy in policies.about(resource) {
            let verdict = judge(policy, &facts, action);
            let reason = match &verdict {
                _ if facts.restriction.is_some_and(|narrow| !narrow.allows(action, resource)) => {
                    Some(Fault::new("policies.says_key"))
                }
                Verdict::Passes(reason) => Some(told(*reason)),
                Verdict::Allows(clause) if states.iter().any(|state| !clause.scope.matches(state)) => {
                    Some(Fault::new("policies.says_where"))
                }
                Verdict::Allows(_) => None,
            };
            if reason.is_none() {
                reads.push(&policy.read);
                writes.push(&policy.write);
            }
            let (policy, allows, scope) = (policy.version(), reason.is_none(), policy.scope.template().to_owned());
            explained.said.push(Said { policy, allows, reason, scope });
        }
        explained.allowed = !reads.is_empty();
        if let (Some(document), true) = (document, explained.allowed) {
            explained.finish(action, asked.before.as_deref(), document, &reads, &writes);
            if let (Some(stored), None) = (stored, &asked.document) {
                let visible = stored.visible.as_deref().filter(|_| action == Action::View);
                explained.shown = visible.map(|visible| shown(visible, &reads));
            }
        }
        Ok(explained)
    }

    /// An identity as it is known, or as it is supposed.
    async fn who(&self, caller: &Caller, asked: &Asked, memberships: &Memberships) -> Result<Supposed> {
        if let Some(supposed) = &asked.subject {
            return Ok(supposed.clone());
        }
        let id = match (&asked.identity, &caller.subject) {
            (Some(id), Subject::Identity(proven)) if *id != proven.id => id.clone(),
            (Some(id), Subject::Local { .. } | Subject::System | Subject::Anonymous) => id.clone(),
            (_, Subject::Identity(proven)) => {
                let (roles, held) = (proven.roles.clone(), proven.memberships.to_vec());
                let restriction = proven.restriction.clone();
                return Ok(Supposed { id: proven.id.clone(), roles, memberships: held, trust: None, restriction });
            }
            (None, _) => return Err(Error::Invalid(Fault::new("policies.identity").at("identity"))),
        };
        let identity = identities::named(&*self.documents, &id, None).await?;
        // Who is disabled gives no proof; an organization is acted for.
        if identity.status != Status::Active || identity.kind == Kind::Organization {
            return Err(Error::Conflict(Fault::new("policies.no_proof").at("identity").with("who", &identity.id)));
        }
        let roles = identity.roles;
        let held = memberships.memberships_of(&identity.id).await?.to_vec();
        Ok(Supposed { id: identity.id, roles, memberships: held, trust: None, restriction: None })
    }
}

impl Explained {
    fn finish(
        &mut self,
        action: Action,
        before: Option<&RawDocument>,
        document: &RawDocument,
        reads: &[&Mask],
        writes: &[&Mask],
    ) {
        match action {
            Action::View => self.shown = Some(shown(document, reads)),
            Action::Create => self.barred = changed(None, document, writes),
            Action::Update if before.is_some() => self.barred = changed(before, document, writes),
            _ => {}
        }
        self.allowed = self.barred.is_none();
    }
}

pub(super) fn missing(id: &str) -> Error {
    Error::NotFound(Fault::new("documents.missing").with("id", id))
}

fn told(reason: Reason) -> Fault {
    match reason {
        Reason::Action => Fault::new("policies.says_action"),
        Reason::Role => Fault::new("policies.says_role"),
        Reason::Trust { needed, has } => Fault::new("policies.says_trust").with("needed", needed).with("has", has),
        Reason::Environment => Fault::new("policies.says_environment"),
        Reason::Scope => Fault::new("policies.says_scope"),
    }
}
