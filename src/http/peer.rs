//! Who is at the other end of a connection, before anything is said over it.

use crate::services::machines::Certificate;
use poem::Request;
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over the network.
    Network {
        local: SocketAddr,
        remote: SocketAddr,
        tls: bool,
        /// The client's, verified. What a proxy says of its own clients' is not looked at.
        certificate: Option<Certificate>,
    },
    /// Over the control socket of the data directory.
    Local(LocalPeer),
}

/// A process of this machine, as the kernel names it: the service's own user or root, all others being turned
/// away at the door. An extension of each request that came over the control socket, and of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPeer {
    pub uid: u32,
    /// `None` when the kernel does not tell.
    pub pid: Option<i32>,
}

/// The client certificate of the connection a request came over.
pub fn certificate(request: &Request) -> Option<Certificate> {
    match request.extensions().get::<Peer>()? {
        Peer::Network { certificate, .. } => *certificate,
        Peer::Local(_) => None,
    }
}
