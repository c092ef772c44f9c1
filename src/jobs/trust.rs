//! Writes what was noted of trust, so that a request never waits for it.

use super::Job;
use crate::services::{Result, trust::Trust};
use std::{sync::Arc, time::Duration};

pub struct Writing(pub Arc<Trust>);

#[async_trait::async_trait]
impl Job for Writing {
    fn name(&self) -> &'static str {
        "trust_writing"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self) -> Result<()> {
        self.0.flush().await
    }
}
