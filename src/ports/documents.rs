//! Documents: the store of everything durable. One way in ([`Documents::commit`]), journalled; many ways to read.

use super::Result;
use crate::{
    base::{clock::Timestamp, fault::Fault, metrics::waits::Waited},
    domain::{collection::Index, filter::Filter, sort::Sort, update::Update},
};
use bson::{RawDocument, RawDocumentBuf};
use std::{collections::BTreeMap, fmt, sync::Arc};
use zeroize::Zeroizing;

/// The catalogue is itself a collection: a document `{_id: NAME, schema?, indexes, classes?, subject?, audit?}` here defines
/// collection `NAME`. Inserting creates it, updating alters it, deleting drops it with its documents.
pub const COLLECTIONS: &str = "system.collections";
/// Answers kept for idempotent retries, written in the transaction of the write they answer.
pub const RECEIPTS: &str = "system.receipts";

/// A place in the journal; grows with every change. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

impl Sequence {
    /// After everything.
    pub const END: Self = Self(u64::MAX);
}

/// Who acts, recorded with every change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub actor: String,
    pub request: String,
    pub trace: String,
    /// The policies that allowed it; empty where none was asked.
    pub grounds: String,
}

/// Operations applied in order, all or nothing, each seeing its predecessors, in one durable transaction.
#[derive(Clone)]
pub struct Batch {
    pub time: Timestamp,
    pub origin: Origin,
    pub operations: Vec<Operation>,
    /// Judges each operation's state before and after, inside the transaction: schema, policy.
    pub check: Option<Arc<dyn Check>>,
    /// Makes a retry return the first answer.
    pub receipt: Option<Receipt>,
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub collection: String,
    pub id: String,
    pub expect: Expect,
    pub change: Change,
}

/// What must hold before the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Any,
    Absent,
    Present,
    Revision(i64),
}

/// What the operation does. The store sets `_id`, `_rev`, `_createdAt` and `_updatedAt`, keeps `_owner` and
/// `_organization` over every change, and takes them from the given document on creation.
#[derive(Debug, Clone)]
pub enum Change {
    /// The whole document, created or replaced.
    Put(RawDocumentBuf),
    Update(Update),
    Delete,
}

/// A pure judgement of one operation. `before` is absent for a creation, `after` for a deletion. What is stored need
/// not be what is judged: a check may open what it has sealed, and seal what comes of it.
pub trait Check: Send + Sync {
    /// Whether the operation was drafted under this definition of its collection (a document of the catalogue).
    fn drafted(&self, _operation: usize, _definition: &RawDocument) -> std::result::Result<(), Fault> {
        Ok(())
    }

    /// Whether the caller may touch what is stored, asked before anything else of it is: preconditions and changes that
    /// fail would tell of it.
    fn admit(&self, _operation: usize, _stored: &RawDocument) -> std::result::Result<(), Fault> {
        Ok(())
    }

    /// A stored state as the change meets it and as it is judged; `None`: as it is stored.
    fn open(&self, _operation: usize, _stored: &RawDocument) -> std::result::Result<Option<RawDocumentBuf>, Fault> {
        Ok(None)
    }

    /// What is stored, indexed and journalled of the state after; `None`: all of it as it is. `stored`: as it was
    /// stored before.
    fn seal(
        &self,
        _operation: usize,
        _stored: Option<&RawDocument>,
        _after: &RawDocument,
    ) -> std::result::Result<Option<RawDocumentBuf>, Fault> {
        Ok(None)
    }

    fn judge(
        &self,
        operation: usize,
        before: Option<&RawDocument>,
        after: Option<&RawDocument>,
    ) -> std::result::Result<(), Fault>;

    /// The last word, once every operation holds and before anything is written.
    fn conclude(&self) -> std::result::Result<(), Fault> {
        Ok(())
    }
}

/// `key` names the attempt (identity, route, client key); `fingerprint` its body. The same key with another
/// fingerprint is a [`Conflict::Reused`].
#[derive(Debug, Clone)]
pub struct Receipt {
    pub key: String,
    pub fingerprint: String,
    pub expires: Timestamp,
}

#[derive(Debug, Clone)]
pub struct Committed {
    pub sequence: Sequence,
    pub outcomes: Vec<Outcome>,
    /// The answer of an earlier commit with the same receipt; nothing was written now.
    pub replayed: bool,
}

#[derive(Debug, Clone)]
pub struct Outcome {
    pub id: String,
    /// The revision after the operation; for a deletion the last one plus one (the tombstone's).
    pub revision: i64,
    pub created: bool,
    /// The document after the operation, as it is stored; `None` once deleted.
    pub document: Option<RawDocumentBuf>,
}

/// Why a batch was turned away; `operation` is its place in the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    Exists {
        operation: usize,
        id: String,
    },
    Missing {
        operation: usize,
        id: String,
    },
    Revision {
        operation: usize,
        id: String,
        expected: i64,
        actual: i64,
    },
    Unique {
        operation: usize,
        index: String,
        id: String,
        other: String,
    },
    Reused {
        key: String,
    },
    /// No such collection.
    Unknown {
        operation: usize,
        collection: String,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A page of documents, in the order of `sort` then `_id`.
#[derive(Debug, Clone)]
pub struct Query {
    pub collection: String,
    pub filter: Arc<Filter>,
    pub sort: Sort,
    /// Rows at most; a page of large documents may end before.
    pub limit: usize,
    /// The key of the last row already seen, as [`Page::next`] gave it.
    pub after: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
pub struct Page {
    pub documents: Vec<RawDocumentBuf>,
    /// Where the next page starts; `None` on the last one. Key bytes of the sort fields and the id, so that
    /// pages never skip or repeat a row under writes.
    pub next: Option<Vec<u8>>,
    pub explain: Explain,
}

/// How a query was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explain {
    /// `None` is a scan of the whole collection; `_id` is the documents' own order.
    pub index: Option<String>,
    pub keys_examined: u64,
    pub documents_examined: u64,
    /// Rows had to be gathered and sorted in memory.
    pub sorted_in_memory: bool,
}

/// One change of one document, as the journal keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub sequence: Sequence,
    pub time: Timestamp,
    /// The sequence of the first change of the same transaction.
    pub transaction: Sequence,
    pub position: u32,
    pub collection: String,
    pub id: String,
    pub action: Action,
    pub revision: i64,
    pub before: Option<RawDocumentBuf>,
    pub after: Option<RawDocumentBuf>,
    pub origin: Origin,
}

impl Record {
    /// Bytes of its images.
    pub fn weight(&self) -> usize {
        [&self.before, &self.after].into_iter().flatten().map(|image| image.as_bytes().len()).sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Delete,
}

/// A collection as the engine holds it.
#[derive(Debug, Clone)]
pub struct Collection {
    pub name: String,
    /// The catalogue's document.
    pub definition: RawDocumentBuf,
    pub documents: u64,
    pub indexes: Vec<IndexState>,
}

#[derive(Debug, Clone)]
pub struct IndexState {
    pub index: Index,
    pub progress: Build,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Build {
    Ready,
    Building {
        done: u64,
        total: u64,
    },
    /// A unique build that met duplicates: pairs of ids, the first few; or a document the index cannot take: its id
    /// and why. Neither used nor enforced until the index is removed and defined again.
    Failed {
        duplicates: Vec<(String, String)>,
        refused: Option<(String, String)>,
    },
}

/// A part of a restore, put in as it is: no revision, time or record is made anew, nothing is judged.
#[derive(Debug, Clone)]
pub enum Load {
    /// Whole documents with their system fields. The catalogue's come first, so that each collection is defined
    /// before its documents; a collection's documents come in id order, in as many parts as it takes.
    Documents { collection: String, documents: Vec<RawDocumentBuf> },
    /// Journal records with their own sequences, oldest first, after all documents: how these came to be.
    Records(Vec<Record>),
    /// Journal records that go on from there, oldest first: each change is made, to the catalogue too, and kept in the
    /// journal. `Rejected` where the document is not as it was before the change.
    Changes(Vec<Record>),
    /// The last part: answered once everything is durable and every index built or failed anew; the next commit's
    /// sequence follows this one.
    End(Sequence),
}

/// How long the journal remembers.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Records older than this go.
    pub older_than: Timestamp,
    /// So do the oldest while the journal takes more bytes than this.
    pub most_bytes: u64,
    /// Whatever the two say, none of this time or later goes.
    pub keep_from: Timestamp,
    /// Nor any after this place.
    pub keep_after: Sequence,
}

/// Figures for metrics and `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    pub sequence: Sequence,
    pub stored_bytes: u64,
    pub free_bytes: u64,
    pub journal_records: u64,
    pub journal_bytes: u64,
    pub queued_batches: u64,
    /// Of those that were written, from the queue until on disk.
    #[serde(skip)]
    pub commit_waits: Waited,
    /// Pages read from disk since the opening.
    #[serde(skip)]
    pub pages_read: Option<u64>,
    pub oldest_snapshot_seconds: u64,
    /// Why writes are refused, if they are.
    pub read_only: Option<String>,
    /// A page that fails its proof: some documents cannot be read any more.
    pub damaged: Option<u64>,
}

/// A version of the key that seals what is stored.
#[derive(Clone)]
pub struct StorageKey {
    pub version: u32,
    pub material: Zeroizing<[u8; 32]>,
}

/// How far sealing anew has come, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resealed {
    /// Where the next part begins; 0 after the last.
    pub next: u64,
    pub total: u64,
    pub moved: u64,
}

#[async_trait::async_trait]
pub trait Documents: Send + Sync {
    /// Applies the batch, or nothing of it. Once it answers `Ok`, the batch is on disk.
    async fn commit(&self, batch: Batch) -> Result<Committed>;
    async fn get(&self, collection: &str, id: &str) -> Result<Option<RawDocumentBuf>>;
    async fn find(&self, query: Query) -> Result<Page>;
    async fn count(&self, collection: &str, filter: Arc<Filter>) -> Result<(u64, Explain)>;
    /// `None`: no such collection.
    async fn describe(&self, collection: &str) -> Result<Option<Collection>>;
    async fn collections(&self) -> Result<Vec<Collection>>;
    /// Journal records after a place, oldest first, at most `limit`.
    async fn records(&self, after: Sequence, limit: usize) -> Result<Vec<Record>>;
    /// Everything as it stands at one moment, while writes go on.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>>;
    /// Fills a store that has never held anything, part by part; any other answers `Rejected`. From the first part
    /// until [`Load::End`], commits answer `Unavailable`. A part that is refused leaves those before it in: the
    /// store is then worth nothing.
    async fn load(&self, part: Load) -> Result<()>;
    async fn statistics(&self) -> Result<Statistics>;
    /// Reads a part of what is stored, from a place on (0: the beginning), and checks it; [`Statistics::damaged`]
    /// tells what it found. Answers the next part's place, 0 after the last.
    async fn scrub(&self, from: u64) -> Result<u64>;
    /// Seals with the last of these keys whatever is written from now on; all of them open. Those in use must be among
    /// them.
    async fn take_keys(&self, keys: Vec<StorageKey>) -> Result<()>;
    /// Pages by the version of the key that seals them.
    async fn sealed_by(&self) -> Result<BTreeMap<u32, u64>>;
    /// Seals a part of what is stored anew under the key in use, from a place on (0: the beginning).
    async fn reseal(&self, from: u64) -> Result<Resealed>;
    /// Lets go of journal records. Answers how many went.
    async fn trim(&self, retention: Retention) -> Result<u64>;
    /// Finishes what is queued and closes; later calls answer `Unavailable`.
    async fn close(&self) -> Result<()>;
}

/// A consistent view. Held, it keeps old pages alive: read it through and drop it.
/// Blocking: call it from a blocking thread.
pub trait Snapshot: Send + Sync {
    fn sequence(&self) -> Sequence;
    /// Names of every collection, the system's included, catalogue first.
    fn collections(&self) -> Result<Vec<String>>;
    /// The documents of a collection in id order, after an id, at most `limit`.
    fn documents(&self, collection: &str, after: Option<&str>, limit: usize) -> Result<Vec<RawDocumentBuf>>;
    /// How many documents the collection holds.
    fn count(&self, collection: &str) -> Result<u64>;
    fn get(&self, collection: &str, id: &str) -> Result<Option<RawDocumentBuf>>;
    /// Journal records after a place, up to this snapshot.
    fn records(&self, after: Sequence, limit: usize) -> Result<Vec<Record>>;
}
