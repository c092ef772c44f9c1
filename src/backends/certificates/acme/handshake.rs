//! The certificate that is itself a proof (RFC 8737, 3): for one name, with a digest, of no use for anything else.

use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};

/// In DER: the certificate, and its private key (PKCS#8). `None`: not a name that can be certified.
pub fn proof(name: String, digest: &[u8; 32]) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).ok()?;
    let mut parameters = CertificateParams::new(vec![name]).ok()?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    Some((parameters.self_signed(&key).ok()?.der().to_vec(), key.serialize_der()))
}
