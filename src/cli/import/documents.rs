//! BSON documents on their way to a collection: as lines of canonical Extended JSON, gathered up to a number and a size.

use super::{Counted, Report, chunks::Chunk, send};
use crate::{
    base::fault::Fault,
    cli::{
        client::{Client, segment},
        context::Context,
        failure::Failure,
    },
    domain::json::canonical,
    services::archive::Document,
};
use bson::{RawBsonRef, RawDocument};
use serde_json::json;

/// As much as one commit of the server's.
const LINES: usize = 500;
const BYTES: usize = 4 << 20;

/// One collection's, and what came of them.
pub struct Documents {
    /// Here.
    pub collection: String,
    path: String,
    /// The number of the first line waiting.
    first: u64,
    lines: u64,
    body: Vec<u8>,
    pub counted: Counted,
}

impl Documents {
    pub fn new(collection: &str, upsert: bool) -> Self {
        let upsert = if upsert { "?upsert=true" } else { "" };
        let path = format!("/collections/{}/import{upsert}", segment(collection));
        let (collection, body) = (collection.to_owned(), Vec::new());
        Self { collection, path, first: 1, lines: 0, body, counted: Counted::default() }
    }

    /// Takes a document; one that no text can say is a fault of its own.
    pub async fn take(
        &mut self,
        context: &Context,
        client: &mut Client,
        report: &mut Report<'_>,
        document: &Document<'_>,
    ) -> Result<(), Failure> {
        match line(document.bytes) {
            Ok(line) => {
                if self.lines == 0 {
                    self.first = document.number;
                }
                self.body.extend(line);
                self.body.push(b'\n');
                self.lines += 1;
            }
            Err(fault) => {
                // What waits has the numbers before it.
                self.flush(client, report).await?;
                report.of = Some(self.collection.clone());
                let message = context.words(&fault.with("end", document.end));
                report.fault(document.number, json!({ "line": document.number, "message": message }))?;
                self.counted.failed += 1;
            }
        }
        if self.lines as usize >= LINES || self.body.len() >= BYTES {
            self.flush(client, report).await?;
        }
        Ok(())
    }

    /// On return all that was taken is on the server's disk, or reported.
    pub async fn flush(&mut self, client: &mut Client, report: &mut Report<'_>) -> Result<(), Failure> {
        if self.lines == 0 {
            return Ok(());
        }
        let (first, lines) = (self.first, std::mem::take(&mut self.lines));
        let chunk = Chunk { first, lines, body: std::mem::take(&mut self.body) };
        let answer = send(client, &self.path, chunk).await?;
        report.of = Some(self.collection.clone());
        self.counted.add(&report.take(first, answer)?);
        Ok(())
    }
}

/// Names that begin with `$` would be taken for the types of Extended JSON.
fn line(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let unreadable = |why: &dyn std::fmt::Display| Fault::new("archive.document").with("why", why);
    let document = RawDocument::from_bytes(bytes).map_err(|error| unreadable(&error))?;
    if let Some(name) = typed(document).map_err(|error| unreadable(&error))? {
        return Err(Fault::new("archive.typed").with("name", name));
    }
    canonical(document)
}

fn typed(document: &RawDocument) -> bson::error::Result<Option<String>> {
    let mut inside = vec![document];
    while let Some(document) = inside.pop() {
        for entry in document {
            let (name, value) = entry?;
            if name.as_str().starts_with('$') {
                return Ok(Some(name.as_str().to_owned()));
            }
            match value {
                RawBsonRef::Document(document) => inside.push(document),
                // An array is a document of its places.
                RawBsonRef::Array(array) => inside.push(RawDocument::from_bytes(array.as_bytes())?),
                _ => {}
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn names_that_text_would_mistake_are_told() {
        let refused = |document: bson::RawDocumentBuf| line(document.as_bytes()).err().map(|fault| fault.key);
        assert_eq!(refused(rawdoc! { "a": 1, "b": [{ "c": "$d" }] }), None);
        assert_eq!(refused(rawdoc! { "a": [[{ "$numberLong": "5" }]] }), Some("archive.typed"));
        assert_eq!(line(b"\x0c\0\0\0\x10abcdefg").unwrap_err().key, "archive.document");
    }
}
