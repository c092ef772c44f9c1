//! Headers out: ids, security, caching; and the line of the access log.

use crate::{
    base::{
        metrics::{Exemplar, bounded_method},
        telemetry::{Said, traces::End},
    },
    http::exchange::{Exchange, text},
};
use poem::{
    PathPattern, Request, Response,
    http::{HeaderName, HeaderValue, Method, header, uri::Scheme},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
const SPAN_ID: HeaderName = HeaderName::from_static("x-span-id");

/// Of every answer. Pages that need more say their own policy.
const SECURITY: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Two years, as browsers advise.
const TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=63072000");

/// The service level's 95th percentile.
const SLOW: Duration = Duration::from_millis(500);

/// What the end needs to know of the beginning. Dropped before its answer, the request was given up: its client left, or it
/// was cut at a stop.
pub struct Arrival {
    method: Method,
    path: String,
    https: bool,
    at: Instant,
    exchange: Arc<Exchange>,
    answered: bool,
}

/// As nginx tells of who left before the answer.
const LEFT: u16 = 499;

impl Arrival {
    pub fn of(request: &Request, exchange: &Arc<Exchange>) -> Self {
        let https = *request.scheme() == Scheme::HTTPS;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Self { method, path, https, at: Instant::now(), exchange: exchange.clone(), answered: false }
    }

    /// `known`: whether somebody has proven to ask.
    pub fn leave(mut self, response: &mut Response, known: bool) {
        self.answered = true;
        let exchange = &self.exchange;
        let headers = response.headers_mut();
        let ids = [(REQUEST_ID, exchange.request()), (TRACE_ID, exchange.trace()), (SPAN_ID, &exchange.scope.span)];
        for (name, value) in ids {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        for (name, value) in SECURITY {
            headers.insert(name, value);
        }
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
        headers.entry(header::CACHE_CONTROL).or_insert(NO_STORE);
        if self.https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, TRANSPORT);
        }
        let (elapsed, status) = (self.at.elapsed(), response.status());
        let route = response.data::<PathPattern>().map(|pattern| pattern.0.clone());
        self.log((status.as_u16(), route.as_deref()), elapsed);
        let end = End { known, slow: elapsed >= SLOW, failed: status.is_server_error() };
        // Where more is known of it than its figures, its trace's id stands beside them.
        if self.remember((status.as_u16(), route.as_deref()), end) || end.slow || end.failed {
            response.set_data(Exemplar { trace_id: self.exchange.trace().to_owned() });
        }
    }

    /// Whether its trace is kept.
    fn remember(&self, (status, route): (u16, Option<&str>), end: End) -> bool {
        let told = || {
            let (method, status) = (bounded_method(self.method.as_str()), u64::from(status));
            let mut attributes: Vec<(_, Said)> =
                vec![("http.request.method", method.into()), ("http.response.status_code", status.into())];
            attributes.extend(end.failed.then(|| ("error.type", status.to_string().into())));
            // A path that is no route may hold anything.
            match route {
                Some(route) => {
                    attributes.push(("http.route", route.into()));
                    (format!("{method} {route}"), attributes)
                }
                None => (method.to_owned(), attributes),
            }
        };
        self.exchange.state.traces.as_ref().is_some_and(|traces| traces.end(&self.exchange.scope, end, told))
    }

    /// What went well and quickly is for those who look for it: the metrics count it, the journal keeps what it
    /// wrote. The path comes without its query: filters name people.
    fn log(&self, (status, route): (u16, Option<&str>), elapsed: Duration) {
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "access",
                    $level,
                    method = %self.method,
                    path = %self.path,
                    address = self.exchange.address.map(tracing::field::display),
                    route,
                    status,
                    micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                    "answered"
                )
            };
        }
        match status < 400 && elapsed < SLOW {
            true => line!(tracing::Level::DEBUG),
            false => line!(tracing::Level::INFO),
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let elapsed = self.at.elapsed();
        self.log((LEFT, None), elapsed);
        let end = End { known: self.exchange.by.get().is_some(), slow: elapsed >= SLOW, failed: false };
        self.remember((LEFT, None), end);
    }
}

/// Whether the caller takes any kind of answer the API has.
pub fn acceptable(request: &Request) -> bool {
    const KINDS: [&str; 4] = ["*/*", "application/*", "application/json", "application/x-ndjson"];
    let Some(accept) = text(request.headers(), "accept").filter(|_| request.uri().path().starts_with("/api/")) else {
        return true;
    };
    accept.split(',').any(|kind| {
        let mut fields = kind.split(';').map(str::trim);
        let essence = fields.next().unwrap_or_default().to_ascii_lowercase();
        let refused = fields.any(|field| field.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
        KINDS.contains(&essence.as_str()) && !refused
    })
}
