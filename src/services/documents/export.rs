//! A collection as it stands at one moment, in lines of Extended JSON, while writes go on.

use super::{Documents, Search, rules::Rules};
use crate::{
    domain::{filter::Filter, json, sort::Sort},
    ports::documents::Snapshot,
    services::{
        Error, Result,
        access::{Access, Action, Caller, Resource},
        audit::{Audit, Event},
        export::Export,
        sealing::Seals,
    },
};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Documents read at once.
const CHUNK: usize = 500;

/// The lines of an export, chunk by chunk.
pub struct Lines {
    snapshot: Arc<dyn Snapshot>,
    collection: String,
    filter: Filter,
    access: Arc<Access>,
    audit: Arc<Audit>,
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
        self.stand(&rules, collection).await?;
        let (access, collection) = (self.access.clone(), collection.to_owned());
        let (seals, runtime) = (self.seals.clone(), Handle::current());
        let (audit, after, count, ended) = (self.audit.clone(), None, 0, false);
        Ok(Lines { snapshot, collection, filter, access, audit, rules, seals, runtime, canonical, after, count, ended })
    }
}

impl Lines {
    fn chunk(&mut self, caller: &Caller) -> Result<Vec<u8>> {
        let grant = self.access.decide(caller, Action::View, Resource::Collection(&self.collection))?;
        let documents = self.snapshot.documents(&self.collection, self.after.as_deref(), CHUNK)?;
        self.ended = documents.len() < CHUNK;
        let mut text = Vec::new();
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
            self.runtime.block_on(self.audit.record_reading(caller, event))?;
        }
        Ok(text)
    }
}

impl Export for Lines {
    fn pull(&mut self, caller: &Caller) -> Option<Result<Vec<u8>>> {
        if self.ended {
            return None;
        }
        let chunk = self.chunk(caller);
        self.ended |= chunk.is_err();
        Some(chunk)
    }
}
