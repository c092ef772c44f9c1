//! Changes to a document: update operators, with MongoDB's semantics, or a JSON Merge Patch (RFC 7396).

mod apply;
mod array;
mod merge;
mod number;
mod parse;

use super::{filter::Filter, path::Path, sort::Direction};
use bson::{
    Bson, Document, RawBson,
    raw::{CStr, cstr},
    spec::ElementType,
};
use std::{cmp::Ordering, collections::BTreeMap};

/// Fields the server sets and nobody else.
pub const SYSTEM_FIELDS: [&str; 6] = ["_id", "_rev", "_createdAt", "_updatedAt", "_owner", "_organization"];

/// A parsed change, applied by an engine inside its transaction.
#[derive(Debug, Clone)]
pub struct Update(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Operators {
        fields: Fields,
        /// Where each `$rename` takes from.
        sources: Vec<Path>,
    },
    Merge(Document),
}

impl Update {
    /// The paths whose present value the change depends on: its outcome would tell of them.
    pub fn depends_on(&self) -> Vec<Path> {
        let Kind::Operators { fields, sources } = &self.0 else { return Vec::new() };
        let mut paths = sources.clone();
        depended(fields, None, &mut paths);
        paths
    }

    /// Every path it may change, as deep as it is named.
    pub fn touches(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        match &self.0 {
            Kind::Operators { fields, sources } => {
                paths.clone_from(sources);
                touched(fields, None, &mut paths);
            }
            Kind::Merge(document) => merged(document, None, &mut paths),
        }
        paths
    }
}

fn touched(fields: &Fields, outer: Option<&Path>, paths: &mut Vec<Path>) {
    for (name, node) in fields {
        let Ok(path) = Path::parse(&name.0) else { continue };
        let path = outer.map_or_else(|| path.clone(), |outer| outer.join(&path));
        match node {
            Node::Inner(inner) => touched(inner, Some(&path), paths),
            Node::Leaf(_) => paths.push(path),
        }
    }
}

fn merged(document: &Document, outer: Option<&Path>, paths: &mut Vec<Path>) {
    for (name, value) in document {
        // A name with a dot in it leads nowhere a mask could know: what holds it is what is touched.
        let path = Path::parse(name).ok().filter(|path| path.parts().len() == 1);
        let path = match (path, outer) {
            (Some(path), Some(outer)) => outer.join(&path),
            (Some(path), None) => path,
            (None, Some(outer)) => outer.clone(),
            (None, None) => continue,
        };
        match value {
            Bson::Document(inner) if !inner.is_empty() => merged(inner, Some(&path), paths),
            _ => paths.push(path),
        }
    }
}

fn depended(fields: &Fields, outer: Option<&Path>, paths: &mut Vec<Path>) {
    for (name, node) in fields {
        let Ok(path) = Path::parse(&name.0) else { continue };
        let path = outer.map_or_else(|| path.clone(), |outer| outer.join(&path));
        match node {
            Node::Inner(inner) => depended(inner, Some(&path), paths),
            Node::Leaf(Action::Set(_) | Action::Unset | Action::CurrentDate { .. } | Action::RenameTo(_)) => {}
            Node::Leaf(_) => paths.push(path),
        }
    }
}

/// What happens to the fields of one document, in the order MongoDB creates missing ones.
type Fields = BTreeMap<Name, Node>;

#[derive(Debug, Clone)]
enum Node {
    Inner(Fields),
    Leaf(Action),
}

#[derive(Debug, Clone)]
enum Action {
    Set(Bson),
    Unset,
    Increment(Bson),
    Multiply(Bson),
    Min(Bson),
    Max(Bson),
    Push(Push),
    AddToSet(Vec<Bson>),
    Pull(Pull),
    PopFirst,
    PopLast,
    /// A date, or a BSON timestamp.
    CurrentDate {
        timestamp: bool,
    },
    /// Takes what the source of this place held.
    RenameTo(usize),
}

#[derive(Debug, Clone)]
struct Push {
    values: Vec<Bson>,
    position: Option<i64>,
    slice: Option<i64>,
    order: Option<Order>,
}

/// How `$push` sorts: whole elements, or by fields of them.
#[derive(Debug, Clone)]
enum Order {
    Whole(Direction),
    Fields(Vec<(Path, Direction)>),
}

#[derive(Debug, Clone)]
enum Pull {
    Equal(RawBson),
    /// Documents of the array the filter holds of.
    Documents(Filter),
    /// Elements, wrapped under [`WRAPPED`], the filter holds of.
    Values(Filter),
}

/// The name an element is given to be tested by a filter.
const WRAPPED: &CStr = cstr!("value");

/// A field's name; array positions in the order of numbers, before other names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name(String);

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (super::path::position(&self.0), super::path::position(&other.0));
        match (a, b) {
            (Some(a), Some(b)) => a.cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.0.cmp(&other.0),
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How a fault names a type.
fn type_name(kind: ElementType) -> &'static str {
    match kind {
        ElementType::Double => "double",
        ElementType::String => "string",
        ElementType::EmbeddedDocument => "object",
        ElementType::Array => "array",
        ElementType::Binary => "binData",
        ElementType::Undefined => "undefined",
        ElementType::ObjectId => "objectId",
        ElementType::Boolean => "bool",
        ElementType::DateTime => "date",
        ElementType::Null => "null",
        ElementType::RegularExpression => "regex",
        ElementType::DbPointer => "dbPointer",
        ElementType::JavaScriptCode => "javascript",
        ElementType::Symbol => "symbol",
        ElementType::JavaScriptCodeWithScope => "javascriptWithScope",
        ElementType::Int32 => "int",
        ElementType::Timestamp => "timestamp",
        ElementType::Int64 => "long",
        ElementType::Decimal128 => "decimal",
        ElementType::MinKey => "minKey",
        ElementType::MaxKey => "maxKey",
    }
}
