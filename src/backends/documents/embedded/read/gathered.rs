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

/// Rows of a page, and one more if there is.
pub(super) struct Gathered {
    pub(super) limit: usize,
    pub(super) rows: Vec<RawDocumentBuf>,
}

impl Gathered {
    /// Answers whether that was enough.
    pub(super) fn push(&mut self, document: RawDocumentBuf) -> bool {
        self.rows.push(document);
        self.rows.len() > self.limit
    }

    pub(super) fn finish(mut self, key: impl Fn(&RawDocument) -> Run<Vec<Vec<u8>>>, explain: Explain) -> Run<Page> {
        let more = self.rows.len() > self.limit;
        self.rows.truncate(self.limit);
        let next = match self.rows.last().filter(|_| more) {
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
