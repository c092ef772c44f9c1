//! The service that is updated, as an administrator of its machine reaches it: looked at, told, stopped, started.

use super::Result;
use crate::{base::clock::Timestamp, domain::holdings::Holdings};
use serde_json::Value;

/// What it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The release that answers.
    pub version: String,
    pub ready: bool,
    /// What it says is wrong, where it is not ready.
    pub faults: String,
    /// When its process began: another moment, another process.
    pub started: String,
    /// Of thirty days.
    pub requests: u64,
    pub failures: u64,
    /// Of this process, in an hour; of these, those that took too long.
    pub answers: u64,
    pub slow: u64,
    /// The newest backup of any target.
    pub backed_up: Option<Timestamp>,
}

#[async_trait::async_trait]
pub trait Appliance: Send + Sync {
    /// `Unavailable`: nobody answers, or not in time.
    async fn look(&self) -> Result<Seen>;
    /// What it holds, and what came and went since a place of its journal.
    async fn holdings(&self, since: Option<u64>) -> Result<Holdings>;
    /// Makes a full backup, at every target.
    async fn back_up(&self) -> Result<()>;
    /// Notes in its audit log what became of an update.
    async fn note(&self, update: &Value) -> Result<()>;
    /// Starts it anew, without waiting for what comes of it. In a hurry, what runs is not asked to end in order: what it
    /// acknowledged is on disk.
    async fn restart(&self, hurry: bool) -> Result<()>;
    /// Ends it, and keeps callers from starting it; [`Appliance::restart`] undoes that.
    async fn halt(&self) -> Result<()>;
}
