//! The keys a document has under a list of paths: what an index holds of it, and what a sort compares.

use super::path::{self, Path};
use crate::base::fault::Fault;
use bson::{RawArray, RawBsonRef, RawDocument};

/// A key: a value for each path. A missing field is null, an empty array undefined (before null).
pub type Key<'a> = Vec<RawBsonRef<'a>>;

/// One key for each element of the array the paths pass through or end at, else a single one; repeats included.
/// Values of one key come from the same element. Two different arrays are refused, as MongoDB refuses them.
pub fn keys<'a>(document: &'a RawDocument, paths: &[&Path]) -> Result<Vec<Key<'a>>, Fault> {
    let slots = paths.iter().map(|path| Slot::Open(Some(document), path.parts())).collect();
    let mut keys = Vec::new();
    grow(slots, paths, &mut keys)?;
    Ok(keys)
}

/// The one key of a document without arrays under the paths; `None` if there are any.
pub fn plain_key<'a>(document: &'a RawDocument, paths: &[&Path]) -> Option<Key<'a>> {
    paths
        .iter()
        .map(|path| match follow(document, path.parts()) {
            (Some(RawBsonRef::Array(_)), _) => None,
            (value, _) => Some(value.unwrap_or(RawBsonRef::Null)),
        })
        .collect()
}

#[derive(Clone, Copy)]
enum Slot<'a, 'p> {
    Value(RawBsonRef<'a>),
    /// Still to be followed, from this document (or from nothing: a scalar in an array).
    Open(Option<&'a RawDocument>, &'p [String]),
    /// Stopped at an array, with this rest of the path.
    Array(&'a RawArray, &'p [String]),
}

fn grow<'a>(mut slots: Vec<Slot<'a, '_>>, paths: &[&Path], keys: &mut Vec<Key<'a>>) -> Result<(), Fault> {
    let mut array: Option<&RawArray> = None;
    for (slot, path) in slots.iter_mut().zip(paths) {
        if let Slot::Open(document, parts) = *slot {
            let (value, rest) = document.map_or((None, parts), |document| follow(document, parts));
            *slot = match value {
                Some(RawBsonRef::Array(found)) => Slot::Array(found, rest),
                value => Slot::Value(value.unwrap_or(RawBsonRef::Null)),
            };
        }
        if let Slot::Array(found, _) = *slot {
            if array.is_some_and(|other| !std::ptr::eq(other, found)) {
                return Err(Fault::new("query.parallel_arrays").at(path.to_string()));
            }
            array = Some(found);
        }
    }
    let Some(array) = array else {
        keys.push(
            slots
                .into_iter()
                .map(|slot| if let Slot::Value(value) = slot { value } else { RawBsonRef::Null })
                .collect(),
        );
        return Ok(());
    };
    if array.is_empty() {
        return grow(slots.into_iter().map(|slot| enter(slot, RawBsonRef::Undefined)).collect(), paths, keys);
    }
    for element in path::elements(array) {
        grow(slots.iter().map(|slot| enter(*slot, element)).collect(), paths, keys)?;
    }
    Ok(())
}

/// From the array into one of its elements; a position in the path leads to that element for every key.
fn enter<'a, 'p>(slot: Slot<'a, 'p>, element: RawBsonRef<'a>) -> Slot<'a, 'p> {
    let Slot::Array(array, rest) = slot else { return slot };
    let Some((first, after)) = rest.split_first() else { return Slot::Value(element) };
    let named = path::position(first).and_then(|place| path::elements(array).nth(place));
    match (named, element) {
        (Some(value), _) if after.is_empty() => Slot::Value(value),
        (Some(RawBsonRef::Array(inner)), _) => Slot::Array(inner, after),
        (Some(value), _) => Slot::Open(value.as_document(), after),
        (None, element) => Slot::Open(element.as_document(), rest),
    }
}

/// As far as the path leads without an array; the rest is what follows one.
fn follow<'a, 'p>(document: &'a RawDocument, parts: &'p [String]) -> (Option<RawBsonRef<'a>>, &'p [String]) {
    let (mut current, mut rest) = (document, parts);
    while let Some((first, after)) = rest.split_first() {
        match path::field(current, first) {
            Some(array @ RawBsonRef::Array(_)) => return (Some(array), after),
            Some(value) if after.is_empty() => return (Some(value), after),
            Some(RawBsonRef::Document(inner)) => current = inner,
            _ => break,
        }
        rest = after;
    }
    (None, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawDocumentBuf, rawdoc};

    fn shown(document: &RawDocumentBuf, paths: &[&str]) -> Result<String, &'static str> {
        let paths: Vec<Path> = paths.iter().map(|path| Path::parse(path).expect("a path")).collect();
        let keys = keys(document, &paths.iter().collect::<Vec<_>>()).map_err(|fault| fault.key)?;
        let value = |value: &RawBsonRef<'_>| match value {
            RawBsonRef::Int32(number) => number.to_string(),
            RawBsonRef::Null => "null".to_owned(),
            RawBsonRef::Undefined => "undefined".to_owned(),
            RawBsonRef::Array(_) => "array".to_owned(),
            _ => "other".to_owned(),
        };
        Ok(keys.iter().map(|key| key.iter().map(value).collect::<Vec<_>>().join(",")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn arrays_expand_into_keys() {
        let document = rawdoc! {
            "x": 1, "e": [], "s": [3, 4, [5]], "d": [{ "b": 1, "c": 2 }, { "b": 3 }, 7], "n": { "d": [{ "b": [8, 9] }] },
        };
        assert_eq!(shown(&document, &["x", "none"]), Ok("1,null".into()));
        assert_eq!(shown(&document, &["x", "e"]), Ok("1,undefined".into()));
        assert_eq!(shown(&document, &["e.b"]), Ok("null".into()));
        assert_eq!(shown(&document, &["s", "x"]), Ok("3,1 4,1 array,1".into()));
        assert_eq!(shown(&document, &["d.b", "d.c"]), Ok("1,2 3,null null,null".into()));
        assert_eq!(shown(&document, &["n.d.b"]), Ok("8 9".into()));
        assert_eq!(shown(&document, &["s.1"]), Ok("4 4 4".into()));
        assert_eq!(shown(&document, &["s", "d.b"]), Err("query.parallel_arrays"));
    }
}
