//! Time, passed in: nothing above reads the system's clock by itself.

use std::sync::Arc;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// `2026-11-22T10:15:00.123Z`.
    pub fn rfc3339(self) -> String {
        bson::DateTime::from_millis(self.0).try_to_rfc3339_string().unwrap_or_else(|_| self.0.to_string())
    }
}

pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        #[cfg(feature = "testing")]
        let now = Timestamp(now.0.saturating_add(super::ahead::millis()));
        now
    }
}

/// Waits between two runs of what is done again and again.
#[cfg(not(feature = "testing"))]
pub async fn pause(span: std::time::Duration) {
    tokio::time::sleep(span).await;
}

#[cfg(feature = "testing")]
pub use super::ahead::pause;

/// Time that only runs forward: for waits and latencies, never for dates.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant, #[cfg(feature = "testing")] i64);

impl Stopwatch {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the steady clock")]
    pub fn start() -> Self {
        Self(
            std::time::Instant::now(),
            #[cfg(feature = "testing")]
            super::ahead::millis(),
        )
    }

    pub fn elapsed(self) -> std::time::Duration {
        let elapsed = self.0.elapsed();
        #[cfg(feature = "testing")]
        let elapsed = elapsed + super::ahead::since(self.1);
        elapsed
    }

    /// Whole milliseconds since the start.
    pub fn millis(self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands where it was put, for tests.
#[cfg(any(test, feature = "testing"))]
pub struct FixedClock(pub std::sync::atomic::AtomicI64);

#[cfg(any(test, feature = "testing"))]
impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}
