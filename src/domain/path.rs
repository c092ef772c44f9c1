//! Dotted paths into documents, and what they lead to under MongoDB's rules for arrays.

use crate::base::fault::Fault;
use bson::{RawArray, RawBsonRef, RawDocument};

/// Names in a path, as deep as a document may nest.
pub const MAX_PARTS: usize = 100;
/// Array positions in a path: each doubles the places it may lead to in arrays of documents.
pub const MAX_POSITIONS: usize = 16;

/// `a.b.0.c`: names or array positions, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path(Vec<String>);

impl Path {
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        if parts.iter().any(|part| part.is_empty() || part.contains('\0')) {
            return Err(Fault::new("query.path").at(text));
        }
        if parts.len() > MAX_PARTS || parts.iter().filter(|part| position(part).is_some()).count() > MAX_POSITIONS {
            return Err(Fault::new("query.path_length")
                .at(text)
                .with("parts", MAX_PARTS)
                .with("positions", MAX_POSITIONS));
        }
        Ok(Self(parts))
    }

    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// What the other path leads to, from what this one leads to.
    pub fn join(&self, other: &Self) -> Self {
        Self([&self.0[..], &other.0].concat())
    }

    /// The same path beneath a field.
    pub fn under(&self, name: &str) -> Self {
        Self([&[name.to_owned()], &self.0[..]].concat())
    }

    /// The path from a field on, if it leads through it.
    pub fn within(&self, name: &str) -> Option<Self> {
        let (first, rest) = self.0.split_first()?;
        (first == name && !rest.is_empty()).then(|| Self(rest.to_vec()))
    }

    /// Whether this is the other path, or leads to something holding what the other leads to.
    pub fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The array position a part of a path names: digits without leading zeros.
pub fn position(part: &str) -> Option<usize> {
    if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) || (part.len() > 1 && part.starts_with('0')) {
        return None;
    }
    part.parse().ok()
}

/// The value under a name. Bytes that are no BSON end the search: documents are checked where they come in.
pub fn field<'a>(document: &'a RawDocument, name: &str) -> Option<RawBsonRef<'a>> {
    let element = document.iter_elements().map_while(Result::ok).find(|element| element.key() == name)?;
    element.value().ok()
}

/// The elements of an array, in order.
pub fn elements(array: &RawArray) -> impl Iterator<Item = RawBsonRef<'_>> {
    array.iter_elements().map_while(|element| element.and_then(|element| element.value()).ok())
}

/// What an array at the end of a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf {
    /// Each of its elements, then itself.
    Elements,
    /// Itself alone.
    Whole,
}

/// Whether `test` accepts anything the path leads to; `None` stands for a missing field. Arrays on the way are
/// looked into: the rest of the path is followed in each document they hold, and a number also names a position.
pub fn any<'a>(
    document: &'a RawDocument,
    parts: &[String],
    leaf: Leaf,
    test: &mut dyn FnMut(Option<RawBsonRef<'a>>) -> bool,
) -> bool {
    let mut current = document;
    for (depth, part) in parts.iter().enumerate() {
        let rest = parts.get(depth + 1..).unwrap_or_default();
        match field(current, part) {
            Some(RawBsonRef::Array(array)) => return any_in(array, rest, leaf, test),
            Some(value) if rest.is_empty() => return test(Some(value)),
            Some(RawBsonRef::Document(inner)) => current = inner,
            _ => return test(None),
        }
    }
    test(Some(RawBsonRef::Document(current)))
}

fn any_in<'a>(
    array: &'a RawArray,
    rest: &[String],
    leaf: Leaf,
    test: &mut dyn FnMut(Option<RawBsonRef<'a>>) -> bool,
) -> bool {
    let Some((first, after)) = rest.split_first() else {
        return (leaf == Leaf::Elements && elements(array).any(|value| test(Some(value))))
            || test(Some(RawBsonRef::Array(array)));
    };
    let wanted = position(first);
    for (place, value) in elements(array).enumerate() {
        if let RawBsonRef::Document(inner) = value
            && any(inner, rest, leaf, test)
        {
            return true;
        }
        if wanted != Some(place) {
            continue;
        }
        let found = match value {
            _ if after.is_empty() => test(Some(value)),
            RawBsonRef::Document(inner) => any(inner, after, leaf, test),
            RawBsonRef::Array(inner) => any_in(inner, after, leaf, test),
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    fn reached(document: &RawDocument, path: &str, leaf: Leaf) -> Vec<String> {
        let path = Path::parse(path).expect("a path");
        let mut seen = Vec::new();
        any(document, path.parts(), leaf, &mut |value| {
            seen.push(value.map_or("missing".to_owned(), |value| match value {
                RawBsonRef::Int32(number) => number.to_string(),
                RawBsonRef::Array(_) => "array".to_owned(),
                _ => "other".to_owned(),
            }));
            false
        });
        seen
    }

    #[test]
    fn arrays_are_looked_into() {
        let document = rawdoc! { "a": [{ "b": 1 }, { "b": [2, 3] }, {}, 4], "c": { "d": 5 }, "e": [[6, 7]] };
        assert_eq!(reached(&document, "a.b", Leaf::Elements), ["1", "2", "3", "array", "missing"]);
        assert_eq!(reached(&document, "a.b", Leaf::Whole), ["1", "array", "missing"]);
        assert_eq!(reached(&document, "c.d", Leaf::Elements), ["5"]);
        assert_eq!(reached(&document, "c.d.x", Leaf::Elements), ["missing"]);
        assert_eq!(reached(&document, "a.3", Leaf::Elements), ["missing", "missing", "missing", "4"]);
        assert_eq!(reached(&document, "e.0.1", Leaf::Elements), ["7"]);
        assert_eq!(reached(&document, "e.00", Leaf::Elements), Vec::<String>::new());
    }

    #[test]
    fn refuses_empty_parts_and_endless_paths() {
        for text in ["", "a..b", ".a", "a.", "a\0b"] {
            assert_eq!(Path::parse(text).map_err(|fault| fault.key), Err("query.path"), "{text:?}");
        }
        assert!(Path::parse(&vec!["a"; MAX_PARTS].join(".")).is_ok());
        assert!(Path::parse(&vec!["a"; MAX_PARTS + 1].join(".")).is_err());
        assert!(Path::parse(&format!("a{}", ".0".repeat(MAX_POSITIONS + 1))).is_err());
    }
}
