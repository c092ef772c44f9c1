//! Certificates: what the HTTPS listener shows. Issued for host names and addresses, for a time, by somebody.

use super::Result;
use crate::base::clock::Timestamp;
use zeroize::Zeroizing;

/// A certificate with its private key, ready to be shown.
#[derive(Clone)]
pub struct Leaf {
    /// DER, the leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Leaf {
    /// When to ask for the next one: at three fifths of its life, so that a renewal that fails for days still
    /// succeeds before two thirds, and long before the end.
    pub fn renewal(&self) -> Timestamp {
        let life = self.not_after.0.saturating_sub(self.not_before.0);
        Timestamp(self.not_before.0.saturating_add(life / 5 * 3))
    }

    pub fn due(&self, now: Timestamp) -> bool {
        now >= self.renewal()
    }
}

/// A root certificate and its private key.
#[derive(Clone)]
pub struct Authority {
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
}

/// Makes authorities of our own.
pub trait Authorities: Send + Sync {
    /// A new root for this instance's names.
    fn create(&self, now: Timestamp) -> Result<Authority>;
}

#[async_trait::async_trait]
pub trait Certificates: Send + Sync {
    /// A leaf for these host names and IP addresses (`localhost`, `*.example.cd`, `192.0.2.7`), valid from now.
    /// `Rejected` when a name cannot be certified; nothing is stored.
    async fn issue(&self, names: &[String], now: Timestamp) -> Result<Leaf>;
    /// Who would issue now, as people read it; another one is named otherwise.
    fn issuer(&self, now: Timestamp) -> Result<String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_renewed_before_two_thirds_of_its_life() {
        let day = 86_400_000;
        let leaf = Leaf {
            chain: Vec::new(),
            key: Zeroizing::default(),
            not_before: Timestamp(0),
            not_after: Timestamp(90 * day),
        };
        assert!(!leaf.due(Timestamp(53 * day)));
        assert!(leaf.due(Timestamp(54 * day)));
        assert!(leaf.renewal() < Timestamp(60 * day));
    }
}
