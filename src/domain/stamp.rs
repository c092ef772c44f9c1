//! The system fields of a document, and how each state gets them.

use super::{
    document::{SYSTEM_FIELDS, malformed, revision},
    path,
};
use crate::base::{clock::Timestamp, fault::Fault};
use bson::{DateTime, RawBsonRef, RawDocument, RawDocumentBuf, raw::cstr};

/// A new document: revision 1, owner and organization as given.
pub fn created(id: &str, given: &RawDocument, now: Timestamp) -> Result<RawDocumentBuf, Fault> {
    let now = DateTime::from_millis(now.0);
    stamp(id, given, given, 1, now, now)
}

/// The next state of a document: one revision more; creation, owner and organization stay.
pub fn changed(id: &str, before: &RawDocument, given: &RawDocument, now: Timestamp) -> Result<RawDocumentBuf, Fault> {
    let now = DateTime::from_millis(now.0);
    let created = path::field(before, "_createdAt").and_then(RawBsonRef::as_datetime).unwrap_or(now);
    stamp(id, given, before, revision(before).unwrap_or(0).saturating_add(1), created, now)
}

/// `_id`, the user's fields in their order, then the system's.
fn stamp(
    id: &str,
    given: &RawDocument,
    keeper: &RawDocument,
    revision: i64,
    created: DateTime,
    updated: DateTime,
) -> Result<RawDocumentBuf, Fault> {
    let mut out = Vec::with_capacity(given.as_bytes().len() + 160);
    out.extend_from_slice(&[5, 0, 0, 0, 0]);
    let mut out = RawDocumentBuf::from_bytes(out).map_err(malformed)?;
    out.append(cstr!("_id"), id);
    for element in given.iter_elements() {
        let element = element.map_err(malformed)?;
        if !SYSTEM_FIELDS.contains(&element.key().as_str()) {
            out.append(element.key(), element.value().map_err(malformed)?);
        }
    }
    out.append(cstr!("_rev"), revision);
    out.append(cstr!("_createdAt"), created);
    out.append(cstr!("_updatedAt"), updated);
    for (name, key) in [("_owner", cstr!("_owner")), ("_organization", cstr!("_organization"))] {
        if let Some(value) = path::field(keeper, name) {
            out.append(key, value);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn the_server_sets_its_fields_and_keeps_the_owner() {
        let time = |millis| DateTime::from_millis(millis);
        let given = rawdoc! { "_rev": 99, "a": 1, "_owner": "me", "_createdAt": 5, "_mine": true };
        let first = created("x", &given, Timestamp(1000)).expect("stamped");
        let expected = rawdoc! {
            "_id": "x", "a": 1, "_mine": true, "_rev": 1i64, "_createdAt": time(1000), "_updatedAt": time(1000), "_owner": "me",
        };
        assert_eq!(first, expected);
        let given = rawdoc! { "_id": "y", "b": 2, "_owner": "thief", "_organization": "o" };
        let second = changed("x", &first, &given, Timestamp(2000)).expect("stamped");
        let expected = rawdoc! {
            "_id": "x", "b": 2, "_rev": 2i64, "_createdAt": time(1000), "_updatedAt": time(2000), "_owner": "me",
        };
        assert_eq!(second, expected);
        assert_eq!(revision(&second), Some(2));
    }
}
