//! The routes of documents.

use super::{
    body::Sent,
    conditions,
    envelope::{Also, Answer, Free},
    proof::By,
    spec::Tag,
};
use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        documents::{Item, Search, Written, page_size},
    },
};
use bson::RawBsonRef;
use poem::{Request, http::StatusCode};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use serde::Serialize;

pub struct Routes;

/// What a count answers.
#[derive(Serialize, Object)]
struct Count {
    count: u64,
}

/// How a query is answered.
#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Explanation {
    /// The index used; `_id` is the documents' own order; absent: every document was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<String>,
    keys_examined: u64,
    documents_examined: u64,
    sorted_in_memory: bool,
    returned: u64,
}

/// A document after a write.
#[derive(Serialize, Object)]
struct State {
    _id: String,
    _rev: i64,
}

/// What became of a batch, operation by operation.
#[derive(Serialize, Object)]
struct Outcomes {
    results: Vec<State>,
}

/// Operations done in order, all or nothing.
#[derive(Object)]
struct Batch {
    /// At most 1,000 of `{action: create|replace|patch|delete, collection, id?, document? | patch?, rev?}`.
    operations: Vec<Free>,
}

/// What to find.
#[derive(Object)]
struct Asked {
    /// MongoDB's filter language.
    filter: Option<Free>,
    /// `-population,name`, or `{"population": -1, "name": 1}`.
    sort: Option<String>,
    limit: Option<u64>,
    /// `meta.page.next` of the page before.
    cursor: Option<String>,
    /// `name,address.city`, or `{"name": 1}`.
    fields: Option<String>,
    /// Also count everything the filter finds.
    total: Option<bool>,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Documents")]
impl Routes {
    /// Create a document
    #[oai(path = "/collections/:collection/documents", method = "post", operation_id = "createDocument")]
    async fn create(
        &self,
        by: By,
        collection: Path<String>,
        sent: Sent<Free>,
        request: &Request,
    ) -> Result<Answer<Free, 201>> {
        let attempt = conditions::attempt(request, sent.bytes())?;
        let documents = &by.exchange.state.documents;
        let written = documents.create(&by.caller, &collection, sent.data()?, attempt).await?;
        answer(&by, &collection, written)
    }

    /// Read a document
    #[oai(path = "/collections/:collection/documents/:id", method = "get", operation_id = "getDocument")]
    async fn get(
        &self,
        by: By,
        collection: Path<String>,
        id: Path<String>,
        request: &Request,
    ) -> Result<Also<Free, 304>> {
        let document = by.exchange.state.documents.get(&by.caller, &collection, &id).await?;
        let revision = crate::domain::document::revision(&document);
        let answer = match conditions::has(request.headers(), revision)? {
            true => Answer::unchanged(&by.exchange),
            false => Answer::document(&by.exchange, &document)?,
        };
        Ok(Also(revision.into_iter().fold(answer, Answer::revision)))
    }

    /// Replace a document, or create it under this id
    #[oai(path = "/collections/:collection/documents/:id", method = "put", operation_id = "replaceDocument")]
    async fn replace(
        &self,
        by: By,
        collection: Path<String>,
        id: Path<String>,
        sent: Sent<Free>,
        request: &Request,
    ) -> Result<Also<Free, 201>> {
        let when = conditions::expected(request.headers())?;
        let documents = &by.exchange.state.documents;
        let written = documents.replace(&by.caller, &collection, &id, sent.data()?, &when).await?;
        answer(&by, &collection, written).map(Also)
    }

    /// Change a document, by a JSON Merge Patch or by update operators
    #[oai(path = "/collections/:collection/documents/:id", method = "patch", operation_id = "patchDocument")]
    async fn patch(
        &self,
        by: By,
        collection: Path<String>,
        id: Path<String>,
        sent: Sent<Free>,
        request: &Request,
    ) -> Result<Answer<Free>> {
        let when = conditions::expected(request.headers())?;
        let attempt = conditions::attempt(request, sent.bytes())?;
        let documents = &by.exchange.state.documents;
        let written = documents.patch(&by.caller, &collection, &id, sent.data()?, &when, attempt).await?;
        answer(&by, &collection, written)
    }

    /// Delete a document
    #[oai(path = "/collections/:collection/documents/:id", method = "delete", operation_id = "deleteDocument")]
    async fn delete(
        &self,
        by: By,
        collection: Path<String>,
        id: Path<String>,
        request: &Request,
    ) -> Result<Answer<State>> {
        let when = conditions::expected(request.headers())?;
        let written = by.exchange.state.documents.delete(&by.caller, &collection, &id, &when).await?;
        Answer::value(&by.exchange, &State { _id: written.id, _rev: written.revision })
    }

    /// List documents: a query in the URL
    #[oai(path = "/collections/:collection/documents", method = "get", operation_id = "listDocuments")]
    #[allow(clippy::too_many_arguments, reason = "one per parameter of the URL")]
    async fn list(
        &self,
        by: By,
        collection: Path<String>,
        /// MongoDB's filter language, as JSON
        filter: Query<Option<String>>,
        /// `-population,name`
        sort: Query<Option<String>>,
        /// Rows of the page
        limit: Query<Option<u32>>,
        /// `meta.page.next` of the page before
        cursor: Query<Option<String>>,
        /// `name,address.city`
        fields: Query<Option<String>>,
        /// Also count everything the filter finds
        total: Query<Option<bool>>,
    ) -> Result<Answer<Vec<Free>>> {
        let search = Search {
            limit: limit.0.map(|rows| page_size(rows.into())).transpose().map_err(Error::Invalid)?,
            cursor: cursor.0,
            total: total.0.unwrap_or_default(),
            ..Search::of_url(filter.0.as_deref(), sort.0.as_deref(), fields.0.as_deref())?
        };
        let found = by.exchange.state.documents.find(&by.caller, &collection, &search).await?;
        Answer::page(&by.exchange, &found)
    }

    /// Query documents: a query in the body
    #[oai(path = "/collections/:collection/query", method = "post", operation_id = "queryDocuments")]
    async fn query(&self, by: By, collection: Path<String>, sent: Sent<Asked>) -> Result<Answer<Vec<Free>>> {
        let search = Search::read(sent.data()?)?;
        let found = by.exchange.state.documents.find(&by.caller, &collection, &search).await?;
        Answer::page(&by.exchange, &found)
    }

    /// Count documents
    #[oai(path = "/collections/:collection/count", method = "get", operation_id = "countDocuments")]
    async fn count(
        &self,
        by: By,
        collection: Path<String>,
        /// MongoDB's filter language, as JSON
        filter: Query<Option<String>>,
    ) -> Result<Answer<Count>> {
        let search = Search::of_url(filter.0.as_deref(), None, None)?;
        let (count, _) = by.exchange.state.documents.count(&by.caller, &collection, &search).await?;
        Answer::value(&by.exchange, &Count { count })
    }

    /// Explain a query: the index used and the documents examined
    #[oai(path = "/collections/:collection/explain", method = "get", operation_id = "explainQuery")]
    async fn explain(
        &self,
        by: By,
        collection: Path<String>,
        /// MongoDB's filter language, as JSON
        filter: Query<Option<String>>,
        /// `-population,name`
        sort: Query<Option<String>>,
        /// Rows of the page
        limit: Query<Option<u32>>,
    ) -> Result<Answer<Explanation>> {
        let search = Search {
            limit: limit.0.map(|rows| page_size(rows.into())).transpose().map_err(Error::Invalid)?,
            ..Search::of_url(filter.0.as_deref(), sort.0.as_deref(), None)?
        };
        let found = by.exchange.state.documents.explain(&by.caller, &collection, &search).await?;
        let explanation = Explanation {
            index: found.explain.index,
            keys_examined: found.explain.keys_examined,
            documents_examined: found.explain.documents_examined,
            sorted_in_memory: found.explain.sorted_in_memory,
            returned: found.documents.len() as u64,
        };
        Answer::value(&by.exchange, &explanation)
    }

    /// Up to 1,000 operations, all or nothing
    #[oai(path = "/batch", method = "post", operation_id = "batch")]
    async fn batch(&self, by: By, sent: Sent<Batch>, request: &Request) -> Result<Answer<Outcomes>> {
        let attempt = conditions::attempt(request, sent.bytes())?;
        let items = match sent.data()?.get("operations") {
            Ok(Some(RawBsonRef::Array(operations))) => Item::read_all(operations)?,
            _ => return Err(Error::Invalid(Fault::new("batch.operations").at("operations"))),
        };
        // A batch counts for one request, and one more for each ten operations.
        by.exchange.charge(u32::try_from(items.len() / 10).unwrap_or(u32::MAX));
        let written = by.exchange.state.documents.batch(&by.caller, &items, attempt).await?;
        let results = written.into_iter().map(|written| State { _id: written.id, _rev: written.revision }).collect();
        Answer::value(&by.exchange, &Outcomes { results })
    }
}

/// The document as it stands after a write.
fn answer<const STATUS: u16>(by: &By, collection: &str, written: Written) -> Result<Answer<Free, STATUS>> {
    // Who may write and not see is told that it is done, and no more.
    let blind = || bson::rawdoc! { "_id": written.id.as_str(), "_rev": written.revision };
    let document = written.document.clone().unwrap_or_else(blind);
    let answer = Answer::document(&by.exchange, &document)?.revision(written.revision);
    Ok(match written.created {
        true => answer.status(StatusCode::CREATED).location(&location(collection, &written.id)),
        false => answer,
    })
}

fn location(collection: &str, id: &str) -> String {
    let id: String = id
        .bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    format!("/api/v1/collections/{collection}/documents/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path() {
        assert_eq!(location("c", "a/é b"), "/api/v1/collections/c/documents/a%2F%C3%A9%20b");
    }
}
