//! What a document stands under in an index, and in a sort: every combination of the values its paths lead to.

use super::{
    collection::Index,
    key,
    path::{self, Path},
    sort::Direction,
};
use crate::base::fault::Fault;
use bson::{RawArray, RawBsonRef, RawDocument};
use std::collections::BTreeSet;

/// Bytes of one key of an index.
pub const MAX_KEY: usize = 1024;
/// Entries one document may have in one index.
pub const MAX_ENTRIES: usize = 1000;
/// Combinations looked at before repeats fall together: bounds the work of one document.
const MAX_WORK: usize = 64 * MAX_ENTRIES;

/// The entries of a document in an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub keys: BTreeSet<Vec<u8>>,
    /// A bit for each field whose path met an array.
    pub multikey: u64,
}

/// One key for every combination of values; fields missing stand as null, empty arrays as undefined. Two fields may
/// not lead through two different arrays (MongoDB's rule: their product has no bounds).
pub fn entries(document: &RawDocument, index: &Index) -> Result<Entries, Fault> {
    let mut entries = Entries::default();
    let keys = &mut entries.keys;
    let mut longest = 0;
    let multikey = combinations(document, &index.keys, &mut |values| {
        let mut bytes = Vec::with_capacity(32);
        bytes.push(key::VERSION);
        for (value, (_, direction)) in values.iter().zip(&index.keys) {
            key::append(&mut bytes, *value, *direction);
        }
        longest = longest.max(bytes.len());
        keys.insert(bytes);
        keys.len() <= MAX_ENTRIES
    });
    let fault = |key| Fault::new(key).with("index", &index.name);
    match multikey {
        Ok(multikey) => entries.multikey = multikey,
        Err(Refusal::Parallel) => return Err(fault("documents.index_parallel")),
        Err(Refusal::TooMany) => return Err(fault("documents.index_entries").with("limit", MAX_ENTRIES)),
    }
    if longest > MAX_KEY {
        return Err(fault("documents.index_key").with("bytes", longest).with("limit", MAX_KEY));
    }
    Ok(entries)
}

/// The components a document sorts by: of its combinations, the first in the order of the sort.
pub fn sort_components(document: &RawDocument, keys: &[(Path, Direction)]) -> Result<Vec<Vec<u8>>, Fault> {
    let mut first: Option<Vec<Vec<u8>>> = None;
    combinations(document, keys, &mut |values| {
        let components: Vec<Vec<u8>> = values
            .iter()
            .zip(keys)
            .map(|(value, (_, direction))| {
                let mut bytes = Vec::with_capacity(16);
                key::append(&mut bytes, *value, *direction);
                bytes
            })
            .collect();
        if first.as_ref().is_none_or(|first| components < *first) {
            first = Some(components);
        }
        true
    })
    .map_err(|_| Fault::new("query.sort_arrays"))?;
    Ok(first.unwrap_or_default())
}

enum Refusal {
    Parallel,
    TooMany,
}

/// How far a field's path has been followed; the number is the depth reached in it.
#[derive(Clone, Copy)]
enum State<'a> {
    Open(&'a RawDocument, usize),
    /// Stands before the elements of an array.
    Waiting(&'a RawArray, usize),
    Done(Option<RawBsonRef<'a>>),
}

struct Walk<'k, 'e, 'a> {
    keys: &'k [(Path, Direction)],
    /// Takes a combination; answers whether it wants more.
    emit: &'e mut dyn FnMut(&[Option<RawBsonRef<'a>>]) -> bool,
    multikey: u64,
    work: usize,
}

fn combinations<'a>(
    document: &'a RawDocument,
    keys: &[(Path, Direction)],
    emit: &mut dyn FnMut(&[Option<RawBsonRef<'a>>]) -> bool,
) -> Result<u64, Refusal> {
    let mut walk = Walk { keys, emit, multikey: 0, work: 0 };
    walk.go(vec![State::Open(document, 0); keys.len()])?;
    Ok(walk.multikey)
}

impl<'a> Walk<'_, '_, 'a> {
    fn go(&mut self, mut states: Vec<State<'a>>) -> Result<(), Refusal> {
        self.work += 1;
        if self.work > MAX_WORK {
            return Err(Refusal::TooMany);
        }
        for (state, (path, _)) in states.iter_mut().zip(self.keys) {
            *state = follow(*state, path.parts());
        }
        let array = states.iter().find_map(|state| match state {
            State::Waiting(array, _) => Some(*array),
            _ => None,
        });
        match array {
            Some(array) => self.expand(&states, array),
            None => {
                let values: Vec<_> = states.iter().map(|state| if let State::Done(value) = state { *value } else { None }).collect();
                if (self.emit)(&values) { Ok(()) } else { Err(Refusal::TooMany) }
            }
        }
    }

    /// Once for each element of the array the waiting fields stand before.
    fn expand(&mut self, states: &[State<'a>], array: &'a RawArray) -> Result<(), Refusal> {
        let mut waiting = Vec::new();
        for (field, state) in states.iter().enumerate() {
            let State::Waiting(other, depth) = state else { continue };
            if !std::ptr::eq(other.as_bytes(), array.as_bytes()) {
                return Err(Refusal::Parallel);
            }
            self.multikey |= 1 << field.min(63);
            waiting.push((field, *depth));
        }
        let mut went = false;
        for (place, element) in path::elements(array).enumerate() {
            let mut branches = vec![states.to_vec()];
            for &(field, depth) in &waiting {
                let parts = self.keys.get(field).map_or(&[][..], |(path, _)| path.parts());
                let ways = ways(element, place, parts, depth);
                let ways = if ways.is_empty() && waiting.len() > 1 { vec![State::Done(None)] } else { ways };
                branches = branches
                    .into_iter()
                    .flat_map(|branch| {
                        ways.iter().map(move |way| {
                            let mut branch = branch.clone();
                            if let Some(state) = branch.get_mut(field) {
                                *state = *way;
                            }
                            branch
                        })
                    })
                    .collect();
            }
            for branch in branches {
                went = true;
                self.go(branch)?;
            }
        }
        if went {
            return Ok(());
        }
        let mut states = states.to_vec();
        for (field, _) in waiting {
            if let Some(state) = states.get_mut(field) {
                *state = State::Done(Some(RawBsonRef::Undefined));
            }
        }
        self.go(states)
    }
}

/// Down the documents, to a value, to nothing, or to an array.
fn follow<'a>(state: State<'a>, parts: &[String]) -> State<'a> {
    let State::Open(mut document, depth) = state else { return state };
    for (depth, part) in parts.iter().enumerate().skip(depth) {
        match path::field(document, part) {
            Some(RawBsonRef::Array(array)) => return State::Waiting(array, depth + 1),
            Some(value) if depth + 1 == parts.len() => return State::Done(Some(value)),
            Some(RawBsonRef::Document(inner)) => document = inner,
            _ => return State::Done(None),
        }
    }
    State::Done(Some(RawBsonRef::Document(document)))
}

/// Where a path leads from an element of an array: on through a document it holds, and by its position.
fn ways<'a>(element: RawBsonRef<'a>, place: usize, parts: &[String], depth: usize) -> Vec<State<'a>> {
    let Some(part) = parts.get(depth) else { return vec![State::Done(Some(element))] };
    let mut ways = Vec::with_capacity(1);
    if let RawBsonRef::Document(inner) = element {
        ways.push(State::Open(inner, depth));
    }
    let position = path::position(part);
    if position == Some(place) {
        let last = depth + 1 == parts.len();
        if last {
            ways.push(State::Done(Some(element)));
        }
        match element {
            RawBsonRef::Array(inner) => ways.push(State::Waiting(inner, depth + 1)),
            RawBsonRef::Document(inner) if !last => ways.push(State::Open(inner, depth + 1)),
            _ => {}
        }
    } else if ways.is_empty() && position.is_none() {
        ways.push(State::Done(None));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    fn index(paths: &[&str]) -> Index {
        let keys = paths.iter().map(|path| (Path::parse(path).expect("a path"), Direction::Ascending)).collect();
        Index { name: "i".into(), keys, unique: false }
    }

    fn keys(rows: &[&[RawBsonRef<'_>]]) -> BTreeSet<Vec<u8>> {
        let mut all = BTreeSet::new();
        for row in rows {
            let mut bytes = vec![key::VERSION];
            for value in *row {
                key::append(&mut bytes, Some(*value), Direction::Ascending);
            }
            all.insert(bytes);
        }
        all
    }

    #[test]
    fn every_element_has_an_entry() {
        use RawBsonRef::{Int32 as N, Null, Undefined};
        let document = rawdoc! {
            "n": 1, "tags": [1, 2, 2], "none": [], "rows": [{ "b": 1, "c": 2 }, { "b": 3 }, 7], "deep": [[5, 6]],
        };
        let of = |paths: &[&str]| entries(&document, &index(paths)).expect("entries");
        assert_eq!(of(&["n"]), Entries { keys: keys(&[&[N(1)]]), multikey: 0 });
        assert_eq!(of(&["missing.x"]), Entries { keys: keys(&[&[Null]]), multikey: 0 });
        assert_eq!(of(&["tags"]), Entries { keys: keys(&[&[N(1)], &[N(2)]]), multikey: 1 });
        assert_eq!(of(&["n", "tags"]), Entries { keys: keys(&[&[N(1), N(1)], &[N(1), N(2)]]), multikey: 2 });
        assert_eq!(of(&["none"]), Entries { keys: keys(&[&[Undefined]]), multikey: 1 });
        // Fields of one array go together, element by element.
        let rows: &[&[RawBsonRef<'_>]] = &[&[N(1), N(2)], &[N(3), Null], &[Null, Null]];
        assert_eq!(of(&["rows.b", "rows.c"]), Entries { keys: keys(rows), multikey: 3 });
        assert_eq!(of(&["tags.1"]), Entries { keys: keys(&[&[N(2)]]), multikey: 1 });
        assert_eq!(of(&["deep.0.1"]), Entries { keys: keys(&[&[N(6)]]), multikey: 1 });
        let deep = bson::rawbson!([5, 6]);
        let rows: &[&[RawBsonRef<'_>]] = &[&[N(5)], &[N(6)], &[deep.as_raw_bson_ref()]];
        assert_eq!(of(&["deep.0"]), Entries { keys: keys(rows), multikey: 1 });
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

    #[test]
    fn arrays_sort_by_their_first_or_last_element() {
        let document = rawdoc! { "a": [3, 1, 2] };
        let sorted = |direction| {
            let keys = [(Path::parse("a").expect("a path"), direction)];
            sort_components(&document, &keys).expect("components").concat()
        };
        assert_eq!(sorted(Direction::Ascending), key::component(RawBsonRef::Int32(1)));
        let mut last = key::component(RawBsonRef::Int32(3));
        key::turn(&mut last);
        assert_eq!(sorted(Direction::Descending), last);
    }
}
