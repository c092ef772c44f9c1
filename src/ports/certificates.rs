//! Certificates: what the HTTPS listener shows. Issued for host names and addresses, for a time, by somebody: our own
//! authority, a file that others keep, or a public authority that is asked over the network.

use super::{Error, Result};
use crate::base::clock::Timestamp;
use zeroize::Zeroizing;

/// A certificate with its private key, ready to be shown.
#[derive(Clone)]
pub struct Leaf {
    /// DER, the leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// DER: PKCS#8, or as a file held it (SEC 1, PKCS#1).
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

/// A certificate that others renew.
pub trait Kept: Send + Sync {
    /// As it is now. `Rejected`: unreadable, open to all, out of its time, or a key that is another's.
    fn read(&self, now: Timestamp) -> Result<Leaf>;
    /// Where it is.
    fn place(&self) -> String;
}

/// What is asked of a public authority.
pub struct Order<'a> {
    /// As registering answered it.
    pub account: &'a [u8],
    pub names: &'a [String],
    /// The certificate (DER) that this one replaces, where it is this authority's own.
    pub replaces: Option<&'a [u8]>,
}

/// Why a public authority gave nothing.
#[derive(Debug)]
pub struct Denial {
    pub error: Error,
    /// Not to be asked again before.
    pub again: Option<Timestamp>,
    /// It does not know the account.
    pub stranger: bool,
}

/// When a public authority would have a certificate replaced (RFC 9773, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub end: Timestamp,
    /// When to ask for it again.
    pub again: Timestamp,
}

/// A public authority (RFC 8555).
#[async_trait::async_trait]
pub trait Issuer: Send + Sync {
    /// The URL of its directory.
    fn directory(&self) -> &str;
    /// Makes an account; answered is what to keep, and to bring with each order: it is secret.
    async fn register(&self, now: Timestamp) -> std::result::Result<Zeroizing<Vec<u8>>, Denial>;
    async fn order(&self, order: Order<'_>, now: Timestamp) -> std::result::Result<Leaf, Denial>;
    /// `None`: it does not say.
    async fn window(
        &self,
        account: &[u8],
        certificate: &[u8],
        now: Timestamp,
    ) -> std::result::Result<Option<Window>, Denial>;
}

/// What shows a public authority that a name is ours (RFC 8555, 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The host name or address, without `*.`.
    pub name: String,
    pub token: String,
    /// The token and the account's thumbprint (8.1).
    pub authorization: String,
    /// SHA-256 of it.
    pub digest: [u8; 32],
}

/// Where proofs are left to be found.
#[async_trait::async_trait]
pub trait Proofs: Send + Sync {
    /// On return all can be looked for.
    async fn show(&self, proofs: &[Proof]) -> Result<()>;
    /// None of these is shown any more, as far as each had been.
    async fn withdraw(&self, proofs: &[Proof]) -> Result<()>;
}
