//! Tokens without a session: of who proved itself by a key, bound to the certificate that proved the key, if one did.

use super::{
    ACCESS_LIFE, Sessions,
    token::{Proof, Verified},
};
use crate::base::clock::Timestamp;
use crate::services::{
    Error, Result,
    access::{Caller, Restriction},
    audit::Event,
    identities::Identity,
    machines::Certificate,
};

impl Sessions {
    /// A token for who proved itself by a key: no session, nothing to refresh. It lives no longer than the key, nor than
    /// the certificate that proved it, to which it is then bound. Answers the seconds it lives too.
    pub(in crate::services) fn grant_key(
        &self,
        identity: &Identity,
        (key, expires): (&str, Timestamp),
        restriction: Option<Restriction>,
        certificate: Option<&Certificate>,
    ) -> Result<(String, i64)> {
        let now = self.clock.now();
        let until = certificate.map_or(expires, |certificate| certificate.expires.min(expires));
        let life = ACCESS_LIFE.min(until.seconds() - now.seconds());
        let bound = certificate.map(|certificate| certificate.thumbprint);
        let proof = Proof::Key(key, restriction, bound);
        Ok((self.tokens.issue(identity, proof, now, life)?, life))
    }

    /// Refuses a token bound to a certificate over a connection that did not show it: somebody copied it.
    pub async fn check_binding(
        &self,
        caller: &Caller,
        verified: &Verified,
        certificate: Option<&Certificate>,
    ) -> Result<()> {
        let Some(bound) = verified.bound else { return Ok(()) };
        if certificate.is_some_and(|certificate| certificate.thumbprint == bound) {
            return Ok(());
        }
        const WHY: &str = "a token bound to a certificate that was not shown";
        self.audit.refused(caller, Event::new("auth.token").failed(WHY).about(&verified.identity)).await;
        Err(Error::InvalidProof(WHY))
    }
}
