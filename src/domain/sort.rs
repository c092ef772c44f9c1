//! The order of a result: fields, each ascending or descending. Ties are always broken by `_id`.

use super::{
    expand::{self, Key},
    path::{self, Path},
    value,
};
use crate::base::fault::Fault;
use bson::{RawBsonRef, RawDocument};
use std::{cmp::Ordering, fmt};

/// Fields of a sort, at most (as of a compound index).
pub const MAX_FIELDS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Ascending,
    Descending,
}

/// Empty: by `_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sort(pub Vec<(Path, Direction)>);

impl Sort {
    /// `{population: -1, name: 1}`.
    pub fn parse(document: &RawDocument) -> Result<Self, Fault> {
        let mut fields = Vec::new();
        for entry in document {
            let (name, direction) = entry.map_err(|error| Fault::new("documents.malformed").with("reason", error))?;
            let direction = match direction {
                RawBsonRef::Int32(1) | RawBsonRef::Int64(1) => Direction::Ascending,
                RawBsonRef::Int32(-1) | RawBsonRef::Int64(-1) => Direction::Descending,
                RawBsonRef::Double(1.0) => Direction::Ascending,
                RawBsonRef::Double(-1.0) => Direction::Descending,
                _ => return Err(Fault::new("query.sort_direction").at(name.as_str())),
            };
            fields.push((Path::parse(name.as_str())?, direction));
        }
        Self::of(fields)
    }

    /// `-population,name`.
    pub fn parse_text(text: &str) -> Result<Self, Fault> {
        let field = |field: &str| match field.strip_prefix('-') {
            Some(name) => Ok((Path::parse(name)?, Direction::Descending)),
            None => Ok((Path::parse(field)?, Direction::Ascending)),
        };
        let fields = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()).map(field);
        Self::of(fields.collect::<Result<_, Fault>>()?)
    }

    fn of(fields: Vec<(Path, Direction)>) -> Result<Self, Fault> {
        if fields.len() > MAX_FIELDS {
            return Err(Fault::new("query.sort_length").with("limit", MAX_FIELDS));
        }
        for (place, (path, _)) in fields.iter().enumerate() {
            if path.parts().iter().any(|part| part.starts_with('$')) {
                return Err(Fault::new("query.sort_field").at(path.to_string()));
            }
            if fields.iter().skip(place + 1).any(|(other, _)| other == path) {
                return Err(Fault::new("query.sort_twice").at(path.to_string()));
            }
        }
        Ok(Self(fields))
    }

    /// What the document sorts by: a value for each field, then its `_id`. Of an array the least element counts,
    /// or the greatest where descending; a missing field counts as null.
    pub fn key<'a>(&self, document: &'a RawDocument) -> Result<Key<'a>, Fault> {
        let paths: Vec<&Path> = self.0.iter().map(|(path, _)| path).collect();
        let mut key = match expand::plain_key(document, &paths) {
            Some(key) => key,
            None => {
                let keys = expand::keys(document, &paths)?;
                keys.into_iter().min_by(|a, b| self.order(a, b)).unwrap_or_default()
            }
        };
        key.push(path::field(document, "_id").unwrap_or(RawBsonRef::Null));
        Ok(key)
    }

    /// Orders two keys of [`Sort::key`].
    pub fn order(&self, a: &[RawBsonRef<'_>], b: &[RawBsonRef<'_>]) -> Ordering {
        let directions = self.0.iter().map(|(_, direction)| *direction).chain([Direction::Ascending]);
        for (direction, (a, b)) in directions.zip(a.iter().zip(b)) {
            let order = value::order(*a, *b);
            if order != Ordering::Equal {
                return if direction == Direction::Ascending { order } else { order.reverse() };
            }
        }
        Ordering::Equal
    }
}

impl fmt::Display for Sort {
    /// `-population,name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (path, direction)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let minus = if *direction == Direction::Descending { "-" } else { "" };
            write!(f, "{comma}{minus}{path}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    #[test]
    fn reads_both_forms() {
        let sort = Sort::parse(&rawdoc! { "population": -1, "name.fr": 1.0 }).expect("a sort");
        assert_eq!(sort.to_string(), "-population,name.fr");
        assert_eq!(Sort::parse_text("-population, name.fr"), Ok(sort));
        assert_eq!(Sort::parse_text(""), Ok(Sort::default()));
        for wrong in ["a,,b", "-", "a,-a", "$a"] {
            assert!(Sort::parse_text(wrong).is_err(), "{wrong}");
        }
        // However many there are, no more than the limit are compared.
        let many = vec!["a"; MAX_FIELDS + 1].join(",");
        assert_eq!(Sort::parse_text(&many).map_err(|fault| fault.key), Err("query.sort_length"));
        for wrong in [rawdoc! { "a": 2 }, rawdoc! { "a": "asc" }, rawdoc! { "a": 1, "a": -1 }] {
            assert!(Sort::parse(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn arrays_sort_by_their_least_or_greatest() {
        let documents = [
            rawdoc! { "_id": 1, "a": [5, 1] },
            rawdoc! { "_id": 2, "a": 3 },
            rawdoc! { "_id": 3 },
            rawdoc! { "_id": 4, "a": [] },
        ];
        let ids = |text: &str| {
            let sort = Sort::parse_text(text).expect("a sort");
            let mut keys: Vec<_> = documents.iter().map(|document| sort.key(document).expect("a key")).collect();
            keys.sort_by(|a, b| sort.order(a, b));
            keys.iter().filter_map(|key| key.last().and_then(|id| id.as_i32())).collect::<Vec<_>>()
        };
        assert_eq!(ids("a"), [4, 3, 1, 2]);
        assert_eq!(ids("-a"), [1, 2, 3, 4]);
    }
}
