//! Sends the letters by which addresses are proven.

use super::Job;
use crate::services::{Result, verification::Verifications};
use std::{sync::Arc, time::Duration};

pub struct Delivery(pub Arc<Verifications>);

#[async_trait::async_trait]
impl Job for Delivery {
    fn name(&self) -> &'static str {
        "verification_delivery"
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
