//! The scheduler and one small file per recurring task. A task takes no input and may run twice without harm.

mod scheduler;

pub mod alerts;
pub mod audit;
pub mod backups;
pub mod certificates;
pub mod collector;
pub mod drills;
pub mod health;
pub mod journal;
pub mod keys;
pub mod logs;
pub mod recovery;
pub mod scrub;
pub mod secrets;
pub mod sessions;
pub mod subjects;
pub mod trust;
pub mod vault;
pub mod verification;

pub use scheduler::Scheduler;

use crate::services::Result;
use std::time::Duration;

#[async_trait::async_trait]
pub trait Job: Send + Sync {
    /// For logs and metrics.
    fn name(&self) -> &'static str;
    /// Between the end of a run and the start of the next, give or take a tenth.
    fn every(&self) -> Duration;
    /// Before the first run.
    fn first(&self) -> Duration {
        self.every()
    }
    /// What sends traces away leaves none itself.
    fn is_traced(&self) -> bool {
        true
    }
    async fn run(&self) -> Result<()>;
}
