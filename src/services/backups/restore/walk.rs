//! The journal of segments read through, up to a point: every record in its place, no transaction cut.

use super::{Asked, Wanted, unsealed};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    ports::{
        documents::{Record, Sequence},
        objects::Objects,
    },
    services::{
        Error, Result,
        backups::{chain::Link, file::Manifest, lines::Line},
    },
};

/// Where a restore ends: between two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub lineage: u32,
    pub sequence: Sequence,
    /// Of the last transaction that comes back; where a full backup alone does, when that was begun.
    pub time: Timestamp,
    /// `None`: it is in the full backup.
    pub transaction: Option<Sequence>,
}

/// How far the journal was read, and whether the point is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub point: Point,
    /// A record past the point was met: the point is exact, whatever follows.
    pub passed: bool,
}

impl Walk {
    pub fn new(full: &Link) -> Self {
        let header = &full.header;
        let (lineage, sequence, time) = (header.lineage, header.upto, header.created);
        Self { point: Point { lineage, sequence, time, transaction: None }, passed: false }
    }

    /// The next record; `false`: it is past the point.
    fn record(&mut self, record: &Record, wanted: &Wanted) -> Result<bool> {
        if self.passed || record.sequence <= self.point.sequence {
            return Ok(!self.passed);
        }
        self.passed = match wanted {
            Wanted::At(time) => record.time > *time,
            Wanted::Sequence(last) => record.sequence > *last,
            Wanted::Latest | Wanted::Backup(_) => false,
        };
        if !self.passed {
            let Record { sequence, time, transaction, .. } = record;
            self.point = Point { sequence: *sequence, time: *time, transaction: Some(*transaction), ..self.point };
        } else if record.transaction <= self.point.sequence {
            let fault = Fault::new("backups.within").with("sequence", self.point.sequence.0);
            return Err(Error::Refused(fault.with("before", record.transaction.0.saturating_sub(1))));
        }
        Ok(!self.passed)
    }

    /// Reads a segment whole: it must hold each change it says it holds.
    pub fn segment(&mut self, source: &dyn Objects, link: &Link, asked: Asked<'_>) -> Result<Manifest> {
        let mut contents = unsealed(source, &link.name, asked.identity)?;
        let mut order = Order::new(link);
        while let Some(line) = contents.next()? {
            if let Line::Record(record) = line {
                order.next(&record)?;
                self.record(&record, asked.wanted)?;
            }
        }
        order.end()?;
        contents.finish(asked.trust)
    }
}

/// A segment's records follow one another from its beginning to its end.
pub(super) struct Order {
    last: Sequence,
    end: Sequence,
}

impl Order {
    pub fn new(link: &Link) -> Self {
        Self { last: link.header.after, end: link.header.upto }
    }

    pub fn next(&mut self, record: &Record) -> Result<()> {
        if record.sequence.0 != self.last.0 + 1 || record.sequence > self.end {
            return Err(self.hole());
        }
        self.last = record.sequence;
        Ok(())
    }

    pub fn end(&self) -> Result<()> {
        if self.last == self.end { Ok(()) } else { Err(self.hole()) }
    }

    fn hole(&self) -> Error {
        Error::Damaged(Fault::new("backups.hole").with("sequence", self.last.0 + 1))
    }
}
