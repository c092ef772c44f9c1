//! Proof: a login opens a session; it lives by refresh tokens, used once each, and short access tokens.

mod forget;
mod keyed;
mod token;

pub use token::Verified;

use super::{
    Error, Result,
    access::{Caller, Proven, Subject},
    audit::{Audit, Event},
    documents::every,
    identities::{self, IDENTITIES, Identity, Status},
    instance::Stamp,
    keyring::Keyring,
    mfa::{self, Method},
    trust::Trust,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        environment::Environment,
        fault::Fault,
        random, secret,
    },
    domain::{document::revision, filter::Filter, sort::Sort, trust, update::Update},
    ports::documents::{Batch, Change, Documents, Expect, Operation, Query},
};
use bson::rawdoc;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};
use token::Tokens;

pub const SESSIONS: &str = "system.sessions";
pub const REFRESHES: &str = "system.refreshes";

/// How long a session lives without being refreshed, and an access token at most, in seconds.
const SESSION_LIFE: i64 = 30 * 24 * 3600;
const ACCESS_LIFE: i64 = 600;
/// Documents changed in one commit.
const AT_ONCE: usize = 500;

/// What a login or a refresh gives.
#[derive(Debug)]
pub struct Granted {
    pub access: String,
    pub refresh: String,
    /// Seconds the access token lives.
    pub expires_in: i64,
    pub identity: Identity,
    pub session: String,
}

/// A session as its owner sees it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    #[serde(rename = "_id")]
    pub id: String,
    pub identity: String,
    /// What the client calls itself.
    pub device: String,
    pub ended: bool,
    pub expires: Timestamp,
    #[serde(default)]
    pub opened: Timestamp,
    /// The last login or refresh: to the life of an access token.
    #[serde(default)]
    pub used: Timestamp,
    /// The network it was opened from, not the address.
    #[serde(default)]
    pub network: Option<String>,
    /// By which proofs, and when the last was given.
    #[serde(default)]
    pub methods: Vec<Method>,
    #[serde(default)]
    pub proven: Timestamp,
    /// The last change of proof that it was kept over.
    #[serde(default)]
    pub renewed: Timestamp,
}

/// A refresh token, by its hash. Once used it stays to betray a replay.
#[derive(serde::Serialize, serde::Deserialize)]
struct Refresh {
    #[serde(rename = "_id")]
    hash: String,
    session: String,
    used: bool,
    expires: Timestamp,
}

pub struct Sessions {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    environment: Environment,
    tokens: Tokens,
    trust: Arc<Trust>,
    audit: Arc<Audit>,
    /// Sessions and identities whose tokens ended early: those issued before the moment count no more.
    /// An entry outlives the last token it can concern.
    ended: RwLock<HashMap<String, Timestamp>>,
    /// Raised whenever a proof ends or a right changes: what was learnt of an identity in an earlier era is stale.
    era: AtomicU64,
}

impl Sessions {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        stamp: &Stamp,
        keyring: &Keyring,
        trust: Arc<Trust>,
        audit: Arc<Audit>,
    ) -> Self {
        let (environment, tokens, ended) = (stamp.environment, Tokens::new(stamp, keyring), RwLock::default());
        Self { documents, clock, environment, tokens, trust, audit, ended, era: AtomicU64::new(0) }
    }

    /// Signs tokens with a secret shared with clients that cannot check EdDSA.
    pub fn with_shared_secret(mut self, secret: &[u8]) -> Self {
        self.tokens.sign_with_shared(secret);
        self
    }

    /// Whether tokens are signed with a secret that the configuration holds, and no key of the keyring.
    pub(super) fn use_shared_secret(&self) -> bool {
        self.tokens.are_shared()
    }

    /// Signs with the newest of these keys from now on.
    pub fn take_keys(&self, keyring: &Keyring) {
        self.tokens.take_keys(keyring);
    }

    /// Reads back, at start-up, what ended within the life of a token.
    pub async fn recall(&self) -> Result<()> {
        let since = self.clock.now().plus_seconds(-ACCESS_LIFE);
        let at = bson::DateTime::from_millis(since.0);
        let sessions = rawdoc! { "ended": true, "_updatedAt": { "$gte": at } };
        for session in self.select::<Session>(SESSIONS, &sessions).await? {
            self.remember(session.id, self.clock.now());
        }
        for identity in self.select::<Identity>(IDENTITIES, &rawdoc! { "tokensFrom": { "$gte": since.0 } }).await? {
            self.remember(identity.id.clone(), identity.tokens_from);
        }
        Ok(())
    }

    /// Opens a session for an identity that has proven itself by these methods. Whether they suffice is for
    /// [`mfa::Mfa::admit`] to say.
    pub(super) async fn open(
        &self,
        caller: &Caller,
        identity: Identity,
        device: &str,
        methods: &[Method],
    ) -> Result<Granted> {
        let now = self.clock.now();
        let session = Session {
            id: random::id(now),
            identity: identity.id.clone(),
            device: device.chars().filter(|c| !c.is_control()).take(128).collect(),
            ended: false,
            expires: now.plus_seconds(SESSION_LIFE),
            opened: now,
            used: now,
            network: caller.address.map(network),
            methods: methods.to_vec(),
            proven: now,
            renewed: now,
        };
        let (refresh, kept) = new_refresh(&session.id, now);
        let login = Event::new("auth.login").about(&identity.id).with("session", session.id.as_str());
        let proofs: Vec<_> = methods.iter().map(|method| method.name()).collect();
        let login = self.audit.operation(caller, login.with("methods", proofs))?;
        let operations = vec![put(SESSIONS, &session.id, &session)?, put(REFRESHES, &kept.hash, &kept)?, login];
        self.commit(caller, now, operations).await?;
        // The proof may be of a password changed meanwhile; a change from here on finds this session and ends it.
        let current = self.documents.get(IDENTITIES, &identity.id).await?;
        let current = current.map(|document| identities::read(&document)).transpose()?;
        if current.is_none_or(|now| now.tokens_from != identity.tokens_from || now.status != Status::Active) {
            let opened = std::slice::from_ref(&session.id);
            self.end_now(caller, &identity.id, opened).await?;
            // Of somebody erased meanwhile nothing may stay.
            self.let_go(caller, opened).await?;
            return Err(Error::InvalidProof("identity changed"));
        }
        if methods.contains(&Method::Mfa) {
            self.trust.note(&identity.id, trust::Event::MfaPassed);
        }
        self.grant(identity, &session, refresh, now)
    }

    /// Trades a refresh token for new ones. A token used before ends its whole session.
    pub async fn refresh(&self, caller: &Caller, refresh: &str) -> Result<Granted> {
        let now = self.clock.now();
        let hash = secret::hash(refresh);
        let Some(document) = self.documents.get(REFRESHES, &hash).await? else {
            return Err(Error::InvalidProof("unknown refresh token"));
        };
        let kept: Refresh = read(&document)?;
        let session: Session = match self.documents.get(SESSIONS, &kept.session).await? {
            Some(document) => read(&document)?,
            None => return Err(Error::InvalidProof("session gone")),
        };
        if session.ended || kept.expires <= now {
            return Err(Error::InvalidProof("session ended"));
        }
        if kept.used {
            return self.replayed(caller, &session).await;
        }
        let identity = match self.documents.get(IDENTITIES, &session.identity).await? {
            Some(document) => identities::read(&document)?,
            None => return Err(Error::InvalidProof("identity gone")),
        };
        if identity.status != Status::Active {
            return Err(Error::InvalidProof("identity disabled"));
        }
        // A proof changed since, and the session was not ended: the process was, before it came to that.
        if session.proven.max(session.renewed) < identity.tokens_from {
            return Err(Error::InvalidProof("proof changed since"));
        }
        // A role given since, or an environment that asks for more.
        if mfa::is_required(self.environment, &identity) && !session.methods.contains(&Method::Mfa) {
            return Err(Error::InvalidProof("second factor owed"));
        }
        let (next, fresh) = new_refresh(&session.id, now);
        let revision = revision(&document).ok_or_else(|| Error::Internal("a refresh token without revision".into()))?;
        let used = set(REFRESHES, &hash, Expect::Revision(revision), &rawdoc! { "used": true })?;
        let expires = now.plus_seconds(SESSION_LIFE).0;
        let longer = set(SESSIONS, &session.id, Expect::Present, &rawdoc! { "expires": expires, "used": now.0 })?;
        match self.commit(caller, now, vec![used, put(REFRESHES, &fresh.hash, &fresh)?, longer]).await {
            // Somebody used it between our look and our write: that is a replay too.
            Err(Error::Precondition(_)) => self.replayed(caller, &session).await,
            Err(error) => Err(error),
            Ok(()) => {
                self.trust.note(&identity.id, trust::Event::DayClean);
                self.grant(identity, &session, next, now)
            }
        }
    }

    /// Who a token proves. The only question asked at each request: no look at the disk.
    pub fn verify(&self, token: &str) -> Result<Arc<Verified>> {
        let now = self.clock.now();
        let verified = self.tokens.verify(token, now)?;
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        let over = |name: &String| ended.get(name).is_some_and(|from| verified.issued <= *from);
        if !ended.is_empty() && (over(&verified.session) || over(&verified.identity)) {
            return Err(Error::InvalidProof("session ended"));
        }
        Ok(verified)
    }

    pub(super) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// To be called after the change is on disk.
    pub(super) fn begin_era(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
    }

    /// The caller's own sessions that live.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Session>> {
        self.live(own(caller)?.0).await
    }

    pub(super) async fn live(&self, identity: &str) -> Result<Vec<Session>> {
        let now = self.clock.now().0;
        self.select(SESSIONS, &rawdoc! { "identity": identity, "ended": false, "expires": { "$gt": now } }).await
    }

    /// What a change of proof writes with it, for the session in which the proof was given again: it goes on, no more
    /// freshly proven than it was.
    pub(super) fn renewed(session: &str, from: Timestamp) -> Result<Operation> {
        set(SESSIONS, session, Expect::Present, &rawdoc! { "renewed": from.0 })
    }

    /// Adds a proof given within a session that goes on.
    pub(super) async fn strengthen(&self, caller: &Caller, methods: &[Method]) -> Result<()> {
        let now = self.clock.now();
        let session = self.current(caller).await?;
        let mut all = session.methods;
        all.extend(methods.iter().filter(|method| !all.contains(method)).copied().collect::<Vec<_>>());
        let all = all.iter().map(|method| method.name()).collect::<bson::RawArrayBuf>();
        let fields = rawdoc! { "methods": all, "proven": now.0 };
        self.commit(caller, now, vec![set(SESSIONS, &session.id, Expect::Present, &fields)?]).await
    }

    /// The session that asks.
    pub(super) async fn current(&self, caller: &Caller) -> Result<Session> {
        let document = self.documents.get(SESSIONS, own(caller)?.1).await?;
        read(&document.ok_or(Error::InvalidProof("session gone"))?)
    }

    /// Lets go of sessions and refresh tokens that are long over. Answers how many documents went.
    pub async fn sweep(&self) -> Result<usize> {
        let now = self.clock.now();
        let over = rawdoc! { "expires": { "$lt": now.plus_seconds(-2 * ACCESS_LIFE).0 } };
        let mut gone = 0;
        for collection in [REFRESHES, SESSIONS] {
            let filter = Arc::new(Filter::parse(&over).map_err(Error::Invalid)?);
            loop {
                let query = Query {
                    collection: collection.to_owned(),
                    filter: filter.clone(),
                    sort: Sort::default(),
                    limit: AT_ONCE,
                    after: None,
                };
                let page = self.documents.find(query).await?;
                // Only as they were read: a session may have been prolonged since.
                let operations =
                    page.documents.iter().map(|document| remove(collection, document)).collect::<Result<Vec<_>>>()?;
                if operations.is_empty() {
                    break;
                }
                gone += operations.len();
                self.commit(&Caller::system(), now, operations).await?;
            }
        }
        Ok(gone)
    }

    /// Ends one of the caller's own sessions; `None`: the one that asks.
    pub async fn end(&self, caller: &Caller, session: Option<&str>) -> Result<()> {
        let (identity, current) = own(caller)?;
        self.end_of(caller, identity, session.unwrap_or(current)).await
    }

    /// Ends a session that is this identity's.
    pub(super) async fn end_of(&self, caller: &Caller, identity: &str, id: &str) -> Result<()> {
        let unknown = || Error::NotFound(Fault::new("sessions.unknown").with("id", id));
        let document = self.documents.get(SESSIONS, id).await?.ok_or_else(unknown)?;
        if read::<Session>(&document)?.identity != identity {
            return Err(unknown());
        }
        self.end_now(caller, identity, &[id.to_owned()]).await
    }

    /// Ends all of the caller's own sessions.
    pub async fn end_own(&self, caller: &Caller) -> Result<()> {
        let (identity, _) = own(caller)?;
        self.end_all(caller, identity, None).await
    }

    /// Ends every session of an identity but the one to keep. With none to keep, tokens issued so far are no proof any
    /// more, whatever session they are of.
    pub(super) async fn end_all(&self, caller: &Caller, identity: &str, keep: Option<&str>) -> Result<()> {
        if keep.is_none() {
            self.remember(identity.to_owned(), self.clock.now());
        }
        let live = self.live(identity).await?.into_iter().map(|session| session.id);
        let over: Vec<_> = live.filter(|id| keep != Some(id.as_str())).collect();
        for some in over.chunks(AT_ONCE) {
            self.end_now(caller, identity, some).await?;
        }
        Ok(())
    }

    async fn replayed(&self, caller: &Caller, session: &Session) -> Result<Granted> {
        tracing::warn!(
            session = session.id,
            identity = session.identity,
            "a refresh token was used twice: session ended"
        );
        let replay = Event::new("auth.refresh").denied("refresh token used twice").about(&session.identity);
        self.audit.refused(caller, replay.with("session", session.id.as_str())).await;
        self.end_now(caller, &session.identity, std::slice::from_ref(&session.id)).await?;
        self.trust.record(&session.identity, trust::Event::RefreshReplayed).await;
        Err(Error::InvalidProof("refresh token used twice"))
    }

    async fn end_now(&self, caller: &Caller, identity: &str, sessions: &[String]) -> Result<()> {
        let now = self.clock.now();
        // At once and whatever the disk says; a restart recalls what was written.
        sessions.iter().for_each(|session| self.remember(session.clone(), now));
        let end = |session: &String| set(SESSIONS, session, Expect::Present, &rawdoc! { "ended": true });
        let mut operations = sessions.iter().map(end).collect::<Result<Vec<_>>>()?;
        let ended = Event::new("auth.end").about(identity).with("sessions", sessions);
        operations.push(self.audit.operation(caller, ended)?);
        self.commit(caller, now, operations).await?;
        // A refresh may have slipped in between.
        let now = self.clock.now();
        sessions.iter().for_each(|session| self.remember(session.clone(), now));
        Ok(())
    }

    fn remember(&self, name: String, from: Timestamp) {
        let oldest = self.clock.now().plus_seconds(-2 * ACCESS_LIFE);
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, at| *at > oldest);
        ended.insert(name, from);
        self.begin_era();
    }

    fn grant(&self, identity: Identity, session: &Session, refresh: String, now: Timestamp) -> Result<Granted> {
        let access = self.tokens.issue(&identity, token::Proof::Session(session), now, ACCESS_LIFE)?;
        let session = session.id.clone();
        Ok(Granted { access, refresh, expires_in: ACCESS_LIFE, identity, session })
    }

    async fn select<T: serde::de::DeserializeOwned + Send>(
        &self,
        collection: &str,
        filter: &bson::RawDocument,
    ) -> Result<Vec<T>> {
        let filter = Filter::parse(filter).map_err(Error::Invalid)?;
        every(&*self.documents, collection, filter, |document| read(&document)).await
    }

    async fn commit(&self, caller: &Caller, time: Timestamp, operations: Vec<Operation>) -> Result<()> {
        let batch = Batch { time, origin: caller.origin(), operations, check: None, receipt: None };
        self.documents.commit(batch).await?;
        Ok(())
    }
}

/// The caller's identity and session; a key has no session, the local operator neither.
pub(super) fn own(caller: &Caller) -> Result<(&str, &str)> {
    match &caller.subject {
        Subject::Identity(Proven { id, session: Some(session), .. }) => Ok((id, session)),
        Subject::Anonymous => Err(Error::Unauthorized),
        Subject::Identity(_) | Subject::Local { .. } | Subject::System => Err(Error::Forbidden),
    }
}

/// Of a /24 or a /48: enough to tell home from elsewhere.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

fn new_refresh(session: &str, now: Timestamp) -> (String, Refresh) {
    let token = secret::make();
    let expires = now.plus_seconds(SESSION_LIFE);
    let kept = Refresh { hash: secret::hash(&token), session: session.to_owned(), used: false, expires };
    (token.to_string(), kept)
}

fn put(collection: &str, id: &str, value: &impl serde::Serialize) -> Result<Operation> {
    let document = bson::serialize_to_raw_document_buf(value).map_err(|error| Error::Internal(Box::new(error)))?;
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Ok(Operation { collection, id, expect: Expect::Absent, change: Change::Put(document) })
}

fn set(collection: &str, id: &str, expect: Expect, fields: &bson::RawDocument) -> Result<Operation> {
    let update = Update::parse(&rawdoc! { "$set": fields.to_owned() }).map_err(Error::Invalid)?;
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Ok(Operation { collection, id, expect, change: Change::Update(update) })
}

fn remove(collection: &str, document: &bson::RawDocument) -> Result<Operation> {
    let id = document.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?.to_owned();
    let expect = revision(document).map_or(Expect::Present, Expect::Revision);
    Ok(Operation { collection: collection.to_owned(), id, expect, change: Change::Delete })
}

fn read<T: serde::de::DeserializeOwned>(document: &bson::RawDocument) -> Result<T> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

#[cfg(test)]
mod tests;
