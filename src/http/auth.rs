//! The routes of proof: login, refresh, logout, sessions. Their answers are never kept for a retry.

use super::{body::Sent, envelope::Answer, exchange::Public, proof::By, spec::Tag};
use crate::{
    http::exchange::text,
    services::{
        Result,
        access::{Proven, Subject},
        sessions::{Granted, Session},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Login {
    /// An e-mail address, or a telephone number
    email: String,
    password: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Tokens {
    access_token: String,
    /// Good for one use
    refresh_token: String,
    /// Seconds the access token lives
    expires_in: i64,
    identity: Person,
}

#[derive(Serialize, Object)]
pub(super) struct Person {
    _id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    roles: Vec<String>,
    status: String,
}

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct OpenSession {
    #[serde(rename = "_id")]
    #[oai(rename = "_id")]
    id: String,
    /// What the client calls itself
    device: String,
    /// Unix seconds
    expires_at: i64,
    /// The session that asks
    current: bool,
}

#[derive(Serialize, Object)]
struct Ended {
    ended: bool,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Authentication")]
impl Routes {
    /// Open a session
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, public: Public, sent: Sent<Login>, request: &Request) -> Result<Answer<Tokens>> {
        let (exchange, Login { email, password }) = (public.0, sent.read()?);
        let identity = exchange.state.identities.prove(&email, Zeroizing::new(password)).await?;
        let device = ["x-device-id", "user-agent"].into_iter().find_map(|name| text(request.headers(), name));
        let caller = exchange.caller(Subject::Anonymous);
        let granted = exchange.state.sessions.open(&caller, identity, device.unwrap_or_default()).await?;
        Answer::value(&exchange, &Tokens::from(granted))
    }

    /// Trade a refresh token for new tokens
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(&self, public: Public, sent: Sent<Refresh>) -> Result<Answer<Tokens>> {
        let (exchange, Refresh { refresh_token }) = (public.0, sent.read()?);
        let caller = exchange.caller(Subject::Anonymous);
        let granted = exchange.state.sessions.refresh(&caller, &refresh_token).await?;
        Answer::value(&exchange, &Tokens::from(granted))
    }

    /// End this session
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, by: By) -> Result<Answer<Ended>> {
        by.exchange.state.sessions.end(&by.caller, None).await?;
        Answer::value(&by.exchange, &Ended { ended: true })
    }

    /// End every session of the caller
    #[oai(path = "/logout-all", method = "post", operation_id = "logoutAll")]
    async fn logout_all(&self, by: By) -> Result<Answer<Ended>> {
        by.exchange.state.sessions.end_own(&by.caller).await?;
        Answer::value(&by.exchange, &Ended { ended: true })
    }

    /// The caller's open sessions
    #[oai(path = "/sessions", method = "get", operation_id = "listSessions")]
    async fn sessions(&self, by: By) -> Result<Answer<Vec<OpenSession>>> {
        let current = match &by.caller.subject {
            Subject::Identity(Proven { session: Some(session), .. }) => session.as_str(),
            _ => "",
        };
        let sessions = by.exchange.state.sessions.list(&by.caller).await?;
        let open: Vec<_> = sessions.into_iter().map(|session| OpenSession::of(session, current)).collect();
        Answer::value(&by.exchange, &open)
    }

    /// End one of the caller's sessions
    #[oai(path = "/sessions/:id", method = "delete", operation_id = "endSession")]
    async fn end(&self, by: By, id: Path<String>) -> Result<Answer<Ended>> {
        by.exchange.state.sessions.end(&by.caller, Some(&id)).await?;
        Answer::value(&by.exchange, &Ended { ended: true })
    }
}

impl From<Granted> for Tokens {
    fn from(granted: Granted) -> Self {
        Self {
            access_token: granted.access,
            refresh_token: granted.refresh,
            expires_in: granted.expires_in,
            identity: Person::from(&granted.identity),
        }
    }
}

impl From<&crate::services::identities::Identity> for Person {
    fn from(identity: &crate::services::identities::Identity) -> Self {
        Self {
            _id: identity.id.clone(),
            email: identity.email.clone(),
            phone: identity.phone.clone(),
            name: identity.name.clone(),
            locale: identity.locale.clone(),
            roles: identity.roles.iter().map(|role| role.name().to_owned()).collect(),
            status: identity.status.name().to_owned(),
        }
    }
}

impl OpenSession {
    fn of(session: Session, current: &str) -> Self {
        let Session { id, device, expires, .. } = session;
        Self { current: id == current, id, device, expires_at: expires.seconds() }
    }
}
