//! Proof by a client certificate in place of an assertion (RFC 8705): the connection itself has shown that its peer holds
//! the key. Tokens it obtains are good over a connection with the same certificate alone.

use super::Machines;
use crate::{
    base::clock::Timestamp,
    services::{
        Error, Result,
        access::{Caller, Subject},
        audit::Event,
        keys::KEYS,
        machines::Granted,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::net::IpAddr;

/// A certificate of the authority the operator named, shown on a connection of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// SHA-256 of all of it.
    pub thumbprint: [u8; 32],
    /// Its key, where that is Ed25519.
    pub public: Option<[u8; 32]>,
    pub expires: Timestamp,
}

impl Machines {
    /// Trades the certificate of a connection for an access token bound to it.
    pub async fn prove_by_certificate(&self, caller: &Caller, certificate: Option<Certificate>) -> Result<Granted> {
        let mut told = Event::new("auth.machine");
        if let Some(certificate) = &certificate {
            told = told.with("certificate", hex::encode(certificate.thumbprint));
        }
        let proven = self.judge_certificate(caller, certificate, &mut told).await;
        if let Err(Error::InvalidProof(why)) = &proven {
            self.audit.refused(caller, told.failed(*why)).await;
        }
        proven
    }

    async fn judge_certificate(
        &self,
        caller: &Caller,
        certificate: Option<Certificate>,
        told: &mut Event,
    ) -> Result<Granted> {
        let refuse = |why| Err(Error::InvalidProof(why));
        let Some(certificate) = certificate else { return refuse("neither an assertion nor a client certificate") };
        // The handshake may be long ago, or resume one that is.
        if certificate.expires <= self.clock.now() {
            return refuse("client certificate expired");
        }
        let Some(public) = certificate.public else { return refuse("a client certificate's key that is not Ed25519") };
        let Some((key, machine)) = self.keys.of_public(&STANDARD.encode(public)).await? else {
            return refuse("a client certificate's key that is no machine's of this instance");
        };
        *told = told.clone().about(&machine.id).document(KEYS, &key.id);
        self.audit.record(caller, told.clone()).await?;
        self.grant(machine, key, Some(&certificate)).await
    }

    /// Tells of a connection that came to nothing, for the certificate it showed.
    pub async fn turned_away(&self, address: IpAddr, why: &'static str) {
        let caller = Caller { subject: Subject::Anonymous, address: Some(address), ..Caller::system() };
        self.audit.refused(&caller, Event::new("auth.machine").failed(why)).await;
    }
}
