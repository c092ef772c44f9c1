//! The joint between connections and routes: a hyper request in, poem's answer out, measured, and never a panic.

use super::{activity::Busy, peer::Peer};
use crate::base::{
    clock::Stopwatch,
    metrics::{InFlight, Metrics},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use poem::{
    Addr, Body, Endpoint, EndpointExt, IntoEndpoint, PathPattern, Request, Response,
    endpoint::BoxEndpoint,
    http::{HeaderValue, StatusCode, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use std::{
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

/// Everything a listener answers with.
#[derive(Clone)]
pub struct App {
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    metrics: Arc<Metrics>,
    /// For a request to be answered, counted anew whenever some of its body arrives.
    patience: Duration,
}

impl App {
    pub fn new<E>(endpoint: E, metrics: Arc<Metrics>, patience: Duration) -> Self
    where
        E: IntoEndpoint,
        E::Endpoint: 'static,
    {
        let endpoint = endpoint.map_to_response().boxed();
        Self { endpoint: Arc::new(endpoint), metrics, patience }
    }

    /// `busy` marks the connection as in use until the answer is sent.
    pub async fn answer(&self, request: hyper::Request<Incoming>, peer: Peer, busy: Busy) -> hyper::Response<Answer> {
        let in_flight = self.metrics.begin();
        let watch = Stopwatch::start();
        let progress = Arc::new(AtomicU64::new(0));
        let method = request.method().clone();
        let request = self.request(request, peer, watch, &progress);
        let call = AssertUnwindSafe(self.endpoint.get_response(request)).catch_unwind();
        let response = tokio::select! {
            biased;
            answered = call => answered.unwrap_or_else(|_| panicked()),
            () = self.stalled(watch, &progress) => too_late(),
        };
        let route = response.data::<PathPattern>().map(|pattern| pattern.0.clone());
        self.metrics.request(route, method.as_str(), response.status().as_u16(), watch.elapsed());
        let response: hyper::Response<BoxBody<Bytes, io::Error>> = response.into();
        response.map(|body| Answer { body, _in_flight: in_flight, _busy: busy })
    }

    /// Resolves once nothing has moved for too long.
    async fn stalled(&self, watch: Stopwatch, progress: &AtomicU64) {
        loop {
            let since = Duration::from_millis(watch.millis().saturating_sub(progress.load(Ordering::Relaxed)));
            match self.patience.checked_sub(since) {
                Some(rest) if !rest.is_zero() => tokio::time::sleep(rest).await,
                _ => return,
            }
        }
    }

    fn request(
        &self,
        request: hyper::Request<Incoming>,
        peer: Peer,
        watch: Stopwatch,
        progress: &Arc<AtomicU64>,
    ) -> Request {
        let empty = request.body().is_end_stream();
        let mut request = match peer {
            Peer::Network { local, remote, tls } => {
                let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
                let (local, remote) = (LocalAddr(Addr::socket(local)), RemoteAddr(Addr::socket(remote)));
                Request::from((request, local, remote, scheme))
            }
            Peer::Local(process) => {
                let address = Addr::custom("local", format!("uid {}", process.uid));
                let mut request = Request::from((request, LocalAddr::default(), RemoteAddr(address), Scheme::HTTP));
                request.extensions_mut().insert(process);
                request
            }
        };
        if !empty {
            let body: BoxBody<Bytes, io::Error> = request.take_body().into();
            request.set_body(Body::from(BoxBody::new(Moving { body, watch, progress: progress.clone() })));
        }
        request
    }
}

/// The panic itself was logged and counted by the panic hook.
fn panicked() -> Response {
    let mut response = failure(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "internal error");
    response.extensions_mut().insert(PathPattern("panicked".into()));
    response
}

/// Not answered in time; what it asked for may still happen.
fn too_late() -> Response {
    tracing::warn!("a request was not answered in time");
    let mut response = failure(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "not answered in time");
    response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    response.extensions_mut().insert(PathPattern("late".into()));
    response
}

/// The envelope, where the routes that know the caller's language cannot speak any more.
fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    let error = serde_json::json!({ "code": code, "message": message, "details": {} });
    let envelope = serde_json::json!({ "success": false, "error": error, "meta": {} });
    Response::builder().status(status).content_type("application/json").body(envelope.to_string())
}

/// An answer's body, in flight until it is sent or given up.
pub struct Answer {
    body: BoxBody<Bytes, io::Error>,
    _in_flight: InFlight,
    _busy: Busy,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body that tells when some of it arrives.
struct Moving<B> {
    body: B,
    watch: Stopwatch,
    /// Milliseconds after the request's start.
    progress: Arc<AtomicU64>,
}

impl<B> hyper::body::Body for Moving<B>
where
    B: hyper::body::Body<Data = Bytes, Error = io::Error> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.progress.store(self.watch.millis(), Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
