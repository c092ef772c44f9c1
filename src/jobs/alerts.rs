//! Looks for what is wrong, and tells whoever is to be told.

use super::Job;
use crate::services::{Result, alerts::Alerts};
use std::{sync::Arc, time::Duration};

pub struct Watching(pub Arc<Alerts>);

#[async_trait::async_trait]
impl Job for Watching {
    fn name(&self) -> &'static str {
        "alert_watch"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(15)
    }

    async fn run(&self) -> Result<()> {
        self.0.watch().await;
        Ok(())
    }
}

/// A job of its own: a way that is slow holds up no look.
pub struct Telling(pub Arc<Alerts>);

#[async_trait::async_trait]
impl Job for Telling {
    fn name(&self) -> &'static str {
        "alert_delivery"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn run(&self) -> Result<()> {
        self.0.deliver().await;
        Ok(())
    }
}
