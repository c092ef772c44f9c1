//! Changes to a document: update operators or a JSON Merge Patch (RFC 7396).

/// A parsed change, applied by an engine inside its transaction.
#[derive(Debug, Clone)]
pub struct Update;
