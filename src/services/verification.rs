//! Addresses proven by who reads what is sent there, before they count: of who registers, and of who changes their own.
//! Where no mail can be sent nothing can be proven, and an address counts at once.

use super::{
    Error, Result,
    access::Caller,
    audit::{Audit, Event},
    identities::{self, Changes, IDENTITIES, Identities, Identity, New},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random,
    },
    domain::{document::revision, filter::Filter, sort::Sort, update::Update},
    ports::{
        self,
        documents::{Batch, Change, Conflict, Documents, Expect, Operation, Query},
        mail::{Letter, Mailer},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What waits to be proven, and the letters that wait to leave.
pub const VERIFICATIONS: &str = "system.verifications";

const LIFE: i64 = 24 * 3600;
/// Seconds between two letters to one address.
const PAUSE: i64 = 60;
/// After so many seconds of failures a letter is given up.
const GIVEN_UP: i64 = 3600;
/// Addresses that may wait.
const MOST: u64 = 10_000;
/// Wrong passwords, of one letter.
const TRIES: u32 = 5;
const AT_ONCE: usize = 100;
const LONGEST_TOKEN: usize = 64;

#[derive(serde::Serialize, serde::Deserialize)]
struct Verification {
    #[serde(rename = "_id")]
    id: String,
    email: String,
    asked: Timestamp,
    expires: Timestamp,
    /// Of the token in the last letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// When the letter is to leave; absent: it left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Timestamp>,
    attempts: u32,
    wrong: u32,
    /// Who registers, with the hash of their password; kept as nobody until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person: Option<Identity>,
    /// Whose own address it is to become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

pub struct Verifications {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    identities: Arc<Identities>,
    audit: Arc<Audit>,
    /// Absent: nothing can be sent.
    mailer: Option<Arc<dyn Mailer>>,
    /// The page a link opens; the token follows as its fragment, which browsers send to nobody.
    page: String,
}

impl Verifications {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        identities: Arc<Identities>,
        audit: Arc<Audit>,
        mailer: Option<Arc<dyn Mailer>>,
        page: String,
    ) -> Self {
        Self { documents, clock, identities, audit, mailer, page }
    }

    /// Takes note of who wants an account of their own. Whether the address has one already is looked at later, by
    /// [`Self::deliver`]: here all of them cost and answer the same.
    pub async fn register(&self, caller: &Caller, new: New) -> Result<()> {
        if self.mailer.is_none() {
            return self.identities.register(caller, new).await;
        }
        let person = self.identities.candidate(new).await?;
        let unproven = || Error::Invalid(Fault::new("verification.email").at("email"));
        let email = person.email.clone().ok_or_else(unproven)?;
        self.ask(caller, random::id(self.clock.now()), email, (Some(person), None)).await
    }

    /// Changes the caller's own identity. Another address waits until it is proven: it is answered beside the identity.
    pub async fn change_own(
        &self,
        caller: &Caller,
        mut changes: Changes,
        password: Option<Zeroizing<String>>,
        rev: Option<i64>,
    ) -> Result<(RawDocumentBuf, Option<String>)> {
        let email = match self.mailer.is_some() {
            true => changes.take_email()?,
            false => None,
        };
        let Some(email) = email else {
            return Ok((self.identities.change_own(caller, changes, password, rev).await?, None));
        };
        let id = self.identities.prove_contact(caller, password.clone()).await?;
        let person = match changes.is_empty() {
            true => self.identities.own(caller).await?,
            false => self.identities.change_own(caller, changes, password, rev).await?,
        };
        if person.get_str("email").is_ok_and(|known| known == email) {
            return Ok((person, None));
        }
        self.ask(caller, id.clone(), email.clone(), (None, Some(id))).await?;
        Ok((person, Some(email)))
    }

    async fn ask(
        &self,
        caller: &Caller,
        id: String,
        email: String,
        (person, identity): (Option<Identity>, Option<String>),
    ) -> Result<()> {
        let waiting = self.documents.describe(VERIFICATIONS).await?.map_or(0, |kept| kept.documents);
        if waiting >= MOST {
            return Err(Error::RateLimit { retry_after: 60 });
        }
        let now = self.clock.now();
        // By what was asked for: whether there is such an account is for nobody to read.
        let told = Event::new("verification.ask").about(self.audit.pseudonym(&email));
        let (expires, next) = (now.plus_seconds(LIFE), Some(now));
        let (hash, attempts, wrong) = (None, 0, 0);
        let asked = Verification { id, email, asked: now, expires, hash, next, attempts, wrong, person, identity };
        let operations = vec![put(&asked)?, self.audit.operation(caller, told)?];
        self.commit(caller, operations).await
    }

    /// Sends what was asked for and lets go of what ended. Answers how many letters left.
    pub async fn deliver(&self) -> Result<usize> {
        let Some(mailer) = &self.mailer else { return Ok(0) };
        let now = self.clock.now();
        for over in self.select(&rawdoc! { "expires": { "$lte": now.0 } }).await? {
            self.remove(&over).await?;
        }
        let mut sent = 0;
        for document in self.select(&rawdoc! { "next": { "$lte": now.0 } }).await? {
            let asked: Verification = read(&document)?;
            match self.letter(&document, &asked).await? {
                None => self.remove(&document).await?,
                Some((letter, waits)) => {
                    let done = mailer.send(&letter).await.inspect(|()| sent += 1);
                    self.settle(&asked, waits, done).await?;
                }
            }
        }
        Ok(sent)
    }

    /// The letter to the address, and whether an answer to it is waited for.
    async fn letter(&self, document: &RawDocument, asked: &Verification) -> Result<Option<(Letter, bool)>> {
        let now = self.clock.now();
        let others = rawdoc! { "email": &*asked.email, "_id": { "$ne": &*asked.id } };
        let others =
            self.select(&others).await?.iter().map(|other| read(other)).collect::<Result<Vec<Verification>>>()?;
        // Whoever asks, nobody's mail is flooded.
        if others.iter().any(|other| other.next.is_none() && other.asked.plus_seconds(PAUSE) > now) {
            return Ok(None);
        }
        let words = |key| Fault::new(key).with("email", &asked.email);
        if self.identities.known(&asked.email).await?.is_some() {
            let letter = Letter::bilingual(&asked.email, "verification.subject", &words("verification.known"));
            return Ok(Some((letter, false)));
        }
        // Made anew at each attempt: the token itself is kept nowhere, not even until the letter has left.
        let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(*Zeroizing::new(random::array::<32>())));
        let expect = revision(document).map_or(Expect::Present, Expect::Revision);
        self.commit(&Caller::system(), vec![set(&asked.id, expect, &rawdoc! { "hash": hash(&token) })?]).await?;
        let link = Zeroizing::new(format!("{}#token={}", self.page, *token));
        let words = words("verification.text").with("link", &*link);
        Ok(Some((Letter::bilingual(&asked.email, "verification.subject", &words), true)))
    }

    async fn settle(&self, asked: &Verification, waits: bool, done: ports::Result<()>) -> Result<()> {
        let now = self.clock.now();
        let Some(document) = self.documents.get(VERIFICATIONS, &asked.id).await? else { return Ok(()) };
        let expect = revision(&document).map_or(Expect::Present, Expect::Revision);
        let operation = match done {
            Ok(()) if waits => {
                let left = Update::parse(&rawdoc! { "$unset": { "next": true } }).map_err(Error::Invalid)?;
                operation(&asked.id, expect, Change::Update(left))
            }
            Ok(()) => operation(&asked.id, expect, Change::Delete),
            Err(error) => {
                let lost = matches!(error, ports::Error::Rejected(_)) || asked.asked.plus_seconds(GIVEN_UP) <= now;
                tracing::warn!(%error, attempts = asked.attempts + 1, given_up = lost, "a letter to verify an address was not sent");
                let pause = 10_i64.saturating_mul(1 << asked.attempts.min(6));
                let next = rawdoc! { "attempts": i64::from(asked.attempts) + 1, "next": now.plus_seconds(pause).0 };
                match lost {
                    true => operation(&asked.id, expect, Change::Delete),
                    false => set(&asked.id, expect, &next)?,
                }
            }
        };
        self.commit(&Caller::system(), vec![operation]).await.or_else(changed)
    }

    /// Proves an address by the token sent to it and the password that was given with it: a letter alone, opened by who
    /// never asked for it, makes nobody's account.
    pub async fn confirm(&self, caller: &Caller, token: &str, password: Zeroizing<String>) -> Result<Identity> {
        let confirmed = self.redeem(caller, token, password).await;
        if let Err(Error::Gone(_) | Error::Unauthorized) = &confirmed {
            let failed =
                Event::new("verification.confirm").failed("a token that is unknown or over, or a wrong password");
            self.audit.refused(caller, failed).await;
        }
        confirmed
    }

    async fn redeem(&self, caller: &Caller, token: &str, password: Zeroizing<String>) -> Result<Identity> {
        let found = match token.len() <= LONGEST_TOKEN {
            true => self.select(&rawdoc! { "hash": hash(token) }).await?,
            false => Vec::new(),
        };
        let document = found.first().ok_or_else(gone)?;
        let asked: Verification = read(document)?;
        if asked.expires <= self.clock.now() {
            return Err(gone());
        }
        let (identity, change) = match (&asked.person, &asked.identity) {
            (Some(person), _) => {
                self.right(document, &asked, self.identities.has_proven(person, password).await?).await?;
                let mut person = person.clone();
                person.email_verified = true;
                (person.clone(), identities::put(&person))
            }
            (None, Some(id)) => {
                let proven = self.identities.prove_again(caller, id, password).await;
                self.right(document, &asked, !matches!(proven, Err(Error::Unauthorized))).await?;
                let mut identity = proven?;
                let current = self.documents.get(IDENTITIES, id).await?.ok_or_else(gone)?;
                (identity.email, identity.email_verified) = (Some(asked.email.clone()), true);
                let expect = revision(&current).map_or(Expect::Present, Expect::Revision);
                let change = identities::set(&identity, expect)?;
                (identity, change)
            }
            (None, None) => return Err(gone()),
        };
        let told = self.audit.operation(caller, Event::new("verification.confirm").about(&identity.id))?;
        let expect = revision(document).map_or(Expect::Present, Expect::Revision);
        let used = operation(&asked.id, expect, Change::Delete);
        match self.commit_all(caller, vec![used, change, told]).await {
            Err(error @ ports::Error::Conflict(Conflict::Unique { .. })) => {
                Err(self.identities.taken(error, &identity).await)
            }
            Err(ports::Error::Conflict(_)) => Err(gone()),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(identity),
        }
    }

    /// A wrong password is counted; too many end the letter.
    async fn right(&self, document: &RawDocument, asked: &Verification, right: bool) -> Result<()> {
        if right {
            return Ok(());
        }
        let expect = revision(document).map_or(Expect::Present, Expect::Revision);
        let operation = match asked.wrong + 1 >= TRIES {
            true => operation(&asked.id, expect, Change::Delete),
            false => set(&asked.id, expect, &rawdoc! { "wrong": i64::from(asked.wrong) + 1 })?,
        };
        self.commit(&Caller::system(), vec![operation]).await.or_else(changed)?;
        Err(Error::Unauthorized)
    }

    async fn select(&self, filter: &RawDocument) -> Result<Vec<RawDocumentBuf>> {
        let filter = Arc::new(Filter::parse(filter).map_err(Error::Invalid)?);
        let (collection, limit) = (VERIFICATIONS.to_owned(), AT_ONCE);
        Ok(self
            .documents
            .find(Query { collection, filter, sort: Sort::default(), limit, after: None })
            .await?
            .documents)
    }

    async fn remove(&self, document: &RawDocument) -> Result<()> {
        let asked: Verification = read(document)?;
        let expect = revision(document).map_or(Expect::Present, Expect::Revision);
        self.commit(&Caller::system(), vec![operation(&asked.id, expect, Change::Delete)]).await.or_else(changed)
    }

    async fn commit(&self, caller: &Caller, operations: Vec<Operation>) -> Result<()> {
        self.commit_all(caller, operations).await.map_err(Error::from)
    }

    async fn commit_all(&self, caller: &Caller, operations: Vec<Operation>) -> ports::Result<()> {
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await.map(drop)
    }
}

/// Somebody was there first, which is fine.
fn changed(error: Error) -> Result<()> {
    match error {
        Error::Precondition(_) | Error::NotFound(_) => Ok(()),
        other => Err(other),
    }
}

fn gone() -> Error {
    Error::Gone(Fault::new("verification.gone"))
}

/// 256 random bits need no salt.
fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

fn operation(id: &str, expect: Expect, change: Change) -> Operation {
    Operation { collection: VERIFICATIONS.to_owned(), id: id.to_owned(), expect, change }
}

fn put(asked: &Verification) -> Result<Operation> {
    let document = bson::serialize_to_raw_document_buf(asked).map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(operation(&asked.id, Expect::Any, Change::Put(document)))
}

fn set(id: &str, expect: Expect, fields: &RawDocument) -> Result<Operation> {
    let update = Update::parse(&rawdoc! { "$set": fields.to_owned() }).map_err(Error::Invalid)?;
    Ok(operation(id, expect, Change::Update(update)))
}

fn read(document: &RawDocument) -> Result<Verification> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}
