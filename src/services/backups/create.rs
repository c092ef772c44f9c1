//! Making a backup out of a snapshot, while writes go on: all of it, or the journal since another.

use super::{
    file::{Backup, FileKey, Header, Kind, Manifest, Signing, Trust, Writer},
    lines::{self, Meta},
    once::Once,
    recipients::{Recipient, Signer, fewest},
};
use crate::{
    base::{clock::Timestamp, fault::Fault, random},
    ports::{
        self,
        documents::{Sequence, Snapshot},
        objects::Objects,
    },
    services::{
        Error, Result,
        instance::Stamp,
        keyring::{Keyring, Purpose},
    },
};
use std::io::{BufReader, BufWriter, Read, Write};

/// About how many bytes of documents are held at once.
const CHUNK: usize = 1024 * 1024;
const FIRST_ROWS: usize = 16;
const MOST_ROWS: usize = 256;
/// The rule of a segment that cannot be made any more: a full backup can.
pub(super) const JOURNAL_GAP: &str = "backups.journal_gap";

pub struct Request<'a> {
    pub stamp: &'a Stamp,
    /// Travels inside; its `backup-signing` key signs.
    pub keyring: &'a Keyring,
    /// One at least; two in production.
    pub recipients: &'a [Recipient],
    pub now: Timestamp,
    pub span: Span,
    /// Hash of the manifest before this one at the target; zeros where there is none.
    pub previous: [u8; 32],
    /// The configuration file's text, for who rebuilds a lost server.
    pub configuration: Option<&'a str>,
}

/// What goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Everything, and the journal that is kept.
    Full,
    /// Of the journal what came after another backup's end.
    Segment { after: Sequence },
}

/// How far it is. An error returned from the callback stops the backup and leaves nothing behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub stage: Stage,
    /// Documents and journal records; lines while checking.
    pub done: u64,
    /// Known documents; the journal comes on top.
    pub total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Writing,
    Checking,
    /// Bytes, of the files a restore is made of.
    Proving,
    Restoring,
    /// Documents, of a restored store.
    Examining,
}

#[derive(Debug, Clone)]
pub struct Created {
    /// The object's name at the target.
    pub name: String,
    pub header: Header,
    pub manifest: Manifest,
    /// Whether the copy at the target was read back and checked here; else the target's server vouches for its bytes.
    pub reread: bool,
}

/// Writes everything the snapshot shows to the target, reads it back, checks it with the file key still at hand,
/// and only then gives it its name. Blocking.
pub fn create(
    request: &Request<'_>,
    snapshot: &dyn Snapshot,
    target: &dyn Objects,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Created> {
    enough_recipients(request)?;
    // As it stands now: a rotation meanwhile must not part what signs from what is believed.
    let keyring = request.keyring.clone();
    let request = &Request { keyring: &keyring, ..*request };
    let signers = signers(request.keyring);
    let trust = Trust::Signers(&signers);
    let keys: Vec<_> = keyring.versions(Purpose::BackupSigning).collect();
    let signing = Signing::of(&keys).ok_or_else(|| Error::Internal("no key to sign with".into()))?;
    let header = header(request, snapshot.sequence())?;
    let name = name(&header);
    let key = FileKey::random();
    let writer =
        Writer::start(BufWriter::with_capacity(256 * 1024, target.put_new(&name)?), header, &key, request.recipients)?;
    let mut writing = Writing { writer, progress, done: 0, total: 0, documents: 0, records: 0 };
    writing.all(request, snapshot)?;
    let Writing { writer, progress, documents, records, .. } = writing;
    let (out, header, manifest) = writer.finish(documents, records, &signing)?;
    let mut upload = out.into_inner().map_err(|error| ports::Error::from(error.into_error()))?;

    let copy = upload.reread()?;
    let reread = copy.is_some();
    if let Some(copy) = copy {
        let copy = Backup::open(BufReader::with_capacity(256 * 1024, copy))?;
        check(copy, &key, (&header, &manifest), trust, progress)?;
    }
    drop(key);
    upload.publish()?;
    Ok(Created { name, header, manifest, reread })
}

/// Opens the copy and reads it through: header, text and manifest must be those that were written. Each line was held
/// to what it says when it was written, so they are not read as lines again.
fn check<R: Read>(
    copy: Backup<R>,
    key: &FileKey,
    (header, manifest): (&Header, &Manifest),
    trust: Trust<'_>,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<()> {
    let same_header = copy.header() == header;
    let mut content = copy.unseal_with(key)?;
    let total = manifest.lines;
    content.pass(&mut |done| progress(Progress { stage: Stage::Checking, done, total }))?;
    if same_header && content.finish(manifest.documents, manifest.records, trust)? == *manifest {
        return Ok(());
    }
    Err(Error::Damaged(Fault::new("backups.mismatch")))
}

/// Those whose signature an instance believes: its own, of every version.
pub fn signers(keyring: &Keyring) -> Vec<Signer> {
    keyring.versions(Purpose::BackupSigning).filter_map(|key| Signer::new(&key.public)).collect()
}

fn enough_recipients(request: &Request<'_>) -> Result<()> {
    let environment = request.stamp.environment;
    let least = fewest(environment);
    let mut ids: Vec<_> = request.recipients.iter().map(Recipient::id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() >= least && ids.len() == request.recipients.len() {
        return Ok(());
    }
    let fault = Fault::new("backups.recipients").with("least", least).with("found", ids.len());
    Err(Error::Refused(fault.with("environment", environment)))
}

fn header(request: &Request<'_>, upto: Sequence) -> Result<Header> {
    let (kind, after) = match request.span {
        Span::Full => (Kind::Full, Sequence(0)),
        Span::Segment { after } => (Kind::Segment, after),
    };
    let id = uuid::Uuid::parse_str(&random::id(request.now)).map_err(|error| Error::Internal(Box::new(error)))?;
    Ok(Header {
        backup: id.into_bytes(),
        created: request.now,
        kind,
        lineage: request.stamp.lineage,
        after,
        upto,
        previous: request.previous,
        salt: random::array(),
        commitment: [0; 32],
        environment: request.stamp.environment,
        instance: request.stamp.id.clone(),
    })
}

/// `20261122T101500Z-full-0198….backup`: in the order of time.
pub(super) fn name(header: &Header) -> String {
    format!("{}-{}-{}.backup", time(header.created), header.kind.name(), header.id())
}

/// As names of backups begin.
pub(super) fn time(time: Timestamp) -> String {
    Timestamp(time.seconds() * 1000).rfc3339().chars().filter(char::is_ascii_alphanumeric).collect()
}

/// As many came as the store says there are.
fn counted(name: &str, expected: u64, actual: u64) -> Result<()> {
    if expected == actual {
        return Ok(());
    }
    let fault = Fault::new("backups.count").with("collection", name);
    Err(Error::Damaged(fault.with("expected", expected).with("actual", actual)))
}

/// A segment must not begin past a hole: the journal may have been trimmed, to its last record even.
pub(super) fn no_gap(from: Sequence, first: Option<Sequence>, last: Sequence) -> Result<()> {
    match first {
        Some(first) if first.0 == from.0 + 1 => Ok(()),
        None if last <= from => Ok(()),
        _ => Err(Error::Conflict(Fault::new(JOURNAL_GAP).with("sequence", from.0))),
    }
}

/// Rows to be read next, by what the last ones weighed.
fn fitting(bytes: usize, rows: usize) -> usize {
    (CHUNK / (bytes / rows.max(1)).max(1)).clamp(1, MOST_ROWS)
}

struct Writing<'a, W: Write> {
    writer: Writer<W>,
    progress: &'a mut dyn FnMut(Progress) -> Result<()>,
    done: u64,
    total: u64,
    documents: u64,
    records: u64,
}

impl<W: Write> Writing<'_, W> {
    fn all(&mut self, request: &Request<'_>, snapshot: &dyn Snapshot) -> Result<()> {
        let sequence = snapshot.sequence();
        let header = self.writer.header();
        let meta = Meta::new(request.stamp, header.id(), header.created, sequence);
        self.writer.line(&meta.text()?)?;
        for key in request.keyring.keys() {
            self.writer.line(&lines::key(&key)?)?;
        }
        if let Some(text) = request.configuration {
            self.writer.line(&lines::configuration(text)?)?;
        }
        match request.span {
            Span::Full => {
                self.collections(snapshot)?;
                self.journal(snapshot, Sequence(0), Some(Once::default()))?;
            }
            Span::Segment { after } => self.journal(snapshot, after, None)?,
        }
        self.report(0)
    }

    fn collections(&mut self, snapshot: &dyn Snapshot) -> Result<()> {
        let names = snapshot.collections()?;
        let mut counts = Vec::with_capacity(names.len());
        for name in &names {
            counts.push(snapshot.count(name)?);
        }
        self.total = counts.iter().sum();
        for (name, count) in names.iter().zip(counts) {
            self.collection(snapshot, name, count)?;
        }
        Ok(())
    }

    fn collection(&mut self, snapshot: &dyn Snapshot, name: &str, count: u64) -> Result<()> {
        self.writer.line(&lines::collection(name, count)?)?;
        let mut after: Option<String> = None;
        let (mut rows, before) = (FIRST_ROWS, self.documents);
        loop {
            let documents = snapshot.documents(name, after.as_deref(), rows)?;
            let Some(last) = documents.last() else { return counted(name, count, self.documents - before) };
            after = Some(last.get_str("_id").map_err(|error| Error::Internal(Box::new(error)))?.to_owned());
            let mut bytes = 0;
            for document in &documents {
                bytes += document.as_bytes().len();
                self.writer.line(&lines::document(document)?)?;
            }
            self.documents += documents.len() as u64;
            self.report(documents.len())?;
            rows = fitting(bytes, documents.len());
        }
    }

    /// `once`: where the documents stand before it.
    fn journal(&mut self, snapshot: &dyn Snapshot, from: Sequence, mut once: Option<Once>) -> Result<()> {
        let (mut after, mut rows) = (from, FIRST_ROWS);
        loop {
            let mut records = snapshot.records(after, rows)?;
            if after == from && from > Sequence(0) {
                no_gap(from, records.first().map(|first| first.sequence), snapshot.sequence())?;
            }
            let Some(last) = records.last() else { return Ok(()) };
            after = last.sequence;
            if !records.is_sorted_by(|one, next| one.sequence < next.sequence) {
                return Err(Error::Corrupt(format!("records of the journal before {} are out of order", after.0)));
            }
            let mut bytes = 0;
            for record in &mut records {
                bytes += record.weight();
                if let Some(once) = &mut once {
                    once.leave_out(record, snapshot)?;
                }
                self.writer.line(&lines::record(record)?)?;
            }
            self.records += records.len() as u64;
            self.report(records.len())?;
            rows = fitting(bytes, records.len());
        }
    }

    fn report(&mut self, rows: usize) -> Result<()> {
        self.done += rows as u64;
        (self.progress)(Progress { stage: Stage::Writing, done: self.done, total: self.total })
    }
}
