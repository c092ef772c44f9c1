//! Documents read: one by its id, or those a query finds, within what the caller may see.

use super::{
    Documents, Found, Search,
    rules::{ALTERED, Rules},
};
use crate::{
    base::fault::Fault,
    domain::{filter::Filter, sealing, sort::Sort},
    ports::documents::{self as port, Explain, Query},
    services::{
        Error, Result,
        access::{Action, Caller, Grant, Resource, Subject},
    },
};
use bson::{RawDocument, RawDocumentBuf};
use std::{borrow::Cow, sync::Arc};

impl Documents {
    pub async fn get(&self, caller: &Caller, collection: &str, id: &str) -> Result<RawDocumentBuf> {
        let (grant, rules) = self.view(caller, collection).await?;
        let missing = || Error::NotFound(Fault::new("documents.missing").with("id", id));
        let found = self.store.get(collection, id).await?.ok_or_else(missing)?;
        let found = self.opened_by(&rules, collection, vec![found]).await?.pop().ok_or_else(missing)?;
        let shown = match grant.show(&found).ok_or_else(missing)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(shown) => Some(shown),
        };
        self.tell_one(caller, (collection, id), (&grant, &rules), &found).await?;
        Ok(shown.unwrap_or(found))
    }

    pub async fn find(&self, caller: &Caller, collection: &str, search: &Search) -> Result<Found> {
        let (grant, rules) = self.view(caller, collection).await?;
        let mut found = self.page(collection, search, (&grant, &rules)).await?;
        self.tell_page(caller, collection, search, (&grant, &rules), &found).await?;
        if !search.fields.is_everything() {
            found.documents = found.documents.iter().map(|document| search.fields.apply(document)).collect();
        }
        Ok(found)
    }

    async fn page(&self, collection: &str, search: &Search, (grant, rules): (&Grant, &Arc<Rules>)) -> Result<Found> {
        let filter = self.asked(grant, rules, search.filter()?, &search.sort)?;
        let limit = search.rows(&self.limits)?;
        let fingerprint = search.fingerprint(collection);
        let after = search.cursor.as_deref().map(|cursor| fingerprint.open(cursor)).transpose()?;
        let total = match search.total {
            true => Some(self.store.count(collection, filter.clone()).await?.0),
            false => None,
        };
        let query = Query { collection: collection.to_owned(), filter, sort: search.sort.clone(), limit, after };
        let mut page = self.store.find(query).await?;
        page.documents = self.opened_by(rules, collection, page.documents).await?;
        grant.show_all(&mut page.documents);
        let next = page.next.map(|key| fingerprint.cursor(&key));
        Ok(Found { documents: page.documents, limit, next, total, explain: page.explain })
    }

    /// Documents as people read them, found after these rules were. Dropped between and made anew, a collection may seal
    /// other fields, which would show as they are stored.
    async fn opened_by(
        &self,
        rules: &Arc<Rules>,
        collection: &str,
        found: Vec<RawDocumentBuf>,
    ) -> Result<Vec<RawDocumentBuf>> {
        let opened = self.seals.opened(&rules.sealing, found).await?;
        // What looks sealed may be somebody's own bytes.
        if opened.iter().any(|document| sealing::shows(document)) {
            self.stand(rules, collection).await?;
        }
        Ok(opened)
    }

    /// Whether a collection is still the one of these rules.
    pub(super) async fn stand(&self, rules: &Arc<Rules>, collection: &str) -> Result<()> {
        match Arc::ptr_eq(rules, &self.rules(collection).await?) {
            true => Ok(()),
            false => Err(Error::Conflict(Fault::new(ALTERED).with("collection", collection))),
        }
    }

    /// How a query is answered. What was examined tells of documents beyond the answer: it is for who may see all.
    pub async fn explain(&self, caller: &Caller, collection: &str, search: &Search) -> Result<Found> {
        let (grant, rules) = self.view(caller, collection).await?;
        if !grant.is_everything() {
            return Err(Error::Barred(Fault::new("access.explain")));
        }
        let found = self.page(collection, search, (&grant, &rules)).await?;
        if rules.audited || matches!(caller.subject, Subject::Local { .. }) {
            self.tell_search(caller, "documents.query", collection, search, &grant).await?;
        }
        Ok(found)
    }

    pub async fn count(&self, caller: &Caller, collection: &str, search: &Search) -> Result<(u64, Explain)> {
        let (grant, rules) = self.view(caller, collection).await?;
        let filter = self.asked(&grant, &rules, search.filter()?, &Sort::default())?;
        let (count, explain) = self.store.count(collection, filter).await?;
        self.tell_count(caller, collection, search, (&grant, &rules), count).await?;
        Ok((count, explain))
    }

    /// The right to read a collection that exists, and its rules.
    pub(super) async fn view(&self, caller: &Caller, collection: &str) -> Result<(Grant, Arc<Rules>)> {
        let grant = self.access.decide(caller, Action::View, Resource::Collection(collection))?;
        Ok((grant, self.rules(collection).await?))
    }

    /// What is asked, within what is allowed, as the store can answer it.
    pub(super) fn asked(&self, grant: &Grant, rules: &Rules, asked: Filter, sort: &Sort) -> Result<Arc<Filter>> {
        let narrowed = grant.narrow(asked, sort)?;
        rules.sealing.check_sort(sort).map_err(Error::Invalid)?;
        let translated = rules.sealing.translate(narrowed, &self.seals.hashes()).map_err(Error::Invalid)?;
        Ok(Arc::new(translated))
    }
}

/// The first documents of a collection that answer a filter, in an order; as they are stored.
pub async fn first(
    store: &dyn port::Documents,
    collection: &str,
    filter: &RawDocument,
    order: &str,
    limit: usize,
) -> Result<Vec<RawDocumentBuf>> {
    let filter = Arc::new(Filter::parse(filter).map_err(Error::Invalid)?);
    let sort = Sort::parse_text(order).map_err(Error::Invalid)?;
    let query = Query { collection: collection.to_owned(), filter, sort, limit, after: None };
    Ok(store.find(query).await?.documents)
}

/// Every document of a collection that answers a filter, as it is stored.
pub async fn all(store: &dyn port::Documents, collection: &str, filter: Filter) -> Result<Vec<RawDocumentBuf>> {
    every(store, collection, filter, Ok).await
}

/// The same, each read as it comes.
pub async fn every<T: Send>(
    store: &dyn port::Documents,
    collection: &str,
    filter: Filter,
    read: impl Fn(RawDocumentBuf) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    let (filter, mut after, mut all) = (Arc::new(filter), None, Vec::new());
    loop {
        let (collection, filter) = (collection.to_owned(), filter.clone());
        let page = store.find(Query { collection, filter, sort: Sort::default(), limit: 1000, after }).await?;
        for document in page.documents {
            all.push(read(document)?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}
