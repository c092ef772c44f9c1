//! The routes of people: an operator's, anyone's by policy, one's own; accounts registered and imported.

mod import;
mod own;
mod people;
mod register;

pub use import::Routes as Importing;
pub use own::Routes as Own;
pub use people::Routes as People;
pub use register::Routes as Registering;

use super::{
    auth::{Ended, OpenSession, Person},
    body::Sent,
    conditions,
    envelope::Answer,
    proof::By,
    spec::Tag,
};
use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        access::Role,
        identities::{New, Status},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::Deserialize;
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct NewPerson {
    email: Option<String>,
    /// E.164, or a national number where the instance has a country
    phone: Option<String>,
    password: String,
    name: Option<String>,
    /// A language tag: `fr`, `en-GB`
    locale: Option<String>,
    /// `admin`, `operator`, `auditor`
    #[serde(default)]
    roles: Vec<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    password: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct NewStatus {
    /// `active` or `disabled`
    status: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct NewRoles {
    /// `admin`, `operator`, `auditor`
    roles: Vec<String>,
}

#[OpenApi(prefix_path = "/api/v1/admin/identities", tag = "Tag::Administration")]
impl Routes {
    /// Add a person
    #[oai(path = "/", method = "post", operation_id = "addIdentity")]
    async fn add(&self, by: By, sent: Sent<NewPerson>, request: &Request) -> Result<Answer<Person, 201>> {
        let attempt = conditions::attempt(request, sent.bytes())?;
        let NewPerson { email, phone, password, name, locale, roles } = sent.read()?;
        let (password, roles) = (Some(Zeroizing::new(password)), read_roles(&roles)?);
        let new = New { email, phone, name, locale, password, roles };
        let identity = by.exchange.state.identities.add_once(&by.caller, new, attempt).await?;
        Answer::value(&by.exchange, &Person::from(&identity))
    }

    /// List the people
    #[oai(path = "/", method = "get", operation_id = "listIdentities")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Person>>> {
        let all = by.exchange.state.identities.list(&by.caller).await?;
        Answer::value(&by.exchange, &all.iter().map(Person::from).collect::<Vec<_>>())
    }

    /// Look somebody up; `who` is an id, an email or a phone
    #[oai(path = "/:who", method = "get", operation_id = "lookUpIdentity")]
    async fn look_up(&self, by: By, who: Path<String>) -> Result<Answer<Person>> {
        let identity = by.exchange.state.identities.look_up(&by.caller, &who).await?;
        Answer::value(&by.exchange, &Person::from(&identity))
    }

    /// Set a person's password and end their sessions; `who` is an id or an email
    #[oai(path = "/:who/password", method = "put", operation_id = "changePassword")]
    async fn password(
        &self,
        by: By,
        who: Path<String>,
        sent: Sent<NewPassword>,
        request: &Request,
    ) -> Result<Answer<Person>> {
        conditions::no_attempt(request)?;
        let NewPassword { password } = sent.read()?;
        let identities = &by.exchange.state.identities;
        let identity = identities.change_password(&by.caller, &who, Zeroizing::new(password)).await?;
        Answer::value(&by.exchange, &Person::from(&identity))
    }

    /// Take every second factor from a person who lost theirs and end their sessions; `who` is an id or an email
    #[oai(path = "/:who/factors", method = "delete", operation_id = "resetFactors")]
    async fn factors(&self, by: By, who: Path<String>) -> Result<Answer<Person>> {
        let identity = by.exchange.state.mfa.reset(&by.caller, &who).await?;
        Answer::value(&by.exchange, &Person::from(&identity))
    }

    /// A person's open sessions; `who` is an id or an email
    #[oai(path = "/:who/sessions", method = "get", operation_id = "listSessionsOf")]
    async fn sessions(&self, by: By, who: Path<String>) -> Result<Answer<Vec<OpenSession>>> {
        let sessions = by.exchange.state.identities.sessions(&by.caller, &who).await?;
        let open: Vec<_> = sessions.into_iter().map(|session| OpenSession::of(session, "")).collect();
        Answer::value(&by.exchange, &open)
    }

    /// End every session of a person; `who` is an id or an email
    #[oai(path = "/:who/sessions", method = "delete", operation_id = "endSessionsOf")]
    async fn end_sessions(&self, by: By, who: Path<String>) -> Result<Answer<Ended>> {
        by.exchange.state.identities.end_sessions(&by.caller, &who, None).await?;
        Answer::value(&by.exchange, &Ended { ended: true })
    }

    /// End one session of a person; `who` is an id or an email
    #[oai(path = "/:who/sessions/:session", method = "delete", operation_id = "endSessionOf")]
    async fn end_session(&self, by: By, who: Path<String>, session: Path<String>) -> Result<Answer<Ended>> {
        by.exchange.state.identities.end_sessions(&by.caller, &who, Some(&session)).await?;
        Answer::value(&by.exchange, &Ended { ended: true })
    }

    /// Disable or enable a person; `who` is an id or an email
    #[oai(path = "/:who/status", method = "put", operation_id = "changeStatus")]
    async fn status(&self, by: By, who: Path<String>, sent: Sent<NewStatus>) -> Result<Answer<Person>> {
        let NewStatus { status } = sent.read()?;
        let unknown = || Error::Invalid(Fault::new("identities.status").at("status").with("status", &status));
        let status = Status::from_name(&status).ok_or_else(unknown)?;
        let identity = by.exchange.state.identities.set_status(&by.caller, &who, status).await?;
        Answer::value(&by.exchange, &Person::from(&identity))
    }
    /// Give a person other roles over the instance and end their sessions; `who` is an id, an email or a phone
    #[oai(path = "/:who/roles", method = "put", operation_id = "changeRoles")]
    async fn roles(&self, by: By, who: Path<String>, sent: Sent<NewRoles>) -> Result<Answer<Person>> {
        let NewRoles { roles } = sent.read()?;
        let identity = by.exchange.state.identities.set_roles(&by.caller, &who, read_roles(&roles)?).await?;
        Answer::value(&by.exchange, &Person::from(&identity))
    }
}

fn read_roles(names: &[String]) -> Result<Vec<Role>> {
    let unknown = |name: &str| Error::Invalid(Fault::new("identities.role").at("roles").with("role", name));
    names.iter().map(|name| Role::from_name(name).ok_or_else(|| unknown(name))).collect()
}
