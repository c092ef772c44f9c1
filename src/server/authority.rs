//! The internal authorities of the keyring, as what issues certificates, and as what clients are given to trust.

use super::problem::Problem;
use crate::{
    backends::certificates::internal::Internal,
    base::clock::Timestamp,
    ports::{
        Result,
        certificates::{Authority, Certificates, Leaf},
    },
    services::{
        certificates::Bundle,
        keyring::{Key, Keyring},
    },
};
use std::sync::Arc;

/// Signs by the authority whose turn it is.
pub struct Issuing {
    pub keyring: Arc<Keyring>,
    /// Life of a leaf.
    pub days: u32,
}

/// What clients import, in the data directory.
pub const FILE: &str = "ca.crt";

/// The authority that signs now.
pub fn internal(keyring: &Keyring, days: u32, now: Timestamp) -> std::result::Result<Internal, Problem> {
    Ok(Internal::open(of(&keyring.issuing(now)), days)?)
}

fn of(key: &Key) -> Authority {
    Authority { certificate: key.public.clone(), key: key.material.clone() }
}

/// All that clients are to trust, the one that signs first.
pub fn pem(keyring: &Keyring, now: Timestamp) -> String {
    Bundle(keyring.authorities(now)).pem()
}

#[async_trait::async_trait]
impl Certificates for Issuing {
    async fn issue(&self, names: &[String], now: Timestamp) -> Result<Leaf> {
        Internal::open(of(&self.keyring.issuing(now)), self.days)?.issue(names, now).await
    }

    fn issuer(&self, now: Timestamp) -> Result<String> {
        Internal::open(of(&self.keyring.issuing(now)), self.days)?.issuer(now)
    }
}
