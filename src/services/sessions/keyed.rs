//! Tokens without a session: of who proved itself by a key, bound to the certificate that proved the key, if one did.

use super::{
    ACCESS_LIFE, Sessions,
    token::{Proof, Verified},
};
use crate::services::{
    Error, Result,
    access::{Caller, Restriction},
    audit::Event,
    identities::Identity,
    machines::Certificate,
};

impl Sessions {
    /// A token for who proved itself by a key: no session, nothing to refresh. Bound to the certificate that proved the
    /// key, it lives no longer than that. Answers the seconds it lives too.
    pub(in crate::services) fn grant_key(
        &self,
        identity: &Identity,
        key: &str,
        restriction: Option<Restriction>,
        certificate: Option<&Certificate>,
    ) -> Result<(String, i64)> {
        let now = self.clock.now();
        let rest = certificate.map_or(ACCESS_LIFE, |certificate| certificate.expires.seconds() - now.seconds());
        let (life, bound) = (ACCESS_LIFE.min(rest), certificate.map(|certificate| certificate.thumbprint));
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
