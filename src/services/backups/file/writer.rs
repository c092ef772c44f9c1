//! Writing a backup file, in constant memory.

use super::{
    buffer::Gathering,
    header::Header,
    manifest::{Manifest, Signing, Totals},
    slots::{self, FileKey},
    stream::Sealer,
};
use crate::services::{Result, backups::recipients::Recipient};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Higher ones would compress no better: their strategies are not built in (.cargo/config.toml).
const LEVEL: i32 = 3;
/// Lines are short: so many bytes go on together.
const GATHERED: usize = 256 * 1024;

pub struct Writer<W: Write> {
    text: Gathering<zstd::Encoder<'static, Sealer<W>>>,
    header: Header,
    hash: [u8; 32],
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Writes header and slots. The header's commitment is set here.
    pub fn start(mut out: W, mut header: Header, key: &FileKey, recipients: &[Recipient]) -> Result<Self> {
        header.commitment = key.commitment(&header.salt);
        let bytes = header.bytes();
        let hash = Sha256::digest(&bytes).into();
        let slots: Vec<_> =
            recipients.iter().map(|recipient| slots::seal(key, &hash, recipient)).collect::<Result<_>>()?;
        out.write_all(&bytes).map_err(super::failed)?;
        out.write_all(&slots::bytes(&slots, &hash)).map_err(super::failed)?;
        let sealer = Sealer::new(out, &key.body(&header.salt, &hash));
        let mut text = zstd::Encoder::new(sealer, LEVEL).map_err(super::failed)?;
        // Compresses while the next lines are read; whoever decompresses learns whether the text is the same.
        text.multithread(1).and_then(|()| text.include_checksum(true)).map_err(super::failed)?;
        let text = Gathering::new(text, GATHERED);
        Ok(Self { text, header, hash, totals: Totals::default() })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// One line of JSON, without its end.
    pub fn line(&mut self, json: &[u8]) -> Result<()> {
        self.text.write_all(json).and_then(|()| self.text.write_all(b"\n")).map_err(super::failed)?;
        self.totals.lines += 1;
        self.totals.bytes += json.len() as u64 + 1;
        Ok(())
    }

    /// Ends the body and signs. `documents` and `records` are what the lines held.
    pub fn finish(mut self, documents: u64, records: u64, signing: &Signing) -> Result<(W, Header, Manifest)> {
        self.totals.documents = documents;
        self.totals.records = records;
        let end = || -> io::Result<_> {
            let text = self.text.into_inner()?;
            let (mut out, body) = text.finish()?.finish()?;
            let manifest = Manifest::new(&self.header, &self.hash, &body, self.totals, signing);
            out.write_all(&manifest.bytes(signing))?;
            Ok((out, self.header, manifest))
        };
        end().map_err(super::failed)
    }
}
