//! Readings told to the audit log, on disk before anything is answered: everywhere those that take a collection away,
//! and each one where the collection asks for it.

use super::{Documents, Found, Search, rules::Rules};
use crate::services::{
    Result,
    access::{Caller, Grant, Subject},
    audit::{Event, MOST_DOCUMENTS},
};
use bson::RawDocument;

impl Documents {
    /// One document, by its id.
    pub(super) async fn tell_one(
        &self,
        caller: &Caller,
        (collection, id): (&str, &str),
        (grant, rules): (&Grant, &Rules),
        document: &RawDocument,
    ) -> Result<()> {
        if !rules.audited {
            return Ok(());
        }
        let event = Event::new("documents.read").document(collection, id).grounds(&grant.grounds_of(document));
        self.audit.record_reading(caller, event).await
    }

    /// Those a page shows, each named; that there are more, or how many, says something of those it does not.
    pub(super) async fn tell_page(
        &self,
        caller: &Caller,
        collection: &str,
        search: &Search,
        (grant, rules): (&Grant, &Rules),
        found: &Found,
    ) -> Result<()> {
        if !rules.audited {
            // Over the local socket nobody but an operator asks: that is told.
            return match caller.subject {
                Subject::Local { .. } => self.tell_search(caller, "documents.query", collection, search, grant).await,
                _ => Ok(()),
            };
        }
        let ids: Vec<String> =
            found.documents.iter().filter_map(|shown| shown.get_str("_id").ok()).map(str::to_owned).collect();
        let event = self.event("documents.query", collection, search, grant).with("count", ids.len());
        let event = found.total.into_iter().fold(event, |event, total| event.with("total", total));
        let event = found.next.iter().fold(event, |event, _| event.with("more", true));
        if ids.is_empty() {
            return self.audit.record_reading(caller, event.documents(collection, ids)).await;
        }
        for part in ids.chunks(MOST_DOCUMENTS) {
            self.audit.record_reading(caller, event.clone().documents(collection, part.to_vec())).await?;
        }
        Ok(())
    }

    /// How many there are, and no more: who may ask for one field at a time learns it so.
    pub(super) async fn tell_count(
        &self,
        caller: &Caller,
        collection: &str,
        search: &Search,
        (grant, rules): (&Grant, &Rules),
        count: u64,
    ) -> Result<()> {
        if !rules.audited {
            return Ok(());
        }
        let event = self.event("documents.count", collection, search, grant).with("count", count);
        self.audit.record_reading(caller, event).await
    }

    /// What goes over a collection without naming its documents.
    pub(super) async fn tell_search(
        &self,
        caller: &Caller,
        action: &'static str,
        collection: &str,
        search: &Search,
        grant: &Grant,
    ) -> Result<()> {
        self.audit.record_reading(caller, self.event(action, collection, search, grant)).await
    }

    fn event(&self, action: &'static str, collection: &str, search: &Search, grant: &Grant) -> Event {
        let event = Event::new(action).object(collection).grounds(&grant.named());
        match search.filter.is_empty() {
            true => event,
            // What it looks for may name a person.
            false => event.with("filter", self.audit.pseudonym(&format!("{:?}", &*search.filter))),
        }
    }
}
