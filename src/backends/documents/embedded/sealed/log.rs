//! The log: entries changed by a sync, side by side in a few blocks rather than spread over all their tag pages.
//!
//! Tag pages take them at a checkpoint: when the log is full, at opening, at closing, before a cut. A block counts
//! if it names the head's cycle; one torn or lost held entries of pages nobody pointed to yet.

use super::{
    disk::Disk,
    error::Result,
    keys::{self, FileId, PageKeys},
    layout::{ENTRY, Entry, LOG, NONCE, PAGE, PAGE_BYTES, SLOTS, TAG},
};
use aws_lc_rs::aead::{Aad, Nonce};

/// Bytes in clear and authenticated: cycle (8), place (4), epoch (4), nonce (12).
const CLEAR: usize = 28;
/// Where the sealed part starts.
const BODY: usize = 48;
/// Page number (8) and entry (32).
const ITEM: usize = 8 + ENTRY;
/// Entries in a block.
pub(super) const ITEMS: usize = (PAGE - BODY - 8) / ITEM;

/// Blocks that so many entries take.
pub(super) fn blocks(entries: usize) -> u64 {
    entries.div_ceil(ITEMS) as u64
}

/// A block's place in the file.
pub(super) fn position(place: u64) -> u64 {
    (SLOTS + place) * PAGE_BYTES
}

pub(super) fn seal(
    keys: &PageKeys,
    cycle: u64,
    place: u64,
    epoch: u32,
    nonce: [u8; NONCE],
    entries: &[(u64, Entry)],
) -> Result<Box<[u8; PAGE]>> {
    let mut block = Box::new([0; PAGE]);
    block[..8].copy_from_slice(&cycle.to_le_bytes());
    block[8..12].copy_from_slice(&u32::try_from(place).expect("some hundreds").to_le_bytes());
    block[12..16].copy_from_slice(&epoch.to_le_bytes());
    block[16..28].copy_from_slice(&nonce);
    let count = u32::try_from(entries.len()).expect("at most ITEMS");
    block[BODY..BODY + 4].copy_from_slice(&count.to_le_bytes());
    for ((page, entry), item) in entries.iter().zip(block[BODY + 8..].as_chunks_mut::<ITEM>().0) {
        let (number, sealed) = item.split_at_mut(8);
        number.copy_from_slice(&page.to_le_bytes());
        entry.write(sealed.try_into().expect("an item is a number and an entry"));
    }
    let aad = aad(keys.file(), &block);
    let tag = keys::seal(&*keys.get(epoch)?, nonce, &aad, &mut block[BODY..])?;
    block[CLEAR..CLEAR + TAG].copy_from_slice(&tag);
    Ok(block)
}

/// All entries the log holds for a cycle, oldest first.
pub(super) fn read(disk: &dyn Disk, keys: &PageKeys, cycle: u64, newest: u32) -> Result<Vec<(u64, Entry)>> {
    let mut entries = Vec::new();
    let mut block = Box::new([0; PAGE]);
    for place in 0..LOG {
        disk.read_at(position(place), &mut block[..])?;
        entries.extend(open(keys, cycle, place, newest, &block)?);
    }
    Ok(entries)
}

/// The entries of a block of this cycle and place; none, if it is another's or its tag is wrong.
pub(super) fn open(
    keys: &PageKeys,
    cycle: u64,
    place: u64,
    newest: u32,
    block: &[u8; PAGE],
) -> Result<Vec<(u64, Entry)>> {
    let epoch = u32::from_le_bytes(block[12..16].try_into().expect("four bytes"));
    let expected = u32::try_from(place).expect("some hundreds").to_le_bytes();
    let mut entries = Vec::new();
    if block[..8] != cycle.to_le_bytes() || block[8..12] != expected || !(1..=newest).contains(&epoch) {
        return Ok(entries);
    }
    let mut body = [0; PAGE - BODY];
    let nonce: [u8; NONCE] = block[16..28].try_into().expect("twelve bytes");
    let right = keys.get(epoch)?.open_separate_gather(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(aad(keys.file(), block)),
        &block[BODY..],
        &block[CLEAR..CLEAR + TAG],
        &mut body,
    );
    if right.is_ok() {
        let count = u32::from_le_bytes(body[..4].try_into().expect("four bytes")) as usize;
        for item in body[8..].as_chunks::<ITEM>().0.iter().take(count) {
            let (number, sealed) = item.split_at(8);
            let page = u64::from_le_bytes(number.try_into().expect("eight bytes"));
            entries.push((page, Entry::read(sealed.try_into().expect("an entry"))));
        }
    }
    Ok(entries)
}

fn aad(file: &FileId, block: &[u8; PAGE]) -> [u8; 16 + CLEAR] {
    let mut aad = [0; 16 + CLEAR];
    aad[..16].copy_from_slice(file);
    aad[16..].copy_from_slice(&block[..CLEAR]);
    aad
}
