//! Where it may get tight in this very process: the threads that answer, what waits for them, and whether what is remembered
//! serves. Of the threads that may block tokio tells nothing in what it promises to keep.

use super::gauge;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::ConstCounter,
};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::runtime::Handle;

/// How often something was found where it is remembered, and how often not.
#[derive(Debug, Default)]
pub struct Looks {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Looks {
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn seen(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

/// What is read as it is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Runtime(Arc<Mutex<Vec<Cache>>>);

type Cache = (&'static str, Arc<Looks>);

impl Runtime {
    /// Of a name the last counts.
    pub fn watch(&self, cache: &'static str, looks: Arc<Looks>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(known, _)| *known != cache);
        all.push((cache, looks));
    }
}

impl Collector for Runtime {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if let Ok(handle) = Handle::try_current() {
            let metrics = handle.metrics();
            let gauges = [
                ("runtime_workers", "Threads that answer", metrics.num_workers()),
                ("runtime_tasks_alive", "Tasks begun and not ended", metrics.num_alive_tasks()),
                ("runtime_queue_depth", "Tasks that no thread has taken yet", metrics.global_queue_depth()),
            ];
            for (name, help, value) in gauges {
                gauge(&mut encoder, name, help, u64::try_from(value).unwrap_or(u64::MAX))?;
            }
        }
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hits: fn(&Looks) -> &AtomicU64 = |looks| &looks.hits;
        let counters = [
            ("cache_hits", "Found where it is remembered", hits),
            ("cache_misses", "Not found there, and read", |looks| &looks.misses),
        ];
        for (name, help, of) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, ConstCounter::new(0_u64).metric_type())?;
            for (cache, looks) in &all {
                let counter = ConstCounter::new(of(looks).load(Ordering::Relaxed));
                counter.encode(family.encode_family(&[("cache", *cache)])?)?;
            }
        }
        Ok(())
    }
}
