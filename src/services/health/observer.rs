//! What the running instance learns of its store and its disk.

use super::{Finding, Health};
use crate::{
    base::{fault::Fault, files, metrics::Metrics},
    ports::documents::Documents,
    services::Result,
};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// The names of its checks.
pub const STORE: &str = "store";
pub const DISK: &str = "disk";

/// A store that takes longer to say how it is, is not well.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Observer {
    pub documents: Arc<dyn Documents>,
    pub data: PathBuf,
    /// Free bytes under which the store refuses writes.
    pub reserve: u64,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

impl Observer {
    pub async fn observe(&self) -> Result<()> {
        self.health.report(disk(&self.data, self.reserve, Some(&self.metrics)));
        let asked = tokio::time::timeout(PATIENCE, self.documents.statistics()).await;
        let known = match asked {
            Err(_) => {
                let silent = Fault::new("health.store_silent").with("seconds", PATIENCE.as_secs());
                self.health.report(Finding::failure(STORE, silent));
                return Ok(());
            }
            Ok(Err(error)) => {
                let failed = Fault::new("health.store_failed").with("cause", &error);
                self.health.report(Finding::failure(STORE, failed));
                return Err(error.into());
            }
            Ok(Ok(known)) => known,
        };
        self.health.report(match (&known.damaged, &known.read_only) {
            (Some(page), _) => Finding::failure(STORE, Fault::new("health.damaged").with("page", page)),
            // Reads go on: it is still of use.
            (None, Some(why)) => Finding::warning(STORE, Fault::new("health.read_only").with("cause", why)),
            (None, None) => Finding::ok(STORE),
        });
        self.metrics.sample(|sample| {
            sample.stored_bytes = Some(known.stored_bytes);
            sample.queued_batches = Some(known.queued_batches);
            sample.commit_waits = Some(known.commit_waits);
            sample.pages_read = known.pages_read;
            sample.journal_sequence = Some(known.sequence.0);
            sample.journal_records = Some(known.journal_records);
            sample.journal_bytes = Some(known.journal_bytes);
            sample.read_only = Some(known.read_only.is_some());
        });
        Ok(())
    }
}

/// Whether the volume of `data` has room to go on; `reserve` is what the store keeps free.
pub fn disk(data: &std::path::Path, reserve: u64, metrics: Option<&Metrics>) -> Finding {
    let volume = match files::volume(data) {
        Ok(volume) => volume,
        Err(error) => {
            let unknown = Fault::new("health.disk_unknown").at(data.display().to_string()).with("cause", error);
            return Finding::warning(DISK, unknown);
        }
    };
    if let Some(metrics) = metrics {
        metrics.sample(|sample| {
            sample.volume_free_bytes = Some(volume.free);
            sample.volume_size_bytes = Some(volume.size);
            (sample.volume_inodes, sample.volume_free_inodes) = volume.inodes.unzip();
        });
    }
    let fault = |key| {
        let mib = |bytes: u64| bytes >> 20;
        let fault = Fault::new(key).at(data.display().to_string());
        fault.with("free", mib(volume.free)).with("size", mib(volume.size)).with("reserve", mib(reserve))
    };
    if volume.free < reserve {
        Finding::warning(DISK, fault("health.disk_full"))
    } else if volume.free < reserve.saturating_mul(4).max(volume.size / 20) {
        Finding::warning(DISK, fault("health.disk_low"))
    } else {
        Finding::ok(DISK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::health::Level;

    #[test]
    fn the_disk_is_judged_by_what_the_store_keeps_free() {
        let here = std::path::Path::new("/");
        let free = files::volume(here).unwrap().free;
        let key = |reserve| disk(here, reserve, None).fault.map(|fault| fault.key);
        assert_eq!(key(free.saturating_mul(2)), Some("health.disk_full"));
        assert_eq!(key(free / 2), Some("health.disk_low"));
        assert_eq!(disk(std::path::Path::new("/absent"), 0, None).level, Level::Warning);
    }
}
