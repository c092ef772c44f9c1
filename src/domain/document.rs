//! What a document is to its user: the rule of ids, the fields the server alone sets, what a body may carry.

use crate::base::fault::Fault;
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

pub use super::update::SYSTEM_FIELDS;
pub const LONGEST_ID: usize = 256;

/// An id is 1 to 256 bytes of UTF-8 without a NUL.
pub fn check_id(id: &str) -> Result<(), Fault> {
    if id.is_empty() || id.len() > LONGEST_ID || id.contains('\0') {
        return Err(Fault::new("documents.id").at("_id").with("limit", LONGEST_ID));
    }
    Ok(())
}

/// A user's document taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    pub id: Option<String>,
    /// Everything but the system fields, in the order given.
    pub body: RawDocumentBuf,
}

/// What to do with system fields other than `_id` in what a user sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemFields {
    Refuse,
    /// An export read back: they are set anew.
    Drop,
}

impl Content {
    pub fn read(document: &RawDocument, system: SystemFields) -> Result<Self, Fault> {
        let mut content = Self { id: None, body: RawDocumentBuf::new() };
        for entry in document {
            let (name, value) = entry.map_err(malformed)?;
            match name.as_str() {
                "_id" => content.id = Some(read_id(value)?),
                known if system == SystemFields::Drop && SYSTEM_FIELDS.contains(&known) => {}
                other => {
                    check_name(other)?;
                    content.body.append(name, value);
                }
            }
        }
        Ok(content)
    }
}

/// A top level field a user may write: not the server's, not an operator's.
pub fn check_name(name: &str) -> Result<(), Fault> {
    if name.starts_with('_') {
        return Err(Fault::new("documents.system_field").at(name));
    }
    if name.starts_with('$') {
        return Err(Fault::new("documents.operator_field").at(name));
    }
    Ok(())
}

/// Stored or sent bytes that are not sound BSON.
pub fn malformed(error: bson::error::Error) -> Fault {
    Fault::new("documents.malformed").with("reason", error)
}

/// `_rev` of a stored document.
pub fn revision(document: &RawDocument) -> Option<i64> {
    match document.get("_rev") {
        Ok(Some(RawBsonRef::Int64(revision))) => Some(revision),
        Ok(Some(RawBsonRef::Int32(revision))) => Some(revision.into()),
        _ => None,
    }
}

fn read_id(value: RawBsonRef<'_>) -> Result<String, Fault> {
    let RawBsonRef::String(id) = value else {
        return Err(Fault::new("documents.id").at("_id").with("limit", LONGEST_ID));
    };
    check_id(id)?;
    Ok(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn ids() {
        for good in ["a", "018f", "é", &"x".repeat(256)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", "a\0b", &"x".repeat(257), &"é".repeat(129)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_id_is_taken_out_and_the_rest_kept_in_order() {
        let content = Content::read(&rawdoc! { "b": 1, "_id": "x", "a": { "_c": 2 } }, SystemFields::Refuse).unwrap();
        assert_eq!(content, Content { id: Some("x".to_owned()), body: rawdoc! { "b": 1, "a": { "_c": 2 } } });
    }

    #[test]
    fn system_fields_and_operators_are_refused_by_name() {
        let fault = |document: RawDocumentBuf| Content::read(&document, SystemFields::Refuse).unwrap_err();
        for name in ["_rev", "_owner", "_anything"] {
            let mut document = RawDocumentBuf::new();
            document.append(bson::raw::CString::try_from(name).unwrap(), 1);
            let fault = fault(document);
            assert_eq!((fault.key, fault.path.as_str()), ("documents.system_field", name));
        }
        assert_eq!(fault(rawdoc! { "$set": {} }).key, "documents.operator_field");
        assert_eq!(fault(rawdoc! { "_id": 7 }).key, "documents.id");
    }

    #[test]
    fn an_export_reads_back() {
        let exported = rawdoc! { "_id": "x", "_rev": 3_i64, "_owner": "o", "a": 1 };
        let content = Content::read(&exported, SystemFields::Drop).unwrap();
        assert_eq!(content, Content { id: Some("x".to_owned()), body: rawdoc! { "a": 1 } });
        assert!(Content::read(&rawdoc! { "_other": 1 }, SystemFields::Drop).is_err());
    }
}
