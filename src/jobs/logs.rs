//! Log files of days that are over are made small; levels raised for a while end.

use super::Job;
use crate::{
    base::{clock::SharedClock, telemetry},
    services::{Result, logs::Logs},
};
use std::{path::PathBuf, sync::Arc, time::Duration};

pub struct Archiving {
    pub folder: PathBuf,
    pub keep: usize,
    pub clock: SharedClock,
}

#[async_trait::async_trait]
impl Job for Archiving {
    fn name(&self) -> &'static str {
        "log_archiving"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(1800)
    }

    fn first(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self) -> Result<()> {
        let (folder, keep, now) = (self.folder.clone(), self.keep, self.clock.now().rfc3339());
        let today = now.get(..10).unwrap_or_default().to_owned();
        let tidied = tokio::task::spawn_blocking(move || telemetry::tidy(&folder, &today, keep)).await;
        let tidied = tidied.map_err(std::io::Error::other).flatten().map_err(crate::ports::Error::from)?;
        tracing::debug!(tidied, "log files of days that are over");
        Ok(())
    }
}

pub struct Settling(pub Arc<Logs>);

#[async_trait::async_trait]
impl Job for Settling {
    fn name(&self) -> &'static str {
        "log_levels"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn run(&self) -> Result<()> {
        self.0.settle();
        Ok(())
    }
}
