//! Looks for what is wrong, and tells whoever is to be told.

use super::Job;
use crate::{
    base::stop::Stop,
    services::{Result, alerts::Alerts},
};
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

/// By one way: one that is slow holds up no other. A stop waits for none; what was not taken is told after the next start.
pub struct Telling {
    pub alerts: Arc<Alerts>,
    pub way: usize,
    pub stop: Stop,
}

#[async_trait::async_trait]
impl Job for Telling {
    fn name(&self) -> &'static str {
        "alert_delivery"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(5)
    }

    async fn run(&self) -> Result<()> {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.alerts.tell(self.way) => {}
            () = stop.draining() => {}
        }
        Ok(())
    }
}
