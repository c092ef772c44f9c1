//! Headers out: ids, security, caching; and the line of the access log.

use crate::{
    base::{metrics::Exemplar, telemetry::traces::End},
    http::exchange::{Exchange, text},
};
use poem::{
    PathPattern, Request, Response,
    http::{HeaderName, HeaderValue, Method, header, uri::Scheme},
};
use std::time::Duration;
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

/// What the end needs to know of the beginning.
pub struct Arrival {
    method: Method,
    path: String,
    https: bool,
    at: Instant,
}

impl Arrival {
    pub fn of(request: &Request) -> Self {
        let https = *request.scheme() == Scheme::HTTPS;
        let path = request.uri().path().to_owned();
        Self { method: request.method().clone(), path, https, at: Instant::now() }
    }

    /// `known`: whether somebody has proven to ask.
    pub fn leave(self, response: &mut Response, exchange: &Exchange, known: bool) {
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
        let elapsed = self.at.elapsed();
        self.log(response, exchange, elapsed);
        self.remember(
            response,
            exchange,
            End { known, slow: elapsed >= SLOW, failed: response.status().is_server_error() },
        );
    }

    /// Where more is known of it than its figures, its trace's id stands beside them.
    fn remember(&self, response: &mut Response, exchange: &Exchange, end: End) {
        let told = || {
            let route = response.data::<PathPattern>().map_or("unmatched", |pattern| &*pattern.0);
            let status = response.status().as_u16().to_string();
            let mut attributes = vec![
                ("http.request.method", self.method.to_string()),
                ("http.route", route.to_owned()),
                ("http.response.status_code", status.clone()),
            ];
            attributes.extend(end.failed.then_some(("error.type", status)));
            (format!("{} {route}", self.method), attributes)
        };
        let kept = exchange.state.traces.as_ref().is_some_and(|traces| traces.end(&exchange.scope, end, told));
        if kept || end.slow || end.failed {
            response.set_data(Exemplar { trace_id: exchange.trace().to_owned() });
        }
    }

    /// What went well and quickly is for those who look for it: the metrics count it, the journal keeps what it
    /// wrote. The path comes without its query: filters name people.
    fn log(&self, response: &Response, exchange: &Exchange, elapsed: Duration) {
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "access",
                    $level,
                    method = %self.method,
                    path = %self.path,
                    address = exchange.address.map(tracing::field::display),
                    route = response.data::<PathPattern>().map(|pattern| &*pattern.0),
                    status = response.status().as_u16(),
                    micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
                    "answered"
                )
            };
        }
        match response.status().as_u16() < 400 && elapsed < SLOW {
            true => line!(tracing::Level::DEBUG),
            false => line!(tracing::Level::INFO),
        }
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
