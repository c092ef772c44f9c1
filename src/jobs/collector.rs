//! Sends traces and lines to their collector.

use super::Job;
use crate::services::{Result, collector::Collector};
use std::{sync::Arc, time::Duration};

pub struct Sending(pub Arc<Collector>);

#[async_trait::async_trait]
impl Job for Sending {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn is_traced(&self) -> bool {
        false
    }

    async fn run(&self) -> Result<()> {
        self.0.deliver().await;
        Ok(())
    }
}
