//! The filter tree: parsed once, read by policies, the planner, realtime and every engine.

use super::path::Path;
use bson::RawBson;

/// A condition on a document.
#[derive(Debug, Clone)]
pub enum Filter {
    /// Every condition holds; empty: every document.
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Nor(Vec<Filter>),
    Field(Path, Test),
}

/// A condition on what a path leads to.
#[derive(Debug, Clone)]
pub enum Test {
    Eq(RawBson),
    Gt(RawBson),
    Gte(RawBson),
    Lt(RawBson),
    Lte(RawBson),
    In(Vec<RawBson>),
    Exists(bool),
    Size(i64),
    Not(Box<Test>),
    All(Vec<Test>),
}
