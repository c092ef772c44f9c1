//! Who: the people of the instance. Disabled, never deleted, so that history keeps its names.

mod known;
pub mod password;
mod proofs;

use super::{
    Error, Result,
    access::{Access, Action, Caller, Proven, Resource, Role, Subject},
    audit::{Audit, Event},
    documents::Attempt,
    keys::{KEYS, Key},
    sessions::{SESSIONS, Session, Sessions, own},
    throttle::Throttle,
    trust::Trust,
};
use crate::{
    base::{
        clock::{SharedClock, Stopwatch, Timestamp},
        fault::Fault,
        random,
    },
    domain::{document::revision, filter::Filter, sort::Sort, trust, update::Update},
    ports::documents::{Batch, Change, Documents, Expect, Operation, Query, Receipt},
};
use bson::{RawDocumentBuf, rawdoc};
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
    /// Normalised: trimmed, lower case. Unique. A machine has its name here, which holds no `@`.
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
    /// Two administrators who disable each other at once are looked at one after the other.
    deciding: tokio::sync::Mutex<()>,
}

impl Identity {
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }
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
        let (passwords, deciding) = (Passwords::new(), tokio::sync::Mutex::default());
        Self { documents, clock, passwords, sessions, throttle, trust, access, audit, deciding }
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
        let email = normalise(email)?;
        let hash = self.passwords.hash(password.clone(), roles.contains(&Role::Admin), &email).await?;
        let identity = Identity {
            id: random::id(now),
            kind: Kind::Person,
            email,
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
        match self.passwords.verify(password, identity.password.clone()).await?.right {
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

    /// One person, by id or email.
    pub async fn describe(&self, caller: &Caller, who: &str) -> Result<Identity> {
        let grant = self.access.decide(caller, Action::View, Resource::Module("identities"))?;
        self.within(&grant, who).await
    }

    /// Sets another password and ends every session.
    pub async fn change_password(&self, caller: &Caller, who: &str, password: Zeroizing<String>) -> Result<Identity> {
        self.access.decide(caller, Action::Manage, Resource::Module("identities"))?;
        let identity = self.require(who).await?;
        not_oneself(caller, &identity)?;
        let hash = self.passwords.hash(password, identity.roles.contains(&Role::Admin), &identity.email).await?;
        self.change(caller, identity, rawdoc! { "password": hash }, None).await
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
        self.change(caller, identity, rawdoc! { "status": status.name() }, None).await
    }

    /// The identity these words prove, or `Unauthorized` without saying which of them was wrong. Whether the account
    /// exists changes neither the answer, nor its time, nor when it begins to be delayed.
    pub async fn prove(&self, caller: &Caller, email: &str, password: Zeroizing<String>) -> Result<Identity> {
        let attempt = self.throttle.attempt("login", email, caller.address).await?;
        let identity = attempt.of(self.check(caller, email, password).await)?;
        self.trust.note(&identity.id, trust::Event::DayClean);
        Ok(identity)
    }

    async fn check(&self, caller: &Caller, email: &str, password: Zeroizing<String>) -> Result<Identity> {
        let found = match normalise(email) {
            Ok(email) => self.find(&email).await?,
            Err(_) => None,
        };
        let known = found.as_ref().map(|document| read(document)).transpose()?;
        let proven = self.prove_found(found, password).await;
        if let Err(Error::Unauthorized) = &proven {
            if let Some(identity) = known {
                self.trust.note(&identity.id, trust::Event::LoginFailed);
            }
            // By what was tried: whether there is such an account is for nobody to read.
            let tried = self.audit.pseudonym(&email.trim().to_lowercase());
            let failed = Event::new("auth.login").failed("wrong e-mail or password, or disabled").about(tried);
            self.audit.refused(caller, failed).await;
        }
        proven
    }

    /// Whether the password is this identity's: asked again of who is already known.
    pub async fn prove_again(&self, id: &str, password: Zeroizing<String>) -> Result<Identity> {
        let found = self.documents.get(IDENTITIES, id).await?;
        self.prove_found(found, password).await
    }

    async fn prove_found(&self, found: Option<RawDocumentBuf>, password: Zeroizing<String>) -> Result<Identity> {
        let begun = Stopwatch::start();
        let identity = found.as_ref().map(|document| read(document)).transpose()?;
        let kept = identity.as_ref().and_then(|identity| identity.password.clone());
        let verdict = self.passwords.verify(password.clone(), kept).await?;
        match (identity, found) {
            (Some(identity), Some(document)) if verdict.right && identity.status == Status::Active => {
                if verdict.outdated {
                    self.rehash(&identity, revision(&document), password).await?;
                }
                Ok(identity)
            }
            _ => {
                self.passwords.even(begun).await;
                Err(Error::Unauthorized)
            }
        }
    }

    /// Keeps a password as passwords are kept now, unless it changed meanwhile.
    async fn rehash(&self, identity: &Identity, revision: Option<i64>, password: Zeroizing<String>) -> Result<()> {
        let hash = self.passwords.rehash(password).await?;
        let update = Update::parse(&rawdoc! { "$set": { "password": hash } }).map_err(Error::Invalid)?;
        let expect = revision.map_or(Expect::Present, Expect::Revision);
        match self.commit(&Caller::system(), &identity.id, expect, Change::Update(update), None).await {
            Err(Error::Precondition(_)) => Ok(()),
            kept => kept.map(drop),
        }
    }

    /// Sets the caller's own password, proven by the one in force, and ends their other sessions.
    pub async fn change_own_password(
        &self,
        caller: &Caller,
        current: Zeroizing<String>,
        new: Zeroizing<String>,
    ) -> Result<()> {
        let (id, session) = own(caller)?;
        let identity = self.prove_again(id, current).await?;
        let hash = self.passwords.hash(new, identity.roles.contains(&Role::Admin), &identity.email).await?;
        self.change(caller, identity, rawdoc! { "password": hash }, Some(session)).await.map(drop)
    }

    /// Measures what hashing may cost on this machine.
    pub async fn calibrate(&self) -> Result<()> {
        self.passwords.calibrate().await
    }

    /// The open sessions of a person.
    pub async fn sessions(&self, caller: &Caller, who: &str) -> Result<Vec<Session>> {
        let grant = self.access.decide(caller, Action::View, Resource::Module("identities"))?;
        self.sessions.live(&self.within(&grant, who).await?.id).await
    }

    /// Ends one session of a person; `None`: all of them.
    pub async fn end_sessions(&self, caller: &Caller, who: &str, session: Option<&str>) -> Result<()> {
        self.access.decide(caller, Action::Manage, Resource::Module("identities"))?;
        let identity = self.require(who).await?;
        match session {
            Some(session) => self.sessions.end_of(caller, &identity.id, session).await,
            None => self.sessions.end_all(caller, &identity.id, self.clock.now(), None).await,
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
        let subject = Subject::Identity(Proven { roles: identity.roles, ..proven.clone() });
        Ok(Caller { subject, ..caller.clone() })
    }

    async fn last_administrator(&self) -> Result<bool> {
        let filter = Filter::parse(&rawdoc! { "roles": "admin", "status": "active" }).map_err(Error::Invalid)?;
        Ok(self.documents.count(IDENTITIES, Arc::new(filter)).await?.0 <= 1)
    }

    pub(super) async fn require(&self, who: &str) -> Result<Identity> {
        named(&*self.documents, who).await
    }

    pub(super) async fn find(&self, email: &str) -> Result<Option<RawDocumentBuf>> {
        by_email(&*self.documents, email).await
    }

    /// The person with this email.
    pub(super) async fn known(&self, email: &str) -> Result<Option<Identity>> {
        self.find(email).await?.map(|document| read(&document)).transpose()
    }

    /// Sets fields and, in the same write, the moment from which tokens count. Every session ends but the one to keep.
    async fn change(
        &self,
        caller: &Caller,
        identity: Identity,
        set: RawDocumentBuf,
        keep: Option<&str>,
    ) -> Result<Identity> {
        self.change_with(caller, &identity.id, set, Vec::new(), keep).await
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
        Some(document) => Some(document),
        None => by_email(documents, &who.trim().to_lowercase()).await?,
    };
    let found = found.ok_or_else(|| Error::NotFound(Fault::new("identities.unknown").with("who", who)))?;
    read(&found)
}

async fn by_email(documents: &dyn Documents, email: &str) -> Result<Option<RawDocumentBuf>> {
    let filter = Filter::parse(&rawdoc! { "email": email }).map_err(Error::Invalid)?;
    let (collection, filter) = (IDENTITIES.to_owned(), Arc::new(filter));
    let query = Query { collection, filter, sort: Sort::default(), limit: 1, after: None };
    Ok(documents.find(query).await?.documents.into_iter().next())
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

pub(super) fn read(document: &bson::RawDocument) -> Result<Identity> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

pub(super) fn normalise(email: &str) -> Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::environment::Environment, services::bench::Bench};

    const PASSWORD: &str = "correct horse battery staple";

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    async fn identities() -> (Arc<Identities>, Identity) {
        let identities = Bench::of(Environment::Development).await.identities;
        let ana = identities.add(&Caller::system(), "ana@example.cd", secret(PASSWORD), Vec::new()).await.unwrap();
        (identities, ana)
    }

    /// Nobody learns which account exists by the work its login costs.
    #[tokio::test]
    async fn an_unknown_account_costs_what_a_known_one_does() {
        let (identities, ana) = identities().await;
        let bob = identities.add(&Caller::system(), "bob@example.cd", secret(PASSWORD), Vec::new()).await.unwrap();
        identities.set_status(&Caller::system(), &bob.id, Status::Disabled).await.unwrap();
        for (email, password) in [
            (ana.email.as_str(), "not her password at all"),
            ("nobody@example.cd", PASSWORD),
            ("not an address", PASSWORD),
            (bob.email.as_str(), PASSWORD),
        ] {
            let before = identities.passwords.jobs();
            assert!(
                matches!(identities.prove(&Caller::system(), email, secret(password)).await, Err(Error::Unauthorized)),
                "{email}"
            );
            assert_eq!(identities.passwords.jobs() - before, 1, "{email}");
        }
    }

    #[tokio::test]
    async fn a_login_renews_a_hash_of_earlier_days() {
        let (identities, ana) = identities().await;
        // Shorter than passwords may be now, and hashed before they were normalised.
        let weak = argon2::Params::new(8, 1, 1, None).unwrap();
        let weak = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, weak);
        let weak = argon2::PasswordHasher::hash_password_with_salt(&weak, b"short", b"sixteen bytes...").unwrap();
        let weak = weak.to_string();
        let update = Update::parse(&rawdoc! { "$set": { "password": weak.as_str() } }).unwrap();
        identities.commit(&Caller::system(), &ana.id, Expect::Present, Change::Update(update), None).await.unwrap();
        assert!(identities.prove(&Caller::system(), &ana.email, secret("wrong")).await.is_err());
        assert_eq!(identities.require(&ana.id).await.unwrap().password.as_deref(), Some(weak.as_str()));
        identities.prove(&Caller::system(), &ana.email, secret("short")).await.unwrap();
        let kept = identities.require(&ana.id).await.unwrap();
        assert!(kept.password.unwrap().contains("m=19456,t=2"));
        assert_eq!(kept.tokens_from, ana.tokens_from, "the sessions of a renewed hash ended");
        identities.prove(&Caller::system(), &ana.email, secret("short")).await.unwrap();
    }
}
