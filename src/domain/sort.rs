//! The order of a result: fields, each ascending or descending. Ties are always broken by `_id`.

use super::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Ascending,
    Descending,
}

/// Empty: by `_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sort(pub Vec<(Path, Direction)>);
