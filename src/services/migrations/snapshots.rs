//! Copies of the living data beside it, for who rehearses a migration on this machine: a new release, before it takes
//! the place of the one that serves. Sealed with the keys the data is sealed with.

use super::{Held, Migrations, blocking, copy};
use crate::{
    base::{clock::SharedClock, fault::Fault, files, random},
    ports::{
        self,
        documents::{Documents, Sequence},
    },
    services::{
        Error, Result,
        access::{Access, Action, Caller, Resource},
        audit::{Audit, Event},
    },
};
use std::{path::PathBuf, sync::Arc};
use tokio::runtime::Handle;

/// Makes an empty store in a folder.
#[async_trait::async_trait]
pub trait Stores: Send + Sync {
    async fn create(&self, folder: &std::path::Path) -> ports::Result<Arc<dyn Documents>>;
}

/// Beside as much as is stored: the reserve a store keeps (32 MiB), and the least another one leaves free, twice.
const MARGIN: u64 = 64 << 20;

/// Whether a copy can be made of so many bytes. A quarter more than is stored: pages that are filled anew are laid out
/// otherwise, and migrating the copy writes into it. The service that goes on beside it must not meet its own headroom.
/// Nothing is stored where a store is in memory.
pub fn room(stored: u64, free: u64) -> Result<()> {
    let needed = stored.saturating_add(stored / 4).saturating_add(MARGIN);
    if stored == 0 || free >= needed {
        return Ok(());
    }
    Err(Error::OutOfReach(Fault::new("migrations.full").with("needed", needed).with("free", free)))
}

/// What updates ask for is theirs who may manage updates.
const MODULE: Resource<'static> = Resource::Module("updates");

pub struct Snapshots {
    pub access: Arc<Access>,
    pub documents: Arc<dyn Documents>,
    pub audit: Arc<Audit>,
    pub clock: SharedClock,
    pub migrations: Arc<Migrations>,
    pub stores: Arc<dyn Stores>,
    /// Of all copies.
    pub folder: PathBuf,
    /// One at a time.
    pub making: tokio::sync::Mutex<()>,
}

/// Where a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub id: String,
    pub folder: PathBuf,
    pub sequence: Sequence,
    pub documents: u64,
}

impl Snapshots {
    /// What the data has been through.
    pub async fn applied(&self, caller: &Caller) -> Result<Vec<Held>> {
        self.access.decide(caller, Action::View, MODULE)?;
        self.migrations.held().await
    }

    /// Copies what there is at this moment, while writes go on. It stays on this machine, sealed.
    pub async fn create(&self, caller: &Caller) -> Result<Copied> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        let Ok(_one) = self.making.try_lock() else {
            return Err(Error::Conflict(Fault::new("migrations.copying")));
        };
        self.sweep()?;
        let stored = self.documents.statistics().await?;
        room(stored.stored_bytes, stored.free_bytes)?;
        let id = random::id(self.clock.now());
        self.audit.record(caller, Event::new("migration.snapshot").with("id", &*id)).await?;
        let folder = self.folder.join(&id);
        let made = self.fill(&id, &folder).await;
        if made.is_err() {
            self.sweep()?;
        }
        made
    }

    async fn fill(&self, id: &str, folder: &std::path::Path) -> Result<Copied> {
        for folder in [&*self.folder, folder] {
            files::private_folder(folder).map_err(ports::Error::from)?;
        }
        let store = self.stores.create(folder).await?;
        let snapshot = self.documents.snapshot().await?;
        let (to, handle) = (store.clone(), Handle::current());
        let filled = blocking(move || {
            let sequence = snapshot.sequence();
            Ok((copy(&*snapshot, &to, &handle)?, sequence))
        });
        let filled = filled.await;
        store.close().await?;
        let (documents, sequence) = filled?;
        Ok(Copied { id: id.to_owned(), folder: folder.to_owned(), sequence, documents })
    }

    /// Removes a copy.
    pub async fn remove(&self, caller: &Caller, id: &str) -> Result<()> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        let unknown = || Error::NotFound(Fault::new("migrations.no_copy").with("id", id));
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let folder = self.folder.join(id);
        if !plain || !folder.is_dir() {
            return Err(unknown());
        }
        Ok(std::fs::remove_dir_all(&folder).map_err(ports::Error::from)?)
    }

    /// What nobody removed: at the start, and before the next.
    pub fn sweep(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ports::Error::from(error).into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_would_leave_no_room_is_refused_with_both_figures() {
        const GIB: u64 = 1 << 30;
        let needed = GIB + GIB / 4 + MARGIN;
        assert!(room(GIB, needed).is_ok() && room(0, 0).is_ok());
        for free in [GIB, needed - 1] {
            let Err(Error::OutOfReach(fault)) = room(GIB, free) else { panic!("{free}") };
            let said = fault.to_string();
            assert!(said.contains(&needed.to_string()) && said.contains(&free.to_string()), "{said}");
        }
    }
}
