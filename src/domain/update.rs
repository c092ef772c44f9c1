//! Changes to a document: update operators or a JSON Merge Patch (RFC 7396).

use crate::base::fault::Fault;
use bson::{RawDocument, RawDocumentBuf};

/// A parsed change, applied by an engine inside its transaction.
#[derive(Debug, Clone)]
pub struct Update(RawDocumentBuf);

impl Update {
    pub fn parse(document: &RawDocument) -> Result<Self, Fault> {
        Ok(Self(document.to_owned()))
    }
}
