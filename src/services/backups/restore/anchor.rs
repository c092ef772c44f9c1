//! The newest backup a living instance tells of, by the state of its targets and by its audit log: nothing older passes
//! for it.

use crate::{
    ports::documents::{Sequence, Snapshot},
    services::{Result, audit},
};
use bson::RawDocument;
use serde_json::Value;

/// The states of the targets, a document each.
const STATES: &str = "system.backups";
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
        let states = snapshot.documents(STATES, None, MOST)?;
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

    /// As a target's state knows it: the last segment, else the full backup.
    fn known(instance: &str, state: &RawDocument) -> Option<Self> {
        let sent = state.get_document("segment").or_else(|_| state.get_document("full")).ok()?;
        let upto = sent.get("upto").ok()??.as_i64().or_else(|| Some(sent.get_i32("upto").ok()?.into()))?;
        Some(Self {
            instance: instance.to_owned(),
            backup: sent.get_str("id").ok()?.to_owned(),
            sequence: Sequence(u64::try_from(upto).ok()?),
            manifest: sent.get_str("manifest").ok()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawBson, RawDocumentBuf, rawdoc};

    #[test]
    fn the_last_segment_of_a_target_is_its_newest() {
        let sent = |id: &str, upto: i64| rawdoc! { "id": id, "upto": upto, "manifest": "00", "name": "n" };
        let full = rawdoc! { "_id": "local", "full": sent("f", 3), "segment": RawBson::Null };
        let both = rawdoc! { "_id": "local", "full": sent("f", 3), "segment": sent("s", 9) };
        let of = |state: RawDocumentBuf| Anchor::known("i", &state).map(|anchor| (anchor.backup, anchor.sequence.0));
        assert_eq!(of(full), Some(("f".to_owned(), 3)));
        assert_eq!(of(both), Some(("s".to_owned(), 9)));
        assert_eq!(of(rawdoc! { "_id": "*plan", "plan": "" }), None);
    }
}
