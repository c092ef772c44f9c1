//! A certificate: plain JSON under an Ed25519 signature, which anyone can check without this program.
//!
//! Signed are the bytes `debrouille-appliance certificate v1`, a line feed, and the certificate as JSON without spaces,
//! its names in the order of their characters.

use crate::{
    base::fault::Fault,
    services::{Error, Result, keyring::Key, signature::Signature},
};
use serde_json::Value;

const SIGNED: &str = "debrouille-appliance certificate v1\n";

/// As it is handed out and kept.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    pub certificate: Value,
    pub signature: Signature,
}

impl Signed {
    pub(super) fn new(certificate: Value, key: &Key) -> Self {
        let signature = Signature::new(SIGNED, &certificate, key);
        Self { certificate, signature }
    }
}

/// Checks a certificate as it was handed out; with `key`, that it is this instance's.
pub fn verify(text: &str, key: Option<&str>) -> Result<Signed> {
    let unsound = || Error::Damaged(Fault::new("subjects.certificate_unsound"));
    let signed: Signed = serde_json::from_str(text).map_err(|_| unsound())?;
    if let Some(key) = key.filter(|key| !key.trim().eq_ignore_ascii_case(&signed.signature.key)) {
        let found = &signed.signature.key;
        return Err(Error::Damaged(Fault::new("subjects.certificate_key").with("wanted", key).with("found", found)));
    }
    if signed.signature.holds(SIGNED, &signed.certificate) { Ok(signed) } else { Err(unsound()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::Timestamp,
        services::keyring::{Keyring, Purpose},
    };
    use serde_json::json;
    use zeroize::Zeroizing;

    #[test]
    fn a_certificate_is_sound_or_not() {
        let keyring = Keyring::generate((Zeroizing::new(vec![1]), vec![1]), Timestamp(1));
        let certificate = json!({ "b": [1, { "d": "é\n", "c": null }], "a": true });
        let signed = Signed::new(certificate, &keyring.current(Purpose::AuditSigning));
        let text = serde_json::to_string_pretty(&signed).unwrap();
        let key = signed.signature.key.to_uppercase();
        assert_eq!(verify(&text, Some(&key)).unwrap().certificate, signed.certificate);
        assert!(verify(&text, None).is_ok());
        let fault = |text: &str, key: Option<&str>| match verify(text, key) {
            Err(Error::Damaged(fault)) => fault.key,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(&text, Some("00")), "subjects.certificate_key");
        assert_eq!(fault(&text.replace("true", "false"), None), "subjects.certificate_unsound");
        assert_eq!(fault("{}", None), "subjects.certificate_unsound");
        let other = Keyring::generate((Zeroizing::new(vec![1]), vec![1]), Timestamp(1));
        let other = hex::encode(&other.current(Purpose::AuditSigning).public);
        assert_eq!(fault(&text.replace(&signed.signature.key, &other), None), "subjects.certificate_unsound");
    }
}
