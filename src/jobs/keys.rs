//! Lets go of keys that are long over and of assertions that were used.

use super::Job;
use crate::services::{Result, keys::Keys, machines::Machines};
use std::{sync::Arc, time::Duration};

pub struct Sweeping {
    pub keys: Arc<Keys>,
    pub machines: Arc<Machines>,
}

#[async_trait::async_trait]
impl Job for Sweeping {
    fn name(&self) -> &'static str {
        "key_sweeping"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(600)
    }

    async fn run(&self) -> Result<()> {
        let gone = self.machines.sweep().await? + self.keys.sweep().await?;
        tracing::debug!(gone, "keys and assertions that are over let go");
        Ok(())
    }
}
