//! The body: AES-256-GCM in segments of 64 KiB, each framed by its length, after the STREAM construction
//! (Hoang, Reyhanitabar, Rogaway, Vizár, <https://eprint.iacr.org/2015/189>): place and end are part of the nonce.

use super::{damaged, exactly, through};
use crate::{
    base::fault::Fault,
    services::{Error, Result},
};
use aead::KeyInit;
use aead_stream::{DecryptorBE32, EncryptorBE32, NewStream, StreamBE32, StreamPrimitive};
use aes_gcm::Aes256Gcm;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, Read, Write};
use zeroize::Zeroizing;

const SEGMENT: usize = 64 * 1024;
const TAG: usize = 16;
/// The highest bit of a frame's length marks the last segment.
const LAST: u32 = 1 << 31;

/// AES-256-GCM keyed for one body.
fn stream(keys: &[u8; 39]) -> StreamBE32<Aes256Gcm> {
    let (key, prefix) = keys.split_first_chunk::<32>().expect("39 is more than 32");
    let prefix: &[u8; 7] = prefix.try_into().expect("39 less 32");
    StreamBE32::from_aead(Aes256Gcm::new(key.into()), prefix.into())
}

/// Hash and length of the body as it lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

pub(super) struct Sealer<W> {
    out: W,
    /// `None` once a write has failed: the stream must not go on.
    encryptor: Option<EncryptorBE32<Aes256Gcm>>,
    plain: Zeroizing<Vec<u8>>,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Sealer<W> {
    pub fn new(out: W, keys: &[u8; 39]) -> Self {
        let encryptor = Some(stream(keys).encryptor());
        let plain = Zeroizing::new(Vec::with_capacity(SEGMENT + TAG));
        Self { out, encryptor, plain, hash: Sha256::new(), bytes: 0 }
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let over = || io::Error::other("this stream has ended");
        let mut encryptor = self.encryptor.take().ok_or_else(over)?;
        if last {
            encryptor.encrypt_last_in_place(&[], &mut *self.plain).map_err(|_| over())?;
        } else {
            encryptor.encrypt_next_in_place(&[], &mut *self.plain).map_err(|_| over())?;
            self.encryptor = Some(encryptor);
        }
        let length = u32::try_from(self.plain.len()).expect("a segment and its tag");
        let frame = (if last { length | LAST } else { length }).to_be_bytes();
        for part in [&frame[..], self.plain.as_slice()] {
            if let Err(error) = self.out.write_all(part) {
                self.encryptor = None;
                return Err(error);
            }
            self.hash.update(part);
            self.bytes += part.len() as u64;
        }
        self.plain.clear();
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<(W, Sum)> {
        self.seal(true)?;
        Ok((self.out, Sum { bytes: self.bytes, sha256: self.hash.finalize().into() }))
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full segment waits for what comes next: it may be the last.
        if self.plain.len() == SEGMENT && !bytes.is_empty() {
            self.seal(false)?;
        }
        let room = bytes.len().min(SEGMENT - self.plain.len());
        self.plain.extend_from_slice(bytes.get(..room).unwrap_or_default());
        Ok(room)
    }

    /// Segments are cut by size alone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The frames of a body, sealed as they are.
pub(super) struct Frames<R> {
    input: R,
    hash: Sha256,
    bytes: u64,
    /// Segments read, and where the last of them starts in the body.
    count: u64,
    start: u64,
    ended: bool,
}

impl<R: Read> Frames<R> {
    pub fn new(input: R) -> Self {
        Self { input, hash: Sha256::new(), bytes: 0, count: 0, start: 0, ended: false }
    }

    /// The next segment, and whether it is the last; `None` after that one.
    pub fn next(&mut self) -> Result<Option<(Vec<u8>, bool)>> {
        if self.ended {
            return Ok(None);
        }
        self.count += 1;
        self.start = self.bytes;
        let frame = exactly(&mut self.input, 4, "body")?;
        let frame = u32::from_be_bytes(frame.as_slice().try_into().map_err(|_| damaged("body"))?);
        let (length, last) = ((frame & !LAST) as usize, frame & LAST != 0);
        let fits = if last { (TAG..=SEGMENT + TAG).contains(&length) } else { length == SEGMENT + TAG };
        if !fits {
            return Err(self.damaged());
        }
        let segment = exactly(&mut self.input, length, "body")?;
        self.hash.update(frame.to_be_bytes());
        self.hash.update(&segment);
        self.bytes += 4 + length as u64;
        self.ended = last;
        Ok(Some((segment, last)))
    }

    fn damaged(&self) -> Error {
        Error::Damaged(Fault::new("backups.segment").with("segment", self.count).with("at", self.start))
    }

    /// What follows the body.
    pub fn finish(self) -> Result<(R, Sum)> {
        if !self.ended {
            return Err(damaged("body"));
        }
        Ok((self.input, Sum { bytes: self.bytes, sha256: self.hash.finalize().into() }))
    }
}

pub(super) struct Opener<R> {
    frames: Frames<R>,
    decryptor: Option<DecryptorBE32<Aes256Gcm>>,
    plain: Zeroizing<Vec<u8>>,
    at: usize,
}

impl<R: Read> Opener<R> {
    pub fn new(input: R, keys: &[u8; 39]) -> Self {
        let decryptor = Some(stream(keys).decryptor());
        Self { frames: Frames::new(input), decryptor, plain: Zeroizing::default(), at: 0 }
    }

    /// Decrypts the next segment; `false` at the end.
    fn open(&mut self) -> Result<bool> {
        let Some((mut segment, last)) = self.frames.next()? else { return Ok(false) };
        let mut decryptor = self.decryptor.take().ok_or_else(|| damaged("body"))?;
        if last {
            decryptor.decrypt_last_in_place(&[], &mut segment).map_err(|_| self.frames.damaged())?;
        } else {
            decryptor.decrypt_next_in_place(&[], &mut segment).map_err(|_| self.frames.damaged())?;
            self.decryptor = Some(decryptor);
        }
        self.plain = Zeroizing::new(segment);
        self.at = 0;
        Ok(true)
    }

    pub fn into_frames(self) -> Frames<R> {
        self.frames
    }
}

/// Its segments are their own buffer.
impl<R: Read> BufRead for Opener<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.plain.len() && self.open().map_err(through)? {}
        Ok(self.plain.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, length: usize) {
        self.at = (self.at + length).min(self.plain.len());
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(out)?;
        self.consume(length);
        Ok(length)
    }
}
