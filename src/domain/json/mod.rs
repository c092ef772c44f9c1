//! MongoDB Extended JSON v2, in and out: text to BSON and back without any value tree between.
//!
//! Reading accepts relaxed and canonical alike; source: the "MongoDB Extended JSON (v2)" specification.

mod lines;
mod parse;
mod plain;
mod types;
mod write;

pub use lines::{Line, Splitter};
pub use plain::is_plain;
pub use write::{write_canonical, write_relaxed, write_value_canonical};

use crate::base::fault::Fault;
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

/// How deep documents and arrays may lie in one another, whatever a caller asks: it bounds the stack.
const DEEPEST: usize = 200;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Documents and arrays within one another, the outermost counted; never over 200.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nesting: 100 }
    }
}

/// What is wrong with a text. Faults name the field (`path`) and the place (`line`, `column`, from 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON at all (400).
    #[error("{0}")]
    Unreadable(Fault),
    /// JSON, against a rule (422).
    #[error("{0}")]
    Invalid(Fault),
}

impl Error {
    pub fn into_fault(self) -> Fault {
        match self {
            Self::Unreadable(fault) | Self::Invalid(fault) => fault,
        }
    }
}

/// Reads one document. A byte order mark and surrounding white space are allowed, nothing else.
pub fn parse(text: &[u8], limits: Limits) -> Result<RawDocumentBuf, Error> {
    parse::Parser::new(text, limits)?.document()
}

/// Gives an imported document the id this store knows: an ObjectId becomes its 24 hex digits; a string stays,
/// an absent `_id` stays absent. Any other type is a fault at `_id`.
pub fn normalise_id(document: RawDocumentBuf) -> Result<RawDocumentBuf, Fault> {
    let unreadable = |error: bson::error::Error| Fault::new("json.stored").with("why", error);
    let hex = match document.get("_id").map_err(unreadable)? {
        None | Some(RawBsonRef::String(_)) => return Ok(document),
        Some(RawBsonRef::ObjectId(id)) => id.to_hex(),
        Some(_) => return Err(Fault::new("json.id").at("_id")),
    };
    let mut normal = RawDocumentBuf::new();
    for element in document.iter() {
        let (name, value) = element.map_err(unreadable)?;
        if name.as_str() == "_id" {
            normal.append(name, hex.as_str());
        } else {
            normal.append(name, value);
        }
    }
    Ok(normal)
}

/// The document as canonical Extended JSON text.
pub fn canonical(document: &RawDocument) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::with_capacity(document.as_bytes().len() * 2);
    write_canonical(document, &mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
