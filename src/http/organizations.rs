//! The routes of organizations.

use super::{
    body::Sent,
    conditions,
    envelope::{Answer, Free},
    proof::By,
    search::search,
    spec::Tag,
};
use crate::services::{Result, organizations::New};
use poem::Request;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use serde::Deserialize;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename_all = "camelCase", rename = "AddedOrganization")]
struct Made {
    name: String,
    /// The number a state gave it
    legal_id: Option<String>,
    /// A language tag: `fr`, `en-GB`
    locale: Option<String>,
    /// Id of the person who owns it first; the caller when absent
    owner: Option<String>,
}

/// What is given replaces, null takes away.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "OrganizationChange")]
struct Changed {
    name: Option<String>,
    legal_id: Option<String>,
    locale: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/organizations", tag = "Tag::Identity")]
impl Routes {
    /// List organizations
    #[oai(path = "/", method = "get", operation_id = "listOrganizations")]
    async fn list(
        &self,
        by: By,
        /// MongoDB's filter language, as JSON
        filter: Query<Option<String>>,
        /// `-name,_createdAt`
        sort: Query<Option<String>>,
        /// Rows of the page
        limit: Query<Option<u32>>,
        /// `meta.page.next` of the page before
        cursor: Query<Option<String>>,
        /// Also count everything the filter finds
        total: Query<Option<bool>>,
    ) -> Result<Answer<Vec<Free>>> {
        let search = search(filter, sort, limit, cursor, total)?;
        let found = by.exchange.state.organizations.list(&by.caller, &search).await?;
        Answer::page(&by.exchange, &found)
    }

    /// Make an organization, with its first owner
    #[oai(path = "/", method = "post", operation_id = "createOrganization")]
    async fn create(&self, by: By, sent: Sent<Made>, request: &Request) -> Result<Answer<Free, 201>> {
        let attempt = conditions::attempt(request, sent.bytes())?;
        let Made { name, legal_id, locale, owner } = sent.read()?;
        let new = New { name, legal_id, locale, owner };
        let made = by.exchange.state.organizations.create(&by.caller, new, attempt).await?;
        Answer::stored(&by.exchange, &made)
    }

    /// Read an organization
    #[oai(path = "/:id", method = "get", operation_id = "getOrganization")]
    async fn get(&self, by: By, id: Path<String>) -> Result<Answer<Free>> {
        Answer::stored(&by.exchange, &by.exchange.state.organizations.get(&by.caller, &id).await?)
    }

    /// Change an organization
    #[oai(path = "/:id", method = "patch", operation_id = "changeOrganization")]
    async fn change(&self, by: By, id: Path<String>, sent: Sent<Changed>, request: &Request) -> Result<Answer<Free>> {
        conditions::no_attempt(request)?;
        let rev = conditions::expected_one(request.headers())?;
        let changed = by.exchange.state.organizations.change(&by.caller, &id, sent.data()?, rev).await?;
        Answer::stored(&by.exchange, &changed)
    }
}
