//! A place in a query's result, opaque to the caller: base64url of the query's fingerprint and the last row's key.

use crate::{
    base::fault::Fault,
    services::{Error, Result},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// What makes two queries the same to a cursor: 16 bytes of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    pub fn of(collection: &str, filter: &[u8], sort: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [collection.as_bytes(), filter, sort.as_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
        Self(bytes)
    }

    pub fn cursor(self, key: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([&self.0, key].concat())
    }

    /// The key within a cursor of this very query.
    pub fn open(self, cursor: &str) -> Result<Vec<u8>> {
        let unreadable = || Error::Invalid(Fault::new("documents.cursor").at("cursor"));
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| unreadable())?;
        let (fingerprint, key) = bytes.split_first_chunk::<16>().ok_or_else(unreadable)?;
        if *fingerprint != self.0 {
            return Err(Error::Invalid(Fault::new("documents.cursor_query").at("cursor")));
        }
        Ok(key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_for_its_own_query_alone() {
        let query = Fingerprint::of("places", b"filter", "name");
        let cursor = query.cursor(&[0, 255, 7]);
        assert_eq!(query.open(&cursor).unwrap(), [0, 255, 7]);
        for other in [
            Fingerprint::of("people", b"filter", "name"),
            Fingerprint::of("places", b"filte", "rname"),
            Fingerprint::of("places", b"filter", "-name"),
        ] {
            assert!(matches!(other.open(&cursor), Err(Error::Invalid(fault)) if fault.key == "documents.cursor_query"));
        }
        for broken in ["", "é", "AAAA", "a=="] {
            assert!(matches!(query.open(broken), Err(Error::Invalid(fault)) if fault.key == "documents.cursor"));
        }
    }
}
