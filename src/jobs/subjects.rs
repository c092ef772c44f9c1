//! Ends what an erasure left to be done, and keeps the backups of subjects' keys no longer than they may be.

use super::Job;
use crate::services::{Result, subjects::Subjects};
use std::{sync::Arc, time::Duration};

pub struct Forgetting(pub Arc<Subjects>);

#[async_trait::async_trait]
impl Job for Forgetting {
    fn name(&self) -> &'static str {
        "subjects"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn first(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self) -> Result<()> {
        let resumed = self.0.resume().await;
        // Whatever keeps an erasure from its end, keys are kept no longer than was certified.
        self.0.renew_backups().await?;
        resumed
    }
}
