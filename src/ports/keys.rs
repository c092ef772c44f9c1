//! The root key, wherever it lives: it only wraps the keyring's keys and never leaves its backend.

use super::Result;
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
