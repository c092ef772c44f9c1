//! A collection as it stands at one moment, in lines of Extended JSON, while writes go on.

use super::{Documents, Search, rules::Rules};
use crate::{
    domain::{filter::Filter, json, sort::Sort},
    ports::documents::Snapshot,
    services::{
        Error, Result,
        access::{Access, Action, Caller, Resource},
        audit::{Audit, Event},
        sealing::Seals,
    },
};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Documents read at once.
const CHUNK: usize = 500;

/// The lines of an export, chunk by chunk. Blocking: pull it from a blocking thread, through to the end, for it
/// holds a snapshot.
pub struct Lines {
    snapshot: Arc<dyn Snapshot>,
    collection: String,
    filter: Filter,
    /// Asked again for each chunk: a right that ends, ends an export.
    access: Arc<Access>,
    audit: Arc<Audit>,
    caller: Caller,
    rules: Arc<Rules>,
    seals: Arc<Seals>,
    runtime: Handle,
    canonical: bool,
    after: Option<String>,
    /// Documents that went out.
    count: u64,
    ended: bool,
}

impl Documents {
    pub async fn export(&self, caller: &Caller, collection: &str, search: &Search, canonical: bool) -> Result<Lines> {
        let filter = search.filter()?;
        let (grant, rules) = self.view(caller, collection).await?;
        self.asked(&grant, &rules, filter.clone(), &Sort::default())?;
        self.tell_search(caller, "documents.export", collection, search, &grant).await?;
        let snapshot = self.store.snapshot().await?;
        let (access, caller, collection) = (self.access.clone(), caller.clone(), collection.to_owned());
        let (seals, runtime) = (self.seals.clone(), Handle::current());
        let (audit, after, count, ended) = (self.audit.clone(), None, 0, false);
        Ok(Lines {
            snapshot,
            collection,
            filter,
            access,
            audit,
            caller,
            rules,
            seals,
            runtime,
            canonical,
            after,
            count,
            ended,
        })
    }
}

impl Lines {
    fn chunk(&mut self) -> Result<Vec<u8>> {
        let documents = self.snapshot.documents(&self.collection, self.after.as_deref(), CHUNK)?;
        self.ended = documents.len() < CHUNK;
        let mut text = Vec::new();
        let grant = self.access.decide(&self.caller, Action::View, Resource::Collection(&self.collection))?;
        let filter = grant.narrow(self.filter.clone(), &Sort::default())?;
        if let Some(last) = documents.last() {
            let id = last.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?;
            self.after = Some(id.to_owned());
        }
        let documents = self.runtime.block_on(self.seals.opened(&self.rules.sealing, documents))?;
        for document in documents.iter().filter(|document| filter.matches(document)) {
            if let Some(document) = grant.show(document) {
                let write = if self.canonical { json::write_canonical } else { json::write_relaxed };
                write(&document, &mut text).map_err(|fault| Error::Internal(Box::new(fault)))?;
                text.push(b'\n');
                self.count += 1;
            }
        }
        if self.ended && self.rules.audited {
            // That it began is told; this, how much of it there was.
            let event = Event::new("documents.exported").object(&self.collection).with("count", self.count);
            self.runtime.block_on(self.audit.record_reading(&self.caller, event))?;
        }
        Ok(text)
    }
}

impl Iterator for Lines {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let chunk = self.chunk();
        self.ended |= chunk.is_err();
        Some(chunk)
    }
}
