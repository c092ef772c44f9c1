//! One connection from its first request to its last, over HTTP/1 or HTTP/2, with a bound on every wait.

use super::{LAST, Limits, admission::Ticket};
use crate::{
    base::stop::Stop,
    http::{activity::Activity, peer::Peer, serve::App},
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, timeout},
};

const MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: usize = 32 * 1024;
const READ_BUFFER: usize = 64 * 1024;
const PING_EVERY: Duration = Duration::from_secs(20);

/// What a connection is about.
pub(super) struct Talk {
    pub protocol: Protocol,
    pub app: App,
    pub peer: Peer,
    pub activity: Arc<Activity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

pub(super) async fn serve<S>(stream: S, talk: Talk, limits: &Limits, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Talk { protocol, app, peer, activity } = talk;
    let seen = activity.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (app, busy) = (app.clone(), activity.begin());
        async move { Ok::<_, Infallible>(app.answer(request, peer, busy).await) }
    });
    let io = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 => {
            let waits = (Some(limits.head), limits.idle);
            let connection = hyper::server::conn::http1::Builder::new()
                // Ours also tells a slow head from a long pause.
                .header_read_timeout(None)
                .max_headers(MAX_HEADERS)
                .max_header_size(MAX_HEAD_BYTES)
                .max_buf_size(READ_BUFFER)
                .serve_connection(io, service)
                .with_upgrades();
            drive(connection, |connection| connection.graceful_shutdown(), &seen, waits, stop).await;
        }
        Protocol::Http2 => {
            // Between requests come pings: no head to wait for can be told from them.
            let waits = (None, limits.idle);
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_EVERY)
                .max_concurrent_streams(limits.streams)
                .max_header_list_size(MAX_HEAD_BYTES as u32)
                .max_send_buf_size(256 * 1024)
                .serve_connection(io, service);
            drive(connection, |connection| connection.graceful_shutdown(), &seen, waits, stop).await;
        }
    }
}

/// Polls the connection to its end, its idleness, or ours.
async fn drive<C>(connection: C, finish: fn(Pin<&mut C>), activity: &Activity, waits: Waits, mut stop: Stop)
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = pin!(connection);
    let early = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = waited(activity, waits) => None,
        () = stop.draining() => tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = asked(activity) => None,
            () = stop.aborting() => return,
        }
    };
    let ended = match early {
        Some(ended) => ended,
        // Nothing was asked: there is nothing to finish.
        None if activity.fresh() => return,
        None => {
            finish(connection.as_mut());
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.aborting() => return,
                // A peer that neither asks nor closes.
                () = waited(activity, waits) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Resolves once something was asked, or too late.
async fn asked(activity: &Activity) {
    let first = async {
        while activity.fresh() {
            sleep(LAST / 50).await;
        }
    };
    let _ = timeout(LAST, first).await;
}

/// For a head, for the next request.
type Waits = (Option<Duration>, Duration);

/// Resolves once the peer has kept us waiting too long.
async fn waited(activity: &Activity, (head, idle): Waits) {
    while let Some(rest) = activity.allowance(head, idle) {
        sleep(rest).await;
    }
}

/// A socket that carries its place among the admitted, and fails when its peer takes nothing for too long.
pub(super) struct Guarded<S> {
    stream: S,
    activity: Arc<Activity>,
    patience: Duration,
    /// Armed while a write waits for the peer.
    deadline: Option<Pin<Box<Sleep>>>,
    _ticket: Ticket,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, patience: Duration, ticket: Ticket) -> Self {
        Self { stream, activity, patience, deadline: None, _ticket: ticket }
    }

    fn judge<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.deadline = None;
            return polled;
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(patience)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.heard();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.judge(polled, cx)
    }
}
