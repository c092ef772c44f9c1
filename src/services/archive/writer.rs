//! Writing an archive that `mongorestore` takes: one collection after the other, in constant memory.

use super::{CRC, Collection, FORMAT, MAGIC, Namespace, TERMINATOR};
use crate::base::release;
use bson::rawdoc;
use crc::Digest;
use std::io::{self, Write};

/// The MongoDB whose documents and indexes these are.
const SERVER: &str = "6.0.0";

pub struct Writer<W> {
    out: W,
    current: Option<(Namespace, Digest<'static, u64>)>,
}

impl<W: Write> Writer<W> {
    /// What will follow is said first.
    pub fn start(mut out: W, collections: &[Collection]) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        let header = rawdoc! {
            "concurrent_collections": 1,
            "version": FORMAT,
            "server_version": SERVER,
            "tool_version": format!("debrouille-appliance {}", release::version()),
        };
        out.write_all(header.as_bytes())?;
        for Collection { namespace, kind, metadata } in collections {
            let entry = rawdoc! {
                "db": namespace.database.as_str(),
                "collection": namespace.collection.as_str(),
                "metadata": metadata.as_str(),
                "size": 0,
                "type": kind.as_str(),
            };
            out.write_all(entry.as_bytes())?;
        }
        out.write_all(&TERMINATOR)?;
        Ok(Self { out, current: None })
    }

    /// Documents are this one's from here on.
    pub fn begin(&mut self, namespace: &Namespace) -> io::Result<()> {
        self.end()?;
        self.header(namespace, false, 0)?;
        self.current = Some((namespace.clone(), CRC.digest()));
        Ok(())
    }

    pub fn document(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some((_, digest)) = &mut self.current {
            digest.update(bytes);
        }
        self.out.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        let Some((namespace, digest)) = self.current.take() else { return Ok(()) };
        self.out.write_all(&TERMINATOR)?;
        self.header(&namespace, true, digest.finalize().cast_signed())?;
        self.out.write_all(&TERMINATOR)
    }

    fn header(&mut self, namespace: &Namespace, end: bool, checksum: i64) -> io::Result<()> {
        let header = rawdoc! {
            "db": namespace.database.as_str(),
            "collection": namespace.collection.as_str(),
            "EOF": end,
            "CRC": checksum,
        };
        self.out.write_all(header.as_bytes())
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.end()?;
        Ok(self.out)
    }
}
