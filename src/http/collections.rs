//! The routes of collections.

use super::{
    body::Sent,
    conditions,
    envelope::{Answer, Free},
    proof::By,
    spec::Tag,
};
use crate::services::{Result, collections::Described};
use poem::{Request, http::StatusCode};
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Serialize;

pub struct Routes;

/// A collection's definition.
#[derive(Object)]
struct Definition {
    name: Option<String>,
    /// JSON Schema (2020-12) of the documents
    schema: Option<Free>,
    /// `country,-population`, or `{keys, name?, unique?}`
    indexes: Option<Vec<Free>>,
    /// `public`, `internal`, `restricted` or `confidential`, by field
    classes: Option<Free>,
    /// The field that names whose a document is, by whose key its restricted and confidential fields are sealed;
    /// `_owner` when absent
    subject: Option<String>,
    policies: Option<Vec<Free>>,
    /// `{reads: true}`: each reading is told to the audit log. When absent, where a field is restricted or confidential
    audit: Option<Free>,
}

#[derive(Serialize, Object)]
struct Dropped {
    name: String,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Collections")]
impl Routes {
    /// Create a collection
    #[oai(path = "/collections", method = "post", operation_id = "createCollection")]
    async fn create(&self, by: By, sent: Sent<Definition>, request: &Request) -> Result<Answer<Free, 201>> {
        let attempt = conditions::attempt(request, sent.bytes())?;
        let described = by.exchange.state.collections.create(&by.caller, sent.data()?, attempt).await?;
        let location = format!("/api/v1/collections/{}", described.definition.name);
        Ok(answer(&by, &described)?.status(StatusCode::CREATED).location(&location))
    }

    /// List the collections
    #[oai(path = "/collections", method = "get", operation_id = "listCollections")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Free>>> {
        let all = by.exchange.state.collections.list(&by.caller).await?;
        let all: Vec<_> = all.iter().map(Described::document).collect();
        Answer::list(&by.exchange, &all)
    }

    /// Describe a collection, its indexes as they are built
    #[oai(path = "/collections/:collection", method = "get", operation_id = "describeCollection")]
    async fn describe(&self, by: By, collection: Path<String>) -> Result<Answer<Free>> {
        let described = by.exchange.state.collections.describe(&by.caller, &collection).await?;
        answer(&by, &described)
    }

    /// Alter a collection: the fields given replace those that were there, null removes one
    #[oai(path = "/collections/:collection", method = "patch", operation_id = "alterCollection")]
    async fn alter(
        &self,
        by: By,
        collection: Path<String>,
        sent: Sent<Definition>,
        request: &Request,
    ) -> Result<Answer<Free>> {
        let revision = conditions::expected_one(request.headers())?;
        let attempt = conditions::attempt(request, sent.bytes())?;
        let collections = &by.exchange.state.collections;
        let described = collections.alter(&by.caller, &collection, sent.data()?, revision, attempt).await?;
        answer(&by, &described)
    }

    /// Drop a collection with every document in it
    #[oai(path = "/collections/:collection", method = "delete", operation_id = "dropCollection")]
    async fn remove(&self, by: By, collection: Path<String>, request: &Request) -> Result<Answer<Dropped>> {
        let revision = conditions::expected_one(request.headers())?;
        by.exchange.state.collections.drop(&by.caller, &collection, revision).await?;
        Answer::value(&by.exchange, &Dropped { name: collection.0 })
    }
}

fn answer<const STATUS: u16>(by: &By, described: &Described) -> Result<Answer<Free, STATUS>> {
    Ok(Answer::document(&by.exchange, &described.document())?.revision(described.revision))
}
