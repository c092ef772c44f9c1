//! Rotates keys that are due, and shows how old each is.

use super::Job;
use crate::{
    base::metrics::Metrics,
    services::{Result, secrets::Secrets},
};
use std::{sync::Arc, time::Duration};

pub struct Rotation {
    pub secrets: Arc<Secrets>,
    pub metrics: Arc<Metrics>,
}

#[async_trait::async_trait]
impl Job for Rotation {
    fn name(&self) -> &'static str {
        "secret_rotation"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn first(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self) -> Result<()> {
        let rotated = self.secrets.rotate_due().await;
        let keys = self.secrets.created();
        self.metrics.sample(|sample| sample.keys = keys);
        rotated
    }
}
