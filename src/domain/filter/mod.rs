//! The filter tree: parsed once, read by policies, the planner, realtime and every engine.

mod geo;
mod matches;
mod parse;
mod pattern;
mod syntax;

pub use geo::{Near, Point, Polygon, Shape};
pub use pattern::Pattern;

#[cfg(test)]
pub(crate) use parse::tests;

use super::path::Path;
use bson::{RawBson, spec::ElementType};

/// Conditions of a filter, at most: each costs time at every document looked at.
pub const MAX_CONDITIONS: usize = 1000;

/// A condition on a document.
#[derive(Debug, Clone)]
pub enum Filter {
    /// Every condition holds; empty: every document.
    And(Vec<Filter>),
    /// One condition holds.
    Or(Vec<Filter>),
    /// No condition holds.
    Nor(Vec<Filter>),
    Field(Path, Test),
}

/// A condition on what a path leads to. Where a path leads to several values (arrays), one of them is enough;
/// `Not` negates that whole answer. Comparisons hold only between values of the same class
/// ([`super::value::Class`]), and a missing field counts as null.
#[derive(Debug, Clone)]
pub enum Test {
    Eq(RawBson),
    Gt(RawBson),
    Gte(RawBson),
    Lt(RawBson),
    Lte(RawBson),
    /// `values` in order and without repeats, `patterns` as [`Test::Regex`]; both empty: nothing.
    In {
        values: Vec<RawBson>,
        patterns: Vec<Pattern>,
    },
    Exists(bool),
    /// One of these types.
    Type(Vec<ElementType>),
    /// An array of this many elements.
    Size(i64),
    /// A string the pattern matches, or that very regular expression.
    Regex(Pattern),
    /// An array holding a document (or an array) of which the filter holds.
    Element(Box<Filter>),
    /// An array with an element of which every test holds.
    ElementValue(Vec<Test>),
    /// A point within distances of another. A query takes its order from it: see [`Filter::near`].
    Near(Near),
    /// A point inside a shape.
    Within(Shape),
    Not(Box<Test>),
    /// Every test holds, each on its own: different elements of an array may answer different tests.
    All(Vec<Test>),
}

impl Filter {
    /// Every document.
    pub fn all() -> Self {
        Self::And(Vec::new())
    }

    /// How many conditions it is made of, a list of values counting as one.
    pub fn size(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) | Self::Nor(parts) => 1 + parts.iter().map(Self::size).sum::<usize>(),
            Self::Field(_, test) => test.size(),
        }
    }

    /// Whether a test of it names a path that is not among the allowed; the first such.
    pub fn names(&self, allowed: &dyn Fn(&Path) -> bool) -> Result<(), Path> {
        match self {
            Self::And(parts) | Self::Or(parts) | Self::Nor(parts) => {
                parts.iter().try_for_each(|part| part.names(allowed))
            }
            Self::Field(path, test) => test.names(path, allowed),
        }
    }

    /// The one `$near` of the filter: unless the query names an order, its documents come nearest first
    /// ([`Near::distance`]), then by `_id`.
    pub fn near(&self) -> Option<(&Path, &Near)> {
        match self {
            Self::And(parts) => parts.iter().find_map(Self::near),
            Self::Field(path, Test::Near(near)) => Some((path, near)),
            _ => None,
        }
    }
}

impl Test {
    fn names(&self, path: &Path, allowed: &dyn Fn(&Path) -> bool) -> Result<(), Path> {
        match self {
            Self::Not(test) => test.names(path, allowed),
            Self::All(tests) => tests.iter().try_for_each(|test| test.names(path, allowed)),
            // Of the elements it asks by their own names.
            Self::Element(filter) if filter.size() > 1 || matches!(**filter, Filter::Field(..)) => {
                filter.names(&|inner| allowed(&path.join(inner))).map_err(|inner| path.join(&inner))
            }
            _ if allowed(path) => Ok(()),
            _ => Err(path.clone()),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Not(test) => 1 + test.size(),
            Self::All(tests) | Self::ElementValue(tests) => 1 + tests.iter().map(Self::size).sum::<usize>(),
            Self::Element(filter) => 1 + filter.size(),
            Self::In { patterns, .. } => 1 + patterns.len(),
            _ => 1,
        }
    }
}
