//! The joint between connections and routes: a hyper request in, poem's answer out, measured, and never a panic. How
//! long an answer may take is the routes' own business: see `gates`.

use super::{activity::Busy, peer::Peer};
use crate::base::{
    clock::Stopwatch,
    metrics::{Exemplar, InFlight, Metrics},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming, SizeHint};
use poem::{
    Addr, Endpoint, EndpointExt, IntoEndpoint, PathPattern, Request, Response,
    endpoint::BoxEndpoint,
    http::{StatusCode, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use std::{
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Everything a listener answers with.
#[derive(Clone)]
pub struct App {
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    metrics: Arc<Metrics>,
    /// Whether its requests count: those of operators' tools would hide what others meet with.
    counted: bool,
}

impl App {
    pub fn new<E>(endpoint: E, metrics: Arc<Metrics>) -> Self
    where
        E: IntoEndpoint,
        E::Endpoint: 'static,
    {
        let endpoint = endpoint.map_to_response().boxed();
        Self { endpoint: Arc::new(endpoint), metrics, counted: true }
    }

    pub fn uncounted(self) -> Self {
        Self { counted: false, ..self }
    }

    /// `busy` marks the connection as in use until the answer is sent.
    pub async fn answer(&self, request: hyper::Request<Incoming>, peer: Peer, busy: Busy) -> hyper::Response<Answer> {
        let in_flight = self.metrics.begin();
        let watch = Stopwatch::start();
        let method = request.method().clone();
        let counted = self.counted && !matches!(peer, Peer::Local(_));
        let call = AssertUnwindSafe(self.endpoint.get_response(received(request, peer))).catch_unwind();
        let response = call.await.unwrap_or_else(|_| panicked());
        if counted {
            let route = response.data::<PathPattern>().map(|pattern| pattern.0.clone());
            let exemplar = response.data::<Exemplar>().cloned();
            let status = response.status().as_u16();
            self.metrics.request(route, method.as_str(), status, watch.elapsed(), exemplar);
        }
        let response: hyper::Response<BoxBody<Bytes, io::Error>> = response.into();
        response.map(|body| Answer { body, _in_flight: in_flight, _busy: busy })
    }
}

/// As poem reads it, with where it came from.
fn received(request: hyper::Request<Incoming>, peer: Peer) -> Request {
    match peer {
        Peer::Network { local, remote, tls, .. } => {
            let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
            let (local, remote) = (LocalAddr(Addr::socket(local)), RemoteAddr(Addr::socket(remote)));
            let mut request = Request::from((request, local, remote, scheme));
            request.extensions_mut().insert(peer);
            request
        }
        Peer::Local(process) => {
            let address = Addr::custom("local", format!("uid {}", process.uid));
            let mut request = Request::from((request, LocalAddr::default(), RemoteAddr(address), Scheme::HTTP));
            request.extensions_mut().insert(process);
            request.extensions_mut().insert(peer);
            request
        }
    }
}

/// The panic itself was logged and counted by the panic hook. The envelope, where the routes that know the caller's
/// language cannot speak any more.
fn panicked() -> Response {
    let error = serde_json::json!({ "code": "INTERNAL_ERROR", "message": "internal error", "details": {} });
    let envelope = serde_json::json!({ "success": false, "error": error, "meta": {} });
    let response = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).content_type("application/json");
    let mut response = response.body(envelope.to_string());
    response.extensions_mut().insert(PathPattern("panicked".into()));
    response
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
