//! Key slots: the file key, sealed to each recipient with HPKE (RFC 9180, base mode). Replaceable: nothing else of
//! the file depends on them.

use super::{damaged, exactly, header::Fields, truncated};
use crate::{
    base::{fault::Fault, random},
    services::{
        Error, Result,
        backups::recipients::{Identity, Recipient},
    },
};
use hkdf::Hkdf;
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::X25519HkdfSha256};
use sha2::{Digest, Sha256};
use std::io::Read;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// X25519-HKDF-SHA256, HKDF-SHA256, AES-256-GCM. Kind 2 is kept for a hybrid post-quantum slot.
const KIND: u16 = 1;
/// Key id, encapsulated key, sealed file key with its tag.
const LENGTH: usize = 16 + 32 + 48;
const CHECKSUM: usize = 32;
const LARGEST: usize = 64 * 1024;
const INFO: &[u8] = b"debrouille-appliance backup v1 slot";

/// The random key of one file. Wiped from memory when dropped.
#[derive(Clone)]
pub struct FileKey(Zeroizing<[u8; 32]>);

impl FileKey {
    pub fn random() -> Self {
        Self(Zeroizing::new(random::array()))
    }

    /// What the header commits to. HKDF-SHA256 (RFC 5869) of key and salt.
    pub(super) fn commitment(&self, salt: &[u8; 32]) -> [u8; 32] {
        let mut out = [0; 32];
        Hkdf::<Sha256>::new(Some(salt), &*self.0)
            .expand(b"debrouille-appliance backup v1 commitment", &mut out)
            .expect("32 bytes are within HKDF's reach");
        out
    }

    /// The body's AES-256 key and its 7 bytes of nonce, bound to this very header.
    pub(super) fn body(&self, salt: &[u8; 32], header: &[u8; 32]) -> Zeroizing<[u8; 39]> {
        let mut out = Zeroizing::new([0; 39]);
        Hkdf::<Sha256>::new(Some(salt), &*self.0)
            .expand_multi_info(&[b"debrouille-appliance backup v1 body", header], &mut *out)
            .expect("39 bytes are within HKDF's reach");
        out
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// [`Recipient::id`] of the one who opens it.
    pub id: [u8; 16],
    pub encapsulated: [u8; 32],
    pub sealed: [u8; 48],
}

fn info(header: &[u8; 32]) -> Vec<u8> {
    [INFO, header].concat()
}

pub(super) fn seal(key: &FileKey, header: &[u8; 32], recipient: &Recipient) -> Result<Slot> {
    let refused = |_| Error::Invalid(Fault::new("backups.recipient").at(recipient.to_string()));
    let public = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(recipient.public_bytes()).map_err(refused)?;
    let id = recipient.id();
    let (encapsulated, sealed) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        &info(header),
        &*key.0,
        &id,
    )
    .map_err(refused)?;
    let encapsulated = encapsulated.to_bytes().into();
    let sealed = sealed.try_into().expect("32 bytes and a tag");
    Ok(Slot { id, encapsulated, sealed })
}

/// The file key, by the slot made for this identity.
pub(super) fn open(slots: &[Slot], header: &[u8; 32], identity: &Identity) -> Result<FileKey> {
    let own = identity.recipient();
    let Some(slot) = slots.iter().find(|slot| slot.id == own.id()) else {
        return Err(Error::Refused(Fault::new("backups.not_a_recipient").with("recipient", own)));
    };
    let private = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(identity.private_bytes().as_slice())
        .map_err(|_| damaged("slots"))?;
    let encapsulated =
        <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&slot.encapsulated).map_err(|_| damaged("slots"))?;
    let key = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        &info(header),
        &slot.sealed,
        &slot.id,
    )
    .map(Zeroizing::new)
    .map_err(|_| damaged("slots"))?;
    let key: [u8; 32] = key.as_slice().try_into().map_err(|_| damaged("slots"))?;
    Ok(FileKey(Zeroizing::new(key)))
}

/// Fails unless this is the key the header commits to; asked before anything is decrypted.
pub(super) fn check(key: &FileKey, salt: &[u8; 32], commitment: &[u8; 32]) -> Result<()> {
    if key.commitment(salt).ct_eq(commitment).into() { Ok(()) } else { Err(damaged("commitment")) }
}

/// The section as the file holds it. The checksum ties it to its header, against damage and mix-ups only.
pub(super) fn bytes(slots: &[Slot], header: &[u8; 32]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&u16::try_from(slots.len()).expect("recipients are few").to_be_bytes());
    for slot in slots {
        bytes.extend_from_slice(&KIND.to_be_bytes());
        bytes.extend_from_slice(&(LENGTH as u16).to_be_bytes());
        bytes.extend_from_slice(&slot.id);
        bytes.extend_from_slice(&slot.encapsulated);
        bytes.extend_from_slice(&slot.sealed);
    }
    let length = u32::try_from(bytes.len() - 4 + CHECKSUM).expect("recipients are few");
    bytes.splice(..4, length.to_be_bytes());
    let checksum = checksum(&bytes, header);
    bytes.extend_from_slice(&checksum);
    bytes
}

fn checksum(section: &[u8], header: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(header).chain_update(section).finalize().into()
}

/// The slots of kinds this release knows; others are passed over.
pub(super) fn read(input: &mut impl Read, header: &[u8; 32]) -> Result<Vec<Slot>> {
    let mut section = exactly(input, 4, "slots")?;
    let length = u32::from_be_bytes(Fields(&section).array()?) as usize;
    if !(2 + CHECKSUM..=LARGEST).contains(&length) {
        return Err(damaged("slots"));
    }
    section.extend(exactly(input, length, "slots")?);
    let (content, found) = section.split_last_chunk::<CHECKSUM>().ok_or_else(|| truncated("slots"))?;
    if checksum(content, header) != *found {
        return Err(damaged("slots"));
    }
    let mut fields = Fields(content.get(4..).unwrap_or_default());
    let count = u16::from_be_bytes(fields.array()?);
    let mut slots = Vec::new();
    for _ in 0..count {
        let kind = u16::from_be_bytes(fields.array()?);
        let length = usize::from(u16::from_be_bytes(fields.array()?));
        let (slot, rest) = fields.0.split_at_checked(length).ok_or_else(|| damaged("slots"))?;
        fields.0 = rest;
        if kind == KIND && length == LENGTH {
            let mut slot = Fields(slot);
            slots.push(Slot { id: slot.array()?, encapsulated: slot.array()?, sealed: slot.array()? });
        }
    }
    if fields.0.is_empty() { Ok(slots) } else { Err(damaged("slots")) }
}
