//! An entry of the audit log, and the bytes that are hashed: its JSON text, kept as it was first written.

use crate::{
    base::clock::Timestamp,
    domain::merkle::{self, Hash},
    services::{Error, Result},
};
use bson::{Binary, RawArrayBuf, RawBson, RawDocument, RawDocumentBuf, rawdoc, spec::BinarySubtype};
use serde_json::{Map, Value};

/// The detail that names the documents a reading showed.
pub const DOCUMENTS: &str = "documents";
/// Readings that may have been of any document of a collection, none of them named.
const WIDE: [&str; 3] = ["documents.export", "documents.count", "documents.query"];

/// What such a reading is found by.
pub fn wide(collection: &str) -> String {
    format!("{collection}/*")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Allowed,
    Denied,
    Failed,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// Who did what, when, where, why, with which result. Fields stand in this order in the text.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub index: u64,
    /// RFC 3339, UTC.
    pub time: String,
    /// A pseudonym, or who is no person: `system`, `local:uid 0`, `anonymous`.
    pub who: String,
    pub action: String,
    pub outcome: Outcome,
    /// The identity it is about, as a pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `collection/id`, or another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The policies that allowed it, or why it was not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Keyed digests of the document before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Map<String, Value>>,
}

impl Entry {
    pub fn new(action: String, outcome: Outcome) -> Self {
        Self {
            index: 0,
            time: String::new(),
            who: "system".to_owned(),
            action,
            outcome,
            subject: None,
            object: None,
            revision: None,
            why: String::new(),
            before: None,
            after: None,
            address: None,
            request: String::new(),
            trace: String::new(),
            details: None,
        }
    }

    /// On one line: what is hashed, from the moment it is sealed never written anew.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(Box::new(error)))
    }

    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What it is found by as its object: the object, and the documents of it that were shown.
    fn objects(&self) -> RawBson {
        let object = self.object.as_deref().unwrap_or_default();
        let named = self.details.as_ref().and_then(|details| details.get(DOCUMENTS)).and_then(Value::as_array);
        let mut objects = RawArrayBuf::new();
        objects.push(object);
        let tells = |name: &str| self.details.as_ref().is_some_and(|details| details.contains_key(name));
        // An empty page, a total and the presence of a next page say something of documents they do not name.
        if named.is_some_and(Vec::is_empty) || tells("total") || tells("more") {
            objects.push(wide(object));
        }
        match named {
            Some(named) => named.iter().filter_map(Value::as_str).for_each(|id| objects.push(format!("{object}/{id}"))),
            None if WIDE.contains(&self.action.as_str()) => objects.push(wide(object)),
            None => return RawBson::String(object.to_owned()),
        }
        RawBson::Array(objects)
    }
}

/// A number as the id of a document: in the order of the numbers.
pub fn id(number: u64) -> String {
    format!("{number:020}")
}

pub fn number(id: &str) -> Option<u64> {
    (id.len() == 20).then(|| id.parse().ok())?
}

/// An entry as stored: its text, its hash, and the fields it is looked up by.
pub struct Leaf {
    pub index: u64,
    pub text: String,
    pub hash: Hash,
}

impl Leaf {
    pub fn new(entry: &Entry) -> Result<Self> {
        let text = entry.text()?;
        Ok(Self { index: entry.index, hash: merkle::leaf(text.as_bytes()), text })
    }

    pub fn document(&self, entry: &Entry, at: Timestamp) -> RawDocumentBuf {
        let mut people = RawArrayBuf::new();
        people.push(entry.who.as_str());
        if let Some(subject) = entry.subject.as_ref().filter(|subject| **subject != entry.who) {
            people.push(subject.as_str());
        }
        rawdoc! {
            "entry": self.text.as_str(),
            "hash": bytes(&self.hash),
            "at": bson::DateTime::from_millis(at.0),
            "people": people,
            "action": entry.action.as_str(),
            "object": entry.objects(),
            "outcome": entry.outcome.name(),
        }
    }

    /// As it is stored, nothing of it checked; `None`: no leaf.
    pub fn read(document: &RawDocument) -> Option<Self> {
        let hash = document.get_binary("hash").ok()?.bytes.try_into().ok()?;
        let index = number(document.get_str("_id").ok()?)?;
        Some(Self { index, text: document.get_str("entry").ok()?.to_owned(), hash })
    }
}

pub fn bytes(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

/// Hashes kept one after the other.
pub fn hashes(stored: &[u8]) -> Vec<Hash> {
    stored.chunks_exact(32).filter_map(|hash| hash.try_into().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_comes_back_and_its_text_begins_with_its_index() {
        let entry = Entry {
            index: 7,
            who: "~a".into(),
            subject: Some("~b".into()),
            ..Entry::new("a.b".into(), Outcome::Denied)
        };
        let leaf = Leaf::new(&entry).unwrap();
        assert!(leaf.text.starts_with("{\"index\":7,"), "{}", leaf.text);
        let mut document = rawdoc! { "_id": id(7) };
        for (name, value) in leaf.document(&entry, Timestamp(1)).iter().flatten() {
            document.append(name, value);
        }
        let back = Leaf::read(&document).unwrap();
        assert_eq!((back.index, &back.text, back.hash), (7, &leaf.text, leaf.hash));
        assert_eq!(Entry::parse(&back.text), Some(entry));
        assert_eq!((number("7"), number("head")), (None, None));
    }
}
