//! Lists of the appliance's own documents: the same queries as anyone's, over the fields that may be shown.

use super::{Found, Limits, Search};
use crate::{
    base::fault::Fault,
    domain::filter::Filter,
    ports::documents::{Documents, Query},
    services::{
        Error, Result,
        access::{Access, Action, Caller, Grant, Resource},
    },
};
use bson::{RawArray, RawBsonRef, RawDocument, RawDocumentBuf};
use std::sync::Arc;

/// A collection of the appliance's, and of its documents what people may see. What is not named here cannot be asked
/// for either: a condition on a password's hash would betray it.
pub(in crate::services) struct Listing {
    pub collection: &'static str,
    pub shown: &'static [&'static str],
}

impl Listing {
    /// The documents of `own` the search finds within the grant.
    pub async fn find(&self, store: &dyn Documents, grant: &Grant, own: Filter, search: &Search) -> Result<Found> {
        let asked = search.filter()?;
        self.check(&search.filter).map_err(Error::Invalid)?;
        for (path, _) in &search.sort.0 {
            self.known(path.parts().first().map_or("", String::as_str)).map_err(Error::Invalid)?;
        }
        let limits = Limits::default();
        let filter = Arc::new(Filter::And(vec![(*grant.scope).clone(), own, asked]));
        let (limit, fingerprint) = (search.rows(&limits)?, search.fingerprint(self.collection));
        let after = search.cursor.as_deref().map(|cursor| fingerprint.open(cursor)).transpose()?;
        let total = match search.total {
            true => Some(store.count(self.collection, filter.clone()).await?.0),
            false => None,
        };
        let (collection, sort) = (self.collection.to_owned(), search.sort.clone());
        let page = store.find(Query { collection, filter, sort, limit, after }).await?;
        let shown = |document: &RawDocumentBuf| search.fields.apply(&self.show(document));
        let documents = page.documents.iter().map(shown).collect();
        let next = page.next.map(|key| fingerprint.cursor(&key));
        Ok(Found { documents, limit, next, total, explain: page.explain })
    }

    /// What its writer is answered of a document: who writes does not always read.
    pub fn answer(
        &self,
        (access, caller): (&Access, &Caller),
        module: Resource<'_>,
        document: &RawDocument,
    ) -> RawDocumentBuf {
        let views = access.decide(caller, Action::View, module);
        let mut answer = self.show(document);
        if !views.is_ok_and(|views| views.scope.matches(document)) {
            answer = Self { collection: self.collection, shown: &["_id", "_rev"] }.show(&answer);
        }
        answer
    }

    /// What people see of a document.
    pub fn show(&self, document: &RawDocument) -> RawDocumentBuf {
        let mut shown = RawDocumentBuf::new();
        for (name, value) in document.iter().flatten() {
            if self.shown.contains(&name.as_str()) {
                shown.append(name, value);
            }
        }
        shown
    }

    fn check(&self, filter: &RawDocument) -> std::result::Result<(), Fault> {
        for (name, value) in filter.iter().flatten() {
            match value {
                RawBsonRef::Array(parts) if name.as_str().starts_with('$') => self.check_all(parts)?,
                _ => self.known(name.as_str().split('.').next().unwrap_or_default())?,
            }
        }
        Ok(())
    }

    fn check_all(&self, parts: &RawArray) -> std::result::Result<(), Fault> {
        let mut parts = parts.into_iter().flatten().filter_map(|part| part.as_document());
        parts.try_for_each(|part| self.check(part))
    }

    fn known(&self, field: &str) -> std::result::Result<(), Fault> {
        match self.shown.contains(&field) {
            true => Ok(()),
            false => Err(Fault::new("search.hidden").at(field)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn what_is_not_shown_cannot_be_asked_for() {
        let listing = Listing { collection: "c", shown: &["_id", "name"] };
        assert!(
            listing
                .check(&rawdoc! { "name": { "$regex": "^a" }, "$or": [{ "_id": "x" }, { "name.first": 1 }] })
                .is_ok()
        );
        let hidden = [
            rawdoc! { "password": "x" },
            rawdoc! { "password.length": 1 },
            rawdoc! { "$or": [{ "name": "x" }, { "$nor": [{ "password": { "$regex": "^a" } }] }] },
        ];
        for filter in hidden {
            assert_eq!(listing.check(&filter).map_err(|fault| fault.key), Err("search.hidden"), "{filter:?}");
        }
        assert_eq!(
            listing.show(&rawdoc! { "_id": "x", "password": "y", "name": "z" }),
            rawdoc! { "_id": "x", "name": "z" }
        );
    }
}
