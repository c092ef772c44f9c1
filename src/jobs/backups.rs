//! Knows how old the last backup is.

use super::Job;
use crate::{
    base::metrics::Metrics,
    services::{Result, backups::Backups},
};
use std::{sync::Arc, time::Duration};

pub struct Age {
    pub backups: Arc<Backups>,
    pub metrics: Arc<Metrics>,
}

#[async_trait::async_trait]
impl Job for Age {
    fn name(&self) -> &'static str {
        "backup_age"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn first(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self) -> Result<()> {
        let newest = self.backups.newest().await?;
        self.metrics.sample(|sample| sample.last_backup = newest);
        Ok(())
    }
}
