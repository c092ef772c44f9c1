//! Lets go of sessions that are over.

use super::Job;
use crate::services::{Result, sessions::Sessions};
use std::{sync::Arc, time::Duration};

pub struct Sweeping(pub Arc<Sessions>);

#[async_trait::async_trait]
impl Job for Sweeping {
    fn name(&self) -> &'static str {
        "session_sweeping"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(&self) -> Result<()> {
        let gone = self.0.sweep().await?;
        tracing::debug!(gone, "sessions that are over let go");
        Ok(())
    }
}
