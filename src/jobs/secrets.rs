//! Rotates keys that are due.

use super::Job;
use crate::services::{Result, secrets::Secrets};
use std::{sync::Arc, time::Duration};

pub struct Rotation(pub Arc<Secrets>);

#[async_trait::async_trait]
impl Job for Rotation {
    fn name(&self) -> &'static str {
        "secret_rotation"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn run(&self) -> Result<()> {
        self.0.rotate_due().await
    }
}
