//! TCP listeners: HTTPS, the plain redirect, ops.

use super::{
    Backoff, LAST, Limits,
    admission::{Admission, Ticket},
    clients,
    connection::{self, Guarded, Protocol, Talk},
    tls,
};
use crate::{
    base::{fault::Fault, metrics::Metrics, stop::Stop},
    http::{activity::Activity, peer::Peer, serve::App},
    services::machines::Machines,
};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Connections the kernel holds while we are busy.
const BACKLOG: u32 = 1024;

pub struct Network {
    /// For people, logs and metrics: `https`, `http`, `ops`.
    pub name: &'static str,
    pub listener: TcpListener,
    /// Absent: plain text.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Told of client certificates that are turned away.
    pub machines: Option<Arc<Machines>>,
    pub app: App,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
}

/// Resolves when a drain leaves no more time for a handshake.
async fn last(stop: &mut Stop) {
    stop.draining().await;
    tokio::select! {
        () = sleep(LAST) => {}
        () = stop.aborting() => {}
    }
}

/// Takes what the supervisor listens on.
pub fn handed(name: &'static str, socket: std::net::TcpListener) -> Result<TcpListener, Fault> {
    let failed = |error| Fault::new("server.socket").with("listener", name).with("cause", error);
    TcpListener::from_std(socket).map_err(failed)
}

/// Takes an address, or says which one, what for, and why not.
pub fn bind(name: &'static str, address: SocketAddr) -> Result<TcpListener, Fault> {
    let take = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the last run's connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    take().map_err(|error| {
        let key = match error.kind() {
            io::ErrorKind::AddrInUse => "server.port_in_use",
            io::ErrorKind::PermissionDenied => "server.port_denied",
            io::ErrorKind::AddrNotAvailable => "server.address_absent",
            _ => "server.port_failed",
        };
        Fault::new(key).with("listener", name).with("address", address).with("cause", error)
    })
}

impl Network {
    /// Accepts until the drain; then the socket closes, and connections finish on their own.
    pub async fn run(self, mut stop: Stop) {
        let serving = stop.clone();
        tokio::select! {
            () = self.accept(&serving) => {}
            () = stop.draining() => {}
        }
    }

    async fn accept(&self, stop: &Stop) {
        let admission = Admission::new(self.limits.connections, self.limits.per_address);
        self.metrics.connections_limited(self.name, self.limits.connections);
        let mut backoff = Backoff::default();
        loop {
            if admission.full() {
                self.metrics.connection_refused(self.name, "waiting");
            }
            let place = admission.place().await;
            let (stream, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(pause) = backoff.failed(&error) {
                        if backoff.telling() {
                            tracing::error!(listener = self.name, %error, "cannot accept connections");
                        }
                        self.metrics.connection_refused(self.name, "accept");
                        sleep(pause).await;
                    }
                    continue;
                }
            };
            backoff.succeeded();
            let open = self.metrics.connection_opened(self.name);
            match admission.admit(remote.ip(), place, open) {
                Some(ticket) => self.welcome(stream, remote, ticket, stop),
                None => self.metrics.connection_refused(self.name, "address"),
            }
        }
    }

    fn welcome(&self, stream: TcpStream, remote: SocketAddr, ticket: Ticket, stop: &Stop) {
        let (name, app, limits, metrics) = (self.name, self.app.clone(), self.limits.clone(), self.metrics.clone());
        let (tls, machines) = (self.tls.clone(), self.machines.clone());
        let connection_stop = stop.clone();
        stop.spawn(async move {
            // Only a peer already gone makes these fail.
            let Ok(local) = stream.local_addr() else { return };
            let _ = stream.set_nodelay(true);
            let peer = Peer::Network { local, remote, tls: tls.is_some(), certificate: None };
            let activity = Activity::new();
            let stream = Guarded::new(stream, activity.clone(), limits.write, ticket);
            let mut talk = Talk { protocol: Protocol::Http1, app, peer, activity };
            let Some(config) = tls else {
                return connection::serve(stream, talk, &limits, connection_stop).await;
            };
            let mut leaving = connection_stop.clone();
            let handshake = timeout(limits.handshake, TlsAcceptor::from(config).accept(stream));
            let secured = tokio::select! {
                secured = handshake => secured,
                () = last(&mut leaving) => return,
            };
            match secured {
                Ok(Ok(stream)) => {
                    let certificate = clients::shown(stream.get_ref().1);
                    talk.peer = Peer::Network { local, remote, tls: true, certificate };
                    match stream.get_ref().1.alpn_protocol() {
                        // It has seen what it came for.
                        Some(tls::PROOF) => return,
                        Some(b"h2") => talk.protocol = Protocol::Http2,
                        _ => {}
                    }
                    connection::serve(stream, talk, &limits, connection_stop).await;
                }
                Ok(Err(error)) => {
                    metrics.connection_refused(name, "handshake");
                    tracing::debug!(%remote, %error, "handshake failed");
                    if let (Some(machines), Some(why)) = (machines, clients::refusal(&error)) {
                        machines.turned_away(remote.ip().to_canonical(), why).await;
                    }
                }
                Err(_) => {
                    metrics.connection_refused(name, "handshake_timeout");
                    tracing::debug!(%remote, "handshake timed out");
                }
            }
        });
    }
}
