//! The root key, wherever it lives: it only wraps the keyring's keys and never leaves its backend.

use super::Result;
use std::{path::Path, sync::Arc, time::Duration};
use zeroize::Zeroizing;

#[async_trait::async_trait]
pub trait RootKey: Send + Sync {
    /// Where it comes from, for people: `file /var/lib/…/root.key`, `systemd credential root-key`.
    fn source(&self) -> String;
    /// Seals `plain`, bound to `context`; every call gives other bytes.
    async fn wrap(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>>;
    /// Opens what [`RootKey::wrap`] sealed. `Corrupt`: another key, another context or damaged bytes.
    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>>;
}

/// Who keeps the root key, and can give it a successor.
#[async_trait::async_trait]
pub trait RootKeeper: Send + Sync {
    /// Whether it could make a successor now; changes nothing.
    async fn prove(&self, file: Option<&Path>) -> Result<()>;
    /// Makes a successor: in a new file, or beside the one in use until [`RootKeeper::replace`]. `Rejected` where the one
    /// in use is somebody else's to keep, or the file is there already.
    async fn prepare(&self, file: Option<&Path>) -> Result<Arc<dyn RootKey>>;
    /// After a stop in between: the successor takes its place if it is what `opened` names. `None`: nothing was to be
    /// done.
    async fn settle(&self, opened: &dyn RootKey) -> Result<Option<Arc<dyn RootKey>>>;
    /// The successor that was made beside the key in use takes its place.
    async fn replace(&self) -> Result<Arc<dyn RootKey>>;
}

/// Leave to ask the root key's backend, which ends unless it is renewed.
#[async_trait::async_trait]
pub trait Lease: Send + Sync {
    /// From now until it should be renewed, or tried again.
    fn due(&self) -> Duration;
    async fn renew(&self) -> Result<()>;
}
