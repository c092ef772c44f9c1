//! The instance opened for one command while no server runs: the same routes, over a pipe inside the process.

use super::{alerts, collector::Kept, listener, open, problem::Problem, running::Senses, serve, vault};
use crate::{
    base::{
        clock::{SharedClock, SystemClock},
        config::Config,
        metrics::Metrics,
        stop::Stopper,
    },
    http::{peer::LocalPeer, serve::App},
    ports::documents::Documents,
    services::{
        audit::Audit,
        health::{Health, Phase},
        sealing::Seals,
    },
};
use std::sync::Arc;
use tokio::io::DuplexStream;

const PIPE_BYTES: usize = 256 * 1024;

pub struct Offline {
    app: App,
    documents: Arc<dyn Documents>,
    audit: Arc<Audit>,
    seals: Arc<Seals>,
    stopper: Stopper,
}

/// Opens the data under its lock, as the local caller that this process is.
pub async fn offline(config: Config) -> Result<Offline, Problem> {
    let clock: SharedClock = Arc::new(SystemClock);
    let senses = Senses {
        metrics: Metrics::new(clock.clone()),
        health: Arc::new(Health::default()),
        levels: None,
        clock,
        kept: Kept::default(),
    };
    senses.health.enter(Phase::Serving);
    let config = vault::resolved(&config).await?;
    let opened = open::migrated(&config, senses.clock.clone()).await?;
    let stopper = Stopper::default();
    let alerts = alerts::alerts(&config, &opened, &senses)?;
    alerts.recall();
    let app = serve::app(&config, &opened, &senses, (&stopper, alerts));
    Ok(Offline { app, documents: opened.documents, audit: opened.audit, seals: opened.seals, stopper })
}

impl Offline {
    /// One HTTP/1 connection to the routes.
    pub fn connect(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let peer = LocalPeer { uid: rustix::process::geteuid().as_raw(), pid: i32::try_from(std::process::id()).ok() };
        listener::pipe(ours, self.app.clone(), peer, self.stopper.stop());
        theirs
    }

    /// Finishes what is under way and closes the store.
    pub async fn close(self) -> Result<(), Problem> {
        self.stopper.drain(std::time::Duration::MAX).await;
        // Where that fails, what was done is done: the journal keeps it for the next seal.
        if let Err(error) = self.audit.finish().await {
            tracing::error!(%error, "the audit log was not sealed");
        }
        self.documents.close().await?;
        Ok(self.seals.close().await?)
    }
}
