//! Who can open a backup and who signs it: key pairs outside the server, and their text forms.
//!
//! A text form is `debrouille-KIND-1-` and 72 hex digits: 32 bytes of key, then 4 of checksum, the first of
//! SHA-256 over the prefix and the key. A slip of the pen is noticed, not corrected.

use super::file::Trust;
use crate::{
    base::{environment::Environment, fault::Fault, random},
    services::{Error, Result},
};
use hpke::{Deserializable, Serializable, kem::X25519HkdfSha256};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use zeroize::Zeroizing;

const RECIPIENT: &str = "debrouille-recipient-1-";
const IDENTITY: &str = "debrouille-identity-1-";
const SIGNER: &str = "debrouille-signer-1-";

/// A public X25519 key, known to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

/// A private X25519 key, kept off the server. Wiped from memory when dropped.
pub struct Identity {
    private: Zeroizing<[u8; 32]>,
    recipient: Recipient,
    signers: Vec<Signer>,
}

/// An instance's public Ed25519 key for backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer([u8; 32]);

/// Recipients a backup must have, so that one lost key is not all.
pub fn fewest(environment: Environment) -> usize {
    if environment == Environment::Production { 2 } else { 1 }
}

fn checksum(prefix: &str, key: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::new().chain_update(prefix).chain_update(key).finalize().into();
    [a, b, c, d]
}

pub(super) fn encode(prefix: &str, key: &[u8]) -> String {
    format!("{prefix}{}{}", hex::encode(key), hex::encode(checksum(prefix, key)))
}

pub(super) fn decode<const N: usize>(prefix: &str, text: &str) -> Option<Zeroizing<[u8; N]>> {
    let bytes = Zeroizing::new(hex::decode(text.strip_prefix(prefix)?).ok()?);
    let (key, sum) = bytes.split_first_chunk::<N>()?;
    (checksum(prefix, key) == *sum).then(|| Zeroizing::new(*key))
}

impl Recipient {
    /// The first 16 bytes of SHA-256 over the text form's prefix and the key.
    pub fn id(&self) -> [u8; 16] {
        let hash: [u8; 32] = Sha256::new().chain_update(RECIPIENT).chain_update(self.0).finalize().into();
        *hash.first_chunk().expect("16 of 32 bytes")
    }

    pub(super) fn public_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let key = decode(RECIPIENT, text.trim());
        key.map(|key| Self(*key)).ok_or_else(|| Error::Invalid(Fault::new("backups.recipient").at(text.trim())))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(RECIPIENT, &self.0))
    }
}

impl Signer {
    /// `None` unless it is 32 bytes.
    pub fn new(public: &[u8]) -> Option<Self> {
        public.try_into().ok().map(Self)
    }

    /// As a manifest names it: 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        Self::new(&hex::decode(text).ok()?)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Signer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let key = decode(SIGNER, text.trim());
        key.map(|key| Self(*key)).ok_or_else(|| Error::Invalid(Fault::new("backups.signer_text").at(text.trim())))
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(SIGNER, &self.0))
    }
}

impl Identity {
    /// A new pair. `signers` are the instances whose backups it will be asked to restore, if known yet.
    pub fn generate(signers: Vec<Signer>) -> Self {
        Self::new(&random::array(), signers).expect("any 32 bytes make an X25519 key")
    }

    pub(super) fn new(private: &[u8; 32], signers: Vec<Signer>) -> Option<Self> {
        let private = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(private).ok()?;
        let public = <X25519HkdfSha256 as hpke::Kem>::sk_to_pk(&private);
        let recipient = Recipient(public.to_bytes().into());
        Some(Self { private: Zeroizing::new(private.to_bytes().into()), recipient, signers })
    }

    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// The instances whose signature the file, or its owner, says to believe.
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }

    #[must_use]
    pub fn believing(mut self, signers: Vec<Signer>) -> Self {
        self.signers.extend(signers);
        self
    }

    /// Without a signer anyone's backup opens: damage shows, forgery does not.
    pub fn trust(&self) -> Trust<'_> {
        match self.signers() {
            [] => Trust::Anyone,
            signers => Trust::Signers(signers),
        }
    }

    pub(super) fn private_bytes(&self) -> &Zeroizing<[u8; 32]> {
        &self.private
    }

    /// The content of an identity file: for people in comments, one private key, and the signers to believe.
    pub fn to_file(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str("# Débrouille Appliance: clé privée de sauvegarde. Gardez-la hors du serveur, en lieu sûr.\n");
        text.push_str("# Débrouille Appliance: private backup key. Keep it off the server, in a safe place.\n");
        text.push_str(&format!("# {}\n", self.recipient));
        text.push_str(&Zeroizing::new(encode(IDENTITY, self.private.as_slice())));
        text.push('\n');
        for signer in &self.signers {
            text.push_str(&format!("{signer}\n"));
        }
        text
    }

    /// Reads an identity file. Empty lines and those after `#` are passed over.
    pub fn from_file(text: &str) -> Result<Self> {
        let mut private = None;
        let mut signers = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = || Error::Invalid(Fault::new("backups.identity_text").with("line", number + 1));
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with(SIGNER) {
                signers.push(line.parse()?);
            } else {
                let key = decode(IDENTITY, line).ok_or_else(wrong)?;
                if private.replace(key).is_some() {
                    return Err(wrong());
                }
            }
        }
        private
            .and_then(|key| Self::new(&key, signers))
            .ok_or_else(|| Error::Invalid(Fault::new("backups.identity_text").with("line", 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_slips_are_noticed() {
        let signer = Signer([7; 32]);
        let identity = Identity::generate(vec![signer.clone()]);
        let back = Identity::from_file(&identity.to_file()).unwrap();
        assert_eq!(back.recipient(), identity.recipient());
        assert_eq!(back.private_bytes(), identity.private_bytes());
        assert_eq!(back.signers(), std::slice::from_ref(&signer));
        let text = identity.recipient().to_string();
        assert_eq!(text.parse::<Recipient>().unwrap(), *identity.recipient());
        assert_eq!(signer.to_string().parse::<Signer>().unwrap(), signer);
        for place in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[place] = if wrong[place] == b'0' { b'1' } else { b'0' };
            assert!(String::from_utf8(wrong).unwrap().parse::<Recipient>().is_err(), "slip at {place}");
        }
        assert!(identity.to_file().parse::<Recipient>().is_err());
        let private = identity.to_file().lines().find(|line| line.starts_with(IDENTITY)).unwrap().to_owned();
        assert!(private.replace(IDENTITY, RECIPIENT).parse::<Recipient>().is_err(), "a private key taken for a public");
        assert!(Identity::from_file(&format!("{private}\n{private}")).is_err());
        assert!(Identity::from_file("# nothing\n").is_err());
    }
}
