//! Sockets: how connections are admitted, secured, served and ended. What is said over them belongs to `http`.

mod admission;
pub mod clients;
mod connection;
pub mod control;
pub mod network;
#[cfg(test)]
mod tests;
pub mod tls;

use crate::{
    base::stop::Stop,
    http::{
        activity::Activity,
        peer::{LocalPeer, Peer},
        serve::App,
    },
};
use connection::{Protocol, Talk};
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// For who came just before a drain to ask for the first time: nobody else has their connection, so nobody else would answer.
const LAST: Duration = Duration::from_secs(1);

/// Bounds on what strangers may hold open.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time, in all; more wait in the kernel's queue.
    pub connections: usize,
    /// Connections at a time from one address (a /64 for IPv6); more are closed at once.
    pub per_address: usize,
    /// For the TLS handshake to end.
    pub handshake: Duration,
    /// For a request's head to arrive whole, over HTTP/1.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For the peer to take some of what is being sent.
    pub write: Duration,
    /// Requests at a time over one HTTP/2 connection.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(60),
            streams: 128,
        }
    }
}

/// Serves one connection from inside this process, which may take all the time it wants.
pub fn pipe<S>(stream: S, app: App, peer: LocalPeer, stop: Stop)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    const DAY: Duration = Duration::from_secs(86_400);
    let limits = Limits { head: DAY, idle: DAY, ..Limits::default() };
    let talk = Talk { protocol: Protocol::Http1, app, peer: Peer::Local(peer), activity: Activity::new() };
    let connection_stop = stop.clone();
    stop.spawn(async move { connection::serve(stream, talk, &limits, connection_stop).await });
}

/// Waits longer after each failed accept in a row, so that running out of files neither spins nor stops us.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait; `None` when the fault was the client's own.
    fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        Some(Duration::from_millis(5 << self.failures.min(8)).min(Duration::from_secs(1)))
    }

    fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether this failure is worth a line: the first, then ever fewer.
    fn telling(&self) -> bool {
        self.failures.is_power_of_two()
    }
}
