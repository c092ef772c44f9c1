//! Reading a backup file, in constant memory: checked as it is, or opened.

use super::{
    buffer::Fetching,
    damaged, failed,
    header::Header,
    manifest::{self, Manifest, Totals, Trust},
    slots::{self, FileKey, Slot},
    stream::{Frames, Opener},
};
use crate::{
    base::fault::Fault,
    services::{
        Error, Result,
        backups::recipients::{Identity, Recipient},
    },
};
use std::io::{self, BufRead, Read, Write};

/// The longest line taken: two images of the largest document, in their widest writing.
const LINE: u64 = 256 * 1024 * 1024;

/// Of the text, read together.
const GATHERED: usize = 128 * 1024;

/// A backup whose header and slots are read.
pub struct Backup<R> {
    input: R,
    header: Header,
    hash: [u8; 32],
    slots: Vec<Slot>,
}

impl<R: Read> Backup<R> {
    pub fn open(mut input: R) -> Result<Self> {
        let (header, hash) = Header::read(&mut input)?;
        let slots = slots::read(&mut input, &hash)?;
        Ok(Self { input, header, hash, slots })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Ids of those it can be opened by.
    pub fn recipients(&self) -> Vec<[u8; 16]> {
        self.slots.iter().map(|slot| slot.id).collect()
    }

    /// Checks every byte against the signed manifest, without any private key.
    pub fn check(self, trust: Trust<'_>) -> Result<Manifest> {
        let mut frames = Frames::new(self.input);
        while frames.next()?.is_some() {}
        let (mut input, body) = frames.finish()?;
        let manifest = Manifest::read(&mut input, trust)?;
        manifest.check(&self.header, &self.hash, &body)?;
        Ok(manifest)
    }

    /// The file key, by the slot made for this identity, if it is the one the header commits to.
    pub fn file_key(&self, identity: &Identity) -> Result<FileKey> {
        let key = slots::open(&self.slots, &self.hash, identity)?;
        slots::check(&key, &self.header.salt, &self.header.commitment)?;
        Ok(key)
    }

    /// The same file under other slots: header, body and manifest byte for byte.
    pub fn rewrap(mut self, key: &FileKey, recipients: &[Recipient], out: &mut impl Write) -> Result<()> {
        let seal = |recipient| slots::seal(key, &self.hash, recipient);
        let slots = recipients.iter().map(seal).collect::<Result<Vec<_>>>()?;
        out.write_all(&self.header.bytes()).map_err(failed)?;
        out.write_all(&slots::bytes(&slots, &self.hash)).map_err(failed)?;
        io::copy(&mut self.input, out).map(|_| ()).map_err(failed)
    }

    pub fn unseal(self, identity: &Identity) -> Result<Content<R>> {
        let key = slots::open(&self.slots, &self.hash, identity)?;
        self.unseal_with(&key)
    }

    /// With the file key itself, while the writer still has it.
    pub fn unseal_with(self, key: &FileKey) -> Result<Content<R>> {
        slots::check(key, &self.header.salt, &self.header.commitment)?;
        let opener = Opener::new(self.input, &key.body(&self.header.salt, &self.hash));
        let decoder = zstd::Decoder::with_buffer(opener).map_err(failed)?;
        Ok(Content { text: Fetching::new(decoder, GATHERED), header: self.header, hash: self.hash, lines: 0, bytes: 0 })
    }
}

/// The lines of an opened backup. Only [`Content::finish`] says that they were whole and signed.
pub struct Content<R: Read> {
    text: Fetching<zstd::Decoder<'static, Opener<R>>>,
    header: Header,
    hash: [u8; 32],
    lines: u64,
    bytes: u64,
}

impl<R: Read> Content<R> {
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many lines were read.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The next line, without its end, into an emptied buffer; `false` at the end.
    pub fn line(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        let length = (&mut self.text).take(LINE).read_until(b'\n', line).map_err(failed)?;
        if length == 0 {
            return Ok(false);
        }
        if line.pop() != Some(b'\n') {
            return Err(damaged("body"));
        }
        self.lines += 1;
        self.bytes += length as u64;
        Ok(true)
    }

    /// Goes through all that is left of the text: what was compressed carries a checksum. `told` hears of the lines.
    pub fn pass(&mut self, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        loop {
            let text = self.text.fill_buf().map_err(failed)?;
            let length = text.len();
            if length == 0 {
                return Ok(());
            }
            self.lines += text.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.bytes += length as u64;
            self.text.consume(length);
            told(self.lines)?;
        }
    }

    /// After the last line: the manifest, which must agree with all that was read.
    pub fn finish(mut self, documents: u64, records: u64, trust: Trust<'_>) -> Result<Manifest> {
        if !self.text.fill_buf().map_err(failed)?.is_empty() {
            return Err(damaged("body"));
        }
        let frames = self.text.into_inner().finish().into_frames();
        let (mut input, body) = frames.finish()?;
        let manifest = Manifest::read(&mut input, trust)?;
        manifest.check(&self.header, &self.hash, &body)?;
        if manifest.totals() != (Totals { lines: self.lines, bytes: self.bytes, documents, records }) {
            return Err(Error::Damaged(Fault::new("backups.mismatch")));
        }
        Ok(manifest)
    }
}

/// The manifest of a file of `size` bytes with this header, by its end alone; `read` gives the bytes from a place on.
/// Its signature is checked and that it is of this header, the body is not.
pub fn manifest_at_end<R: Read>(
    header: &Header,
    size: u64,
    read: impl FnOnce(u64) -> Result<R>,
    trust: Trust<'_>,
) -> Result<Manifest> {
    let mut tail = Vec::new();
    let from = size.saturating_sub(manifest::LARGEST as u64);
    read(from)?.take(manifest::LARGEST as u64).read_to_end(&mut tail).map_err(failed)?;
    let length = tail.last_chunk().map(|length| u32::from_be_bytes(*length) as usize);
    let start = length.and_then(|length| tail.len().checked_sub(length.checked_add(68)?));
    let own = start.and_then(|start| tail.get(start..)).ok_or_else(|| damaged("manifest"))?;
    let manifest = Manifest::parse(own, trust)?;
    manifest.is_of(header)?;
    Ok(manifest)
}
