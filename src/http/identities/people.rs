//! The routes of people, for whom the policies let.

use crate::{
    http::{
        body::Sent,
        conditions,
        envelope::{Answer, Free},
        proof::By,
        search::search,
        spec::Tag,
    },
    services::{
        Result,
        identities::{Changes, New},
    },
};
use poem::Request;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
};
use serde::Deserialize;
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "AddedPerson")]
struct Added {
    email: Option<String>,
    /// E.164, or a national number where the instance has a country
    phone: Option<String>,
    /// Absent: nobody gets in by a password
    password: Option<String>,
    name: Option<String>,
    /// A language tag: `fr`, `en-GB`
    locale: Option<String>,
}

/// What is given replaces, null takes away. An address or a number is for who manages identities.
#[derive(Object)]
#[oai(rename = "PersonChange")]
struct Changed {
    email: Option<String>,
    phone: Option<String>,
    name: Option<String>,
    locale: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/identities", tag = "Tag::Identity")]
impl Routes {
    /// List people
    #[oai(path = "/", method = "get", operation_id = "searchPeople")]
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
        let found = by.exchange.state.identities.search(&by.caller, &search).await?;
        Answer::page(&by.exchange, &found)
    }

    /// Add a person, without roles over the instance
    #[oai(path = "/", method = "post", operation_id = "createPerson")]
    async fn create(&self, by: By, sent: Sent<Added>, request: &Request) -> Result<Answer<Free, 201>> {
        let attempt = conditions::attempt(request, sent.bytes())?;
        let Added { email, phone, password, name, locale } = sent.read()?;
        let password = password.map(Zeroizing::new);
        let new = New { email, phone, name, locale, password, roles: Vec::new() };
        let person = by.exchange.state.identities.create(&by.caller, new, attempt).await?;
        Answer::stored(&by.exchange, &person)
    }

    /// Read a person
    #[oai(path = "/:id", method = "get", operation_id = "getPerson")]
    async fn get(&self, by: By, id: Path<String>) -> Result<Answer<Free>> {
        Answer::stored(&by.exchange, &by.exchange.state.identities.get(&by.caller, &id).await?)
    }

    /// Change a person
    #[oai(path = "/:id", method = "patch", operation_id = "changePerson")]
    async fn change(&self, by: By, id: Path<String>, sent: Sent<Changed>, request: &Request) -> Result<Answer<Free>> {
        conditions::no_attempt(request)?;
        let rev = conditions::expected_one(request.headers())?;
        let changes = Changes::read(sent.data()?)?;
        let person = by.exchange.state.identities.change_person(&by.caller, &id, changes, rev).await?;
        Answer::stored(&by.exchange, &person)
    }
}
