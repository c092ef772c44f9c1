//! Answers kept for retries: one document per key in `system.receipts`, written with the batch it answers. They are
//! bookkeeping of the engine, not journalled; the documents of the first answer come back from the journal.

use crate::{
    base::clock::Timestamp,
    ports::documents::{Committed, Receipt},
};
use bson::{DateTime, RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};
use sha2::{Digest, Sha256};

/// What was answered; the documents themselves are in the journal from `sequence` on.
pub struct Kept {
    pub fingerprint: String,
    pub expires: Timestamp,
    /// The first record of the batch.
    pub first: u64,
    /// The last: what [`Committed::sequence`] said.
    pub sequence: u64,
    pub outcomes: Vec<KeptOutcome>,
}

pub struct KeptOutcome {
    pub id: String,
    pub revision: i64,
    pub created: bool,
    pub deleted: bool,
}

/// Keys hold whatever a client sends: as an id they are their hash.
pub fn id(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

pub fn document(receipt: &Receipt, first: u64, committed: &Committed) -> RawDocumentBuf {
    let mut outcomes = RawArrayBuf::new();
    for outcome in &committed.outcomes {
        outcomes.push(rawdoc! {
            "id": outcome.id.as_str(),
            "revision": outcome.revision,
            "created": outcome.created,
            "deleted": outcome.document.is_none(),
        });
    }
    rawdoc! {
        "_id": id(&receipt.key),
        "fingerprint": receipt.fingerprint.as_str(),
        "expires": DateTime::from_millis(receipt.expires.0),
        "first": first.cast_signed(),
        "sequence": committed.sequence.0.cast_signed(),
        "outcomes": outcomes,
    }
}

/// `None`: not what [`document`] writes.
pub fn read(document: &RawDocument) -> Option<Kept> {
    let mut outcomes = Vec::new();
    for entry in document.get_array("outcomes").ok()? {
        let entry = entry.ok()?.as_document()?;
        outcomes.push(KeptOutcome {
            id: entry.get_str("id").ok()?.to_owned(),
            revision: entry.get_i64("revision").ok()?,
            created: entry.get_bool("created").ok()?,
            deleted: entry.get_bool("deleted").ok()?,
        });
    }
    Some(Kept {
        fingerprint: document.get_str("fingerprint").ok()?.to_owned(),
        expires: Timestamp(document.get_datetime("expires").ok()?.timestamp_millis()),
        first: document.get_i64("first").ok()?.cast_unsigned(),
        sequence: document.get_i64("sequence").ok()?.cast_unsigned(),
        outcomes,
    })
}
