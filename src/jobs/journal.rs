//! Keeps the journal to its length, a little at a time.

use super::Job;
use crate::services::{Result, journal::Journal};
use std::time::Duration;

pub struct Trimming(pub Journal);

#[async_trait::async_trait]
impl Job for Trimming {
    fn name(&self) -> &'static str {
        "journal_trimming"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(600)
    }

    async fn run(&self) -> Result<()> {
        self.0.trim().await?;
        Ok(())
    }
}
