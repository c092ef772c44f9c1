//! Renews certificates well before their end, and reads those that others renew.

use super::Job;
use crate::services::{Result, certificates::Certificates};
use std::{sync::Arc, time::Duration};

pub struct Renewal(pub Arc<Certificates>);

#[async_trait::async_trait]
impl Job for Renewal {
    fn name(&self) -> &'static str {
        "certificate_renewal"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Nobody waits for the first certificate longer than they must.
    fn first(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn run(&self) -> Result<()> {
        self.0.tend().await
    }
}
