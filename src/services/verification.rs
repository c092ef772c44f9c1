//! Addresses proven by who reads what is sent there, before they count: of who registers, and of who changes their own.
//! Where no mail can be sent nothing can be proven, and an address counts at once.

use super::{
    Error, Result,
    access::Caller,
    audit::{Audit, Event},
    documents::first,
    identities::{self, Changes, IDENTITIES, Identities, Identity, New, Status},
    outbox::{Outbox, Ready, operation, put, read, unless_changed, update},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        random, secret,
    },
    domain::document::revision,
    ports::{
        self,
        documents::{Change, Conflict, Documents, Expect, Operation},
        mail::{Letter, Mailer},
    },
};
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What waits to be proven, and the letters that wait to leave.
pub const VERIFICATIONS: &str = "system.verifications";

const LIFE: i64 = 24 * 3600;
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
    outbox: Outbox,
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
        let outbox = Outbox::new(VERIFICATIONS, documents.clone(), clock.clone(), mailer);
        Self { documents, clock, identities, audit, outbox, page }
    }

    /// Takes note of who wants an account of their own. Whether the address has one already is looked at later, by
    /// [`Self::deliver`]: here all of them cost and answer the same.
    pub async fn register(&self, caller: &Caller, new: New) -> Result<()> {
        if !self.outbox.is_open() {
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
        let waiting = self.first(&unsent, "expires", MOST_OF_ONE).await?;
        if let Some(first) = waiting.first().filter(|_| waiting.len() >= MOST_OF_ONE) {
            self.remove(first).await?;
        }
        let kept = self.documents.describe(VERIFICATIONS).await?.map_or(0, |kept| kept.documents);
        if kept >= MOST {
            for first in self.first(&rawdoc! { "person": { "$exists": true } }, "expires", 1).await? {
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
        let email = match self.outbox.is_open() {
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
        let operations = vec![put(VERIFICATIONS, &asked.id, &asked)?, self.audit.operation(caller, told)?];
        Ok(self.outbox.commit(caller, operations).await?)
    }

    /// Sends what was asked for and lets go of what ended. Answers how many letters left.
    pub async fn deliver(&self) -> Result<usize> {
        for over in self.first(&rawdoc! { "expires": { "$lte": self.clock.now().0 } }, "", AT_ONCE).await? {
            self.remove(&over).await?;
        }
        let mut sent = 0;
        for document in self.outbox.due(AT_ONCE).await? {
            let asked: Verification = match read(&document) {
                Ok(asked) => asked,
                Err(error) => {
                    // One that nobody can read must not hold up the others.
                    tracing::error!(%error, "a note of an address to prove is unreadable and let go");
                    self.remove(&document).await?;
                    continue;
                }
            };
            let ready = self.ready(&asked).await?;
            sent += usize::from(self.outbox.send(&document, Some(ready)).await?);
        }
        Ok(sent)
    }

    async fn ready(&self, asked: &Verification) -> Result<Ready> {
        let letter = |words: &Fault| Letter::bilingual(&asked.email, "verification.subject", words);
        let words = |key| Fault::new(key).with("email", &asked.email);
        let told = match asked.replaced {
            true => Some("verification.replaced"),
            false => self.identities.known(&asked.email).await?.map(|_| "verification.known"),
        };
        if let Some(told) = told {
            let (letter, set, with) = (letter(&words(told)), RawDocumentBuf::new(), Vec::new());
            return Ok(Ready { letter, set, with, then: Change::Delete });
        }
        // Made anew at each attempt: the token itself is kept nowhere, not even until the letter has left.
        let token = secret::make();
        let link = Zeroizing::new(format!("{}#token={}", self.page, *token));
        let letter = letter(&words("verification.text").with("link", &*link));
        let (set, with) = (rawdoc! { "hash": secret::hash(&token) }, Vec::new());
        // An answer to it is waited for.
        Ok(Ready { letter, set, with, then: update(rawdoc! { "$unset": { "next": true } })? })
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
            self.uncount(&asked).await?;
        }
        judged
    }

    /// Nothing was judged, for a fault that is not the guesser's. A note put in its place meanwhile stands as it is.
    async fn uncount(&self, asked: &Verification) -> Result<()> {
        let Some(document) = self.documents.get(VERIFICATIONS, &asked.id).await? else { return Ok(()) };
        let now: Verification = read(&document)?;
        if now.asked != asked.asked {
            return Ok(());
        }
        let fewer = update(rawdoc! { "$set": { "wrong": i64::from(now.wrong.saturating_sub(1)) } })?;
        let fewer = operation(VERIFICATIONS, &document, fewer)?;
        unless_changed(self.outbox.commit(&Caller::system(), vec![fewer]).await)
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
                self.identities.may_still_take(caller, &current, &asked.email).await?;
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
            let found = self.first(&rawdoc! { "hash": token.as_str() }, "", 1).await?;
            let document = found.first().ok_or_else(gone)?;
            let asked: Verification = read(document)?;
            if asked.expires <= self.clock.now() {
                return Err(gone());
            }
            if asked.wrong >= TRIES {
                self.remove(document).await?;
                return Err(gone());
            }
            let counted = update(rawdoc! { "$set": { "wrong": i64::from(asked.wrong) + 1 } })?;
            match self.outbox.commit(&Caller::system(), vec![operation(VERIFICATIONS, document, counted)?]).await {
                Err(ports::Error::Conflict(_)) => {}
                counted => return Ok(counted.map(|()| asked)?),
            }
        }
        Err(used_too_often())
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
        let mut operations = vec![change, told];
        if let Some(email) = replaced {
            // Whoever had the address learns that the account left it.
            let told = self.asked(random::id(self.clock.now()), email);
            let told = Verification { identity: Some(identity.id.clone()), replaced: true, ..told };
            operations.push(put(VERIFICATIONS, &told.id, &told)?);
        }
        for _ in 0..ROUNDS {
            // Of two that are right at once, one finds it; and one put in its place meanwhile is another.
            let document = self.documents.get(VERIFICATIONS, &asked.id).await?.ok_or_else(gone)?;
            if read::<Verification>(&document)?.asked != asked.asked {
                return Err(gone());
            }
            let mut all = operations.clone();
            all.push(operation(VERIFICATIONS, &document, Change::Delete)?);
            let note = all.len() - 1;
            match self.outbox.commit(caller, all).await {
                Err(error @ ports::Error::Conflict(Conflict::Unique { .. })) => {
                    return Err(self.identities.taken(error, &identity).await);
                }
                // Another guess was counted.
                Err(ports::Error::Conflict(Conflict::Revision { operation, .. })) if operation == note => {}
                Err(ports::Error::Conflict(_)) => return Err(gone()),
                committed => return Ok(committed.map(|()| identity)?),
            }
        }
        Err(used_too_often())
    }

    async fn first(&self, filter: &RawDocument, order: &str, most: usize) -> Result<Vec<RawDocumentBuf>> {
        first(&*self.documents, VERIFICATIONS, filter, order, most).await
    }

    async fn remove(&self, document: &RawDocument) -> Result<()> {
        let gone = operation(VERIFICATIONS, document, Change::Delete)?;
        unless_changed(self.outbox.commit(&Caller::system(), vec![gone]).await)
    }
}

fn gone() -> Error {
    Error::Gone(Fault::new("verification.gone"))
}

fn used_too_often() -> Error {
    Error::Unavailable("this link is used too often at once".to_owned())
}
