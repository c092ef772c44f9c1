//! How many documents each collection holds at a moment, and whether any is missing at a later one.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holdings {
    /// The newest change of the journal.
    pub sequence: u64,
    pub collections: BTreeMap<String, Held>,
}

/// `created` and `deleted` are counted since the moment that was asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Held {
    pub documents: u64,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub created: u64,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub deleted: u64,
    /// Made, altered or dropped as a whole since: dropped, its documents go without a record of each.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub redefined: bool,
}

/// Not said, where nothing came or went.
fn is_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A collection that does not hold what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub collection: String,
    pub expected: u64,
    pub found: u64,
}

impl Holdings {
    /// What these, which count from `before` on, do not account for. Each collection that was there must hold what it
    /// held, with what was created and without what was deleted since.
    pub fn mismatch(&self, before: &Self) -> Option<Mismatch> {
        let nothing = Held::default();
        before.collections.iter().find_map(|(name, held)| {
            let now = self.collections.get(name).unwrap_or(&nothing);
            let expected = (held.documents + now.created).saturating_sub(now.deleted);
            let sound = now.documents == expected || now.redefined;
            (!sound).then(|| Mismatch { collection: name.clone(), expected, found: now.documents })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holdings(sequence: u64, held: &[(&str, u64, u64, u64)]) -> Holdings {
        let held = held.iter().map(|&(name, documents, created, deleted)| {
            (name.to_owned(), Held { documents, created, deleted, redefined: false })
        });
        Holdings { sequence, collections: held.collect() }
    }

    #[test]
    fn every_document_is_accounted_for() {
        let before = holdings(9, &[("a", 3, 0, 0), ("b", 1, 0, 0)]);
        let mismatch =
            |held: &[(&str, u64, u64, u64)]| holdings(12, held).mismatch(&before).map(|lost| lost.collection);
        assert_eq!(mismatch(&[("a", 3, 0, 0), ("b", 1, 0, 0)]), None);
        assert_eq!(mismatch(&[("a", 4, 2, 1), ("b", 0, 0, 1), ("c", 5, 5, 0)]), None);
        assert_eq!(mismatch(&[("a", 2, 0, 0), ("b", 1, 0, 0)]).as_deref(), Some("a"));
        assert_eq!(mismatch(&[("a", 4, 0, 0), ("b", 1, 0, 0)]).as_deref(), Some("a"), "came from nowhere");
        assert_eq!(mismatch(&[("a", 3, 0, 0)]).as_deref(), Some("b"), "gone as a whole");
        let mut dropped = holdings(12, &[("a", 3, 0, 0)]);
        dropped.collections.insert("b".to_owned(), Held { redefined: true, ..Held::default() });
        assert_eq!(dropped.mismatch(&before), None);
    }
}
