//! What is known of a request from its head: its ids, its language, the form of JSON it wants.

use super::{State, address};
use crate::{
    base::{
        messages::Language,
        random,
        telemetry::scope::{Parent, Scope},
    },
    domain::bucket::Standing,
    services::{
        Error,
        access::{Caller, Subject},
        limits::Counted,
        throttle::Attempt,
    },
};
use poem::{
    FromRequest, Request, RequestBody, Result,
    http::{HeaderMap, header},
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

pub struct Exchange {
    pub state: Arc<State>,
    /// Its ids, and what is remembered of it.
    pub scope: Arc<Scope>,
    pub language: Language,
    /// Canonical Extended JSON was asked for.
    pub canonical: bool,
    /// Where it comes from, proxies that are trusted left out; none over the control socket.
    pub address: Option<IpAddr>,
    counted: Mutex<Option<Counted>>,
    /// Who has proven to ask, once somebody has.
    pub by: OnceLock<Caller>,
}

/// Only the server says these of a caller; what comes from outside is dropped.
const SAID_BY_THE_SERVER: [&str; 2] = ["x-identity-id", "x-trust-level"];

impl Exchange {
    /// Reads the head and leaves the exchange with the request.
    pub fn open(state: &Arc<State>, request: &mut Request) -> Arc<Self> {
        for name in SAID_BY_THE_SERVER {
            request.headers_mut().remove(name);
        }
        let address = address::of(request, &state.proxies);
        let headers = request.headers();
        let given = text(headers, "x-request-id").and_then(|id| uuid::Uuid::try_parse(id).ok());
        let now = state.clock.now();
        let parent = text(headers, "traceparent").and_then(parent);
        // A UUID, the client's or ours.
        let id = given.map_or_else(|| random::id(now), |id| id.to_string());
        let exchange = Arc::new(Self {
            scope: Scope::new(Some(id), parent, state.traces.as_deref(), now),
            language: language(headers),
            canonical: text(headers, header::ACCEPT.as_str()).is_some_and(|accept| accept.contains("ejson=canonical")),
            address,
            counted: Mutex::default(),
            by: OnceLock::new(),
            state: state.clone(),
        });
        request.extensions_mut().insert(exchange.clone());
        exchange
    }

    pub fn request(&self) -> &str {
        self.scope.request.as_deref().unwrap_or_default()
    }

    pub fn trace(&self) -> &str {
        &self.scope.trace
    }

    pub fn caller(&self, subject: Subject) -> Caller {
        let (request, trace) = (self.request().to_owned(), self.trace().to_owned());
        Caller { subject, organization: None, request, trace, address: self.address }
    }

    /// A try at a proof that names no account: only where it comes from can be held to account.
    pub async fn attempt(&self, purpose: &'static str) -> std::result::Result<Attempt<'_>, Error> {
        let from = self.address.map(|address| address.to_string()).unwrap_or_default();
        self.state.throttle.attempt(purpose, &from, self.address).await
    }

    /// How this request was counted against its caller's limit.
    pub fn counted(&self, counted: Counted) {
        *self.count() = Some(counted);
    }

    /// Counts it for more than one.
    pub fn charge(&self, tokens: u32) {
        if let Some(counted) = self.count().as_mut() {
            self.state.limiter.charge(counted, tokens);
        }
    }

    /// How the caller stands against its limit; `None`: nothing limits it.
    pub fn standing(&self) -> Option<Standing> {
        self.count().map(|counted| counted.standing)
    }

    fn count(&self) -> MutexGuard<'_, Option<Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exchange of a public route.
pub struct Public(pub Arc<Exchange>);

impl<'a> FromRequest<'a> for Public {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        of(request).map(Self)
    }
}

pub fn of(request: &Request) -> Result<Arc<Exchange>> {
    let missing = || std::io::Error::other("a route was called without its gates");
    let exchange = request.extensions().get::<Arc<Exchange>>().cloned();
    exchange.ok_or_else(|| poem::error::InternalServerError(missing()))
}

/// Of ASCII alone, as `HeaderValue::to_str` finds, which looks at tokens of a thousand bytes one by one.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.as_bytes();
    str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

/// `00-TRACE-PARENT-FLAGS`; versions to come only add at the end.
fn parent(header: &str) -> Option<Parent> {
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let sound = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    let alone = version != "00" || parts.next().is_none();
    // The last bit of the flags.
    let sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
    let found = || Parent { trace: trace.to_owned(), span: span.to_owned(), sampled };
    (sound && alone && !zero(trace) && !zero(span)).then(found)
}

/// `X-Locale`, else the best of `Accept-Language` we speak, else French.
fn language(headers: &HeaderMap) -> Language {
    let chosen = text(headers, "x-locale").and_then(Language::from_tag);
    chosen.or_else(|| text(headers, "accept-language").and_then(accepted)).unwrap_or_default()
}

fn accepted(header: &str) -> Option<Language> {
    let mut best: Option<(Language, f32)> = None;
    for part in header.split(',') {
        let mut fields = part.trim().split(';');
        let Some(language) = fields.next().map(str::trim).and_then(Language::from_tag) else { continue };
        let weight = fields.find_map(|field| field.trim().strip_prefix("q=")?.trim().parse().ok()).unwrap_or(1.0);
        if weight > 0.0 && best.is_none_or(|(_, other)| weight > other) {
            best = Some((language, weight));
        }
    }
    best.map(|(language, _)| language)
}

#[cfg(test)]
mod tests {
    use super::*;
    use poem::http::HeaderValue;

    #[test]
    fn a_parent_trace_is_taken_only_when_sound() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let found = |flags| parent(&format!("00-{trace}-00f067aa0ba902b7-{flags}")).unwrap();
        assert_eq!((&*found("01").trace, &*found("01").span), (trace, "00f067aa0ba902b7"));
        assert_eq!((found("01").sampled, found("03").sampled, found("02").sampled), (true, true, false));
        assert!(parent(&format!("cc-{trace}-00f067aa0ba902b7-01-more")).is_some());
        for bad in [
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            "00".to_owned(),
            String::new(),
        ] {
            assert_eq!(parent(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_is_text_where_all_of_it_is_ascii() {
        let mut headers = HeaderMap::new();
        for byte in 0..=u8::MAX {
            let Ok(value) = HeaderValue::from_bytes(&[b'a', byte, b'z']) else { continue };
            headers.insert("x", value.clone());
            assert_eq!(text(&headers, "x"), value.to_str().ok(), "{byte}");
        }
        headers.insert("x", HeaderValue::from_bytes("é".as_bytes()).unwrap());
        assert_eq!((text(&headers, "x"), text(&headers, "y")), (None, None));
    }

    #[test]
    fn the_language_is_the_callers_else_french() {
        let spoken = |locale: Option<&'static str>, accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            locale.map(|locale| headers.insert("x-locale", HeaderValue::from_static(locale)));
            accept.map(|accept| headers.insert("accept-language", HeaderValue::from_static(accept)));
            language(&headers)
        };
        assert_eq!(spoken(None, None), Language::French);
        assert_eq!(spoken(Some("en"), Some("fr")), Language::English);
        assert_eq!(spoken(Some("ln"), Some("en-GB")), Language::English);
        assert_eq!(spoken(None, Some("de, en;q=0.5, fr;q=0.9")), Language::French);
        assert_eq!(spoken(None, Some("fr;q=0, en;q=0.1")), Language::English);
        assert_eq!(spoken(None, Some("ln, sw")), Language::French);
    }
}
