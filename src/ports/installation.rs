//! The installed release: beside it others are laid, and one of them is what a start runs.

use super::Result;
use semver::Version;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[async_trait::async_trait]
pub trait Installation: Send + Sync {
    /// What a start would run now.
    async fn current(&self) -> Result<Version>;
    /// Whether a release was laid here, whole.
    fn holds(&self, version: &Version) -> bool;
    /// Whether what was laid came from the file with this hash.
    fn holds_file(&self, version: &Version, sha256: &str) -> bool;
    /// Lays the content of a verified file beside what runs, with its hash: whole, or not at all.
    async fn lay(&self, version: &Version, file: &Path, sha256: &str) -> Result<()>;
    /// A start runs this one from now on; it was laid. What runs is left alone.
    async fn switch(&self, version: &Version) -> Result<()>;
    /// The program of a release that is here, where it stays while others come and go.
    fn program(&self, version: &Version) -> PathBuf;
    /// What the program of a release that was laid answers, as JSON. `Rejected` where it says that a check failed,
    /// `Unavailable` where it says that it could not do so here and now.
    async fn ask(&self, version: &Version, arguments: &[&str]) -> Result<Value>;
    /// Lets go of all that was laid but these.
    async fn keep(&self, versions: &[Version]) -> Result<()>;
    /// Where releases are laid: its volume needs room.
    fn place(&self) -> PathBuf;
}
