//! Releases of this program, from whoever signs them.

use super::Result;
use crate::domain::release::Release;
use std::path::Path;

#[async_trait::async_trait]
pub trait Releases: Send + Sync {
    /// What the repository lists, once all that it says is proven: signed by enough, not expired, none older than what was
    /// seen before. `Rejected` says what was not; nothing of it is believed then.
    async fn list(&self) -> Result<Vec<Release>>;
    /// Brings a listed release's file to a path where nothing is; `progress` is told the bytes that are there. It lies there
    /// once its length and hash are right and it is durable. On failure nothing does, but for what came, under the name with
    /// `.partial` behind it, which the next try goes on from.
    async fn fetch(&self, release: &Release, file: &Path, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<()>;
}
