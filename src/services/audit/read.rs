//! The log read: entries looked up, the newest checkpoint, proofs. Reading it is itself told.

use super::{
    Audit, ENTRIES, Event, Outcome,
    entry::{self, Leaf, wide},
    state::{State, head},
    unsound,
};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::{
        filter::Filter,
        merkle::{Edge, Hash, Nodes, Place, Tiles, consistency, inclusion, leaf},
        sort::Sort,
    },
    ports::documents::{Query, Snapshot},
    services::{
        Error, Result,
        access::{Action, Caller, Resource},
    },
};
use bson::{RawArrayBuf, RawDocumentBuf, rawdoc};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Entries of a page: when nothing is said, and at most.
const PAGE: usize = 100;
const PAGE_MOST: usize = 1000;

/// For which the seal of what was just done is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What to look for; newest first.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// An identity, its pseudonym, or who is no person: as who acted or whom it is about.
    pub who: Option<String>,
    /// The same, as who acted alone.
    pub actor: Option<String>,
    /// How the action begins: `auth.`, `documents.delete`.
    pub action: Option<String>,
    /// `collection/id`, or another name.
    pub object: Option<String>,
    /// `collection/id`: what concerned the document, and what may have for it went over the whole collection.
    pub document: Option<String>,
    pub outcome: Option<String>,
    pub from: Option<Timestamp>,
    /// Up to it, itself not.
    pub to: Option<Timestamp>,
    pub limit: Option<usize>,
    /// The last index already seen.
    pub cursor: Option<String>,
}

/// A page of entries, as texts.
#[derive(Debug, Clone)]
pub struct Found {
    pub entries: Vec<String>,
    pub limit: usize,
    pub next: Option<String>,
}

/// An entry, and the way from it to the root of a signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub index: u64,
    pub entry: String,
    pub size: u64,
    pub hashes: Vec<Hash>,
    pub checkpoint: String,
}

/// Entries looked at once, and at most, for the newest of a kind.
const WINDOW: u64 = 1000;
const FARTHEST: u64 = 1_000_000;

/// The newest entry of which something can be told, in a store that is only looked into.
pub fn newest<T>(snapshot: &dyn Snapshot, tell: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
    let size = head(snapshot)?.map_or(0, |head| head.size);
    let mut end = size;
    while end > size.saturating_sub(FARTHEST) {
        let begin = end.saturating_sub(WINDOW);
        let before = begin.checked_sub(1).map(entry::id);
        let documents = snapshot.documents(ENTRIES, before.as_deref(), (end - begin) as usize)?;
        let leaves = documents.iter().rev().filter_map(|document| Leaf::read(document));
        let mut entries = leaves.filter_map(|leaf| serde_json::from_str(&leaf.text).ok());
        if let Some(told) = entries.find_map(|entry| tell(&entry)) {
            return Ok(Some(told));
        }
        end = begin;
    }
    Ok(None)
}

impl Audit {
    /// The right to read the log; that it was asked is told before anything is answered.
    pub(super) async fn reader(&self, caller: &Caller, what: &'static str) -> Result<()> {
        self.access.decide(caller, Action::View, Resource::Module("audit"))?;
        let event = Event::new("audit.read").object(what);
        let new = self.repeats().is_new(caller, &event, self.clock.now());
        if !new {
            return Ok(());
        }
        let told = self.record_reading(caller, event.clone()).await;
        if told.is_err() {
            self.repeats().forget(caller, &event);
        }
        told
    }

    /// Seals what was done up to this call, where that can be soon: a log that cannot be sealed must still be seen.
    async fn catch_up(&self) {
        match tokio::time::timeout(PATIENCE, self.seal()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the log is shown as of the last seal"),
            Err(_) => tracing::warn!("the log is shown as of the last seal: much is still to be sealed"),
        }
    }

    pub async fn list(&self, caller: &Caller, search: &Search) -> Result<Found> {
        self.reader(caller, "entries").await?;
        let limit = search.limit.unwrap_or(PAGE);
        if limit == 0 || limit > PAGE_MOST {
            return Err(Error::Invalid(Fault::new("search.limit").at("limit").with("limit", PAGE_MOST)));
        }
        let filter = Arc::new(Filter::parse(&self.filter(search)?).map_err(Error::Invalid)?);
        self.catch_up().await;
        let sort = Sort::parse_text("-_id").map_err(Error::Invalid)?;
        let (mut entries, mut after, mut last) = (Vec::new(), None, None);
        loop {
            let (collection, sort, filter) = (ENTRIES.to_owned(), sort.clone(), filter.clone());
            let page = self.documents.find(Query { collection, filter, sort, limit: limit - entries.len(), after });
            let page = page.await?;
            for document in &page.documents {
                let leaf = Leaf::read(document).ok_or_else(|| unsound("an entry is unreadable"))?;
                last = Some(leaf.index);
                entries.push(leaf.text);
            }
            after = page.next;
            if after.is_none() || entries.len() >= limit {
                let next = last.filter(|_| after.is_some()).map(|last| last.to_string());
                return Ok(Found { entries, limit, next });
            }
        }
    }

    pub(super) fn filter(&self, search: &Search) -> Result<RawDocumentBuf> {
        let Search { who, actor, action, object, document, outcome, from, to, limit: _, cursor } = search;
        let mut all: Vec<RawDocumentBuf> = Vec::new();
        if let Some(who) = who {
            all.push(rawdoc! { "people": self.pseudonyms.actor(who) });
        }
        if let Some(action) = action {
            all.push(rawdoc! { "action": { "$gte": action.as_str(), "$lt": format!("{action}\u{10ffff}") } });
        }
        if let Some(actor) = actor {
            let actor = self.pseudonyms.actor(actor);
            // The first of them acted.
            all.push(rawdoc! { "people": actor.as_str(), "people.0": actor.as_str() });
        }
        if let Some(object) = object {
            all.push(self.about(object, Vec::new()));
        }
        if let Some(document) = document {
            let Some((collection, _)) = document.split_once('/') else {
                return Err(Error::Invalid(Fault::new("audit.document").at("document").with("document", document)));
            };
            all.push(self.about(document, vec![wide(collection)]));
        }
        if let Some(outcome) = outcome {
            let known =
                [Outcome::Allowed, Outcome::Denied, Outcome::Failed].iter().any(|known| known.name() == outcome);
            if !known {
                return Err(Error::Invalid(Fault::new("audit.outcome").at("outcome").with("outcome", outcome)));
            }
            all.push(rawdoc! { "outcome": outcome.as_str() });
        }
        for (bound, time) in [("$gte", from), ("$lt", to)] {
            if let Some(time) = time {
                let mut test = RawDocumentBuf::new();
                test.append(bson::raw::CString::try_from(bound).map_err(unsound)?, bson::DateTime::from_millis(time.0));
                all.push(rawdoc! { "at": test });
            }
        }
        if let Some(cursor) = cursor {
            let last: u64 = cursor.parse().map_err(|_| Error::Unreadable(Fault::new("audit.cursor").at("cursor")))?;
            all.push(rawdoc! { "_id": { "$lt": entry::id(last) } });
        }
        if all.is_empty() {
            return Ok(rawdoc! {});
        }
        let mut conditions = RawArrayBuf::new();
        all.into_iter().for_each(|condition| conditions.push(condition));
        Ok(rawdoc! { "$and": conditions })
    }

    /// Entries of this object, or of these others.
    fn about(&self, object: &str, others: Vec<String>) -> RawDocumentBuf {
        let mut names = others;
        match object.split_once('/') {
            Some((collection, id)) => names.extend(self.pseudonyms.names(collection, id)),
            None => names.push(object.to_owned()),
        }
        let mut any = RawArrayBuf::new();
        names.iter().for_each(|name| any.push(name.as_str()));
        rawdoc! { "object": { "$in": any } }
    }

    /// The newest checkpoint, signed.
    pub async fn checkpoint(&self, caller: &Caller) -> Result<String> {
        self.reader(caller, "checkpoint").await?;
        Ok(self.state().await?.note)
    }

    /// That an entry is in the tree of the newest checkpoint.
    pub async fn prove(&self, caller: &Caller, index: u64) -> Result<Proof> {
        self.reader(caller, "proof").await?;
        let state = self.state().await?;
        let size = state.edge.size();
        let unknown = |key| Error::NotFound(Fault::new(key).with("index", index).with("size", size));
        if index >= size {
            return Err(unknown("audit.unknown"));
        }
        let document = self.documents.get(ENTRIES, &entry::id(index)).await?.ok_or_else(|| unknown("audit.pruned"))?;
        let entry = Leaf::read(&document).ok_or_else(|| unsound("an entry is unreadable"))?;
        if leaf(entry.text.as_bytes()) != entry.hash {
            return Err(Error::Damaged(Fault::new("audit.edited").with("index", index)));
        }
        let hashes = self.proof(&state, |nodes| inclusion(nodes, index, size)).await?;
        Ok(Proof { index, entry: entry.text, size, hashes, checkpoint: state.note })
    }

    /// That the tree of `to` entries (of all, by default) continues that of `from`.
    pub async fn consistency(&self, caller: &Caller, from: u64, to: Option<u64>) -> Result<(u64, Vec<Hash>)> {
        self.reader(caller, "proof").await?;
        let state = self.state().await?;
        let size = state.edge.size();
        let to = to.unwrap_or(size);
        if from > to || to > size {
            return Err(Error::NotFound(Fault::new("audit.unknown").with("index", from.max(to)).with("size", size)));
        }
        Ok((to, self.proof(&state, |nodes| consistency(nodes, from, to)).await?))
    }

    /// The state of the last seal.
    async fn state(&self) -> Result<State> {
        let mut held = self.state.lock().await;
        match &*held {
            Some(state) => Ok(state.clone()),
            None => {
                let state = self.load().await?;
                *held = Some(state.clone());
                Ok(state)
            }
        }
    }

    /// Fetches the tiles a proof takes, then makes it.
    async fn proof(&self, state: &State, make: impl Fn(&dyn Nodes) -> Option<Vec<Hash>>) -> Result<Vec<Hash>> {
        let needed = Tiles::needed(|nodes| {
            make(nodes);
        });
        let mut tiles = Tiles::default();
        for place in needed {
            let hashes = match unfinished(&state.edge, place) {
                Some(hashes) => hashes,
                None => self.tile(place).await?,
            };
            tiles.0.insert(place, hashes);
        }
        make(&tiles).ok_or_else(|| unsound("a tile is too short for a proof"))
    }
}

/// The hashes of a tile at the right edge.
fn unfinished(edge: &Edge, place: Place) -> Option<Vec<Hash>> {
    let full = edge.size().checked_shr(8 * (place.level + 1)).unwrap_or_default();
    (place.index >= full).then(|| edge.level(place.level as usize).to_vec())
}
