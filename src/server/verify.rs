//! A backup checked with a recipient's key: here and now, since no server ever holds one.

use super::problem::{Kind, Problem};
use crate::{
    backends::objects::folder::Folder,
    base::fault::Fault,
    services::backups::{self, Identity, Verified},
};
use std::path::PathBuf;

/// Opens a backup of this folder, the newest by default, and reads all of it.
pub async fn verify(folder: PathBuf, backup: Option<String>, identity: Identity) -> Result<Verified, Problem> {
    let read = tokio::task::spawn_blocking(move || {
        let target = Folder::open(folder)?;
        let name = backups::locate(&target, backup.as_deref())?;
        Ok::<_, Problem>(backups::verify_open(&target, &name, &identity, identity.trust())?)
    });
    read.await.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}
