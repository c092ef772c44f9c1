//! The routes of memberships.

use super::{
    body::Sent,
    conditions,
    envelope::{Answer, Free},
    proof::By,
    search::search,
    spec::Tag,
};
use crate::{
    base::fault::Fault,
    services::{Error, Result, access::MemberRole},
};
use poem::Request;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use serde::Deserialize;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "AddedMembership")]
struct Made {
    /// Id of the person
    person: String,
    /// Id of the organization
    organization: String,
    /// `OWNER`, `ADMIN`, `STAFF`, `MEMBER`
    role: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "MembershipChange")]
struct Changed {
    /// `OWNER`, `ADMIN`, `STAFF`, `MEMBER`
    role: String,
}

#[OpenApi(prefix_path = "/api/v1/memberships", tag = "Tag::Identity")]
impl Routes {
    /// List memberships, those that ended included
    #[oai(path = "/", method = "get", operation_id = "listMemberships")]
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
        let found = by.exchange.state.identities.memberships().list(&by.caller, &search).await?;
        Answer::page(&by.exchange, &found)
    }

    /// Make a person a member
    #[oai(path = "/", method = "post", operation_id = "createMembership")]
    async fn create(&self, by: By, sent: Sent<Made>, request: &Request) -> Result<Answer<Free, 201>> {
        let attempt = conditions::attempt(request, sent.bytes())?;
        let Made { person, organization, role } = sent.read()?;
        let memberships = by.exchange.state.identities.memberships();
        let made = memberships.add(&by.caller, &person, &organization, read_role(&role)?, attempt).await?;
        Answer::stored(&by.exchange, &made)
    }

    /// Read a membership
    #[oai(path = "/:id", method = "get", operation_id = "getMembership")]
    async fn get(&self, by: By, id: Path<String>) -> Result<Answer<Free>> {
        Answer::stored(&by.exchange, &by.exchange.state.identities.memberships().get(&by.caller, &id).await?)
    }

    /// Give a member another role
    #[oai(path = "/:id", method = "patch", operation_id = "changeMembership")]
    async fn change(&self, by: By, id: Path<String>, sent: Sent<Changed>, request: &Request) -> Result<Answer<Free>> {
        conditions::no_attempt(request)?;
        let rev = conditions::expected_one(request.headers())?;
        let Changed { role } = sent.read()?;
        let memberships = by.exchange.state.identities.memberships();
        Answer::stored(&by.exchange, &memberships.change(&by.caller, &id, read_role(&role)?, rev).await?)
    }

    /// End a membership; it stays in the history
    #[oai(path = "/:id", method = "delete", operation_id = "endMembership")]
    async fn end(&self, by: By, id: Path<String>, request: &Request) -> Result<Answer<Free>> {
        let rev = conditions::expected_one(request.headers())?;
        let ended = by.exchange.state.identities.memberships().end(&by.caller, &id, rev).await?;
        Answer::stored(&by.exchange, &ended)
    }
}

pub fn read_role(name: &str) -> Result<MemberRole> {
    let unknown = || Error::Invalid(Fault::new("memberships.role").at("role").with("role", name));
    MemberRole::from_name(name).ok_or_else(unknown)
}
