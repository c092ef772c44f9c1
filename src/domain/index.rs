//! What a document stands under in an index: a key of bytes for each of its combinations of values.

use super::{collection::Index, expand, key, path::Path};
use crate::base::fault::Fault;
use bson::RawDocument;
use std::collections::BTreeSet;

/// Bytes of one key of an index.
pub const MAX_KEY: usize = 1024;
/// Entries one document may have in one index.
pub const MAX_ENTRIES: usize = 1000;

/// The entries of a document in an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub keys: BTreeSet<Vec<u8>>,
    /// A bit for each field whose path met an array.
    pub multikey: u64,
}

/// Every document has at least one entry. Two fields may not lead through two different arrays, as in MongoDB.
pub fn entries(document: &RawDocument, index: &Index) -> Result<Entries, Fault> {
    let paths: Vec<&Path> = index.keys.iter().map(|(path, _)| path).collect();
    let fault = |key| Fault::new(key).with("index", &index.name);
    let mut entries = Entries::default();
    let keys = match expand::plain_key(document, &paths) {
        Some(key) => vec![key],
        None => {
            for (field, path) in paths.iter().enumerate().take(64) {
                if expand::plain_key(document, &[path]).is_none() {
                    entries.multikey |= 1 << field;
                }
            }
            expand::keys(document, &paths).map_err(|_| fault("documents.index_parallel"))?
        }
    };
    for values in keys {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(key::VERSION);
        for (value, (_, direction)) in values.iter().zip(&index.keys) {
            key::append(&mut bytes, *value, *direction);
        }
        if bytes.len() > MAX_KEY {
            return Err(fault("documents.index_key").with("bytes", bytes.len()).with("limit", MAX_KEY));
        }
        entries.keys.insert(bytes);
        if entries.keys.len() > MAX_ENTRIES {
            return Err(fault("documents.index_entries").with("limit", MAX_ENTRIES));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sort::Direction;
    use bson::{RawBsonRef, rawdoc};

    fn index(paths: &[&str]) -> Index {
        let keys = paths.iter().map(|path| (Path::parse(path).expect("a path"), Direction::Ascending)).collect();
        Index { name: "i".into(), keys, unique: false }
    }

    fn keys(rows: &[&[RawBsonRef<'_>]]) -> BTreeSet<Vec<u8>> {
        let mut all = BTreeSet::new();
        for row in rows {
            let mut bytes = vec![key::VERSION];
            for value in *row {
                key::append(&mut bytes, *value, Direction::Ascending);
            }
            all.insert(bytes);
        }
        all
    }

    #[test]
    fn every_element_has_an_entry() {
        use RawBsonRef::{Int32 as N, Null, Undefined};
        let document = rawdoc! { "n": 1, "tags": [1, 2, 2], "none": [], "rows": [{ "b": 1, "c": 2 }, { "b": 3 }, 7] };
        let of = |paths: &[&str]| entries(&document, &index(paths)).expect("entries");
        assert_eq!(of(&["n"]), Entries { keys: keys(&[&[N(1)]]), multikey: 0 });
        assert_eq!(of(&["missing.x"]), Entries { keys: keys(&[&[Null]]), multikey: 0 });
        assert_eq!(of(&["tags"]), Entries { keys: keys(&[&[N(1)], &[N(2)]]), multikey: 1 });
        assert_eq!(of(&["n", "tags"]), Entries { keys: keys(&[&[N(1), N(1)], &[N(1), N(2)]]), multikey: 2 });
        assert_eq!(of(&["none"]), Entries { keys: keys(&[&[Undefined]]), multikey: 1 });
        let rows: &[&[RawBsonRef<'_>]] = &[&[N(1), N(2)], &[N(3), Null], &[Null, Null]];
        assert_eq!(of(&["rows.b", "rows.c"]), Entries { keys: keys(rows), multikey: 3 });
    }

    #[test]
    fn limits_are_named() {
        let fault = |document: &RawDocument, paths: &[&str]| entries(document, &index(paths)).expect_err("refused").key;
        assert_eq!(fault(&rawdoc! { "a": [1], "b": [1] }, &["a", "b"]), "documents.index_parallel");
        assert_eq!(fault(&rawdoc! { "a": "x".repeat(MAX_KEY) }, &["a"]), "documents.index_key");
        let numbers = |count: i32| bson::RawArrayBuf::from_iter(0..count);
        assert_eq!(fault(&rawdoc! { "a": numbers(1001) }, &["a"]), "documents.index_entries");
        assert!(entries(&rawdoc! { "a": numbers(1000) }, &index(&["a"])).is_ok());
    }
}
