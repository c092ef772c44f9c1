//! A backup checked with a recipient's key: here and now, since no server ever holds one.

use super::{
    problem::{Kind, Problem},
    targets, vault,
};
use crate::{
    base::{
        clock::{SharedClock, SystemClock},
        config::Config,
        fault::Fault,
    },
    services::backups::{self, Identity, Target, Verified},
};
use std::sync::Arc;

/// Opens a backup, the newest by default, at the target that is named, the first by default, and reads all of it.
pub async fn verify(
    config: &Config,
    (backup, target): (Option<String>, Option<&str>),
    identity: Identity,
) -> Result<Verified, Problem> {
    let (config, clock): (_, SharedClock) = (vault::resolved(config).await?, Arc::new(SystemClock));
    let target = match target {
        None => targets::first(&config, &clock)?,
        Some(name) => named(targets::all(&config, &clock)?, name)?,
    };
    let target = target.objects;
    let read = tokio::task::spawn_blocking(move || {
        let name = backups::locate(&*target, backup.as_deref())?;
        Ok::<_, Problem>(backups::verify_open(&*target, &name, &identity, identity.trust())?)
    });
    read.await.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}

fn named(all: Vec<Target>, name: &str) -> Result<Target, Problem> {
    let known = all.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ");
    let unknown =
        || Problem::new(Kind::NotFound, Fault::new("backups.target").with("target", name).with("known", known));
    all.into_iter().find(|target| target.name == name).ok_or_else(unknown)
}
