//! The immutable header: which backup this is, in the clear; every key is derived from its hash.

use super::{damaged, exactly};
use crate::{
    base::{clock::Timestamp, environment::Environment, fault::Fault},
    ports::documents::Sequence,
    services::{Error, Result},
};
use sha2::{Digest, Sha256};
use std::io::Read;

/// The newest version this release writes and reads.
pub const VERSION: u16 = 1;
/// X25519 + HKDF-SHA256 + AES-256-GCM slots, zstd, STREAM of AES-256-GCM, Ed25519. Suite 2 is kept for the hybrid
/// post-quantum slots.
const SUITE: u16 = 1;
const MAGIC: &[u8; 16] = b"DEBROUILLEBACKUP";
/// The first release that reads version 1.
const NEEDS: &[u8; 16] = b"0.1.0\0\0\0\0\0\0\0\0\0\0\0";
/// Magic, version, suite, length, release needed: the same in every version to come.
const START: usize = 40;
const LARGEST: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Everything as it stood at one moment, and the journal that is kept.
    Full,
    /// Journal records after another backup's.
    Segment,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Segment => "segment",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// A UUID.
    pub backup: [u8; 16],
    pub created: Timestamp,
    pub kind: Kind,
    /// Of the instance; each restore begins another.
    pub lineage: u32,
    /// Journal records after this one…
    pub after: Sequence,
    /// …and up to this one are inside.
    pub upto: Sequence,
    /// SHA-256 of the manifest before this one; zeros for the first.
    pub previous: [u8; 32],
    pub salt: [u8; 32],
    /// Derived from the file key: no other key opens this file.
    pub commitment: [u8; 32],
    pub environment: Environment,
    pub instance: String,
}

impl Header {
    pub fn id(&self) -> String {
        uuid::Uuid::from_bytes(self.backup).to_string()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&SUITE.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(NEEDS);
        bytes.extend_from_slice(&self.backup);
        bytes.extend_from_slice(&self.created.0.to_be_bytes());
        bytes.extend_from_slice(&[if self.kind == Kind::Full { 1 } else { 2 }, 0, 0, 0]);
        bytes.extend_from_slice(&self.lineage.to_be_bytes());
        bytes.extend_from_slice(&self.after.0.to_be_bytes());
        bytes.extend_from_slice(&self.upto.0.to_be_bytes());
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.commitment);
        for text in [self.environment.name(), &self.instance] {
            bytes.push(u8::try_from(text.len()).expect("ids and environments are short"));
            bytes.extend_from_slice(text.as_bytes());
        }
        let length = u32::try_from(bytes.len()).expect("two texts of at most 255 bytes");
        bytes.splice(20..24, length.to_be_bytes());
        bytes
    }

    /// The header and its hash.
    pub(super) fn read(input: &mut impl Read) -> Result<(Self, [u8; 32])> {
        let not_ours = |_| Error::Damaged(Fault::new("backups.not_a_backup"));
        let mut bytes = exactly(input, START, "header").map_err(not_ours)?;
        let mut fields = Fields(&bytes);
        if fields.array::<16>()? != *MAGIC {
            return Err(not_ours(damaged("header")));
        }
        let version = u16::from_be_bytes(fields.array()?);
        let suite = u16::from_be_bytes(fields.array()?);
        let length = u32::from_be_bytes(fields.array()?) as usize;
        let needs = fields.array::<16>()?;
        if version > VERSION || (version == VERSION && suite != SUITE) {
            let needs = String::from_utf8_lossy(&needs).trim_end_matches('\0').escape_debug().to_string();
            return Err(Error::Refused(
                Fault::new("backups.newer").with("version", version).with("suite", suite).with("needs", needs),
            ));
        }
        if version != VERSION || !(START..=LARGEST).contains(&length) {
            return Err(damaged("header"));
        }
        bytes.extend(exactly(input, length - START, "header")?);
        let header = Self::fields(Fields(bytes.get(START..).unwrap_or_default()))?;
        // One writing of each header, so that no flipped bit hides in a field nobody reads.
        if header.bytes() != bytes {
            return Err(damaged("header"));
        }
        Ok((header, Sha256::digest(&bytes).into()))
    }

    fn fields(mut fields: Fields<'_>) -> Result<Self> {
        let backup = fields.array()?;
        let created = Timestamp(i64::from_be_bytes(fields.array()?));
        let kind = match fields.array::<4>()? {
            [1, ..] => Kind::Full,
            [2, ..] => Kind::Segment,
            _ => return Err(damaged("header")),
        };
        Ok(Self {
            backup,
            created,
            kind,
            lineage: u32::from_be_bytes(fields.array()?),
            after: Sequence(u64::from_be_bytes(fields.array()?)),
            upto: Sequence(u64::from_be_bytes(fields.array()?)),
            previous: fields.array()?,
            salt: fields.array()?,
            commitment: fields.array()?,
            environment: fields.text()?.parse().map_err(|()| damaged("header"))?,
            instance: fields.text()?.to_owned(),
        })
    }
}

/// Takes fields off the front.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().ok_or_else(|| damaged("header"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn text(&mut self) -> Result<&'a str> {
        let [length] = self.array()?;
        let (text, rest) = self.0.split_at_checked(usize::from(length)).ok_or_else(|| damaged("header"))?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| damaged("header"))
    }
}
