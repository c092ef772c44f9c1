//! The newest backup a living instance tells of, by the state of its targets and by its audit log: nothing older passes
//! for it.

use crate::{
    ports::documents::{Sequence, Snapshot},
    services::{
        Result, audit,
        backups::{BACKUPS, Sent, State},
    },
};
use bson::RawDocument;
use serde_json::Value;

/// More targets than anybody has.
const MOST: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    pub instance: String,
    /// The backup's id.
    pub backup: String,
    pub sequence: Sequence,
    /// The hash of its manifest, in hex.
    pub manifest: String,
}

impl Anchor {
    /// Of what a store shows.
    pub fn newest(instance: &str, snapshot: &dyn Snapshot) -> Result<Option<Self>> {
        let told = audit::newest(snapshot, |entry| Self::told(instance, entry))?;
        let states = snapshot.documents(BACKUPS, None, MOST)?;
        let known = states.iter().filter_map(|state| Self::known(instance, state));
        Ok(known.chain(told).max_by_key(|anchor| anchor.sequence))
    }

    /// As an entry of the log tells it; `None`: it does not.
    fn told(instance: &str, entry: &Value) -> Option<Self> {
        if entry["action"] != "backups.created" || entry["outcome"] != "allowed" {
            return None;
        }
        let details = &entry["details"];
        Some(Self {
            instance: instance.to_owned(),
            backup: entry["object"].as_str()?.strip_prefix("backups/")?.to_owned(),
            sequence: Sequence(details["sequence"].as_u64()?),
            manifest: details["manifest"].as_str()?.to_owned(),
        })
    }

    /// As a target's state knows it: the one that holds most.
    fn known(instance: &str, state: &RawDocument) -> Option<Self> {
        let state: State = bson::deserialize_from_slice(state.as_bytes()).ok()?;
        let Sent { id, upto, manifest, .. } = state.last()?.clone();
        Some(Self { instance: instance.to_owned(), backup: id, sequence: upto, manifest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use bson::{RawDocumentBuf, rawdoc};

    #[test]
    fn what_holds_most_at_a_target_is_its_newest() {
        let sent = |id: &str, upto| {
            let (id, name, manifest) = (id.to_owned(), "n".to_owned(), "00".to_owned());
            Some(Sent { id, name, upto: Sequence(upto), created: Timestamp(1), manifest, bytes: 1 })
        };
        let state = |segment| State { full: sent("f", 3), segment, ..State::default() };
        let of = |state: RawDocumentBuf| Anchor::known("i", &state).map(|anchor| (anchor.backup, anchor.sequence.0));
        let known = |segment| of(bson::serialize_to_raw_document_buf(&state(segment)).unwrap());
        assert_eq!(known(None), Some(("f".to_owned(), 3)));
        assert_eq!(known(sent("s", 2)), Some(("f".to_owned(), 3)));
        assert_eq!(known(sent("s", 9)), Some(("s".to_owned(), 9)));
        assert_eq!(of(rawdoc! { "_id": "*plan", "plan": "" }), None);
    }
}
