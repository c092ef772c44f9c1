//! Sends the letters of recovery that were asked for.

use super::Job;
use crate::services::{Result, recovery::Recoveries};
use std::{sync::Arc, time::Duration};

pub struct Delivery(pub Arc<Recoveries>);

#[async_trait::async_trait]
impl Job for Delivery {
    fn name(&self) -> &'static str {
        "recovery_delivery"
    }

    /// Somebody waits at a screen.
    fn every(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn run(&self) -> Result<()> {
        self.0.deliver().await?;
        Ok(())
    }
}
