//! A lost password replaced: by a link sent to the address of the account, or a code an administrator hands over. Each is
//! good once, for fifteen minutes. Second factors stay owed.

use super::{
    Error, Result,
    access::Caller,
    audit::{Audit, Event},
    documents::first,
    identities::{Identities, Identity, Kind, Status},
    outbox::{Note, Outbox, PAUSE, Ready, operation, put, read, unless_changed},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        secret,
    },
    domain::contact,
    ports::{
        documents::{Change, Documents, Operation},
        mail::{Letter, Mailer},
    },
};
use bson::{RawDocumentBuf, cstr, rawdoc};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What may still be confirmed: one per identity, by its id.
pub const RECOVERIES: &str = "system.recoveries";
/// Asked for and not sent yet: one per address.
pub const OUTBOX: &str = "system.outbox";

const LIFE: i64 = 15 * 60;
/// Letters that may wait.
const MOST: u64 = 10_000;
const AT_ONCE: usize = 500;
const LONGEST_TOKEN: usize = 64;

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recovery {
    /// The identity's.
    #[serde(rename = "_id")]
    id: String,
    hash: String,
    made: Timestamp,
    expires: Timestamp,
    /// As the identity stood: a password changed or an identity disabled since ends this too.
    tokens_from: Timestamp,
    /// Where the token was sent; one handed over was sent nowhere.
    #[serde(default)]
    email: Option<String>,
}

/// What an administrator hands over.
#[derive(Debug)]
pub struct Handed {
    pub token: Zeroizing<String>,
    pub link: Zeroizing<String>,
    pub expires: Timestamp,
    pub identity: Identity,
}

pub struct Recoveries {
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    identities: Arc<Identities>,
    audit: Arc<Audit>,
    outbox: Outbox,
    /// The page a link opens; the token follows as its fragment, which browsers send to nobody.
    page: String,
}

impl Recoveries {
    pub fn new(
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        identities: Arc<Identities>,
        audit: Arc<Audit>,
        mailer: Option<Arc<dyn Mailer>>,
        page: String,
    ) -> Self {
        let outbox = Outbox::new(OUTBOX, documents.clone(), clock.clone(), mailer);
        Self { documents, clock, identities, audit, outbox, page }
    }

    /// Takes note that somebody lost the password of an account. Whether there is one is looked at later, by
    /// [`Self::deliver`]: here every address costs and answers the same.
    pub async fn ask(&self, caller: &Caller, email: &str) -> Result<()> {
        let Ok(email) = contact::email(email) else { return Ok(()) };
        if !self.outbox.is_open() {
            tracing::warn!("a recovery was asked for and no mail server is configured: see mail.server");
            return Ok(());
        }
        let waiting = self.documents.describe(OUTBOX).await?.map_or(0, |outbox| outbox.documents);
        if waiting >= MOST {
            return Err(Error::RateLimit { retry_after: 60 });
        }
        // Of an even length, whatever the address is.
        let (now, id) = (self.clock.now(), secret::hash(&email));
        // By what was asked for: whether there is such an account is for nobody to read.
        let told = self.audit.operation(caller, Event::new("recovery.ask").about(self.audit.pseudonym(&email)))?;
        // A letter that failed, or is on its way, goes on as one that did: tried within a minute, and not at once.
        let waits = self.documents.get(OUTBOX, &id).await?.map(|waiting| read::<Note>(&waiting)).transpose()?;
        let (attempts, next) = waits.map_or((0, None), |waiting| (waiting.attempts, waiting.next));
        let next = next.map_or(now, |next| next.min(now.plus_seconds(PAUSE)));
        let asked = Note { id, email, asked: now, attempts, next: Some(next) };
        Ok(self.outbox.commit(caller, vec![put(OUTBOX, &asked.id, &asked)?, told]).await?)
    }

    /// Sends what was asked for and lets go of what ended. Answers how many letters left.
    pub async fn deliver(&self) -> Result<usize> {
        let over = rawdoc! { "expires": { "$lte": self.clock.now().0 } };
        for over in first(&*self.documents, RECOVERIES, &over, "", AT_ONCE).await? {
            let over = operation(RECOVERIES, &over, Change::Delete)?;
            unless_changed(self.outbox.commit(&Caller::system(), vec![over]).await)?;
        }
        let mut sent = 0;
        loop {
            let waiting = self.outbox.due(AT_ONCE).await?;
            // Most are of nobody when somebody plays: all of them go at once, and first.
            let (mut nobodys, mut rest) = (Vec::new(), Vec::new());
            for document in &waiting {
                let asked: Note = read(document)?;
                match self.identities.known(&asked.email).await? {
                    None => nobodys.push(operation(OUTBOX, document, Change::Delete)?),
                    Some(_) => rest.push((document, asked)),
                }
            }
            let cleared = nobodys.len();
            if cleared > 0 {
                unless_changed(self.outbox.commit(&Caller::system(), nobodys).await)?;
            }
            for (document, asked) in rest {
                let ready = self.ready(&asked).await?;
                sent += usize::from(self.outbox.send(document, ready).await?);
            }
            if waiting.len() < AT_ONCE || cleared == 0 {
                return Ok(sent);
            }
        }
    }

    /// Sets another password for who holds the token, once; every session and API key ends, none is opened.
    pub async fn confirm(&self, caller: &Caller, token: &str, password: Zeroizing<String>) -> Result<Identity> {
        let confirmed = self.redeem(caller, token, password).await;
        if let Err(Error::Gone(_)) = &confirmed {
            let failed = Event::new("recovery.confirm").failed("a token that is unknown, used or over");
            self.audit.refused(caller, failed).await;
        }
        confirmed
    }

    async fn redeem(&self, caller: &Caller, token: &str, password: Zeroizing<String>) -> Result<Identity> {
        let gone = || Error::Gone(Fault::new("recovery.gone"));
        if token.len() > LONGEST_TOKEN {
            return Err(gone());
        }
        let hash = rawdoc! { "hash": secret::hash(token) };
        let found = first(&*self.documents, RECOVERIES, &hash, "", 1).await?;
        let document = found.first().ok_or_else(gone)?;
        let recovery: Recovery = read(document)?;
        let identity = self.identities.require(&recovery.id).await.map_err(|_| gone())?;
        let stands = identity.tokens_from == recovery.tokens_from
            && identity.status == Status::Active
            && (recovery.email.is_none() || recovery.email == identity.email);
        if recovery.expires <= self.clock.now() || !stands {
            return Err(gone());
        }
        // A password the rules refuse does not use the token up.
        let kept = self.identities.hash(&identity, password).await?;
        let mut set = rawdoc! { "password": kept };
        if recovery.email.is_some() && !self.identities.has_factors(&identity.id).await? {
            // Who brings what was sent there reads what is sent there. Beside a second factor of an unproven address,
            // it may be of two people.
            set.append(cstr!("emailVerified"), true);
        }
        let told = self.audit.operation(caller, Event::new("recovery.confirm").about(&identity.id))?;
        let operations = vec![operation(RECOVERIES, document, Change::Delete)?, told];
        let of = (identity.id.as_str(), Some(recovery.tokens_from));
        match self.identities.change_and_end_keys(caller, of, set, operations).await {
            Err(Error::Precondition(_) | Error::NotFound(_) | Error::InvalidProof(_)) => Err(gone()),
            other => other,
        }
    }

    /// A token for an administrator to hand over.
    pub async fn hand_over(&self, caller: &Caller, who: &str) -> Result<Handed> {
        let identity = self.identities.managed(caller, who).await?;
        super::identities::not_oneself(caller, &identity)?;
        if identity.kind != Kind::Person {
            return Err(Error::Invalid(Fault::new("recovery.not_a_person").with("who", identity.label())));
        }
        let (token, expires, operations) = self.draft(caller, &identity, None)?;
        self.outbox.commit(caller, operations).await?;
        Ok(Handed { link: self.link(&token), token, expires, identity })
    }

    /// The letter to who has an account at the address asked for.
    async fn ready(&self, asked: &Note) -> Result<Option<Ready>> {
        let found = self.identities.known(&asked.email).await?;
        let Some(identity) = found.filter(|one| one.kind == Kind::Person && one.status == Status::Active) else {
            return Ok(None);
        };
        // Who has none gets in by a provider, which alone decides: a letter must not go round it.
        if !identity.has_password() {
            return Ok(None);
        }
        // Whoever set a second factor up before the address was proven may be somebody else: an administrator looks.
        if !identity.email_verified && self.identities.has_factors(&identity.id).await? {
            return Ok(None);
        }
        let recent = self.documents.get(RECOVERIES, &identity.id).await?;
        let recent = recent.map(|document| read::<Recovery>(&document)).transpose()?;
        let now = self.clock.now();
        // Whoever asks, a stranger too, ends no token an administrator handed over.
        let holds = |recent: &Recovery| match recent.email {
            None => recent.expires > now && recent.tokens_from == identity.tokens_from,
            Some(_) => asked.attempts == 0 && recent.made.plus_seconds(PAUSE) > now,
        };
        if recent.as_ref().is_some_and(holds) {
            return Ok(None);
        }
        // Made anew at each attempt: the token itself is kept nowhere, not even until the letter has left.
        let (token, _, with) = self.draft(&Caller::system(), &identity, Some(&asked.email))?;
        let link = self.link(&token);
        let words = Fault::new("recovery.text").with("email", identity.label()).with("link", &*link);
        let letter = Letter::bilingual(&asked.email, "recovery.subject", &words);
        Ok(Some(Ready { letter, set: RawDocumentBuf::new(), with, then: Change::Delete }))
    }

    /// The one token of an identity, once this is committed; the one before is worth nothing any more.
    fn draft(
        &self,
        caller: &Caller,
        identity: &Identity,
        email: Option<&str>,
    ) -> Result<(Zeroizing<String>, Timestamp, Vec<Operation>)> {
        let token = secret::make();
        let (id, hash, made, tokens_from) =
            (identity.id.clone(), secret::hash(&token), self.clock.now(), identity.tokens_from);
        let (expires, email) = (made.plus_seconds(LIFE), email.map(str::to_owned));
        let action = if email.is_some() { "recovery.letter" } else { "recovery.hand" };
        let recovery = Recovery { id, hash, made, expires, tokens_from, email };
        let told = self.audit.operation(caller, Event::new(action).about(&identity.id))?;
        Ok((token, expires, vec![put(RECOVERIES, &recovery.id, &recovery)?, told]))
    }

    fn link(&self, token: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("{}#token={token}", self.page))
    }
}

#[cfg(test)]
mod tests;
