//! What a collection is: its name, its indexes, the catalogue document that defines it.

use super::{path::Path, sort::Direction};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// `country_1_population_-1`, as MongoDB names it, unless given.
    pub name: String,
    pub keys: Vec<(Path, Direction)>,
    pub unique: bool,
}
