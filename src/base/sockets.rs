//! Sockets that the supervisor opened for us (sd_listen_fds(3)): it holds what comes in while no process serves.

use super::fault::Fault;
use listenfd::ListenFd;
use std::{collections::BTreeMap, net::TcpListener};

/// Each by the name its unit gives it (`FileDescriptorName=`).
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, TcpListener)>);

impl Sockets {
    /// To be called once, before any other thread starts: it takes what tells of them out of the environment, so that no
    /// child believes they are meant for it.
    pub fn handed(environment: &BTreeMap<String, String>) -> Result<Self, Fault> {
        let names = environment.get("LISTEN_FDNAMES").map(String::as_str).unwrap_or_default();
        let mut handed = ListenFd::from_env();
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for number in 0..handed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let taken = handed.take_tcp_listener(number).and_then(|listener| {
                let listener = listener.ok_or(std::io::ErrorKind::NotFound)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            match taken {
                Ok(listener) => sockets.push((name, listener)),
                Err(error) => return Err(Fault::new("server.socket").with("listener", name).with("cause", error)),
            }
        }
        Ok(Self(sockets))
    }

    pub fn take(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Of those nobody took.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}
