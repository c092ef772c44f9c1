//! The sealed file: redb's storage, encrypted and proven page by page in one file.
//!
//! redb sees a flat file; what lies on the medium are 4 KiB pages under AES-256-GCM, each bound to its file, its
//! place and its epoch. All numbers are little-endian. This is **format 1**: it must open forever.
//!
//! ```text
//! physical page   0            1            2 … 513  514         515 … 642    643         644 … 771
//!                 head slot A  head slot B  log      tag page 0  pages 0–127  tag page 1  pages 128–255  …
//! ```
//!
//! Logical page `p` stands at physical page `514 + (p / 128) * 129 + 1 + p % 128`. Page 0 leaves its place empty:
//! the first 512 bytes of the logical space live in the head, and the rest of that page is zeros.
//!
//! **Tag page**: 128 entries of 32 bytes, one per page of the group: nonce (12), tag (16), epoch (4). An entry of
//! zeros is a page never written. The associated data of a page is file id (16), page number (8), epoch (4).
//! The nonce is 8 random bytes drawn at each epoch and a counter (4): a copy of the file opened twice elsewhere
//! takes other nonces. One counter serves pages, log blocks and heads alike.
//!
//! **Log**: a commit of 64 random documents changes some 130 pages under nearly as many tag pages; written in
//! place, these would double what a sync writes. So a sync writes the changed entries side by side into the next
//! free blocks of the log, and only a checkpoint (log full, opening, closing, shrinking, key change) takes them to
//! their tag pages: tag pages, sync, head with a new cycle, sync. On opening, the blocks that name the head's cycle
//! go over the tag pages, in order. A block (4,096 bytes):
//!
//! ```text
//!  0   8  cycle                             28  16  tag
//!  8   4  place in the log                  44   4  zero
//! 12   4  epoch                             48      sealed: number of items (4), zero (4), then up to 101 items:
//! 16  12  nonce                                     page number (8), entry (32). Associated data: file id, bytes 0–27
//! ```
//!
//! **Head slot** (4,096 bytes), written by turns; of two right ones the higher generation counts:
//!
//! ```text
//!  0   8  magic 89 "DASEAL" 0A              56   8  key check: the first bytes of
//!  8   4  format version, 1                         HKDF(data key, file id, "debrouille sealed check 1")
//! 12   4  epoch that seals this head        64  16  tag
//! 16   4  data key version of the epoch     80  16  zero
//! 20  12  nonce                             96 4000 sealed body; associated data: bytes 0–63 and
//! 32  16  file id, random                           FF×8 where a page has its number
//! 48   8  generation
//! body:  0  8  logical length               16   8  cycle of the log, random
//!        8  2  bytes of stamp               24 512  the first bytes of logical space: redb's header
//!       10  2  number of takeovers         536 256  stamp: instance and environment, given by the caller
//!       12  1  unswept                     792 2048 takeovers: first epoch (4), data key version (4)
//!       13  3  zero                             …   zero to the end
//! ```
//!
//! **Keys**: the page key of an epoch is HKDF-SHA256 (RFC 5869) of the data key in force, salt the file id, info
//! `"debrouille sealed page 1"` and the epoch (4). The epoch is raised, durably and before the first write, at
//! every opening and every 2³¹ writes. A takeover says from which epoch on which data key version seals.
//!
//! **Sealed anew** (`reseal.rs`): what is to stand in place of pages that are pointed to is synced behind the end of the
//! file first, under the generation of the head, and put in place on opening if that head is the one that counts.
//!
//! # What redb 4.6.0 does with its file
//! Read from its source (`page_manager.rs`, `cached_file.rs`, `header.rs`, `db.rs`); the dependency is pinned to
//! that version, and these lines are to be read again before it moves.
//! - Bytes 0–319 are the only ones rewritten in place: header without magic, then with it (creation); at opening
//!   (recovery flag set), at every commit, at closing. File format 3 has no region headers and keeps the allocator
//!   state in an ordinary table. Every other write is one or more whole pages nobody durable points to.
//! - A commit is: pages and header in any order, then one sync; with two phases: pages and the header's second
//!   slot, sync, then the header's flags, sync. Growth is `set_len`, then a sync, before the header tells of it.
//!   Shrinking is `set_len` after the commit's sync, without one of its own.
//! - The header's flags say how the last commit was. If it was a two-phase one (as the one at closing always is)
//!   redb trusts the pages it reads; if not, it checks the checksums of every page reachable, and falls back to the
//!   commit before. The recovery flag does not decide this: a cut during a repair leaves it cleared.
//!   Only in that last case, and only until [`Sealed::opened`], a wrong tag reads as zeros here, so that the
//!   checksums fail and the fallback happens. Everywhere else a wrong tag is [`Error::Page`].
//! - redb never reads a page it has not written. Once it is past its checks, an unwritten page asked for is
//!   therefore a lost one, and refused as well: zeroed tags do not turn into documents of zeros.
//! - A file whose header has no magic was never finished: it reads as empty, and redb starts it again.
//!
//! # What holds, and what does not
//! A lost, torn or misplaced write before a sync only hits pages nobody points to or whose bytes lie synced behind the
//! end, entries of such pages, or the head slot that was not the last one synced. Tag pages are rewritten with living entries in them; their bytes do
//! not change, so this asks of the medium what every database asks: a byte of a sector being written is the old or
//! the new one. The head never says more bytes than the file has, so a shortened file is always found out. Left open: a page put back with its own earlier entry, or the whole file
//! with an earlier one, opens (the journal's anchors tell); and after a crash, damage to what the last commit wrote
//! cannot be told from a commit that never finished: redb falls back to the one before.

mod disk;
mod error;
mod file;
mod head;
mod keys;
mod layout;
mod log;
mod open;
mod overlay;
mod reseal;
mod scrub;
mod tags;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use head::STAMP;
pub use keys::{DataKeys, KEY};
pub use scrub::Scrub;

use error::Result;
use file::Inner;
use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

/// A handle on the file. Clones are the same file: one goes to redb, one stays with the engine.
/// [`Sealed::create`], [`Sealed::open`] or [`Sealed::open_read_overlay`]; then redb's `create_with_backend`; then
/// [`Sealed::opened`].
#[derive(Debug, Clone)]
pub struct Sealed(Arc<Inner>);

impl Sealed {
    /// To be called once redb has opened its database: from here on no wrong page is let through.
    pub fn opened(&self) {
        self.0.lenient.store(false, Ordering::Release);
    }

    /// One of the two heads could not be read at opening: a crash while it was written (nothing acknowledged is
    /// lost), or a failing medium (the last commit may be).
    pub fn fell_back(&self) -> bool {
        self.0.fell_back
    }

    /// Bytes that may still be written before the reserve is touched; 0 when the reserve is not whole. Ask before
    /// a commit, and answer Full below what it may take.
    pub fn headroom(&self) -> Result<u64> {
        Ok(self.0.disk.headroom()?)
    }

    /// The same for what lets go of more than it takes.
    pub fn relief(&self) -> Result<u64> {
        Ok(self.0.disk.relief()?)
    }

    /// Bytes the file takes on the medium.
    pub fn stored(&self) -> Result<u64> {
        Ok(self.0.disk.stored()?)
    }

    /// The first page found damaged since the opening. redb serves pages it has in memory, and little else from then
    /// on; and as a start without a clean end reads every page, none succeeds any more.
    pub fn damaged(&self) -> Option<u64> {
        self.0.damage.get().copied()
    }

    /// Pages redb sees.
    pub fn pages(&self) -> u64 {
        self.0.pages()
    }

    /// Pages that redb had not in memory, since the opening.
    pub fn pages_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Why nothing is written any more, if so: drop redb's database, and reopen by
    /// [`Sealed::open_read_overlay`] up to [`Sealed::acknowledged`].
    pub fn broken(&self) -> Option<&str> {
        self.0.broken.get().map(String::as_str)
    }

    /// The last state synced.
    pub fn acknowledged(&self) -> u64 {
        self.0.writer().synced.generation
    }

    /// Takes other data keys: an epoch under the current version opens at once, pages follow as they are written.
    /// Every version [`Sealed::key_versions`] still counts must be among them.
    pub fn set_keys(&self, keys: DataKeys) -> Result<()> {
        let mut writer = self.0.active()?;
        if writer.head.takeovers.len() >= head::TAKEOVERS {
            return Err(Error::Exhausted { what: "takeovers" });
        }
        self.0.keys.replace(keys.clone());
        writer.data = keys;
        if self.0.overlay.is_some() { Ok(()) } else { self.0.raise(&mut writer) }
    }
}

impl redb::StorageBackend for Sealed {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.length.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read.fetch_add((out.len() as u64).div_ceil(layout::PAGE as u64), Ordering::Relaxed);
        Ok(self.0.read(offset, out)?)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Ok(self.0.set_len(length)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(self.0.sync()?)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Ok(self.0.write(offset, data)?)
    }

    fn close(&self) -> io::Result<()> {
        Ok(self.0.close()?)
    }
}
