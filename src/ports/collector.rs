//! A collector of traces and lines, kept elsewhere.

use super::Result;
use crate::base::telemetry::{Record, traces::Trace};

#[async_trait::async_trait]
pub trait Collector: Send + Sync {
    /// How many it refused of what it took. `Unavailable`: later perhaps. `Rejected`: never, whoever sends it again.
    async fn take_traces(&self, traces: &[Trace]) -> Result<u64>;
    /// As [`Collector::take_traces`].
    async fn take_records(&self, records: &[Record]) -> Result<u64>;
}
