//! Client certificates: asked for where the operator named their authority, never required; one that is shown must be good.

use crate::{
    base::{clock::Timestamp, fault::Fault, trust},
    services::machines::Certificate,
};
use rustls::{
    CertificateError, ServerConnection,
    crypto::aws_lc_rs,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest, Sha256};
use std::{io, path::Path, sync::Arc};
use x509_parser::{oid_registry::OID_SIG_ED25519, prelude::FromDer, prelude::X509Certificate};

/// Who is believed: certificates of the authorities in this file, within their time and for clients.
pub fn verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    let fault = |cause: &dyn std::fmt::Display| Fault::new("server.client_ca").with("cause", cause);
    let roots = trust::only(path).map_err(|error| fault(&error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
    verifier.build().map_err(|error| fault(&error))
}

/// The certificate this connection began with, verified then.
pub fn shown(connection: &ServerConnection) -> Option<Certificate> {
    let der = connection.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let info = parsed.public_key();
    let ed25519 = info.algorithm.algorithm == OID_SIG_ED25519;
    let public = ed25519.then(|| (&*info.subject_public_key.data).try_into().ok()).flatten();
    let expires = Timestamp(parsed.validity().not_after.timestamp().saturating_mul(1000));
    Some(Certificate { thumbprint: Sha256::digest(der).into(), public, expires })
}

/// Why a handshake failed, if it was for the client's certificate.
pub fn refusal(error: &io::Error) -> Option<&'static str> {
    use CertificateError as Why;
    let rustls::Error::InvalidCertificate(why) = error.get_ref()?.downcast_ref()? else { return None };
    Some(match why {
        Why::Expired | Why::ExpiredContext { .. } => "client certificate expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "client certificate of the future",
        Why::UnknownIssuer => "client certificate of another authority",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => "client certificate for another purpose",
        _ => "client certificate that does not verify",
    })
}
