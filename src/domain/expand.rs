//! The keys a document has under a list of paths: what an index holds of it, and what a sort compares.

use super::path::{self, Path};
use crate::base::fault::Fault;
use bson::{RawArray, RawBsonRef, RawDocument};

/// A key: a value for each path. A missing field is null, an empty array undefined (before null).
pub type Key<'a> = Vec<RawBsonRef<'a>>;

/// One key for each element of the array the paths pass through or end at, but a single one for all where paths
/// name positions alone; else a single one. Others may repeat.
/// Values of one key come from the same element. Two different arrays are refused, as MongoDB refuses them.
pub fn keys<'a>(document: &'a RawDocument, paths: &[&Path]) -> Result<Vec<Key<'a>>, Fault> {
    let mut keys = Vec::new();
    let slots = paths.iter().map(|path| Slot::Open(path.parts(), None)).collect();
    Expansion { paths, keys: &mut keys }.grow(Some(document), slots)?;
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
    /// Still to be followed, in the element at hand or to the position it names.
    Open(&'p [String], Option<Positioned<'a, 'p>>),
    /// Stopped at an array, with this rest of the path, and what a position it begins with leads to.
    Array(&'a RawArray, &'p [String], Option<Positioned<'a, 'p>>),
}

/// What a position in a path leads to, whichever element of its array is at hand.
#[derive(Clone, Copy)]
struct Positioned<'a, 'p> {
    element: RawBsonRef<'a>,
    found: Option<RawBsonRef<'a>>,
    rest: &'p [String],
}

struct Expansion<'k, 'a> {
    paths: &'k [&'k Path],
    keys: &'k mut Vec<Key<'a>>,
}

impl<'a> Expansion<'_, 'a> {
    /// `object`: the document at hand; none for other elements of an array.
    fn grow(&mut self, object: Option<&'a RawDocument>, mut slots: Vec<Slot<'a, '_>>) -> Result<(), Fault> {
        self.unambiguous(object, &slots)?;
        let mut array: Option<&RawArray> = None;
        // An array that is itself at the named position counts whole.
        let mut whole = false;
        for (slot, path) in slots.iter_mut().zip(self.paths) {
            let Slot::Open(parts, positioned) = *slot else { continue };
            let (found, rest) = match (object, positioned) {
                (_, Some(positioned)) => {
                    whole |= matches!(positioned.element, RawBsonRef::Array(_));
                    (positioned.found, positioned.rest)
                }
                (Some(object), None) => follow(object, parts),
                (None, None) => (None, parts),
            };
            *slot = match found {
                Some(RawBsonRef::Array(found)) => {
                    if array.is_some_and(|other| !std::ptr::eq(other, found)) {
                        return Err(Fault::new("query.parallel_arrays").at(path.to_string()));
                    }
                    array = Some(found);
                    Slot::Array(found, rest, position(found, rest))
                }
                value => Slot::Value(value.unwrap_or(RawBsonRef::Null)),
            };
        }
        let Some(array) = array else {
            self.keys.push(slots.into_iter().map(settled).collect());
            return Ok(());
        };
        if array.is_empty() {
            return self.grow(None, slots.iter().map(|slot| enter(*slot, Some(RawBsonRef::Undefined))).collect());
        }
        // Where no path takes anything of the element at hand, the keys of one are those of all.
        let alike = slots.iter().all(|slot| match slot {
            Slot::Value(_) | Slot::Array(_, _, Some(_)) => true,
            Slot::Array(_, rest, None) => whole && rest.is_empty(),
            Slot::Open(..) => false,
        });
        for (place, element) in path::elements(array).enumerate() {
            let value = (!whole).then_some(element);
            let slots: Vec<_> = slots.iter().map(|slot| enter(*slot, value)).collect();
            if alike && place > 0 {
                self.unambiguous(element.as_document(), &slots)?;
            } else {
                self.grow(element.as_document(), slots)?;
            }
        }
        Ok(())
    }

    /// A position that is also the name of a field leads to both.
    fn unambiguous(&self, object: Option<&RawDocument>, slots: &[Slot<'_, '_>]) -> Result<(), Fault> {
        let Some(object) = object else { return Ok(()) };
        for (slot, path) in slots.iter().zip(self.paths) {
            if let Slot::Open([name, ..], Some(_)) = slot
                && path::field(object, name).is_some()
            {
                return Err(Fault::new("query.ambiguous_position").at(path.to_string()));
            }
        }
        Ok(())
    }
}

fn settled<'a>(slot: Slot<'a, '_>) -> RawBsonRef<'a> {
    match slot {
        Slot::Value(value) => value,
        Slot::Open(..) => RawBsonRef::Null,
        Slot::Array(array, ..) => RawBsonRef::Array(array),
    }
}

/// From the array into an element: a path that ends there takes `value`, or the array where there is none.
fn enter<'a, 'p>(slot: Slot<'a, 'p>, value: Option<RawBsonRef<'a>>) -> Slot<'a, 'p> {
    match slot {
        Slot::Array(array, [], _) => Slot::Value(value.unwrap_or(RawBsonRef::Array(array))),
        Slot::Array(_, rest, positioned) => Slot::Open(rest, positioned),
        other => other,
    }
}

fn position<'a, 'p>(array: &'a RawArray, rest: &'p [String]) -> Option<Positioned<'a, 'p>> {
    let (first, after) = rest.split_first()?;
    let element = path::elements(array).nth(path::position(first)?)?;
    let (found, rest) = match element {
        RawBsonRef::Document(inner) if !after.is_empty() => follow(inner, after),
        RawBsonRef::Array(_) => (Some(element), after),
        _ if after.is_empty() => (Some(element), after),
        _ => (None, after),
    };
    Some(Positioned { element, found, rest })
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
        assert_eq!(shown(&document, &["s.1"]), Ok("4".into()));
        assert_eq!(shown(&document, &["s.2"]), Ok("array".into()));
        assert_eq!(shown(&document, &["s.1", "s"]), Ok("4,3 4,4 4,array".into()));
        assert_eq!(shown(&document, &["s", "d.b"]), Err("query.parallel_arrays"));
        assert_eq!(shown(&rawdoc! { "a": [{ "0": 1 }] }, &["a.0"]), Err("query.ambiguous_position"));
        assert_eq!(shown(&rawdoc! { "a": [1, { "0": 1 }] }, &["a.0"]), Err("query.ambiguous_position"));
    }

    #[test]
    fn positions_do_not_multiply() {
        let mut inner = bson::RawArrayBuf::new();
        (0..8).for_each(|_| inner.push(7));
        for _ in 0..3 {
            let mut outer = bson::RawArrayBuf::new();
            outer.push(inner);
            (0..8).for_each(|number| outer.push(number));
            inner = outer;
        }
        let document = rawdoc! { "a": inner };
        assert_eq!(shown(&document, &["a.0.0.0"]), Ok("array".into()));
        assert_eq!(shown(&document, &["a.0.0.0.7"]), Ok("7".into()));
        assert_eq!(shown(&document, &["a.8"]), Ok("7".into()));
    }
}
