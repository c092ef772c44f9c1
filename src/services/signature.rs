//! A signature over plain JSON, which anyone can check without this program: Ed25519 over a line that says what is
//! signed, and the JSON without spaces, its names in the order of their characters.

use crate::services::keyring::Key;
use aws_lc_rs::signature::{ED25519, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    algorithm: String,
    /// The instance's public key, in hex.
    pub key: String,
    /// Base64.
    value: String,
}

impl Signature {
    /// `line`: what is signed, ending in a line feed.
    pub fn new(line: &str, signed: &Value, key: &Key) -> Self {
        let pair = key.signer();
        let value = STANDARD.encode(pair.sign(&bytes(line, signed)));
        Self { algorithm: "Ed25519".to_owned(), key: hex::encode(pair.public_key()), value }
    }

    /// By the key it names itself: whose that is, is for the caller to know.
    pub fn holds(&self, line: &str, signed: &Value) -> bool {
        let (Ok(public), Ok(value)) = (hex::decode(&self.key), STANDARD.decode(&self.value)) else { return false };
        let key = UnparsedPublicKey::new(&ED25519, public);
        self.algorithm == "Ed25519" && key.verify(&bytes(line, signed), &value).is_ok()
    }
}

fn bytes(line: &str, signed: &Value) -> Vec<u8> {
    format!("{line}{}", ordered(signed)).into_bytes()
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
    use serde_json::json;

    #[test]
    fn names_are_in_order_at_every_depth() {
        let value = json!({ "b": [1, { "d": "é\n", "c": null }], "c": 1, "a": true });
        assert_eq!(ordered(&value), r#"{"a":true,"b":[1,{"c":null,"d":"é\n"}],"c":1}"#);
    }
}
