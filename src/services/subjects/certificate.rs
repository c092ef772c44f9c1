//! A certificate: plain JSON under an Ed25519 signature, which anyone can check without this program.
//!
//! Signed are the bytes `debrouille-appliance certificate v1`, a line feed, and the certificate as JSON without spaces,
//! its names in the order of their characters.

use crate::{
    base::fault::Fault,
    services::{Error, Result, keyring::Key},
};
use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::collections::BTreeMap;

const SIGNED: &str = "debrouille-appliance certificate v1\n";

/// As it is handed out and kept.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    pub certificate: Value,
    pub signature: Signature,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    algorithm: String,
    /// The instance's public key, in hex.
    pub key: String,
    /// Base64.
    value: String,
}

impl Signed {
    pub(super) fn new(certificate: Value, key: &Key) -> Self {
        let pair = key.signer();
        let value = STANDARD.encode(pair.sign(&bytes(&certificate)));
        let key = hex::encode(pair.public_key());
        Self { certificate, signature: Signature { algorithm: "Ed25519".to_owned(), key, value } }
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
    let public = hex::decode(&signed.signature.key).map_err(|_| unsound())?;
    let value = STANDARD.decode(&signed.signature.value).map_err(|_| unsound())?;
    let sound = UnparsedPublicKey::new(&ED25519, public).verify(&bytes(&signed.certificate), &value);
    match signed.signature.algorithm.as_str() {
        "Ed25519" => sound.map(|()| signed).map_err(|_| unsound()),
        _ => Err(unsound()),
    }
}

fn bytes(certificate: &Value) -> Vec<u8> {
    format!("{SIGNED}{}", ordered(certificate)).into_bytes()
}

/// JSON whose names are in order, at every depth.
fn ordered(value: &Value) -> String {
    let within = |open: char, parts: Vec<String>, close: char| format!("{open}{}{close}", parts.join(","));
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            let field = |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), ordered(value));
            within('{', fields.into_iter().map(field).collect(), '}')
        }
        Value::Array(values) => within('[', values.iter().map(ordered).collect(), ']'),
        other => other.to_string(),
    }
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
        assert_eq!(ordered(&certificate), r#"{"a":true,"b":[1,{"c":null,"d":"é\n"}]}"#);
        let signed = Signed::new(certificate, keyring.current(Purpose::AuditSigning));
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
