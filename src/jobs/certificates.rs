//! Renews the certificate shown, well before its end.

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
        Duration::from_secs(3600)
    }

    async fn run(&self) -> Result<()> {
        self.0.renew_when_due().await
    }
}
