//! Letters that wait to leave. Documents of a collection ask for them; each attempt stands there before the letter sets
//! out, so that an address gets one a minute at most, whatever fails.

use super::{Error, Result, access::Caller, documents::first};
use crate::{
    base::clock::{SharedClock, Timestamp},
    domain::{document::revision, update::Update},
    ports::{
        self,
        documents::{Batch, Change, Documents, Expect, Operation},
        mail::{Letter, Mailer},
    },
};
use bson::{RawDocument, RawDocumentBuf, cstr, rawdoc};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Seconds between two letters to one address. Who says a letter did not leave may be wrong: it is the least between two
/// attempts too.
pub const PAUSE: i64 = 60;
/// Seconds of failures after which a letter is given up.
const GIVEN_UP: i64 = 3600;

/// What a document that asks for a letter says of it, whatever else it says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Note {
    #[serde(rename = "_id")]
    pub id: String,
    pub email: String,
    pub asked: Timestamp,
    pub attempts: u32,
    /// When it is to be tried; absent: it left.
    #[serde(default)]
    pub next: Option<Timestamp>,
}

/// A letter that is ready, and what it relies on.
pub struct Ready {
    pub letter: Letter,
    /// Fields of the note from now on.
    pub set: RawDocumentBuf,
    /// Committed with them.
    pub with: Vec<Operation>,
    /// What becomes of the note once the letter left.
    pub then: Change,
}

pub struct Outbox {
    collection: &'static str,
    documents: Arc<dyn Documents>,
    clock: SharedClock,
    /// Absent: nothing can be sent.
    mailer: Option<Arc<dyn Mailer>>,
    /// When a letter to an address was last tried, within [`PAUSE`].
    tried: Mutex<HashMap<String, Timestamp>>,
}

impl Outbox {
    pub fn new(
        collection: &'static str,
        documents: Arc<dyn Documents>,
        clock: SharedClock,
        mailer: Option<Arc<dyn Mailer>>,
    ) -> Self {
        Self { collection, documents, clock, mailer, tried: Mutex::default() }
    }

    pub fn is_open(&self) -> bool {
        self.mailer.is_some()
    }

    /// Who waits longest comes first; nobody where nothing can be sent.
    pub async fn due(&self, most: usize) -> Result<Vec<RawDocumentBuf>> {
        if !self.is_open() {
            return Ok(Vec::new());
        }
        let due = rawdoc! { "next": { "$lte": self.clock.now().0 } };
        first(&*self.documents, self.collection, &due, "next", most).await
    }

    /// Sends what a note asks for, unless another letter went there a moment ago; `None`: nobody is to get one. Answers
    /// whether a letter left.
    pub async fn send(&self, document: &RawDocument, ready: Option<Ready>) -> Result<bool> {
        let Some(mailer) = &self.mailer else { return Ok(false) };
        let note: Note = read(document)?;
        let Some(Ready { letter, mut set, with, then }) = ready else {
            self.change(document, Change::Delete).await?;
            return Ok(false);
        };
        // Whoever asks, nobody's mail is flooded.
        if let Some(until) = self.paused(&note.email) {
            self.change(document, update(rawdoc! { "$set": { "next": until.0 } })?).await?;
            return Ok(false);
        }
        let wait = PAUSE << note.attempts.min(6);
        let (attempts, next) = (note.attempts.saturating_add(1), self.clock.now().plus_seconds(wait));
        set.append(cstr!("attempts"), i64::from(attempts));
        set.append(cstr!("next"), next.0);
        let mut operations = vec![operation(self.collection, document, update(rawdoc! { "$set": set })?)?];
        operations.extend(with);
        match self.commit(&Caller::system(), operations).await {
            // Asked for anew meanwhile, or gone.
            Err(ports::Error::Conflict(_)) => return Ok(false),
            committed => committed?,
        }
        let sent = mailer.send(&letter).await;
        self.tried().insert(note.email, self.clock.now());
        let left = sent.is_ok();
        self.settle(&note.id, attempts, sent, then).await?;
        Ok(left)
    }

    /// What becomes of a note whose letter left or never will; one put in its place meanwhile stands as it is.
    async fn settle(&self, id: &str, attempt: u32, sent: ports::Result<()>, then: Change) -> Result<()> {
        let Some(document) = self.documents.get(self.collection, id).await? else { return Ok(()) };
        let Note { asked, attempts, .. } = read(&document)?;
        let change = match sent {
            Ok(()) => then,
            Err(error) => {
                let lost = matches!(error, ports::Error::Rejected(_));
                let given_up = lost || asked.plus_seconds(GIVEN_UP) <= self.clock.now();
                tracing::warn!(%error, note = self.collection, attempts = attempt, given_up, "a letter was not sent");
                match given_up {
                    true => Change::Delete,
                    false => return Ok(()),
                }
            }
        };
        match attempts == attempt {
            true => self.change(&document, change).await,
            false => Ok(()),
        }
    }

    /// Until when an address gets no other letter.
    fn paused(&self, email: &str) -> Option<Timestamp> {
        let now = self.clock.now();
        let mut tried = self.tried();
        tried.retain(|_, at| at.plus_seconds(PAUSE) > now);
        tried.get(email).map(|at| at.plus_seconds(PAUSE))
    }

    fn tried(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change of a note, only as it was read.
    async fn change(&self, note: &RawDocument, change: Change) -> Result<()> {
        let operation = operation(self.collection, note, change)?;
        unless_changed(self.commit(&Caller::system(), vec![operation]).await)
    }

    pub async fn commit(&self, caller: &Caller, operations: Vec<Operation>) -> ports::Result<()> {
        let (time, origin) = (self.clock.now(), caller.origin());
        self.documents.commit(Batch { time, origin, operations, check: None, receipt: None }).await.map(drop)
    }
}

/// A change of a document, only as it was read.
pub fn operation(collection: &str, document: &RawDocument, change: Change) -> Result<Operation> {
    let id = document.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?.to_owned();
    let expect = revision(document).map_or(Expect::Present, Expect::Revision);
    Ok(Operation { collection: collection.to_owned(), id, expect, change })
}

pub fn update(update: RawDocumentBuf) -> Result<Change> {
    Update::parse(&update).map(Change::Update).map_err(Error::Invalid)
}

/// A document, whatever stood in its place.
pub fn put(collection: &str, id: &str, value: &impl serde::Serialize) -> Result<Operation> {
    let document = bson::serialize_to_raw_document_buf(value).map_err(|error| Error::Internal(Box::new(error)))?;
    let (collection, id) = (collection.to_owned(), id.to_owned());
    Ok(Operation { collection, id, expect: Expect::Any, change: Change::Put(document) })
}

pub fn read<T: serde::de::DeserializeOwned>(document: &RawDocument) -> Result<T> {
    bson::deserialize_from_slice(document.as_bytes()).map_err(|error| Error::Internal(Box::new(error)))
}

/// Somebody was there first, which is fine.
pub fn unless_changed(committed: ports::Result<()>) -> Result<()> {
    match committed {
        Err(ports::Error::Conflict(_)) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::Clock, environment::Environment},
        services::{
            bench::{Bench, Post},
            recovery::OUTBOX,
        },
    };
    use std::sync::atomic::Ordering;

    struct Desk {
        bench: Bench,
        post: Arc<Post>,
        outbox: Outbox,
    }

    async fn desk() -> Desk {
        let (bench, post) = (Bench::of(Environment::Production).await, Arc::<Post>::default());
        let outbox = opened(&bench, &post);
        Desk { bench, post, outbox }
    }

    fn opened(bench: &Bench, post: &Arc<Post>) -> Outbox {
        Outbox::new(OUTBOX, bench.documents.clone(), bench.clock.clone(), Some(post.clone()))
    }

    impl Desk {
        async fn ask(&self, id: &str) {
            let (now, email) = (self.bench.clock.now(), "ana@example.cd".to_owned());
            let note = Note { id: id.to_owned(), email, asked: now, attempts: 0, next: Some(now) };
            self.outbox.commit(&Caller::system(), vec![put(OUTBOX, id, &note).unwrap()]).await.unwrap();
        }

        async fn deliver(&self) -> usize {
            let mut sent = 0;
            for document in self.outbox.due(10).await.unwrap() {
                let text = document.get_str("_id").unwrap().to_owned();
                let letter = Letter { to: "ana@example.cd".to_owned(), subject: String::new(), text };
                let (set, then) = (RawDocumentBuf::new(), Change::Delete);
                let ready = Ready { letter, set, with: Vec::new(), then };
                sent += usize::from(self.outbox.send(&document, Some(ready)).await.unwrap());
            }
            sent
        }

        async fn waiting(&self) -> u64 {
            self.bench.documents.describe(OUTBOX).await.unwrap().unwrap().documents
        }
    }

    #[tokio::test]
    async fn an_address_gets_a_letter_a_minute_whatever_fails() {
        let desk = desk().await;
        desk.ask("first").await;
        desk.bench.wait(1);
        desk.ask("second").await;
        // It may have left all the same.
        desk.post.says.store(1, Ordering::Relaxed);
        assert_eq!(desk.deliver().await, 0);
        desk.post.says.store(0, Ordering::Relaxed);
        desk.bench.wait(PAUSE - 1);
        assert_eq!(desk.deliver().await, 0, "a minute is a minute");
        for waiting in [1, 0] {
            desk.bench.wait(if waiting == 1 { 1 } else { PAUSE });
            assert_eq!((desk.deliver().await, desk.waiting().await), (1, waiting));
        }
        let letters = desk.post.letters.lock().unwrap();
        assert_eq!(letters.iter().map(|letter| &*letter.text).collect::<Vec<_>>(), ["first", "second"]);
    }

    #[tokio::test]
    async fn what_was_cut_short_is_not_tried_again_at_once() {
        let mut desk = desk().await;
        desk.ask("first").await;
        let held = desk.post.held.lock().await;
        tokio::select! {
            _ = desk.deliver() => panic!("it was to be held"),
            () = desk.post.begun.notified() => {}
        }
        drop(held);
        desk.outbox = opened(&desk.bench, &desk.post);
        assert_eq!((desk.deliver().await, desk.waiting().await), (0, 1));
        desk.bench.wait(PAUSE);
        assert_eq!((desk.deliver().await, desk.waiting().await), (1, 0));
    }
}
