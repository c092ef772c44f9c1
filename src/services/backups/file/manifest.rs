//! The manifest: hashes and totals, signed by the instance, at the end of the file.

use super::{damaged, failed, header::Header, stream::Sum, truncated};
use crate::{
    base::fault::Fault,
    services::{Error, Result, backups::recipients::Signer, keyring::Key},
};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use std::{io::Read, sync::Arc};

const SIGNED: &[u8] = b"debrouille-appliance backup v1 manifest\n";
const VOUCHED: &[u8] = b"debrouille-appliance backup v1 signer\n";
/// Of a manifest: who knows none of so many keys must be told of one.
const MOST_VOUCHERS: usize = 32;
const SIGNATURE: usize = 64;
pub(super) const LARGEST: usize = 16 * 1024;

/// What is inside, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub lines: u64,
    pub documents: u64,
    pub records: u64,
    /// Of the text, before compression.
    pub bytes: u64,
}

/// Fields in the order of their names, which is the order of the signed JSON.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The backup's id.
    pub backup: String,
    pub body_bytes: u64,
    pub body_sha256: String,
    pub documents: u64,
    pub format: u16,
    pub header_sha256: String,
    pub lines: u64,
    pub records: u64,
    /// The Ed25519 public key, in hex.
    pub signer: String,
    pub text_bytes: u64,
    /// The keys before it, the last one first: each vouches for the one after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vouched_by: Vec<Voucher>,
}

/// The word of a signing key for its successor.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// In hex, of a line that says what it is, and the successor's public key.
    signature: String,
    /// The public key, in hex.
    signer: String,
}

/// What a manifest is signed with.
pub struct Signing {
    pub(super) pair: Ed25519KeyPair,
    pub(super) vouchers: Vec<Voucher>,
}

impl Signing {
    /// By the last of these keys; `None` where there is none.
    pub fn of(keys: &[Arc<Key>]) -> Option<Self> {
        let vouchers = keys.windows(2).rev().take(MOST_VOUCHERS).map(|pair| {
            let signature = pair[0].signer().sign(&[VOUCHED, &pair[1].public].concat());
            Voucher { signature: hex::encode(signature), signer: hex::encode(&pair[0].public) }
        });
        Some(Self { pair: keys.last()?.signer(), vouchers: vouchers.collect() })
    }
}

/// Whose signature is believed.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The instance's own keys, of the keyring or written down beside the recipient's identity.
    Signers(&'a [Signer]),
    /// Anyone's: shows damage, not forgery. The caller must show [`Manifest::signer`] to a person.
    Anyone,
}

impl Manifest {
    /// Who signed, in the form people compare.
    pub fn signer(&self) -> String {
        Signer::from_hex(&self.signer).map_or_else(|| self.signer.clone(), |signer| signer.to_string())
    }

    pub(super) fn new(header: &Header, hash: &[u8; 32], body: &Sum, totals: Totals, signing: &Signing) -> Self {
        Self {
            backup: header.id(),
            body_bytes: body.bytes,
            body_sha256: hex::encode(body.sha256),
            documents: totals.documents,
            format: super::VERSION,
            header_sha256: hex::encode(hash),
            lines: totals.lines,
            records: totals.records,
            signer: hex::encode(signing.pair.public_key()),
            text_bytes: totals.bytes,
            vouched_by: signing.vouchers.clone(),
        }
    }

    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields")
    }

    /// The link the next backup's header carries.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.json()).into()
    }

    pub fn totals(&self) -> Totals {
        let Self { lines, documents, records, text_bytes, .. } = *self;
        Totals { lines, documents, records, bytes: text_bytes }
    }

    /// JSON, signature, length of the JSON: readable from the end of the file.
    pub(super) fn bytes(&self, signing: &Signing) -> Vec<u8> {
        let json = self.json();
        let signature = signing.pair.sign(&[SIGNED, &json].concat());
        let length = u32::try_from(json.len()).expect("a few hundred bytes");
        [&json, signature.as_ref(), &length.to_be_bytes()].concat()
    }

    /// Everything up to the end of the file must be the manifest, signed by one who is believed.
    pub(super) fn read(input: &mut impl Read, trust: Trust<'_>) -> Result<Self> {
        let mut bytes = Vec::new();
        input.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Self::parse(&bytes, trust)
    }

    pub(super) fn parse(bytes: &[u8], trust: Trust<'_>) -> Result<Self> {
        let (rest, length) = bytes.split_last_chunk().ok_or_else(|| truncated("manifest"))?;
        let (json, signature) = rest.split_last_chunk::<SIGNATURE>().ok_or_else(|| truncated("manifest"))?;
        if u32::from_be_bytes(*length) as usize != json.len() {
            return Err(damaged("manifest"));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|_| damaged("manifest"))?;
        if manifest.json() != json || manifest.format != super::VERSION {
            return Err(damaged("manifest"));
        }
        let key = hex::decode(&manifest.signer).map_err(|_| damaged("manifest"))?;
        let believed = match trust {
            Trust::Anyone => true,
            Trust::Signers(signers) => manifest.believed(&key, signers),
        };
        if !believed {
            return Err(Error::Damaged(Fault::new("backups.signer").with("signer", manifest.signer())));
        }
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&[SIGNED, json].concat(), signature)
            .map_err(|_| Error::Damaged(Fault::new("backups.signature")))?;
        Ok(manifest)
    }

    /// Whether the key is one of these, or one of these vouches for it over any number of successors.
    fn believed(&self, key: &[u8], signers: &[Signer]) -> bool {
        let known = |key: &[u8]| signers.iter().any(|signer| signer.bytes()[..] == *key);
        let mut key = key.to_vec();
        for voucher in &self.vouched_by {
            if known(&key) {
                return true;
            }
            let (Ok(before), Ok(signature)) = (hex::decode(&voucher.signer), hex::decode(&voucher.signature)) else {
                return false;
            };
            let vouches = UnparsedPublicKey::new(&ED25519, &before).verify(&[VOUCHED, &key].concat(), &signature);
            if vouches.is_err() {
                return false;
            }
            key = before;
        }
        known(&key)
    }

    /// Fails unless it speaks of this header.
    pub(super) fn is_of(&self, header: &Header) -> Result<()> {
        let same = self.backup == header.id() && self.header_sha256 == hex::encode(Sha256::digest(header.bytes()));
        if same { Ok(()) } else { Err(Error::Damaged(Fault::new("backups.mismatch"))) }
    }

    /// Fails unless it speaks of this header and body.
    pub(super) fn check(&self, header: &Header, hash: &[u8; 32], body: &Sum) -> Result<()> {
        let same = self.backup == header.id()
            && self.header_sha256 == hex::encode(hash)
            && self.body_bytes == body.bytes
            && self.body_sha256 == hex::encode(body.sha256);
        if same { Ok(()) } else { Err(Error::Damaged(Fault::new("backups.mismatch"))) }
    }
}
