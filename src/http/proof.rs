//! Proof: who calls, established in this one place. A handler that takes [`By`] cannot run without it.

use super::{
    exchange::{self, Exchange, text},
    peer::{self, LocalPeer},
};
use crate::services::{
    Error,
    access::{Caller, Proven, Subject},
    keys::PREFIX,
};
use poem::{FromRequest, Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use std::sync::{Arc, Mutex, PoisonError};

/// Someone proven: a bearer of an access token or of a key, or a process of this machine over the control socket.
pub struct By {
    pub caller: Caller,
    pub exchange: Arc<Exchange>,
}

const SCHEME: &str = "bearer";

/// What a request proves, found out once, before anything is done for it.
pub struct Proof {
    pub subject: Option<Subject>,
    /// Why it proves nothing; told to who needs a proof.
    refusal: Mutex<Option<Error>>,
}

impl Proof {
    /// Finds out, and leaves it with the request.
    pub async fn establish(request: &mut Request, exchange: &Exchange) -> Arc<Self> {
        let (subject, refusal) = match subject(request, exchange).await {
            Ok(subject) => (Some(subject), None),
            Err(error) => (None, Some(error)),
        };
        let proof = Arc::new(Self { subject, refusal: Mutex::new(refusal) });
        request.extensions_mut().insert(proof.clone());
        proof
    }

    fn required(&self) -> std::result::Result<Subject, Error> {
        let refusal = || self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.subject.clone().ok_or_else(|| refusal().unwrap_or(Error::Unauthorized))
    }
}

impl<'a> ApiExtractor<'a> for By {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some("The access token a login or a machine's proof answers with, or an API key."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(SCHEME, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> Result<Self> {
        let exchange = exchange::of(request)?;
        let proof = request.extensions().get::<Arc<Proof>>().ok_or(Error::Unauthorized)?;
        let caller = caller(request, &exchange, proof.required()?).await?;
        let _ = exchange.by.set(caller.clone());
        Ok(Self { caller, exchange })
    }
}

/// Someone proven, or nobody: a proof that is given must hold. For the few public routes that tell the two apart.
pub struct Maybe {
    pub caller: Caller,
    pub exchange: Arc<Exchange>,
}

impl<'a> FromRequest<'a> for Maybe {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let exchange = exchange::of(request)?;
        let proof = request.extensions().get::<Arc<Proof>>().ok_or(Error::Unauthorized)?;
        let subject = match proof.required() {
            Err(Error::Unauthorized) if !request.headers().contains_key("authorization") => Subject::Anonymous,
            proven => proven?,
        };
        Ok(Self { caller: caller(request, &exchange, subject).await?, exchange })
    }
}

/// The caller with the memberships that count now; acting for an organization wants one that says so.
async fn caller(request: &Request, exchange: &Exchange, mut subject: Subject) -> std::result::Result<Caller, Error> {
    let organization = match request.headers().contains_key("x-organization-id") {
        true => Some(text(request.headers(), "x-organization-id").ok_or(Error::Forbidden)?.to_owned()),
        false => None,
    };
    match &mut subject {
        Subject::Identity(proven) => {
            let memberships = exchange.state.identities.memberships();
            proven.memberships = memberships.acting(&proven.id, organization.as_deref()).await?;
        }
        _ if organization.is_some() => return Err(Error::Forbidden),
        _ => {}
    }
    Ok(Caller { organization, ..exchange.caller(subject) })
}

async fn subject(request: &Request, exchange: &Exchange) -> std::result::Result<Subject, Error> {
    if let Some(peer) = request.extensions().get::<LocalPeer>() {
        return Ok(Subject::Local { name: format!("uid {}", peer.uid) });
    }
    let header = text(request.headers(), "authorization").ok_or(Error::Unauthorized)?;
    let (scheme, token) = header.split_once(' ').ok_or(Error::Unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::Unauthorized);
    }
    let token = token.trim();
    if token.starts_with(PREFIX) {
        return Ok(Subject::Identity(exchange.state.keys.verify(token).await?));
    }
    let verified = exchange.state.sessions.verify(token)?;
    if verified.bound.is_some() {
        let (anonymous, shown) = (exchange.caller(Subject::Anonymous), peer::certificate(request));
        exchange.state.sessions.check_binding(&anonymous, &verified, shown.as_ref()).await?;
    }
    let (id, roles) = (verified.identity.clone(), verified.roles.clone());
    Ok(Subject::Identity(match &verified.key {
        Some(key) => Proven::key(id, key.clone(), roles, verified.restriction.clone()),
        None => Proven::session(id, verified.session.clone(), roles),
    }))
}
