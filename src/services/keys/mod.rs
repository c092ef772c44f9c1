//! Keys that prove an identity without a session: API keys, shown once and kept as a hash, and machines' public keys.
//! Each expires, may be narrowed, and is worth what its identity may do now, never more.

mod scope;
mod text;

pub use text::PREFIX;

use super::{
    Error, Result,
    access::{Access, Action, Caller, Proven, Resource, Restriction, Subject},
    audit::{Audit, Event},
    documents::every,
    identities::{self, IDENTITIES, Identities, Identity, Kind, Status},
    mfa::{Again, Mfa},
    sessions::Sessions,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random,
    },
    domain::{filter::Filter, update::Update},
    ports::documents::{Batch, Change, Documents, Expect, Operation},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bson::rawdoc;
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub const KEYS: &str = "system.keys";

/// Days a key lives when nothing is said, and at most.
pub const DAYS: i64 = 90;
pub const MOST_DAYS: i64 = 365;
/// Keys of one identity that live at once.
const MOST: usize = 100;
const LONGEST_NAME: usize = 100;
/// Seconds between two marks of a key's last use.
const MARK: i64 = 3600;
/// Keys held in memory as their owner is known to stand.
const REMEMBERED: usize = 10_000;
/// Seconds a key that is over is still shown.
const SHOWN: i64 = 30 * 24 * 3600;

/// A key, as kept.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    #[serde(rename = "_id")]
    pub id: String,
    /// Who it proves.
    pub identity: String,
    pub name: String,
    /// Of an API key: the hex SHA-256 of its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// Of a machine's key: its public half, 32 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restriction: Option<Restriction>,
    pub created: Timestamp,
    pub created_by: String,
    pub expires: Timestamp,
    /// Give or take an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    #[serde(default)]
    pub revoked: bool,
}

impl Key {
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.revoked || self.expires <= now
    }
}

/// What is asked of a new key.
#[derive(Debug, Default)]
pub struct Wanted {
    pub name: String,
    pub days: Option<i64>,
    /// Nothing said: an API key reads collections, a machine's key does what its machine may.
    pub restriction: Option<Restriction>,
    /// A machine's public key; absent: an API key is made.
    pub public: Option<String>,
}

/// A key made, with its words where it has any: kept nowhere.
pub type Made = (Key, Option<Zeroizing<String>>);

pub struct Keys {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    access: Arc<Access>,
    sessions: Arc<Sessions>,
    identities: Arc<Identities>,
    mfa: Arc<Mfa>,
    audit: Arc<Audit>,
    known: RwLock<HashMap<String, Arc<Known>>>,
}

/// An API key with its owner as they stood in an era of the sessions.
struct Known {
    era: u64,
    digest: [u8; 32],
    key: Key,
    owner: Identity,
    restriction: Option<Arc<Restriction>>,
    marked: AtomicI64,
}

impl Keys {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        access: Arc<Access>,
        sessions: Arc<Sessions>,
        identities: Arc<Identities>,
        mfa: Arc<Mfa>,
        audit: Arc<Audit>,
    ) -> Self {
        Self { documents, clock, access, sessions, identities, mfa, audit, known: RwLock::default() }
    }

    /// Who an API key proves, with the rights its identity has now. A key just used is answered without a look at the
    /// disk.
    pub async fn verify(&self, words: &str) -> Result<Proven> {
        const REFUSED: Error = Error::InvalidProof("not a key of this instance");
        let (id, digest) = text::read(words).ok_or(REFUSED)?;
        let known = self.known(&id).await?;
        let kept = known.as_ref().map_or([0; 32], |known| known.digest);
        let same = bool::from(digest.ct_eq(&kept));
        let known = known.filter(|_| same).ok_or(REFUSED)?;
        let now = self.clock.now();
        if known.key.is_over(now) {
            return Err(Error::InvalidProof("key expired or revoked"));
        }
        if known.owner.status != Status::Active {
            return Err(Error::InvalidProof("identity disabled"));
        }
        self.mark(&known, now).await;
        Ok(Proven::key(known.owner.id.clone(), id, known.owner.roles.clone(), known.restriction.clone()))
    }

    /// Makes a key for the caller.
    pub async fn create_own(&self, caller: &Caller, wanted: Wanted, again: Again) -> Result<Made> {
        let owner = self.identities.require(own(caller)?).await?;
        self.make(caller, owner, wanted, again).await
    }

    /// Makes, or takes, a key for somebody. Its words are answered this once.
    pub async fn create(&self, caller: &Caller, who: &str, wanted: Wanted, again: Again) -> Result<Made> {
        let owner = self.identities.managed(caller, who).await?;
        self.make(caller, owner, wanted, again).await
    }

    /// The caller's own keys.
    pub async fn list_own(&self, caller: &Caller) -> Result<Vec<Key>> {
        let identity = own(caller)?;
        self.select(&rawdoc! { "identity": identity }).await
    }

    /// Somebody's keys, or everybody's the caller may see.
    pub async fn list(&self, caller: &Caller, who: Option<&str>) -> Result<Vec<Key>> {
        let grant = self.access.decide(caller, Action::View, Resource::Module("identities"))?;
        if let Some(who) = who {
            return self.select(&rawdoc! { "identity": self.identities.within(&grant, who).await?.id }).await;
        }
        let mut keys = self.select(&rawdoc! {}).await?;
        if !grant.is_everything() {
            let seen = self.identities.list(caller).await?;
            let seen: HashSet<_> = seen.iter().map(|identity| identity.id.as_str()).collect();
            keys.retain(|key| seen.contains(key.identity.as_str()));
        }
        Ok(keys)
    }

    /// Ends one of the caller's own keys, at once.
    pub async fn revoke_own(&self, caller: &Caller, id: &str) -> Result<Key> {
        let identity = own(caller)?;
        let key = self.require(id).await?;
        if key.identity != identity {
            return Err(unknown(id));
        }
        self.end(caller, key).await
    }

    /// Ends anybody's key, at once.
    pub async fn revoke(&self, caller: &Caller, id: &str) -> Result<Key> {
        let grant = self.access.decide(caller, Action::Manage, Resource::Module("identities"))?;
        let key = self.require(id).await?;
        // Also where its identity is gone.
        if !grant.is_everything() {
            let found = self.identities.managed(caller, &key.identity).await;
            found.map_err(|error| if matches!(error, Error::NotFound(_)) { unknown(id) } else { error })?;
        }
        self.end(caller, key).await
    }

    /// Lets go of keys that were over a month ago. Answers how many went.
    pub async fn sweep(&self) -> Result<usize> {
        let over = rawdoc! { "expires": { "$lt": self.clock.now().plus_seconds(-SHOWN).0 } };
        let mut gone = 0;
        for key in self.select(&over).await? {
            self.commit(&Caller::system(), vec![operation(&key.id, Expect::Any, Change::Delete)]).await?;
            gone += 1;
        }
        Ok(gone)
    }

    /// A machine's key that lives, with its machine if that is active.
    pub(super) async fn of_machine(&self, id: &str) -> Result<Option<(Key, Identity)>> {
        let Some(key) = self.documents.get(KEYS, id).await? else { return Ok(None) };
        let key = read(&key)?;
        let Some(owner) = self.documents.get(IDENTITIES, &key.identity).await? else { return Ok(None) };
        let owner = identities::read(&owner)?;
        let good = !key.is_over(self.clock.now()) && owner.kind == Kind::Machine && owner.status == Status::Active;
        Ok(good.then_some((key, owner)))
    }

    /// The machine known by this public key, if it is one alone, with that key of it that lives longest.
    pub(super) async fn of_public(&self, public: &str) -> Result<Option<(Key, Identity)>> {
        let live = rawdoc! { "public": public, "revoked": false, "expires": { "$gt": self.clock.now().0 } };
        let mut keys = self.select(&live).await?;
        keys.sort_by_key(|key| key.expires);
        match keys.pop() {
            Some(key) if keys.iter().all(|other| other.identity == key.identity) => self.of_machine(&key.id).await,
            _ => Ok(None),
        }
    }

    async fn make(&self, caller: &Caller, owner: Identity, wanted: Wanted, again: Again) -> Result<Made> {
        // What a key may, it may not hand on.
        if matches!(&caller.subject, Subject::Identity(proven) if proven.key.is_some()) {
            return Err(Error::Forbidden);
        }
        // It acts by those who belong to it.
        if owner.kind == Kind::Organization {
            return Err(Error::Invalid(Fault::new("identities.no_person").with("who", owner.label())));
        }
        let name = scope::name(&wanted.name)?;
        let days = scope::days(wanted.days)?;
        let public = wanted.public.as_deref().map(|given| scope::public(given, &owner)).transpose()?;
        let restriction = match wanted.restriction {
            Some(asked) => Some(scope::check(asked)?),
            None if public.is_some() => None,
            None => Some(Restriction { actions: vec![Action::View], ..Restriction::default() }),
        };
        let now = self.clock.now();
        let live = rawdoc! { "identity": &*owner.id, "revoked": false, "expires": { "$gt": now.0 } };
        if self.select(&live).await?.len() >= MOST {
            return Err(Error::Conflict(Fault::new("keys.too_many").with("limit", MOST)));
        }
        // A key outlives every session: a token that was stolen must not make one.
        let proven = match caller.subject {
            Subject::Identity(_) => Some(self.mfa.prove_again(caller, again).await?),
            _ => None,
        };
        let id = random::id(now);
        let (words, hash) = match public {
            Some(_) => (None, None),
            None => Some(text::make(&id)).unzip(),
        };
        let (created_by, expires) = (caller.actor(), now.plus_seconds(days * 24 * 3600));
        let (created, last_used, revoked, identity) = (now, None, false, owner.id.clone());
        let key =
            Key { id, identity, name, hash, public, restriction, created, created_by, expires, last_used, revoked };
        let document = bson::serialize_to_raw_document_buf(&key).map_err(|error| Error::Internal(error.into()))?;
        let kind = if key.public.is_some() { "machine" } else { "api" };
        let told = Event::new("keys.issue").about(&key.identity).document(KEYS, &key.id).with("kind", kind);
        let told = self.audit.operation(caller, told.with("expires", key.expires.rfc3339()))?;
        self.commit(caller, vec![operation(&key.id, Expect::Absent, Change::Put(document)), told]).await?;
        // What was proven may have changed meanwhile, with every key of before; a change that ends after this finds it.
        for as_it_was in [&owner].into_iter().chain(&proven) {
            let now = self.identities.require(&as_it_was.id).await?;
            if now.tokens_from != as_it_was.tokens_from || now.status != as_it_was.status {
                self.end(caller, key).await?;
                return Err(Error::InvalidProof("identity changed"));
            }
        }
        Ok((key, words))
    }

    async fn end(&self, caller: &Caller, mut key: Key) -> Result<Key> {
        let revoke = operation(&key.id, Expect::Present, set(&rawdoc! { "revoked": true })?);
        let told = Event::new("keys.revoke").about(&key.identity).document(KEYS, &key.id);
        let operations = vec![revoke, self.audit.operation(caller, told)?];
        if key.public.is_some() {
            // Tokens it obtained end with it; those of the machine's other keys are asked for anew.
            self.identities.change_with(caller, (&key.identity, None), rawdoc! {}, operations, None).await?;
        } else {
            self.commit(caller, operations).await?;
            self.sessions.begin_era();
        }
        key.revoked = true;
        Ok(key)
    }

    async fn require(&self, id: &str) -> Result<Key> {
        read(&self.documents.get(KEYS, id).await?.ok_or_else(|| unknown(id))?)
    }

    async fn known(&self, id: &str) -> Result<Option<Arc<Known>>> {
        // Before the look at the disk: a change during it makes what was seen stale.
        let era = self.sessions.era();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if known.as_ref().is_some_and(|known| known.era == era) {
            return Ok(known);
        }
        let Some(document) = self.documents.get(KEYS, id).await? else { return Ok(None) };
        let key = read(&document)?;
        let digest = key.hash.as_ref().and_then(|hash| <[u8; 32]>::try_from(hex::decode(hash).ok()?).ok());
        let (Some(digest), Some(owner)) = (digest, self.documents.get(IDENTITIES, &key.identity).await?) else {
            return Ok(None);
        };
        let (owner, restriction) = (identities::read(&owner)?, key.restriction.clone().map(Arc::new));
        let marked = AtomicI64::new(key.last_used.unwrap_or_default().0);
        let fresh = Arc::new(Known { era, digest, key, owner, restriction, marked });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(id.to_owned(), fresh.clone());
        Ok(Some(fresh))
    }

    /// Notes, once an hour at most, that the key is in use. Its failure fails nobody.
    async fn mark(&self, known: &Known, now: Timestamp) {
        let last = known.marked.load(Ordering::Relaxed);
        let due = now.0.saturating_sub(last) >= MARK * 1000;
        if !due || known.marked.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let marked = match set(&rawdoc! { "lastUsed": now.0 }) {
            Ok(change) => self.commit(&Caller::system(), vec![operation(&known.key.id, Expect::Present, change)]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = marked {
            tracing::warn!(key = known.key.id, %error, "the use of a key was not noted");
        }
    }

    async fn select(&self, filter: &bson::RawDocument) -> Result<Vec<Key>> {
        let filter = Filter::parse(filter).map_err(Error::Invalid)?;
        every(&*self.documents, KEYS, filter, |document| read(&document)).await
    }

    async fn commit(&self, caller: &Caller, operations: Vec<Operation>) -> Result<()> {
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await?;
        Ok(())
    }
}

/// The caller's identity, proven by a session: a key neither makes keys nor sees them.
fn own(caller: &Caller) -> Result<&str> {
    match &caller.subject {
        Subject::Identity(Proven { id, session: Some(_), .. }) => Ok(id),
        Subject::Anonymous => Err(Error::Unauthorized),
        Subject::Identity(_) | Subject::Local { .. } | Subject::System => Err(Error::Forbidden),
    }
}

fn unknown(id: &str) -> Error {
    Error::NotFound(Fault::new("keys.unknown").with("id", id))
}

fn operation(id: &str, expect: Expect, change: Change) -> Operation {
    Operation { collection: KEYS.to_owned(), id: id.to_owned(), expect, change }
}

fn set(fields: &bson::RawDocument) -> Result<Change> {
    Update::parse(&rawdoc! { "$set": fields.to_owned() }).map(Change::Update).map_err(Error::Invalid)
}

pub(super) fn read(document: &bson::RawDocument) -> Result<Key> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

#[cfg(test)]
mod tests;
