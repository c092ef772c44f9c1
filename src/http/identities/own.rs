//! The routes of one's own identity.

use crate::{
    http::{
        body::Sent,
        conditions,
        envelope::{Answer, Free},
        proof::By,
        spec::Tag,
    },
    services::{
        Error, Result,
        access::{Caller, Membership, Subject},
        identities::Changes,
    },
};
use bson::{RawArrayBuf, RawBsonRef, RawDocumentBuf, rawdoc};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use zeroize::Zeroizing;

pub struct Routes;

/// What is given replaces, null takes away.
#[derive(Object)]
#[oai(rename = "OwnChange")]
struct Changed {
    name: Option<String>,
    locale: Option<String>,
    /// With the password: it is a way in
    email: Option<String>,
    /// With the password: it is a way in
    phone: Option<String>,
    /// The caller's own, for another address or number
    password: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/me", tag = "Tag::Identity")]
impl Routes {
    /// The caller's own identity, with its memberships
    #[oai(path = "/", method = "get", operation_id = "getOwnIdentity")]
    async fn get(&self, by: By) -> Result<Answer<Free>> {
        let person = by.exchange.state.identities.own(&by.caller).await?;
        Answer::stored(&by.exchange, &with_memberships(person, &by.caller))
    }

    /// Change one's name, language, address or number
    ///
    /// Where mail can be sent, another address waits as `pendingEmail` until the letter's link is opened.
    #[oai(path = "/", method = "patch", operation_id = "changeOwnIdentity")]
    async fn change(&self, by: By, sent: Sent<Changed>, request: &Request) -> Result<Answer<Free>> {
        conditions::no_attempt(request)?;
        let rev = conditions::expected_one(request.headers())?;
        let (password, rest) = apart(&sent)?;
        let verifications = &by.exchange.state.verifications;
        let changes = Changes::read(&rest)?;
        let (mut person, pending) = verifications.change_own(&by.caller, changes, password, rev).await?;
        if let Some(email) = pending {
            person.append(bson::cstr!("pendingEmail"), email);
        }
        Answer::stored(&by.exchange, &with_memberships(person, &by.caller))
    }
}

/// The password given, and what is to be changed.
fn apart(sent: &Sent<Changed>) -> Result<(Option<Zeroizing<String>>, RawDocumentBuf)> {
    let (mut password, mut rest) = (None, RawDocumentBuf::new());
    for (name, value) in sent.data()?.iter().flatten() {
        match (name.as_str(), value) {
            ("password", RawBsonRef::String(text)) => password = Some(Zeroizing::new(text.to_owned())),
            ("password", _) => {
                return Err(Error::Invalid(crate::base::fault::Fault::new("identities.text").at("password")));
            }
            _ => rest.append(name, value),
        }
    }
    Ok((password, rest))
}

fn with_memberships(mut person: RawDocumentBuf, caller: &Caller) -> RawDocumentBuf {
    let mut memberships = RawArrayBuf::new();
    if let Subject::Identity(proven) = &caller.subject {
        for Membership { organization, role } in proven.memberships.iter() {
            memberships.push(rawdoc! { "organization": organization.as_str(), "role": role.name() });
        }
    }
    person.append(bson::cstr!("memberships"), memberships);
    person
}
