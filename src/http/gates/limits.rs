//! Who calls, how often, and what the answer says of it: `X-RateLimit-*`, `X-Identity-Id`, `X-Trust-Level`.

use crate::{
    domain::trust::Event,
    http::{exchange::Exchange, peer::LocalPeer},
    services::{
        Error, Result,
        access::{Proven, Subject},
        limits::Holder,
    },
};
use poem::{
    Request, Response,
    http::{HeaderName, HeaderValue, StatusCode},
};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const IDENTITY: HeaderName = HeaderName::from_static("x-identity-id");
const LEVEL: HeaderName = HeaderName::from_static("x-trust-level");

/// A proven identity, as the answer names it.
pub struct Known {
    identity: String,
    level: u8,
}

impl Known {
    pub fn of(subject: Option<&Subject>, exchange: &Exchange) -> Option<Self> {
        match subject {
            Some(Subject::Identity(Proven { id, .. })) => {
                Some(Self { identity: id.clone(), level: exchange.state.trust.level(id) })
            }
            _ => None,
        }
    }
}

/// Counts a request of the API before anything is done for it. The control socket is not limited: operators get in.
pub fn admit(request: &Request, exchange: &Exchange, known: Option<&Known>) -> Result<()> {
    let path = request.uri().path();
    if !path.starts_with("/api/") || request.extensions().get::<LocalPeer>().is_some() {
        return Ok(());
    }
    let (holder, level) = match known {
        Some(known) => (Holder::Identity(&known.identity), Some(known.level)),
        None => (Holder::Address(exchange.address), None),
    };
    let Some(counted) = exchange.state.limiter.count(holder, level, request.method().as_str(), path) else {
        return Ok(());
    };
    exchange.counted(counted);
    match counted.standing.retry_after {
        None => Ok(()),
        Some(retry_after) => {
            if let Some(known) = known {
                exchange.state.trust.note(&known.identity, Event::RateLimited);
            }
            Err(Error::RateLimit { retry_after })
        }
    }
}

pub fn tell(response: &mut Response, exchange: &Exchange, known: Option<&Known>) {
    let denied = response.status() == StatusCode::FORBIDDEN;
    let headers = response.headers_mut();
    if let Some(standing) = exchange.standing() {
        headers.insert(LIMIT, standing.limit.into());
        headers.insert(REMAINING, standing.remaining.into());
        headers.insert(RESET, standing.reset.into());
    }
    let Some(known) = known else { return };
    if let Ok(identity) = HeaderValue::try_from(known.identity.as_str()) {
        headers.insert(IDENTITY, identity);
    }
    headers.insert(LEVEL, u16::from(known.level).into());
    if denied {
        exchange.state.trust.note(&known.identity, Event::Denied);
    }
}
