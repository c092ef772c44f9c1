//! Looks at the store and the disk now and then, for `/readyz` and `/metrics`.

use super::Job;
use crate::services::{Result, health::Observer};
use std::time::Duration;

pub struct Observation(pub Observer);

#[async_trait::async_trait]
impl Job for Observation {
    fn name(&self) -> &'static str {
        "observation"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn first(&self) -> Duration {
        Duration::ZERO
    }

    async fn run(&self) -> Result<()> {
        self.0.observe().await
    }
}
