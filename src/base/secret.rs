//! Secrets handed out once and known again by their hash alone: 256 random bits, which need no salt.

use super::random;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// 43 letters, digits, hyphens and underscores.
pub fn make() -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*Zeroizing::new(random::array::<32>())))
}

/// What is kept of one: SHA-256 in hex.
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_differ() {
        let (one, other) = (make(), make());
        assert_eq!(one.len(), 43);
        assert!(one != other && hash(&one) != hash(&other));
    }
}
