//! How long something was waited for: counted where that happens, read from time to time.

use prometheus_client::{
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// From one sync of a good disk to a queue that does not move.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const BUCKETS: usize = BOUNDS.len() + 1;

#[derive(Debug, Default)]
pub struct Waits {
    buckets: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

/// As they stood at a moment; by upper bound, the longest last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waited {
    buckets: [u64; BUCKETS],
    micros: u64,
}

impl Waits {
    pub fn observe(&self, wait: Duration) {
        let seconds = wait.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn waited(&self) -> Waited {
        let read = |bucket: &AtomicU64| bucket.load(Ordering::Relaxed);
        Waited { buckets: std::array::from_fn(|at| self.buckets.get(at).map_or(0, read)), micros: read(&self.micros) }
    }
}

impl Waited {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets).collect();
        let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let seconds = Duration::from_micros(self.micros).as_secs_f64();
        metric.encode_histogram::<NoLabelSet>(seconds, self.count(), &buckets, None)
    }
}
