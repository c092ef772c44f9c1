//! The joint between connections and routes: a hyper request in, poem's answer out, measured, and never a panic.

use super::peer::Peer;
use crate::base::metrics::{InFlight, Metrics};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use poem::{
    Addr, Body, Endpoint, EndpointExt, IntoEndpoint, Request, Response,
    endpoint::BoxEndpoint,
    http::{StatusCode, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use std::{
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Everything a listener answers with.
#[derive(Clone)]
pub struct App {
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    metrics: Arc<Metrics>,
    /// The longest silence inside a request's body.
    body_timeout: Duration,
}

impl App {
    pub fn new<E>(endpoint: E, metrics: Arc<Metrics>, body_timeout: Duration) -> Self
    where
        E: IntoEndpoint,
        E::Endpoint: 'static,
    {
        let endpoint = endpoint.map_to_response().boxed();
        Self { endpoint: Arc::new(endpoint), metrics, body_timeout }
    }

    /// `busy` marks the connection as in use until the answer is sent.
    pub async fn answer(&self, request: hyper::Request<Incoming>, peer: Peer, busy: Busy) -> hyper::Response<Answer> {
        let in_flight = self.metrics.begin();
        let start = Instant::now();
        let method = request.method().clone();
        let request = self.request(request, peer);
        let call = AssertUnwindSafe(self.endpoint.get_response(request)).catch_unwind();
        let response = call.await.unwrap_or_else(|_| panicked());
        let route = response.data::<poem::PathPattern>().map(|pattern| pattern.0.clone());
        self.metrics.request(route, method.as_str(), response.status().as_u16(), start.elapsed());
        let response: hyper::Response<BoxBody<Bytes, io::Error>> = response.into();
        response.map(|body| Answer { body, _in_flight: in_flight, _busy: busy })
    }

    fn request(&self, request: hyper::Request<Incoming>, peer: Peer) -> Request {
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
            request.set_body(Body::from(BoxBody::new(Patient::new(body, self.body_timeout))));
        }
        request
    }
}

/// What goes on over one connection.
pub struct Activity {
    opened: Instant,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    /// Milliseconds after `opened`.
    last_end: AtomicU64,
}

impl Activity {
    pub fn new() -> Arc<Self> {
        let (in_flight, requests, last_end) = Default::default();
        Arc::new(Self { opened: Instant::now(), in_flight, requests, last_end })
    }

    pub fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// No request ever arrived whole.
    pub fn fresh(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// How long nothing has been in flight; `None` while something is.
    pub fn idle(&self) -> Option<Duration> {
        let last = Duration::from_millis(self.last_end.load(Ordering::Relaxed));
        (self.in_flight.load(Ordering::Relaxed) == 0).then(|| self.opened.elapsed().saturating_sub(last))
    }
}

pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end.store(now, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The panic itself was logged and counted by the panic hook.
fn panicked() -> Response {
    const BODY: &str =
        r#"{"success":false,"error":{"code":"INTERNAL_ERROR","message":"internal error","details":{}},"meta":{}}"#;
    let mut response =
        Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).content_type("application/json").body(BODY);
    response.extensions_mut().insert(poem::PathPattern("panicked".into()));
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

/// A request's body that ends with an error when its sender falls silent.
struct Patient<B> {
    body: B,
    silence: Duration,
    /// Armed while the reader waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> Patient<B> {
    fn new(body: B, silence: Duration) -> Self {
        Self { body, silence, deadline: None }
    }
}

impl<B> hyper::body::Body for Patient<B>
where
    B: hyper::body::Body<Data = Bytes, Error = io::Error> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.deadline = None;
            return Poll::Ready(frame);
        }
        let silence = self.silence;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        deadline.as_mut().poll(cx).map(|()| Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    #[tokio::test]
    async fn a_silent_body_ends_with_an_error_and_a_slow_one_does_not() {
        let step = Duration::from_millis(30);
        // In all twice the silence allowed.
        let slow = futures_util::stream::unfold(0, move |n| async move {
            tokio::time::sleep(step * 2).await;
            (n < 8).then(|| (Ok(Frame::data(Bytes::from_static(b"x"))), n + 1))
        });
        let body = Patient::new(BoxBody::new(StreamBody::new(Box::pin(slow))), step * 8);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "xxxxxxxx");

        let silent = StreamBody::new(futures_util::stream::pending::<io::Result<Frame<Bytes>>>());
        let error = Patient::new(silent, step * 8).collect().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
