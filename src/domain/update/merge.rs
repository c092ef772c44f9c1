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

pub(super) fn merge(target: &mut Document, patch: &Document) {
    for (name, value) in patch {
        match value {
            Bson::Null => drop(target.remove(name)),
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
    fn system_fields_are_refused() {
        let fault = Update::merge(&rawdoc! { "a": 1, "_rev": 2 }).expect_err("refused");
        assert_eq!((fault.key, fault.path.as_str()), ("update.system_field", "_rev"));
    }
}
