//! The routes of invitations.

use super::{
    body::Sent,
    conditions,
    envelope::{Answer, Free},
    memberships::read_role,
    proof::{By, Maybe},
    search::search,
    spec::Tag,
};
use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        invitations::{Account, Invited},
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
#[oai(rename = "AddedInvitation")]
struct Made {
    /// Id of the organization
    organization: String,
    /// `OWNER`, `ADMIN`, `STAFF`, `MEMBER`
    role: String,
    /// Whom to invite: this, or a person
    email: Option<String>,
    /// Id of a person who has an account
    person: Option<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(rename = "Acceptance")]
struct Accepted {
    token: String,
    /// Of who has no account yet
    name: Option<String>,
    password: Option<String>,
    /// A language tag: `fr`, `en-GB`
    locale: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/invitations", tag = "Tag::Identity")]
impl Routes {
    /// List invitations
    #[oai(path = "/", method = "get", operation_id = "listInvitations")]
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
        let found = by.exchange.state.invitations.list(&by.caller, &search).await?;
        Answer::page(&by.exchange, &found)
    }

    /// Invite someone into an organization
    ///
    /// The answer holds the `token` to hand over, this once: good for one use, within seven days.
    #[oai(path = "/", method = "post", operation_id = "createInvitation")]
    async fn create(&self, by: By, sent: Sent<Made>, request: &Request) -> Result<Answer<Free, 201>> {
        conditions::no_attempt(request)?;
        let Made { organization, role, email, person } = sent.read()?;
        let invited = match (email, person) {
            (Some(email), None) => Invited::Email(email),
            (None, Some(person)) => Invited::Person(person),
            _ => return Err(Error::Invalid(Fault::new("invitations.whom").at("email"))),
        };
        let invitations = &by.exchange.state.invitations;
        let mut made = invitations.create(&by.caller, &organization, read_role(&role)?, invited).await?;
        made.document.append(bson::cstr!("token"), made.token.as_str());
        Answer::stored(&by.exchange, &made.document)
    }

    /// Take an invitation back
    #[oai(path = "/:id", method = "delete", operation_id = "revokeInvitation")]
    async fn revoke(&self, by: By, id: Path<String>) -> Result<Answer<Free>> {
        Answer::stored(&by.exchange, &by.exchange.state.invitations.revoke(&by.caller, &id).await?)
    }

    /// Accept an invitation, as the person invited or with a new account
    ///
    /// With a proof of identity: as that person. Without, where the address invited has no account: `name` and
    /// `password` make one.
    #[oai(path = "/accept", method = "post", operation_id = "acceptInvitation")]
    async fn accept(&self, maybe: Maybe, sent: Sent<Accepted>, request: &Request) -> Result<Answer<Free, 201>> {
        conditions::no_attempt(request)?;
        let Accepted { token, name, password, locale } = sent.read()?;
        let account = match (name, password) {
            (Some(name), Some(password)) => Some(Account { name, password: Zeroizing::new(password), locale }),
            _ => None,
        };
        let token = Zeroizing::new(token);
        let member = maybe.exchange.state.invitations.accept(&maybe.caller, &token, account).await?;
        Answer::stored(&maybe.exchange, &member)
    }
}
