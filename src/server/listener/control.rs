//! The unix socket in the data directory, for the command line: only the service's own user and root get in.

use super::{
    Backoff, Limits,
    admission::Admission,
    connection::{self, Guarded, Protocol, Talk},
};
use crate::{
    base::{fault::Fault, metrics::Metrics, stop::Stop},
    http::{
        activity::Activity,
        peer::{LocalPeer, Peer},
        serve::App,
    },
};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::UnixListener, time::sleep};

pub const FILE: &str = "control.sock";
const NAME: &str = "control";
/// Beside the public listener's, so that operators get in when it is full.
const CONNECTIONS: usize = 64;

pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    app: App,
    limits: Limits,
    metrics: Arc<Metrics>,
}

impl Control {
    /// Makes `DATA/control.sock`, mode 0600. The caller holds the data directory's lock, so that a socket
    /// already there is a dead one's.
    pub fn bind(data: &Path, app: App, limits: Limits, metrics: Arc<Metrics>) -> Result<Self, Fault> {
        let path = data.join(FILE);
        let take = || -> io::Result<UnixListener> {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = take()
            .map_err(|error| Fault::new("server.control_failed").with("file", path.display()).with("cause", error))?;
        Ok(Self { listener, path, app, limits, metrics })
    }

    pub async fn run(self, mut stop: Stop) {
        let serving = stop.clone();
        tokio::select! {
            () = self.accept(&serving) => {}
            () = stop.draining() => {}
        }
        let _ = fs::remove_file(&self.path);
    }

    async fn accept(&self, stop: &Stop) {
        let admission = Admission::new(CONNECTIONS, CONNECTIONS);
        self.metrics.connections_limited(NAME, CONNECTIONS);
        let mut backoff = Backoff::default();
        let own = rustix::process::geteuid().as_raw();
        loop {
            let place = admission.place().await;
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if let Some(pause) = backoff.failed(&error) {
                        if backoff.telling() {
                            tracing::error!(listener = NAME, %error, "cannot accept connections");
                        }
                        sleep(pause).await;
                    }
                    continue;
                }
            };
            backoff.succeeded();
            // Who connected, not who inherited the socket since.
            let Ok(credentials) = stream.peer_cred() else { continue };
            if !admitted(credentials.uid(), own) {
                self.metrics.connection_refused(NAME, "credentials");
                tracing::warn!(uid = credentials.uid(), "a stranger knocked at the control socket");
                continue;
            }
            let peer = Peer::Local(LocalPeer { uid: credentials.uid(), pid: credentials.pid() });
            let ticket = admission.admit_local(place, self.metrics.connection_opened(NAME));
            let activity = Activity::new();
            let stream = Guarded::new(stream, activity.clone(), self.limits.write, ticket);
            let talk = Talk { protocol: Protocol::Http1, app: self.app.clone(), peer, activity };
            let (limits, connection_stop) = (self.limits.clone(), stop.clone());
            stop.spawn(async move {
                connection::serve(stream, talk, &limits, connection_stop).await;
            });
        }
    }
}

fn admitted(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_service_itself_get_in() {
        assert!(admitted(0, 970) && admitted(970, 970));
        assert!(!admitted(1000, 970) && !admitted(971, 970) && !admitted(1000, 0));
    }
}
