//! Keeps the leave to ask the vault alive, and says when it is lost.

use super::Job;
use crate::{
    base::fault::Fault,
    ports::{Error, keys::Lease},
    services::{
        Result,
        health::{Finding, Health},
    },
};
use std::{sync::Arc, time::Duration};

/// The name of its check.
const CHECK: &str = "vault";

pub struct Renewal {
    pub lease: Arc<dyn Lease>,
    pub health: Arc<Health>,
}

#[async_trait::async_trait]
impl Job for Renewal {
    fn name(&self) -> &'static str {
        "vault_renewal"
    }

    fn every(&self) -> Duration {
        self.lease.due()
    }

    async fn run(&self) -> Result<()> {
        let renewed = self.lease.renew().await;
        self.health.report(match &renewed {
            Ok(()) => Finding::ok(CHECK),
            // Serving goes on: the keys are in memory.
            Err(Error::OutOfReach(fault) | Error::Rejected(fault)) => Finding::warning(CHECK, fault.clone()),
            Err(error) => Finding::warning(CHECK, Fault::new("vault.lost").with("why", error)),
        });
        Ok(renewed?)
    }
}
