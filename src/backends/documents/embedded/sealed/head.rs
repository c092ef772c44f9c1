//! The head: all that is rewritten in place, redb's own header included, in two slots written by turns.

use super::{
    error::{Error, Result},
    keys::{self, CHECK, DataKeys, FileId, Takeovers},
    layout::{HEAD_NUMBER, NONCE, PAGE, TAG},
};
use aws_lc_rs::aead::{Aad, Nonce};

pub(super) const FORMAT: u32 = 1;
/// Bytes of the first logical page that a head keeps; redb's header takes 320 of them.
pub(super) const HEADER: usize = 512;
/// Bytes of a stamp at most.
pub const STAMP: usize = 256;
/// Data key versions a file can live through.
pub(super) const TAKEOVERS: usize = 256;

const MAGIC: [u8; 8] = *b"\x89DASEAL\n";
/// Bytes in clear and authenticated, before the tag.
const CLEAR: usize = 64;
/// Where the sealed body starts.
const BODY: usize = 96;

/// redb's mark of an initialised database, and where its flags stand.
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
const REDB_FLAGS: usize = 9;
const REDB_RECOVERY: u8 = 2;
const REDB_TWO_PHASE: u8 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub file: FileId,
    /// Grows with every head written; the higher one of two right ones counts.
    pub generation: u64,
    /// The epoch that seals now, this head included.
    pub epoch: u32,
    /// Bytes redb sees.
    pub length: u64,
    /// A crash may have left half-written pages in free space; a sweep has not yet cleared them.
    pub unswept: bool,
    /// Names the log's blocks that count: drawn anew at each checkpoint.
    pub cycle: u64,
    pub takeovers: Takeovers,
    pub stamp: Vec<u8>,
    pub header: [u8; HEADER],
}

impl Head {
    pub fn version(&self) -> Result<u32> {
        keys::version_of(&self.takeovers, self.epoch).ok_or(Error::Damaged { what: "epoch" })
    }

    /// redb has initialised its file: before that there is nothing to lose in it.
    pub fn initialised(&self) -> bool {
        self.header.starts_with(&REDB_MAGIC)
    }

    /// redb will check every page by its own checksums before it trusts any: only then may a wrong page read
    /// as zeros. It does so whenever the last commit was not a two-phase one, whatever the recovery flag says (a
    /// cut during a repair leaves it cleared over a header that still names the torn commit).
    pub fn redb_verifies(&self) -> bool {
        self.initialised() && self.header[REDB_FLAGS] & REDB_TWO_PHASE == 0
    }

    /// redb ended in order: its last commit is a two-phase one and nothing came after.
    pub fn clean(&self) -> bool {
        self.initialised() && self.header[REDB_FLAGS] & (REDB_RECOVERY | REDB_TWO_PHASE) == REDB_TWO_PHASE
    }

    /// A slot's bytes.
    pub fn seal(&self, data: &DataKeys, nonce: [u8; NONCE]) -> Result<Box<[u8; PAGE]>> {
        let version = self.version()?;
        let mut slot = Box::new([0; PAGE]);
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        slot[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        slot[16..20].copy_from_slice(&version.to_le_bytes());
        slot[20..32].copy_from_slice(&nonce);
        slot[32..48].copy_from_slice(&self.file);
        slot[48..56].copy_from_slice(&self.generation.to_le_bytes());
        slot[56..64].copy_from_slice(&keys::key_check(&self.file, data, version)?);
        self.write_body(&mut slot[BODY..]);
        let key = keys::epoch_key(&self.file, data, version, self.epoch)?;
        let aad = aad(&slot[..CLEAR]);
        let tag = keys::seal(&key, nonce, &aad, &mut slot[BODY..])?;
        slot[CLEAR..CLEAR + TAG].copy_from_slice(&tag);
        Ok(slot)
    }

    fn write_body(&self, body: &mut [u8]) {
        let stamp = u16::try_from(self.stamp.len()).expect("a stamp is at most 256 bytes");
        let takeovers = u16::try_from(self.takeovers.len()).expect("takeovers are at most 256");
        body[..8].copy_from_slice(&self.length.to_le_bytes());
        body[8..10].copy_from_slice(&stamp.to_le_bytes());
        body[10..12].copy_from_slice(&takeovers.to_le_bytes());
        body[12] = u8::from(self.unswept);
        body[16..24].copy_from_slice(&self.cycle.to_le_bytes());
        body[24..24 + HEADER].copy_from_slice(&self.header);
        body[536..536 + self.stamp.len()].copy_from_slice(&self.stamp);
        for ((first, version), at) in self.takeovers.iter().zip(body[792..].as_chunks_mut::<8>().0) {
            at[..4].copy_from_slice(&first.to_le_bytes());
            at[4..].copy_from_slice(&version.to_le_bytes());
        }
    }

    /// What a slot says of its generation, unproven.
    pub fn claimed_generation(slot: &[u8; PAGE]) -> u64 {
        u64::from_le_bytes(array(&slot[48..56]))
    }

    /// Reads a slot. The error says how far it was right: [`Error::Foreign`], [`Error::Version`],
    /// [`Error::KeyMissing`], [`Error::KeyWrong`], [`Error::Damaged`].
    pub fn open(slot: &[u8; PAGE], data: &DataKeys) -> Result<Self> {
        if slot[..8] != MAGIC {
            return Err(Error::Foreign);
        }
        let found = u32::from_le_bytes(array(&slot[8..12]));
        if found != FORMAT {
            return Err(Error::Version { found, known: FORMAT });
        }
        let epoch = u32::from_le_bytes(array(&slot[12..16]));
        let version = u32::from_le_bytes(array(&slot[16..20]));
        let file: FileId = array(&slot[32..48]);
        let check: [u8; CHECK] = array(&slot[56..64]);
        if check != keys::key_check(&file, data, version)? {
            return Err(Error::KeyWrong { version });
        }
        let mut body = [0; PAGE - BODY];
        keys::epoch_key(&file, data, version, epoch)?
            .open_separate_gather(
                Nonce::assume_unique_for_key(array(&slot[20..32])),
                Aad::from(aad(&slot[..CLEAR])),
                &slot[BODY..],
                &slot[CLEAR..CLEAR + TAG],
                &mut body,
            )
            .map_err(|_| Error::Damaged { what: "head" })?;
        let stamp = usize::from(u16::from_le_bytes(array(&body[8..10])));
        let takeovers = usize::from(u16::from_le_bytes(array(&body[10..12])));
        if stamp > STAMP || takeovers > TAKEOVERS {
            return Err(Error::Damaged { what: "head" });
        }
        Ok(Self {
            file,
            generation: u64::from_le_bytes(array(&slot[48..56])),
            epoch,
            length: u64::from_le_bytes(array(&body[..8])),
            unswept: body[12] != 0,
            cycle: u64::from_le_bytes(array(&body[16..24])),
            takeovers: body[792..]
                .as_chunks::<8>()
                .0
                .iter()
                .take(takeovers)
                .map(|at| (u32::from_le_bytes(array(&at[..4])), u32::from_le_bytes(array(&at[4..]))))
                .collect(),
            stamp: body[536..536 + stamp].to_vec(),
            header: array(&body[24..24 + HEADER]),
        })
    }
}

/// The clear bytes, with the number no page has.
fn aad(clear: &[u8]) -> [u8; CLEAR + 8] {
    let mut aad = [0; CLEAR + 8];
    aad[..CLEAR].copy_from_slice(clear);
    aad[CLEAR..].copy_from_slice(&HEAD_NUMBER.to_le_bytes());
    aad
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice is cut to that length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(stamp: Vec<u8>, length: u64, takeovers: Takeovers) -> Head {
        Head {
            file: [7; 16],
            generation: 9,
            epoch: 400,
            length,
            unswept: true,
            cycle: 0x0102_0304,
            takeovers,
            stamp,
            header: [3; HEADER],
        }
    }

    proptest! {
        #[test]
        fn a_head_reads_as_sealed(
            stamp in proptest::collection::vec(any::<u8>(), 0..=STAMP),
            length: u64,
            more in 0u32..=255,
            nonce: [u8; 12],
        ) {
            let head = head(stamp, length, (0..=more).map(|n| (n, 1)).collect());
            let keys = DataKeys::new(1, [5; 32]);
            let slot = head.seal(&keys, nonce)?;
            prop_assert_eq!(Head::open(&slot, &keys)?, head);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_refused() {
        let keys = DataKeys::new(1, [5; 32]);
        let slot = head(b"instance".to_vec(), 4096, vec![(1, 1)]).seal(&keys, [1; 12]).unwrap();
        for byte in (0..80).chain((BODY..PAGE).step_by(37)) {
            for bit in 0..8 {
                let mut flipped = slot.clone();
                flipped[byte] ^= 1 << bit;
                assert!(Head::open(&flipped, &keys).is_err(), "bit {bit} of byte {byte}");
            }
        }
    }

    #[test]
    fn a_wrong_or_missing_key_is_told_from_damage() {
        let keys = DataKeys::new(1, [5; 32]);
        let slot = head(Vec::new(), 0, vec![(1, 1)]).seal(&keys, [1; 12]).unwrap();
        assert!(matches!(Head::open(&slot, &DataKeys::new(1, [6; 32])), Err(Error::KeyWrong { version: 1 })));
        assert!(matches!(Head::open(&slot, &DataKeys::new(2, [5; 32])), Err(Error::KeyMissing { version: 1 })));
        let mut later = slot.clone();
        later[8] = 2;
        assert!(matches!(Head::open(&later, &keys), Err(Error::Version { found: 2, known: 1 })));
        assert!(matches!(Head::open(&[0; PAGE], &keys), Err(Error::Foreign)));
    }
}
