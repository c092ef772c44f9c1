//! Reads the whole store over and over, a little each minute, so that damage is met here before a request meets it.

use super::Job;
use crate::{ports::documents::Documents, services::Result};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub struct Scrubbing {
    pub documents: Arc<dyn Documents>,
    /// Where the next part begins.
    pub next: AtomicU64,
}

#[async_trait::async_trait]
impl Job for Scrubbing {
    fn name(&self) -> &'static str {
        "scrubbing"
    }

    fn every(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self) -> Result<()> {
        let next = self.documents.scrub(self.next.load(Ordering::Relaxed)).await?;
        self.next.store(next, Ordering::Relaxed);
        Ok(())
    }
}
