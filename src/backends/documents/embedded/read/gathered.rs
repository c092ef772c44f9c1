//! The rows of a page as they are gathered, and their places in its order.

use super::Run;
use crate::{
    domain::{
        cursor::Cursor,
        key,
        path::Path,
        sort::{Direction, Sort},
    },
    ports::{
        Error,
        documents::{Explain, Page},
    },
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

/// Bytes of a page's rows, unless the first alone is larger: a page of large documents ends early.
pub(super) const PAGE: usize = 16 << 20;

/// Rows of a page, and whether there is one more.
pub(super) struct Gathered {
    limit: usize,
    rows: Vec<RawDocumentBuf>,
    bytes: usize,
    more: bool,
}

impl Gathered {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, rows: Vec::new(), bytes: 0, more: false }
    }

    /// Answers whether that was enough: the row found no room any more.
    pub(super) fn push(&mut self, document: RawDocumentBuf) -> bool {
        self.bytes += document.as_bytes().len();
        self.more = self.rows.len() >= self.limit || (!self.rows.is_empty() && self.bytes > PAGE);
        if !self.more {
            self.rows.push(document);
        }
        self.more
    }

    pub(super) fn finish(self, key: impl Fn(&RawDocument) -> Run<Vec<Vec<u8>>>, explain: Explain) -> Run<Page> {
        let next = match self.rows.last().filter(|_| self.more) {
            Some(last) => {
                let id = last.get_str("_id").map_err(|_| Error::Corrupt("a document has no id".to_owned()))?;
                Some(Cursor { components: key(last)?, id: id.to_owned() }.encode())
            }
            None => None,
        };
        Ok(Page { documents: self.rows, next, explain })
    }
}

/// The sort's components of a document.
pub(super) fn components(sort: &Sort, document: &RawDocument, keys: &[(Path, Direction)]) -> Run<Vec<Vec<u8>>> {
    let values = sort.key(document)?;
    let component = |(value, (_, direction)): (&RawBsonRef<'_>, &(Path, Direction))| {
        let mut bytes = Vec::with_capacity(16);
        key::append(&mut bytes, *value, *direction);
        bytes
    };
    Ok(values.iter().zip(keys).map(component).collect())
}

/// A row's place in a sort, as bytes.
pub(super) fn place(components: &[Vec<u8>], id: &str, tie: Direction) -> Vec<u8> {
    let mut place = components.concat();
    let start = place.len();
    place.extend_from_slice(id.as_bytes());
    place.push(0);
    if tie == Direction::Descending {
        key::turn(place.get_mut(start..).unwrap_or_default());
    }
    place
}
