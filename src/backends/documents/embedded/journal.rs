//! A journal record in bytes, version 2; version 1, without grounds, is still read. Its sequence is its key in the table, not repeated within.
//!
//! ```text
//! 1      version, 2
//! 1      action: 1 create, 2 update, 3 delete
//! 8      time, milliseconds since 1970 (little-endian, as all that follow)
//! varint how far the sequence is past the first of its transaction
//! varint position in the transaction
//! 8      revision
//! text   collection, id, actor, request, trace, grounds: each a varint length, then UTF-8
//! bytes  before, after: each a varint length, then BSON; length 0 is absent
//! ```
//!
//! A varint is LEB128: seven bits a byte, lowest first, the high bit set on all but the last.

use crate::{
    base::clock::Timestamp,
    ports::documents::{Action, Origin, Record, Sequence},
};
use bson::RawDocument;

const VERSION: u8 = 2;
/// Before records told their grounds.
const FIRST: u8 = 1;

/// A record about to be written; its documents are borrowed.
pub struct Entry<'a> {
    pub sequence: u64,
    /// The sequence of the first change of the transaction.
    pub transaction: u64,
    pub position: u32,
    pub time: Timestamp,
    pub collection: &'a str,
    pub id: &'a str,
    pub action: Action,
    pub revision: i64,
    pub before: Option<&'a RawDocument>,
    pub after: Option<&'a RawDocument>,
    pub origin: &'a Origin,
}

pub fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let before = entry.before.map_or(&[][..], RawDocument::as_bytes);
    let after = entry.after.map_or(&[][..], RawDocument::as_bytes);
    let mut out = Vec::with_capacity(160 + before.len() + after.len());
    out.push(VERSION);
    out.push(match entry.action {
        Action::Create => 1,
        Action::Update => 2,
        Action::Delete => 3,
    });
    out.extend_from_slice(&entry.time.0.to_le_bytes());
    varint(&mut out, entry.sequence - entry.transaction);
    varint(&mut out, entry.position.into());
    out.extend_from_slice(&entry.revision.to_le_bytes());
    let origin = entry.origin;
    for text in [entry.collection, entry.id, &origin.actor, &origin.request, &origin.trace, &origin.grounds] {
        bytes(&mut out, text.as_bytes());
    }
    bytes(&mut out, before);
    bytes(&mut out, after);
    out
}

/// `None`: these bytes are no record of a version known here.
pub fn decode(sequence: u64, stored: &[u8]) -> Option<Record> {
    let mut rest = stored;
    let version = match take(&mut rest, 1)? {
        [version @ (FIRST | VERSION)] => *version,
        _ => return None,
    };
    let action = match take(&mut rest, 1)? {
        [1] => Action::Create,
        [2] => Action::Update,
        [3] => Action::Delete,
        _ => return None,
    };
    let time = i64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
    let transaction = sequence.checked_sub(read_varint(&mut rest)?)?;
    let position = u32::try_from(read_varint(&mut rest)?).ok()?;
    let revision = i64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
    let mut text = || {
        let length = usize::try_from(read_varint(&mut rest)?).ok()?;
        String::from_utf8(take(&mut rest, length)?.to_vec()).ok()
    };
    let (collection, id) = (text()?, text()?);
    let (actor, request, trace) = (text()?, text()?, text()?);
    let grounds = if version == FIRST { String::new() } else { text()? };
    let origin = Origin { actor, request, trace, grounds };
    let mut document = || {
        let length = usize::try_from(read_varint(&mut rest)?).ok()?;
        match take(&mut rest, length)? {
            [] => Some(None),
            bytes => Some(Some(RawDocument::from_bytes(bytes).ok()?.to_owned())),
        }
    };
    let (before, after) = (document()?, document()?);
    rest.is_empty().then_some(Record {
        sequence: Sequence(sequence),
        time: Timestamp(time),
        transaction: Sequence(transaction),
        position,
        collection,
        id,
        action,
        revision,
        before,
        after,
        origin,
    })
}

/// The time alone, for trimming.
pub fn time(stored: &[u8]) -> Option<Timestamp> {
    Some(Timestamp(i64::from_le_bytes(stored.get(2..10)?.try_into().ok()?)))
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest, 1)? else { return None };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back(
            sequence in 1u64..u64::MAX, back in 0u64..5, position: u32, revision: i64, time: i64,
            texts in prop::array::uniform6(".{0,200}"), before: bool, after: bool, action in 0u8..3,
        ) {
            let [collection, id, actor, request, trace, grounds] = texts;
            let record = Record {
                sequence: Sequence(sequence),
                time: Timestamp(time),
                transaction: Sequence(sequence.saturating_sub(back)),
                position,
                collection,
                id,
                action: [Action::Create, Action::Update, Action::Delete][usize::from(action)],
                revision,
                before: before.then(|| rawdoc! { "a": 1 }),
                after: after.then(|| rawdoc! { "b": [1, 2] }),
                origin: Origin { actor, request, trace, grounds },
            };
            let bytes = encode(&Entry {
                sequence,
                transaction: record.transaction.0,
                position,
                time: record.time,
                collection: &record.collection,
                id: &record.id,
                action: record.action,
                revision,
                before: record.before.as_deref(),
                after: record.after.as_deref(),
                origin: &record.origin,
            });
            prop_assert_eq!(super::time(&bytes), Some(record.time));
            prop_assert_eq!(decode(sequence, &bytes), Some(record));
            for length in 0..bytes.len() {
                prop_assert_eq!(decode(sequence, &bytes[..length]), None);
            }
        }

        #[test]
        fn records_of_the_first_version_are_read(sequence in 1u64..u64::MAX, texts in prop::array::uniform5("[a-z]{0,20}")) {
            let [collection, id, actor, request, trace] = &texts;
            let mut bytes = vec![1, 1];
            bytes.extend_from_slice(&7_i64.to_le_bytes());
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&3_i64.to_le_bytes());
            for text in &texts {
                super::bytes(&mut bytes, text.as_bytes());
            }
            bytes.extend_from_slice(&[0, 0]);
            let record = decode(sequence, &bytes).unwrap();
            prop_assert_eq!((&record.collection, &record.id), (collection, id));
            let origin = Origin { actor: actor.clone(), request: request.clone(), trace: trace.clone(), grounds: String::new() };
            prop_assert_eq!((record.origin, record.time, record.revision), (origin, Timestamp(7), 3));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(sequence: u64, bytes: Vec<u8>) {
            let _ = decode(sequence, &bytes);
        }
    }
}
