//! JSON Merge Patch (RFC 7396): null removes, objects merge, everything else replaces.

use super::{Kind, SYSTEM_FIELDS, Update};
use crate::{base::fault::Fault, domain::limits};
use bson::{Bson, Document, RawDocument};

impl Update {
    /// Reads a patch. The system's fields are refused.
    pub fn merge(patch: &RawDocument) -> Result<Self, Fault> {
        limits::nesting(patch)?;
        let patch: Document =
            patch.try_into().map_err(|error| Fault::new("documents.malformed").with("reason", error))?;
        match patch.keys().find(|name| SYSTEM_FIELDS.contains(&name.as_str())) {
            Some(name) => Err(Fault::new("update.system_field").at(name.as_str())),
            None => Ok(Self(Kind::Merge(patch))),
        }
    }
}

/// Takes fields away in one go: `Document::remove` moves all that follow, each time.
pub(super) fn remove(document: &mut Document, doomed: impl Fn(&str) -> bool) {
    *document = std::mem::take(document).into_iter().filter(|(name, _)| !doomed(name)).collect();
}

pub(super) fn merge(target: &mut Document, patch: &Document) {
    let doomed = |name: &str| matches!(patch.get(name), Some(Bson::Null));
    if patch.keys().any(|name| doomed(name)) {
        remove(target, doomed);
    }
    for (name, value) in patch {
        match value {
            Bson::Null => {}
            Bson::Document(inner) => match target.get_mut(name) {
                Some(Bson::Document(held)) => merge(held, inner),
                _ => {
                    let mut created = Document::new();
                    merge(&mut created, inner);
                    target.insert(name.clone(), created);
                }
            },
            other => drop(target.insert(name.clone(), other.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use bson::{bson, rawdoc};

    /// The examples of RFC 7396, appendix A, that are objects.
    #[test]
    fn follows_the_standard() {
        for (before, patch, after) in [
            (bson!({ "a": "b" }), bson!({ "a": "c" }), bson!({ "a": "c" })),
            (bson!({ "a": "b" }), bson!({ "b": "c" }), bson!({ "a": "b", "b": "c" })),
            (bson!({ "a": "b" }), bson!({ "a": null }), bson!({})),
            (bson!({ "a": "b", "b": "c" }), bson!({ "a": null }), bson!({ "b": "c" })),
            (bson!({ "a": ["b"] }), bson!({ "a": "c" }), bson!({ "a": "c" })),
            (bson!({ "a": "c" }), bson!({ "a": ["b"] }), bson!({ "a": ["b"] })),
            (bson!({ "a": { "b": "c" } }), bson!({ "a": { "b": "d", "c": null } }), bson!({ "a": { "b": "d" } })),
            (bson!({ "a": [{ "b": "c" }] }), bson!({ "a": [1] }), bson!({ "a": [1] })),
            (bson!({ "e": null }), bson!({ "a": 1 }), bson!({ "e": null, "a": 1 })),
            (bson!({}), bson!({ "a": { "bb": { "ccc": null } } }), bson!({ "a": { "bb": {} } })),
        ] {
            let mut document = before.as_document().expect("a document").clone();
            let patch = bson::RawDocumentBuf::try_from(patch.as_document().expect("a document")).expect("bson");
            Update::merge(&patch).and_then(|update| update.apply(&mut document, Timestamp(0))).expect("a patch");
            assert_eq!(Bson::Document(document), after, "{before} patched by {patch:?}");
        }
    }

    #[test]
    fn what_stays_keeps_its_order() {
        let mut document = bson::doc! { "a": 1, "b": 2, "c": { "x": 1, "y": 2, "z": 3 }, "d": 4, "e": null };
        let patch = rawdoc! { "d": null, "n": 1, "a": null, "none": null, "c": { "x": null, "w": null, "z": 4 } };
        Update::merge(&patch).and_then(|update| update.apply(&mut document, Timestamp(0))).expect("a patch");
        let after = bson::doc! { "b": 2, "c": { "y": 2, "z": 4 }, "e": null, "n": 1 };
        assert_eq!(document.to_string(), after.to_string());
    }

    #[test]
    fn system_fields_are_refused() {
        let fault = Update::merge(&rawdoc! { "a": 1, "_rev": 2 }).expect_err("refused");
        assert_eq!((fault.key, fault.path.as_str()), ("update.system_field", "_rev"));
    }
}
