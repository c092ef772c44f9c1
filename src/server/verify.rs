//! A backup checked with a recipient's key: here and now, since no server ever holds one.

use super::{
    problem::{Kind, Problem},
    targets,
};
use crate::{
    base::{
        clock::{SharedClock, SystemClock},
        config::Config,
        fault::Fault,
    },
    services::backups::{self, Identity, Verified},
};
use std::sync::Arc;

/// Opens a backup at the configured target, the newest by default, and reads all of it.
pub async fn verify(config: &Config, backup: Option<String>, identity: Identity) -> Result<Verified, Problem> {
    let clock: SharedClock = Arc::new(SystemClock);
    let target = targets::first(config, &clock)?.objects;
    let read = tokio::task::spawn_blocking(move || {
        let name = backups::locate(&*target, backup.as_deref())?;
        Ok::<_, Problem>(backups::verify_open(&*target, &name, &identity, identity.trust())?)
    });
    read.await.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}
