//! Who: the people of the instance. Disabled, never deleted, so that history keeps its names.

pub mod password;

use super::{
    Error, Result,
    access::{Access, Action, Caller, Proven, Resource, Role, Subject},
    documents::Attempt,
    sessions::{SESSIONS, Session, Sessions},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random,
    },
    domain::{filter::Filter, sort::Sort, update::Update},
    ports::documents::{Batch, Change, Documents, Expect, Operation, Query, Receipt},
};
use bson::rawdoc;
use password::Passwords;
use std::sync::Arc;
use zeroize::Zeroizing;

pub const IDENTITIES: &str = "system.identities";
const REUSED: &str = "documents.idempotency_reused";

/// A person, as kept. The password's hash never leaves this floor.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    #[serde(rename = "_id")]
    pub id: String,
    pub kind: Kind,
    /// Normalised: trimmed, lower case. Unique.
    pub email: String,
    #[serde(default)]
    pub roles: Vec<Role>,
    pub status: Status,
    /// A PHC string.
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
    access: Arc<Access>,
    /// Two administrators who disable each other at once are looked at one after the other.
    deciding: tokio::sync::Mutex<()>,
}

impl Identities {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        sessions: Arc<Sessions>,
        access: Arc<Access>,
    ) -> Self {
        let passwords = Passwords::new();
        Self { documents, clock, passwords, sessions, access, deciding: tokio::sync::Mutex::default() }
    }

    /// Adds a person.
    pub async fn add(
        &self,
        caller: &Caller,
        email: &str,
        password: Zeroizing<String>,
        roles: Vec<Role>,
    ) -> Result<Identity> {
        self.add_once(caller, email, password, roles, None).await
    }

    /// Adds a person; a retry of the same attempt answers the first one's. A receipt's fast hash must not cover the
    /// password: the retry proves it against the hash kept.
    pub async fn add_once(
        &self,
        caller: &Caller,
        email: &str,
        password: Zeroizing<String>,
        roles: Vec<Role>,
        attempt: Option<Attempt<'_>>,
    ) -> Result<Identity> {
        self.access.decide(caller, Action::Manage, Resource::Module("identities"))?;
        let now = self.clock.now();
        let hash = self.passwords.hash(password.clone(), roles.contains(&Role::Admin)).await?;
        let identity = Identity {
            id: random::id(now),
            kind: Kind::Person,
            email: normalise(email)?,
            roles,
            status: Status::Active,
            password: Some(hash),
            tokens_from: Timestamp::default(),
        };
        let document = bson::serialize_to_raw_document_buf(&identity).map_err(|error| Error::Internal(error.into()))?;
        let body = format!("{} {:?}", identity.email, identity.roles);
        let receipt = attempt.map(|attempt| Attempt { body: body.as_bytes(), ..attempt }.receipt(caller, now));
        match self.commit(caller, &identity.id, Expect::Absent, Change::Put(document), receipt).await {
            Ok(None) => Ok(identity),
            Ok(Some(first)) => self.again(&first, password).await,
            Err(Error::Conflict(fault)) if fault.key != REUSED => {
                Err(Error::Conflict(Fault::new("identities.email_taken").at("email").with("email", identity.email)))
            }
            Err(other) => Err(other),
        }
    }

    /// The person an earlier attempt added, to who gives the same password.
    async fn again(&self, first: &str, password: Zeroizing<String>) -> Result<Identity> {
        let identity = self.require(first).await?;
        match self.passwords.verify(password, identity.password.clone()).await? {
            true => Ok(identity),
            false => Err(Error::Conflict(Fault::new(REUSED))),
        }
    }

    pub async fn list(&self, caller: &Caller) -> Result<Vec<Identity>> {
        let grant = self.access.decide(caller, Action::View, Resource::Module("identities"))?;
        let (filter, mut after, mut all) = (grant.scope, None, Vec::new());
        loop {
            let (collection, filter) = (IDENTITIES.to_owned(), filter.clone());
            let query = Query { collection, filter, sort: Sort::default(), limit: 1000, after };
            let page = self.documents.find(query).await?;
            for document in &page.documents {
                all.push(read(document)?);
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Sets another password and ends every session.
    pub async fn change_password(&self, caller: &Caller, who: &str, password: Zeroizing<String>) -> Result<Identity> {
        self.access.decide(caller, Action::Manage, Resource::Module("identities"))?;
        let identity = self.require(who).await?;
        let hash = self.passwords.hash(password, identity.roles.contains(&Role::Admin)).await?;
        self.change(caller, identity, rawdoc! { "password": hash }).await
    }

    /// Ends every session and lets nobody in under this identity until it is active again.
    pub async fn set_status(&self, caller: &Caller, who: &str, status: Status) -> Result<Identity> {
        self.access.decide(caller, Action::Manage, Resource::Module("identities"))?;
        let _deciding = self.deciding.lock().await;
        let identity = self.require(who).await?;
        let counts = identity.status == Status::Active && identity.roles.contains(&Role::Admin);
        if status == Status::Disabled && counts && self.last_administrator().await? {
            return Err(Error::Conflict(Fault::new("identities.last_administrator").with("email", identity.email)));
        }
        self.change(caller, identity, rawdoc! { "status": status.name() }).await
    }

    /// Leaves of a person nothing but the id and a name that says nothing, and lets nobody in under it any more.
    pub(super) async fn forget(&self, caller: &Caller, id: &str, pseudonym: &str) -> Result<()> {
        let from = self.clock.now();
        let identity = Identity {
            id: id.to_owned(),
            kind: self.require(id).await?.kind,
            email: format!("{pseudonym}@erased.invalid"),
            roles: Vec::new(),
            status: Status::Disabled,
            password: None,
            tokens_from: from,
        };
        let document = bson::serialize_to_raw_document_buf(&identity).map_err(|error| Error::Internal(error.into()))?;
        self.commit(caller, id, Expect::Present, Change::Put(document), None).await?;
        self.sessions.end_all(caller, id, from).await
    }

    /// The identity these words prove, or `Unauthorized` without saying which of them was wrong.
    pub async fn prove(&self, email: &str, password: Zeroizing<String>) -> Result<Identity> {
        let found = match normalise(email) {
            Ok(email) => self.find(&email).await?,
            Err(_) => None,
        };
        let kept = found.as_ref().and_then(|identity| identity.password.clone());
        let right = self.passwords.verify(password, kept).await?;
        match found {
            Some(identity) if right && identity.status == Status::Active => Ok(identity),
            _ => Err(Error::Unauthorized),
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
        if let Some(session) = &proven.session {
            let kept = self.documents.get(SESSIONS, session).await?.ok_or_else(ended)?;
            let kept: Session =
                bson::deserialize_from_slice(kept.as_bytes()).map_err(|error| Error::Internal(error.into()))?;
            if kept.ended {
                return Err(ended());
            }
        }
        let subject = Subject::Identity(Proven { roles: identity.roles, ..proven.clone() });
        Ok(Caller { subject, ..caller.clone() })
    }

    async fn last_administrator(&self) -> Result<bool> {
        let filter = Filter::parse(&rawdoc! { "roles": "admin", "status": "active" }).map_err(Error::Invalid)?;
        Ok(self.documents.count(IDENTITIES, Arc::new(filter)).await?.0 <= 1)
    }

    async fn require(&self, who: &str) -> Result<Identity> {
        named(&*self.documents, who).await
    }

    async fn find(&self, email: &str) -> Result<Option<Identity>> {
        by_email(&*self.documents, email).await
    }

    /// Sets fields and, in the same write, the moment from which tokens count.
    async fn change(&self, caller: &Caller, identity: Identity, mut set: bson::RawDocumentBuf) -> Result<Identity> {
        let from = self.clock.now();
        set.append(bson::cstr!("tokensFrom"), from.0);
        let update = Update::parse(&rawdoc! { "$set": set }).map_err(Error::Invalid)?;
        self.commit(caller, &identity.id, Expect::Present, Change::Update(update), None).await?;
        self.sessions.end_all(caller, &identity.id, from).await?;
        self.require(&identity.id).await
    }

    /// The id an earlier attempt with this receipt wrote; `None`: written now.
    async fn commit(
        &self,
        caller: &Caller,
        id: &str,
        expect: Expect,
        change: Change,
        receipt: Option<Receipt>,
    ) -> Result<Option<String>> {
        let operation = Operation { collection: IDENTITIES.to_owned(), id: id.to_owned(), expect, change };
        let (time, origin) = (self.clock.now(), caller.origin());
        let batch = Batch { time, origin, operations: vec![operation], check: None, receipt };
        let committed = self.documents.commit(batch).await?;
        let first = committed.outcomes.into_iter().next().map(|outcome| outcome.id);
        Ok(first.filter(|_| committed.replayed))
    }
}

/// The identity with this id or e-mail.
pub(super) async fn named(documents: &dyn Documents, who: &str) -> Result<Identity> {
    let found = match documents.get(IDENTITIES, who).await? {
        Some(document) => Some(read(&document)?),
        None => by_email(documents, &who.trim().to_lowercase()).await?,
    };
    found.ok_or_else(|| Error::NotFound(Fault::new("identities.unknown").with("who", who)))
}

async fn by_email(documents: &dyn Documents, email: &str) -> Result<Option<Identity>> {
    let filter = Filter::parse(&rawdoc! { "email": email }).map_err(Error::Invalid)?;
    let (collection, filter) = (IDENTITIES.to_owned(), Arc::new(filter));
    let query = Query { collection, filter, sort: Sort::default(), limit: 1, after: None };
    documents.find(query).await?.documents.first().map(|document| read(document)).transpose()
}

pub(super) fn read(document: &bson::RawDocument) -> Result<Identity> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

fn normalise(email: &str) -> Result<String> {
    let email = email.trim().to_lowercase();
    let plausible = email.len() <= 254
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if plausible {
        Ok(email)
    } else {
        Err(Error::Invalid(Fault::new("identities.email").at("email").with("email", email)))
    }
}
