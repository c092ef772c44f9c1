//! Addresses proven by who reads what is sent there, before they count: of who registers, and of who changes their own.
//! Where no mail can be sent nothing can be proven, and an address counts at once.

use super::{
    Error, Result,
    access::Caller,
    audit::{Audit, Event},
    identities::{self, Changes, IDENTITIES, Identities, Identity, New, Status},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random, secret,
    },
    domain::{document::revision, filter::Filter, sort::Sort, update::Update},
    ports::{
        self,
        documents::{Batch, Change, Conflict, Documents, Expect, Operation, Query},
        mail::{self, Letter, Mailer},
    },
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// What waits to be proven, and the letters that wait to leave.
pub const VERIFICATIONS: &str = "system.verifications";

const LIFE: i64 = 24 * 3600;
/// Seconds between two letters to one address.
const PAUSE: i64 = 60;
/// Registrations that may wait; past that the oldest makes room.
const MOST: u64 = 10_000;
/// Of one address.
const MOST_OF_ONE: usize = 20;
/// Wrong passwords, of one letter.
const TRIES: u32 = 5;
const AT_ONCE: usize = 100;
/// How often a guess is counted again over another's.
const ROUNDS: usize = 64;
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
    /// Whose own address it is to become, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// Another address took its place: that is told there, and nothing waited for.
    #[serde(default)]
    replaced: bool,
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
    /// When a letter last left for an address, within [`PAUSE`].
    sent: Mutex<HashMap<String, Timestamp>>,
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
        Self { documents, clock, identities, audit, mailer, page, sent: Mutex::default() }
    }

    /// Takes note of who wants an account of their own. Whether the address has one already is looked at later, by
    /// [`Self::deliver`]: here all of them cost and answer the same.
    pub async fn register(&self, caller: &Caller, new: New) -> Result<()> {
        if self.mailer.is_none() {
            return self.identities.register(caller, new).await;
        }
        self.identities.registers()?;
        if new.email.is_none() {
            return Err(Error::Invalid(Fault::new("verification.email").at("email")));
        }
        let person = self.identities.candidate(new).await?;
        let Some(email) = person.email.clone() else { return Ok(()) };
        // Somebody may be playing: the newest is kept, of one address and of all.
        let unsent = rawdoc! { "email": email.as_str(), "person": { "$exists": true }, "next": { "$exists": true } };
        let oldest = || Sort::parse_text("expires").map_err(Error::Invalid);
        let waiting = self.select(&unsent, oldest()?, MOST_OF_ONE).await?;
        if let Some(first) = waiting.first().filter(|_| waiting.len() >= MOST_OF_ONE) {
            self.remove(first).await?;
        }
        let kept = self.documents.describe(VERIFICATIONS).await?.map_or(0, |kept| kept.documents);
        if kept >= MOST {
            for first in self.select(&rawdoc! { "person": { "$exists": true } }, oldest()?, 1).await? {
                self.remove(&first).await?;
            }
        }
        let id = random::id(self.clock.now());
        self.ask(caller, Verification { person: Some(person), ..self.asked(id, email) }).await
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
        let id = self.identities.may_take(caller, &email, password.clone(), rev).await?;
        let person = match changes.is_empty() {
            true => self.identities.own(caller).await?,
            false => self.identities.change_own(caller, changes, password, rev).await?,
        };
        if person.get_str("email").is_ok_and(|known| known == email) {
            return Ok((person, None));
        }
        self.ask(caller, Verification { identity: Some(id.clone()), ..self.asked(id, email.clone()) }).await?;
        Ok((person, Some(email)))
    }

    fn asked(&self, id: String, email: String) -> Verification {
        let asked = self.clock.now();
        let (expires, next, hash) = (asked.plus_seconds(LIFE), Some(asked), None);
        let (person, identity, replaced) = (None, None, false);
        Verification { id, email, asked, expires, hash, next, attempts: 0, wrong: 0, person, identity, replaced }
    }

    async fn ask(&self, caller: &Caller, asked: Verification) -> Result<()> {
        // By what was asked for: whether there is such an account is for nobody to read.
        let told = Event::new("verification.ask").about(self.audit.pseudonym(&asked.email));
        let operations = vec![put(&asked)?, self.audit.operation(caller, told)?];
        self.commit(caller, operations).await
    }

    /// Sends what was asked for and lets go of what ended. Answers how many letters left.
    pub async fn deliver(&self) -> Result<usize> {
        let now = self.clock.now();
        for over in self.select(&rawdoc! { "expires": { "$lte": now.0 } }, Sort::default(), AT_ONCE).await? {
            self.remove(&over).await?;
        }
        let Some(mailer) = &self.mailer else { return Ok(0) };
        let mut sent = 0;
        let oldest = Sort::parse_text("next").map_err(Error::Invalid)?;
        for document in self.select(&rawdoc! { "next": { "$lte": now.0 } }, oldest, AT_ONCE).await? {
            let asked: Verification = read(&document)?;
            // Whoever asks, nobody's mail is flooded.
            if let Some(until) = self.paused(&asked.email) {
                let expect = revision(&document).map_or(Expect::Present, Expect::Revision);
                let later = set(&asked.id, expect, &rawdoc! { "next": until.0 })?;
                self.commit(&Caller::system(), vec![later]).await.or_else(changed)?;
                continue;
            }
            let Some((letter, waits)) = self.letter(&document, &asked).await? else { continue };
            let done = mailer.send(&letter).await.inspect(|()| {
                sent += 1;
                self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(asked.email.clone(), self.clock.now());
            });
            self.settle(&asked, waits, done).await?;
        }
        Ok(sent)
    }

    /// Until when an address gets no other letter.
    fn paused(&self, email: &str) -> Option<Timestamp> {
        let now = self.clock.now();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|_, at| at.plus_seconds(PAUSE) > now);
        sent.get(email).map(|at| at.plus_seconds(PAUSE))
    }

    /// The letter to the address, and whether an answer to it is waited for. `None`: it was asked for anew meanwhile.
    async fn letter(&self, document: &RawDocument, asked: &Verification) -> Result<Option<(Letter, bool)>> {
        let words = |key| Fault::new(key).with("email", &asked.email);
        let plain = |key| Letter::bilingual(&asked.email, "verification.subject", &words(key));
        if asked.replaced {
            return Ok(Some((plain("verification.replaced"), false)));
        }
        if self.identities.known(&asked.email).await?.is_some() {
            return Ok(Some((plain("verification.known"), false)));
        }
        // Made anew at each attempt: the token itself is kept nowhere, not even until the letter has left.
        let token = secret::make();
        let expect = revision(document).map_or(Expect::Present, Expect::Revision);
        let kept = set(&asked.id, expect, &rawdoc! { "hash": secret::hash(&token) })?;
        match self.commit(&Caller::system(), vec![kept]).await {
            Err(Error::Precondition(_) | Error::NotFound(_)) => return Ok(None),
            kept => kept?,
        }
        let link = Zeroizing::new(format!("{}#token={}", self.page, *token));
        let words = words("verification.text").with("link", &*link);
        Ok(Some((Letter::bilingual(&asked.email, "verification.subject", &words), true)))
    }

    /// What becomes of the note whose letter was sent, or was not; one put in its place meanwhile stands as it is.
    async fn settle(&self, asked: &Verification, waits: bool, done: ports::Result<()>) -> Result<()> {
        let Some(document) = self.documents.get(VERIFICATIONS, &asked.id).await? else { return Ok(()) };
        let kept: Verification = read(&document)?;
        if (kept.asked, &kept.email) != (asked.asked, &asked.email) {
            return Ok(());
        }
        let expect = revision(&document).map_or(Expect::Present, Expect::Revision);
        let operation = match done {
            Ok(()) if waits => {
                let left = Update::parse(&rawdoc! { "$unset": { "next": true } }).map_err(Error::Invalid)?;
                operation(&asked.id, expect, Change::Update(left))
            }
            Ok(()) => operation(&asked.id, expect, Change::Delete),
            Err(error) => {
                let next = mail::again(asked.asked, asked.attempts, self.clock.now(), &error);
                let (attempts, given_up) = (asked.attempts + 1, next.is_none());
                tracing::warn!(%error, attempts, given_up, "a letter to prove an address was not sent");
                match next {
                    None => operation(&asked.id, expect, Change::Delete),
                    Some(next) => set(&asked.id, expect, &rawdoc! { "attempts": i64::from(attempts), "next": next.0 })?,
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
        let asked = self.guess(token).await?;
        let judged = self.judge(caller, &asked, password).await;
        if matches!(&judged, Err(error) if !matches!(error, Error::Unauthorized)) {
            // Nothing was judged, for a fault that is not the guesser's.
            let fewer = Update::parse(&rawdoc! { "$inc": { "wrong": -1 } }).map_err(Error::Invalid)?;
            let fewer = operation(&asked.id, Expect::Present, Change::Update(fewer));
            self.commit(&Caller::system(), vec![fewer]).await.or_else(changed)?;
        }
        judged
    }

    async fn judge(&self, caller: &Caller, asked: &Verification, password: Zeroizing<String>) -> Result<Identity> {
        let mut replaced = None;
        let (identity, change) = match (&asked.person, &asked.identity) {
            (Some(person), _) => {
                self.identities.registers()?;
                if !self.identities.has_proven(person, password).await? {
                    return Err(Error::Unauthorized);
                }
                let mut person = person.clone();
                person.email_verified = true;
                let change = identities::put(&person);
                (person, change)
            }
            (None, Some(id)) => {
                let proven = self.identities.prove_again(caller, id, password).await?;
                let current = self.documents.get(IDENTITIES, id).await?.ok_or_else(gone)?;
                let mut identity = identities::read(&current)?;
                if identity.tokens_from != proven.tokens_from || identity.status != Status::Active {
                    return Err(gone());
                }
                replaced = identity.email.replace(asked.email.clone());
                identity.email_verified = true;
                let as_read = revision(&current).map_or(Expect::Present, Expect::Revision);
                let change = identities::set(&identity, as_read)?;
                (identity, change)
            }
            (None, None) => return Err(gone()),
        };
        self.redeemed(caller, asked, identity, change, replaced).await
    }

    /// The note a token is of, with one more guess counted before it is judged: of any number at once each counts.
    async fn guess(&self, token: &str) -> Result<Verification> {
        let token = Some(token).filter(|token| token.len() <= LONGEST_TOKEN).map(secret::hash).ok_or_else(gone)?;
        for _ in 0..ROUNDS {
            let found = self.select(&rawdoc! { "hash": token.as_str() }, Sort::default(), 1).await?;
            let document = found.first().ok_or_else(gone)?;
            let asked: Verification = read(document)?;
            if asked.expires <= self.clock.now() {
                return Err(gone());
            }
            let expect = revision(document).map_or(Expect::Present, Expect::Revision);
            if asked.wrong >= TRIES {
                self.remove(document).await?;
                return Err(gone());
            }
            let counted = set(&asked.id, expect, &rawdoc! { "wrong": i64::from(asked.wrong) + 1 })?;
            match self.commit(&Caller::system(), vec![counted]).await {
                Err(Error::Precondition(_) | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(asked),
            }
        }
        Err(Error::Unavailable("this link is used too often at once".to_owned()))
    }

    async fn redeemed(
        &self,
        caller: &Caller,
        asked: &Verification,
        identity: Identity,
        change: Operation,
        replaced: Option<String>,
    ) -> Result<Identity> {
        let told = self.audit.operation(caller, Event::new("verification.confirm").about(&identity.id))?;
        // Of two that are right at once, one finds it.
        let mut operations = vec![operation(&asked.id, Expect::Present, Change::Delete), change, told];
        if let Some(email) = replaced {
            // Whoever had the address learns that the account left it.
            let told = self.asked(random::id(self.clock.now()), email);
            let identity = Some(identity.id.clone());
            operations.push(put(&Verification { identity, replaced: true, ..told })?);
        }
        match self.commit_all(caller, operations).await {
            Err(error @ ports::Error::Conflict(Conflict::Unique { .. })) => {
                Err(self.identities.taken(error, &identity).await)
            }
            Err(ports::Error::Conflict(_)) => Err(gone()),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(identity),
        }
    }

    async fn select(&self, filter: &RawDocument, sort: Sort, limit: usize) -> Result<Vec<RawDocumentBuf>> {
        let filter = Arc::new(Filter::parse(filter).map_err(Error::Invalid)?);
        let collection = VERIFICATIONS.to_owned();
        Ok(self.documents.find(Query { collection, filter, sort, limit, after: None }).await?.documents)
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
