//! How large and how deep a document may be.

use crate::base::fault::Fault;
use bson::{RawBsonRef, RawDocument};

/// Bytes of a document, unless configured; at most [`MAX_DOCUMENT`].
pub const DOCUMENT: usize = 1 << 20;
/// Bytes of a document, the most that can be configured.
pub const MAX_DOCUMENT: usize = 16 << 20;
/// Documents and arrays within one another.
pub const NESTING: usize = 100;

/// Every document comes in through here: at most `bytes` long, nested at most [`NESTING`] deep, and well-formed
/// to its last byte. What lies deeper may then be walked by recursion.
pub fn check(document: &RawDocument, bytes: usize) -> Result<(), Fault> {
    let length = document.as_bytes().len();
    if length > bytes {
        return Err(Fault::new("documents.too_large").with("bytes", length).with("limit", bytes));
    }
    nesting(document)
}

/// The depth alone, and that the bytes are BSON.
pub fn nesting(document: &RawDocument) -> Result<(), Fault> {
    let mut open = vec![document.iter_elements()];
    while let Some(elements) = open.last_mut() {
        let Some(element) = elements.next() else {
            open.pop();
            continue;
        };
        let malformed = |error| Fault::new("documents.malformed").with("reason", error);
        let element = element.map_err(malformed)?;
        let inner = match element.value().map_err(malformed)? {
            RawBsonRef::Document(inner) => inner.iter_elements(),
            RawBsonRef::Array(inner) => inner.iter_elements(),
            RawBsonRef::JavaScriptCodeWithScope(code) => code.scope.iter_elements(),
            _ => continue,
        };
        if open.len() >= NESTING {
            return Err(Fault::new("documents.nesting").at(element.key().as_str()).with("limit", NESTING));
        }
        open.push(inner);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawDocumentBuf, rawdoc};

    fn nested(depth: usize) -> RawDocumentBuf {
        (1..depth).fold(rawdoc! {}, |inner, _| rawdoc! { "a": inner })
    }

    #[test]
    fn a_hundred_levels_and_no_more() {
        assert_eq!(check(&nested(NESTING), DOCUMENT), Ok(()));
        let fault = check(&nested(NESTING + 1), DOCUMENT).expect_err("too deep");
        assert_eq!((fault.key, fault.path.as_str()), ("documents.nesting", "a"));
        assert!(check(&nested(10_000), DOCUMENT).is_err());
    }

    #[test]
    fn size_and_shape_are_checked() {
        assert_eq!(check(&rawdoc! { "a": "x" }, 8).map_err(|fault| fault.key), Err("documents.too_large"));
        let mut bytes = rawdoc! { "a": "xyz" }.into_bytes();
        bytes[11] = 0xff; // inside the string: no UTF-8
        let broken = RawDocument::from_bytes(&bytes).expect("the frame is sound");
        assert_eq!(check(broken, DOCUMENT).map_err(|fault| fault.key), Err("documents.malformed"));
    }
}
