//! Documents read: one by its id, or those a query finds, within what the caller may see.

use super::{Documents, Found, Search};
use crate::{
    base::fault::Fault,
    domain::filter::Filter,
    ports::documents::{Explain, Query},
    services::{
        Error, Result,
        access::{self, Action, Caller, Grant, Resource, Subject},
    },
};
use bson::RawDocumentBuf;
use std::sync::Arc;

impl Documents {
    pub async fn get(&self, caller: &Caller, collection: &str, id: &str) -> Result<RawDocumentBuf> {
        let grant = access::decide(caller, Action::View, Resource::Collection(collection))?;
        let found = self.store.get(collection, id).await?;
        found
            .filter(|document| grant.scope.matches(document))
            .ok_or_else(|| Error::NotFound(Fault::new("documents.missing").with("id", id)))
    }

    pub async fn find(&self, caller: &Caller, collection: &str, search: &Search) -> Result<Found> {
        let grant = self.view(caller, collection).await?;
        let filter = Arc::new(within(&grant, search.filter()?));
        let limit = search.rows(&self.limits)?;
        let fingerprint = search.fingerprint(collection);
        let after = search.cursor.as_deref().map(|cursor| fingerprint.open(cursor)).transpose()?;
        let total = match search.total {
            true => Some(self.store.count(collection, filter.clone()).await?.0),
            false => None,
        };
        // Over the local socket nobody but an operator asks: that is told.
        if matches!(caller.subject, Subject::Local { .. }) {
            self.tell(caller, "documents.query", collection, &search.filter).await?;
        }
        let query = Query { collection: collection.to_owned(), filter, sort: search.sort.clone(), limit, after };
        let mut page = self.store.find(query).await?;
        if !search.fields.is_everything() {
            page.documents = page.documents.iter().map(|document| search.fields.apply(document)).collect();
        }
        let next = page.next.map(|key| fingerprint.cursor(&key));
        Ok(Found { documents: page.documents, limit, next, total, explain: page.explain })
    }

    pub async fn count(&self, caller: &Caller, collection: &str, search: &Search) -> Result<(u64, Explain)> {
        let grant = self.view(caller, collection).await?;
        let filter = Arc::new(within(&grant, search.filter()?));
        Ok(self.store.count(collection, filter).await?)
    }

    /// The right to read a collection that exists.
    pub(super) async fn view(&self, caller: &Caller, collection: &str) -> Result<Grant> {
        let grant = access::decide(caller, Action::View, Resource::Collection(collection))?;
        self.rules(collection).await?;
        Ok(grant)
    }
}

/// The caller's scope and-ed into what was asked.
pub(super) fn within(grant: &Grant, filter: Filter) -> Filter {
    match &*grant.scope {
        Filter::And(scope) if scope.is_empty() => filter,
        scope => Filter::And(vec![scope.clone(), filter]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn the_scope_narrows_whatever_is_asked() {
        let parse = |filter: RawDocumentBuf| Filter::parse(&filter).unwrap();
        let grant = Grant { scope: Arc::new(parse(rawdoc! { "team": "a" })) };
        for asked in [rawdoc! {}, rawdoc! { "$or": [{ "team": "b" }, { "n": 1 }] }, rawdoc! { "team": "b" }] {
            let filter = within(&grant, parse(asked.clone()));
            assert!(!filter.matches(&rawdoc! { "team": "b", "n": 1 }), "{asked:?}");
        }
        assert!(within(&grant, parse(rawdoc! { "n": 1 })).matches(&rawdoc! { "team": "a", "n": 1 }));
    }
}
