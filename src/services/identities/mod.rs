//! Who: the people and organizations of the instance. Disabled, never deleted, so that history keeps its names.

mod foreign;
mod forget;
mod import;
mod known;
pub mod password;
mod people;
mod proofs;
mod prove;
mod register;
mod vouched;

pub use import::Import;
pub use people::{Changes, New};
pub(super) use people::{put, set, stands};
pub use vouched::LINKS;
pub(super) use vouched::Vouched;

use super::{
    Error, Result,
    access::{Access, Action, Caller, Proven, Resource, Role, Subject},
    audit::Audit,
    directory::Vouching,
    documents::first,
    keys::{KEYS, Key},
    memberships::Memberships,
    sessions::{SESSIONS, Session, Sessions},
    throttle::Throttle,
    trust::Trust,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    domain::{contact, filter::Filter, update::Update},
    ports::documents::{Batch, Change, Documents, Expect, Operation},
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use password::Passwords;
use std::sync::Arc;
use zeroize::Zeroizing;

pub const IDENTITIES: &str = "system.identities";
pub(super) const MODULE: Resource<'static> = Resource::Module("identities");

/// A person or an organization, as kept. The password's hash never leaves this floor.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    #[serde(rename = "_id")]
    pub id: String,
    pub kind: Kind,
    /// Normalised, as all that names an identity ([`contact`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Somebody showed that they read what is sent there.
    #[serde(default)]
    pub email_verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The number a state gave an organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_id: Option<String>,
    #[serde(default)]
    pub roles: Vec<Role>,
    pub status: Status,
    /// What nobody else may bear: `id:…`, `email:…`, `phone:…`, `legal:…`, each in a unique index. Never empty, for
    /// two that bear nothing would collide.
    #[serde(default)]
    pub(super) handles: Vec<String>,
    /// A PHC string, ours or brought along by an import.
    password: Option<String>,
    /// Tokens issued before are no proof any more: the password changed or the identity was disabled.
    #[serde(default)]
    pub(super) tokens_from: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    Person,
    Organization,
    /// A program that proves itself by keys.
    Machine,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "PERSON",
            Self::Organization => "ORGANIZATION",
            Self::Machine => "MACHINE",
        }
    }
}

impl Identity {
    /// One that bears nothing yet.
    fn blank(id: String, kind: Kind) -> Self {
        Self {
            id,
            kind,
            email: None,
            email_verified: false,
            phone: None,
            name: None,
            locale: None,
            legal_id: None,
            roles: Vec::new(),
            status: Status::Active,
            handles: Vec::new(),
            password: None,
            tokens_from: Timestamp::default(),
        }
    }

    pub(super) fn organization(id: String) -> Self {
        Self::blank(id, Kind::Organization)
    }

    /// What is unique to it.
    pub(super) fn handles(&self) -> Vec<String> {
        let machine = Some(&self.name).filter(|_| self.kind == Kind::Machine);
        let named = [("email", &self.email), ("phone", &self.phone), ("legal", &self.legal_id)];
        let named = named.into_iter().chain(machine.map(|name| ("machine", name)));
        let named = named.filter_map(|(name, value)| Some(format!("{name}:{}", value.as_ref()?)));
        std::iter::once(format!("id:{}", self.id)).chain(named).collect()
    }

    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// How people know it.
    pub fn label(&self) -> &str {
        self.email.as_deref().or(self.phone.as_deref()).or(self.name.as_deref()).unwrap_or(&self.id)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Active,
    Disabled,
}

impl Status {
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Disabled].into_iter().find(|status| status.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

pub struct Identities {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    passwords: Passwords,
    sessions: Arc<Sessions>,
    throttle: Arc<Throttle>,
    trust: Arc<Trust>,
    access: Arc<Access>,
    audit: Arc<Audit>,
    memberships: Arc<Memberships>,
    settings: Settings,
}

/// What the operator decides.
#[derive(Clone, Default)]
pub struct Settings {
    /// Anyone may make an account of their own.
    pub registration: bool,
    /// Of the country whose numbers are written without one.
    pub calling_code: Option<u16>,
    /// Proves who has no password here.
    pub directory: Option<Vouching>,
}

impl Identities {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        sessions: Arc<Sessions>,
        throttle: Arc<Throttle>,
        trust: Arc<Trust>,
        access: Arc<Access>,
        audit: Arc<Audit>,
    ) -> Self {
        let passwords = Passwords::new();
        let memberships = Arc::new(Memberships::new(documents.clone(), clock.clone(), access.clone()));
        let settings = Settings::default();
        Self { documents, clock, passwords, sessions, throttle, trust, access, audit, memberships, settings }
    }

    pub fn with(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    pub fn memberships(&self) -> &Arc<Memberships> {
        &self.memberships
    }

    /// Sets another password; every session and API key ends, for somebody else may have made them.
    pub async fn change_password(&self, caller: &Caller, who: &str, password: Zeroizing<String>) -> Result<Identity> {
        let identity = self.managed(caller, who).await?;
        not_oneself(caller, &identity)?;
        if identity.kind != Kind::Person {
            return Err(Error::Invalid(Fault::new("identities.no_password").with("who", who)));
        }
        let hash = self.hash(&identity, password).await?;
        self.change_and_end_keys(caller, (&identity.id, None), rawdoc! { "password": hash }, Vec::new()).await
    }

    /// Disabled, its sessions end, nobody gets in under it and its memberships count no more, until it is active again.
    pub async fn set_status(&self, caller: &Caller, who: &str, status: Status) -> Result<Identity> {
        let _deciding = self.memberships.deciding.lock().await;
        let identity = self.managed(caller, who).await?;
        if status == Status::Disabled && identity.status == Status::Active {
            self.may_go(&identity).await?;
        }
        let (kind, id) = (identity.kind, identity.id.clone());
        let set = rawdoc! { "status": status.name() };
        let changed = self.change_with(caller, (&id, None), set, Vec::new(), None).await;
        // After a failure too: whether it is on the disk may be unknown.
        match kind {
            Kind::Organization => self.memberships.forget_all(),
            Kind::Person | Kind::Machine => self.memberships.forget([id.as_str()]),
        }
        changed
    }

    /// Gives other roles over the instance and ends every session, whose tokens say the old ones; a new role ends a
    /// person's API keys too.
    pub async fn set_roles(&self, caller: &Caller, who: &str, roles: Vec<Role>) -> Result<Identity> {
        let grant = self.access.decide(caller, Action::Manage, MODULE)?;
        // Roles are over the instance: who manages some identities hands none out.
        if !grant.is_everything() {
            return Err(Error::Forbidden);
        }
        let _deciding = self.memberships.deciding.lock().await;
        let identity = self.within(&grant, who).await?;
        if identity.kind == Kind::Organization {
            return Err(Error::Invalid(Fault::new("identities.no_person").with("who", who)));
        }
        if !roles.contains(&Role::Admin) {
            self.not_last_administrator(&identity).await?;
        }
        let mut names = bson::RawArrayBuf::new();
        roles.iter().for_each(|role| names.push(role.name()));
        // A key made before was made by a proof that asked for less.
        let rises = identity.kind == Kind::Person && !roles.iter().all(|role| identity.roles.contains(role));
        let (of, set) = ((identity.id.as_str(), None), rawdoc! { "roles": names });
        match rises {
            true => self.change_and_end_keys(caller, of, set, Vec::new()).await,
            false => self.change_with(caller, of, set, Vec::new(), None).await,
        }
    }

    /// Someone always administers the instance, and every active organization has an owner.
    async fn may_go(&self, identity: &Identity) -> Result<()> {
        self.not_last_administrator(identity).await?;
        match self.memberships.orphaned_by(&identity.id).await? {
            None => Ok(()),
            Some(organization) => {
                let fault = Fault::new("identities.last_owner").with("who", identity.label());
                Err(Error::Conflict(fault.with("organization", organization)))
            }
        }
    }

    async fn not_last_administrator(&self, identity: &Identity) -> Result<()> {
        let counts = identity.status == Status::Active && identity.roles.contains(&Role::Admin);
        if counts && self.last_administrator().await? {
            let fault = Fault::new("identities.last_administrator").with("email", identity.label());
            return Err(Error::Conflict(fault));
        }
        Ok(())
    }

    /// One identity, by id, address or number.
    pub async fn describe(&self, caller: &Caller, who: &str) -> Result<Identity> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        self.within(&grant, who).await
    }

    /// The open sessions of a person.
    pub async fn sessions(&self, caller: &Caller, who: &str) -> Result<Vec<Session>> {
        let grant = self.access.decide(caller, Action::View, MODULE)?;
        self.sessions.live(&self.within(&grant, who).await?.id).await
    }

    /// Ends one session of a person; `None`: all of them.
    pub async fn end_sessions(&self, caller: &Caller, who: &str, session: Option<&str>) -> Result<()> {
        let identity = self.managed(caller, who).await?;
        match session {
            Some(session) => self.sessions.end_of(caller, &identity.id, session).await,
            None => self.sessions.end_all(caller, &identity.id, None).await,
        }
    }

    /// The caller as of now, for what lasts longer than a request: nobody any more once disabled or logged out, and
    /// with the roles of today.
    pub async fn renew(&self, caller: &Caller) -> Result<Caller> {
        let Subject::Identity(proven) = &caller.subject else { return Ok(caller.clone()) };
        let ended = || Error::InvalidProof("session ended");
        let identity = read(&self.documents.get(IDENTITIES, &proven.id).await?.ok_or_else(ended)?)?;
        if identity.status != Status::Active {
            return Err(ended());
        }
        if let Some(key) = &proven.key {
            let kept: Key = super::keys::read(&self.documents.get(KEYS, key).await?.ok_or_else(ended)?)?;
            if kept.is_over(self.clock.now()) {
                return Err(ended());
            }
        }
        if let Some(session) = &proven.session {
            let kept = self.documents.get(SESSIONS, session).await?.ok_or_else(ended)?;
            let kept: Session =
                bson::deserialize_from_slice(kept.as_bytes()).map_err(|error| Error::Internal(error.into()))?;
            if kept.ended {
                return Err(ended());
            }
        }
        let memberships = self.memberships.acting(&proven.id, caller.organization.as_deref()).await?;
        let subject = Subject::Identity(Proven { roles: identity.roles, memberships, ..proven.clone() });
        Ok(Caller { subject, ..caller.clone() })
    }

    async fn last_administrator(&self) -> Result<bool> {
        let filter = Filter::parse(&rawdoc! { "roles": "admin", "status": "active" }).map_err(Error::Invalid)?;
        Ok(self.documents.count(IDENTITIES, Arc::new(filter)).await?.0 <= 1)
    }

    pub(super) async fn require(&self, who: &str) -> Result<Identity> {
        named(&*self.documents, who, self.settings.calling_code).await
    }

    /// The handle people write as an address, a number or a machine's name.
    fn handle(&self, who: &str) -> Option<String> {
        handle(who, self.settings.calling_code)
    }

    pub(super) async fn find(&self, handle: &str) -> Result<Option<RawDocumentBuf>> {
        by_handle(&*self.documents, handle).await
    }

    /// The person with this address.
    pub(super) async fn known(&self, email: &str) -> Result<Option<Identity>> {
        let Ok(email) = contact::email(email) else { return Ok(None) };
        self.find(&format!("email:{email}")).await?.map(|document| read(&document)).transpose()
    }
}

/// The identity with this id or handle.
pub(super) async fn named(documents: &dyn Documents, who: &str, calling_code: Option<u16>) -> Result<Identity> {
    let found = match (documents.get(IDENTITIES, who).await?, handle(who, calling_code)) {
        (Some(document), _) => Some(document),
        (None, Some(handle)) => by_handle(documents, &handle).await?,
        (None, None) => None,
    };
    read(&found.ok_or_else(|| unknown(who))?)
}

fn handle(who: &str, calling_code: Option<u16>) -> Option<String> {
    match who.contains('@') {
        true => contact::email(who).ok().map(|email| format!("email:{email}")),
        false if who.starts_with(|first: char| first.is_ascii_lowercase()) => Some(format!("machine:{who}")),
        false => contact::phone(who, calling_code).ok().map(|phone| format!("phone:{phone}")),
    }
}

async fn by_handle(documents: &dyn Documents, handle: &str) -> Result<Option<RawDocumentBuf>> {
    Ok(first(documents, IDENTITIES, &rawdoc! { "handles": handle }, "", 1).await?.pop())
}

fn unknown(who: &str) -> Error {
    Error::NotFound(Fault::new("identities.unknown").with("who", who))
}

/// Nobody changes their own proof by what their rights over others allow: a stolen token would do.
pub(super) fn not_oneself(caller: &Caller, identity: &Identity) -> Result<()> {
    match &caller.subject {
        Subject::Identity(proven) if proven.id == identity.id => {
            Err(Error::Refused(Fault::new("identities.own_proof")))
        }
        _ => Ok(()),
    }
}

/// What a change of someone's factors writes with it: no session that began on an earlier proof opens from then on.
pub(super) fn renewed(id: &str, from: Timestamp) -> Result<Operation> {
    let update = Update::parse(&rawdoc! { "$set": { "tokensFrom": from.0 } }).map_err(Error::Invalid)?;
    let (collection, id) = (IDENTITIES.to_owned(), id.to_owned());
    Ok(Operation { collection, id, expect: Expect::Present, change: Change::Update(update) })
}

pub(super) fn read(document: &RawDocument) -> Result<Identity> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

#[cfg(test)]
mod tests;
