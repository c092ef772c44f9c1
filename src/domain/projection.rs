//! Which fields of a document are shown: MongoDB's simple projections.

use super::path::{self, Path};
use crate::base::fault::Fault;
use bson::{RawArray, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf};
use std::collections::BTreeMap;

/// Fields of a projection, at most.
pub const MAX_FIELDS: usize = 1000;

/// Fields kept, or fields left out; of documents in arrays too. `_id` is kept unless left out by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection {
    keep: bool,
    tree: Tree,
}

/// Names and what is asked of each; an empty tree asks for the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree(BTreeMap<String, Tree>);

impl Projection {
    /// `{name: 1, "address.city": 1, _id: 0}`, or all zeros; empty: everything.
    pub fn parse(document: &RawDocument) -> Result<Self, Fault> {
        let mut fields = Vec::new();
        for entry in document {
            let (name, shown) = entry.map_err(|error| Fault::new("documents.malformed").with("reason", error))?;
            let shown = match shown {
                RawBsonRef::Boolean(shown) => shown,
                RawBsonRef::Int32(number) => number != 0,
                RawBsonRef::Int64(number) => number != 0,
                RawBsonRef::Double(number) => number != 0.0,
                _ => return Err(Fault::new("query.projection_value").at(name.as_str())),
            };
            fields.push((Path::parse(name.as_str())?, shown));
        }
        Self::of(fields)
    }

    /// `name,address.city`, or `-secret,-notes`.
    pub fn parse_text(text: &str) -> Result<Self, Fault> {
        let field = |field: &str| match field.strip_prefix('-') {
            Some(name) => Ok((Path::parse(name)?, false)),
            None => Ok((Path::parse(field)?, true)),
        };
        let fields = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()).map(field);
        Self::of(fields.collect::<Result<_, Fault>>()?)
    }

    fn of(fields: Vec<(Path, bool)>) -> Result<Self, Fault> {
        if fields.len() > MAX_FIELDS {
            return Err(Fault::new("query.projection_length").with("limit", MAX_FIELDS));
        }
        let is_id = |path: &Path| path.parts() == ["_id"];
        let mut others = fields.iter().filter(|(path, _)| !is_id(path)).map(|(_, shown)| *shown);
        let id = fields.iter().find(|(path, _)| is_id(path)).map(|(_, shown)| *shown);
        let keep = others.next().or(id).unwrap_or(false);
        let mut projection = Self { keep, tree: Tree::default() };
        for (path, shown) in &fields {
            if path.parts().iter().any(|part| part.starts_with('$')) {
                return Err(Fault::new("query.projection_field").at(path.to_string()));
            }
            if !is_id(path) && *shown != keep {
                return Err(Fault::new("query.projection_mixed").at(path.to_string()));
            }
            if *shown == keep {
                projection.tree.insert(path.parts());
            }
        }
        // In order, what a field holds comes right after it.
        let mut paths: Vec<&Path> = fields.iter().map(|(path, _)| path).collect();
        paths.sort_by_key(|path| path.parts());
        if let Some([_, held]) = paths.array_windows().find(|[path, next]| path.holds(next)) {
            return Err(Fault::new("query.projection_twice").at(held.to_string()));
        }
        if keep && id.is_none() {
            projection.tree.0.entry("_id".to_owned()).or_default();
        }
        Ok(projection)
    }

    /// Everything is shown as it is.
    pub fn is_everything(&self) -> bool {
        !self.keep && self.tree.0.is_empty()
    }

    pub fn apply(&self, document: &RawDocument) -> RawDocumentBuf {
        self.document(document, &self.tree)
    }

    fn document(&self, document: &RawDocument, tree: &Tree) -> RawDocumentBuf {
        let mut shown = RawDocumentBuf::new();
        for (name, value) in document.iter().map_while(Result::ok) {
            match (tree.get(name.as_str()), value) {
                (Some(inner), RawBsonRef::Document(value)) if !inner.0.is_empty() => {
                    shown.append(name, &*self.document(value, inner));
                }
                (Some(inner), RawBsonRef::Array(value)) if !inner.0.is_empty() => {
                    shown.append(name, &*self.array(value, inner));
                }
                // A path that goes on beyond a scalar keeps nothing of it, and leaves nothing out.
                (found, value) => {
                    let whole = found.is_some_and(|inner| inner.0.is_empty());
                    if whole == self.keep {
                        shown.append(name, value);
                    }
                }
            }
        }
        shown
    }

    fn array(&self, array: &RawArray, tree: &Tree) -> RawArrayBuf {
        let mut shown = RawArrayBuf::new();
        for value in path::elements(array) {
            match value {
                RawBsonRef::Document(inner) => shown.push(&*self.document(inner, tree)),
                RawBsonRef::Array(inner) => shown.push(&*self.array(inner, tree)),
                scalar if !self.keep => shown.push(scalar),
                _ => {}
            }
        }
        shown
    }
}

impl Tree {
    fn get(&self, name: &str) -> Option<&Self> {
        self.0.get(name)
    }

    fn insert(&mut self, parts: &[String]) {
        if let Some((first, rest)) = parts.split_first() {
            self.0.entry(first.clone()).or_default().insert(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn keeps_or_leaves_out() {
        let document =
            rawdoc! { "_id": 1, "a": { "b": 1, "c": 2 }, "d": [{ "e": 3, "f": 4 }, 5, [{ "e": 6 }]], "g": 7 };
        let shown = |text: &str| Projection::parse_text(text).expect("a projection").apply(&document);
        assert_eq!(shown("a.b,d.e,g.x"), rawdoc! { "_id": 1, "a": { "b": 1 }, "d": [{ "e": 3 }, [{ "e": 6 }]] });
        assert_eq!(shown("-a.b,-d,-g.x"), rawdoc! { "_id": 1, "a": { "c": 2 }, "g": 7 });
        assert_eq!(shown("g,-_id"), rawdoc! { "g": 7 });
        assert_eq!(shown(""), document);
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        let fault = |text: &str| Projection::parse_text(text).map_err(|fault| fault.key).err();
        for wrong in ["a,a.b", "a.b,a", "a,a", "a.b,a-b,b,a", "-_id,_id.x", "a,-_id,-_id"] {
            assert_eq!(fault(wrong), Some("query.projection_twice"), "{wrong}");
        }
        assert_eq!(fault("a,-b"), Some("query.projection_mixed"));
        assert_eq!(fault("a.$"), Some("query.projection_field"));
        assert_eq!(fault("a.b,a.c,a-b,ab"), None);
        let many = |count: usize| (0..count).map(|n| format!("f{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(fault(&many(MAX_FIELDS)), None);
        assert_eq!(fault(&many(MAX_FIELDS + 1)), Some("query.projection_length"));
        assert!(Projection::parse(&rawdoc! { "a": { "$slice": 1 } }).is_err());
    }
}
