//! The routes of proof: login, refresh, logout, sessions. Their answers are never kept for a retry.

use super::{body::Sent, conditions, envelope::Answer, exchange::Public, mfa, proof::By, spec::Tag};
use crate::{
    http::exchange::text,
    services::{
        Result,
        access::{Proven, Subject},
        mfa::Method,
        sessions::{Granted, Session},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
struct Login {
    /// An e-mail address, or a telephone number
    email: String,
    password: String,
    /// Of the authenticator app, by who knows it will be asked for
    code: Option<String>,
    recovery_code: Option<String>,
    /// What the client calls itself
    device: Option<String>,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct OwnPassword {
    current: String,
    new: String,
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
pub(super) struct Tokens {
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
    /// `PERSON` or `MACHINE`
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    /// A machine is known by it
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
pub(super) struct OpenSession {
    #[serde(rename = "_id")]
    #[oai(rename = "_id")]
    id: String,
    /// What the client calls itself
    device: String,
    /// Unix seconds
    expires_at: i64,
    /// Unix seconds
    opened_at: i64,
    /// Unix seconds, to ten minutes
    last_used_at: i64,
    /// The network it was opened from, where it is known
    network: Option<String>,
    /// How it was proven, in the words of RFC 8176
    methods: Vec<String>,
    /// The session that asks
    current: bool,
}

#[derive(Serialize, Object)]
pub(super) struct Ended {
    pub ended: bool,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Authentication")]
impl Routes {
    /// Open a session. `AUTH_MFA_REQUIRED` when a second factor is owed: its details say what to do
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, public: Public, sent: Sent<Login>, request: &Request) -> Result<Answer<Tokens>> {
        let (exchange, Login { email, password, code, recovery_code, device: named }) = (public.0, sent.read()?);
        let password = Zeroizing::new(password);
        let answer = mfa::answer(code, recovery_code)?;
        let caller = exchange.caller(Subject::Anonymous);
        let identity = exchange.state.identities.prove(&caller, &email, password).await?;
        let device = device(named.as_deref(), request);
        let granted = exchange.state.mfa.admit(&caller, identity, device, &[Method::Pwd], answer).await?;
        Answer::value(&exchange, &Tokens::from(granted))
    }

    /// Trade a refresh token for new tokens
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(&self, public: Public, sent: Sent<Refresh>) -> Result<Answer<Tokens>> {
        let (exchange, Refresh { refresh_token }) = (public.0, sent.read()?);
        let refresh_token = Zeroizing::new(refresh_token);
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

    /// Set the caller's own password; the other sessions end
    #[oai(path = "/password", method = "put", operation_id = "changeOwnPassword")]
    async fn password(&self, by: By, sent: Sent<OwnPassword>, request: &Request) -> Result<Answer<Ended>> {
        conditions::no_attempt(request)?;
        let OwnPassword { current, new } = sent.read()?;
        let (current, new) = (Zeroizing::new(current), Zeroizing::new(new));
        by.exchange.state.identities.change_own_password(&by.caller, current, new).await?;
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

/// What the client calls itself: in the body, else in a header.
pub(super) fn device<'a>(named: Option<&'a str>, request: &'a Request) -> &'a str {
    let header = || ["x-device-id", "user-agent"].into_iter().find_map(|name| text(request.headers(), name));
    named.or_else(header).unwrap_or_default()
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
            kind: identity.kind.name().to_owned(),
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
    pub(super) fn of(session: Session, current: &str) -> Self {
        Self {
            current: session.id == current,
            id: session.id,
            device: session.device,
            expires_at: session.expires.seconds(),
            opened_at: session.opened.seconds(),
            last_used_at: session.used.seconds(),
            network: session.network,
            methods: session.methods.iter().map(|method| method.name().to_owned()).collect(),
        }
    }
}
