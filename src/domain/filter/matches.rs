//! Whether a document answers a filter: on raw bytes, without decoding what no path leads to.

use super::{Filter, Test};
use crate::domain::{
    path::{self, Leaf},
    value::{self, Class},
};
use bson::{RawBson, RawBsonRef, RawDocument, spec::ElementType};
use std::cmp::Ordering;

impl Filter {
    pub fn matches(&self, document: &RawDocument) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(document)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(document)),
            Self::Nor(parts) => !parts.iter().any(|part| part.matches(document)),
            // The nearest of several points decides.
            Self::Field(path, Test::Near(near)) => near.distance(document, path).is_some(),
            Self::Field(path, test) => test.reaches(document, path.parts()),
        }
    }
}

impl Test {
    /// Whether anything the path leads to passes.
    fn reaches(&self, document: &RawDocument, parts: &[String]) -> bool {
        match self {
            Self::Not(test) => !test.reaches(document, parts),
            Self::All(tests) => tests.iter().all(|test| test.reaches(document, parts)),
            Self::Exists(wanted) => *wanted == path::any(document, parts, Leaf::Elements, &mut |value| value.is_some()),
            Self::Size(_) | Self::Element(_) | Self::ElementValue(_) => {
                path::any(document, parts, Leaf::Whole, &mut |value| self.holds(value))
            }
            _ => path::any(document, parts, Leaf::Elements, &mut |value| self.holds(value)),
        }
    }

    /// Whether this one value passes, taken whole; `None` is a missing field.
    fn holds(&self, value: Option<RawBsonRef<'_>>) -> bool {
        match self {
            Self::Eq(literal) => compares(value, literal, |order| order == Ordering::Equal, Edge::None),
            Self::Gt(literal) => compares(value, literal, Ordering::is_gt, Edge::Above),
            Self::Gte(literal) => compares(value, literal, Ordering::is_ge, Edge::Above),
            Self::Lt(literal) => compares(value, literal, Ordering::is_lt, Edge::Below),
            Self::Lte(literal) => compares(value, literal, Ordering::is_le, Edge::Below),
            Self::In { values, patterns } => {
                among(value, values) || value.is_some_and(|value| patterns.iter().any(|pattern| pattern.matches(value)))
            }
            Self::Exists(wanted) => *wanted == value.is_some(),
            Self::Type(types) => value.is_some_and(|value| types.contains(&value.element_type())),
            Self::Size(size) => {
                let array = value.and_then(RawBsonRef::as_array);
                array.is_some_and(|array| i64::try_from(path::elements(array).count()) == Ok(*size))
            }
            Self::Regex(pattern) => value.is_some_and(|value| pattern.matches(value)),
            Self::Element(filter) => {
                let array = value.and_then(RawBsonRef::as_array);
                array.is_some_and(|array| path::elements(array).any(|element| element_matches(filter, element)))
            }
            Self::ElementValue(tests) => {
                let array = value.and_then(RawBsonRef::as_array);
                array.is_some_and(|array| {
                    path::elements(array).any(|element| tests.iter().all(|test| test.holds(Some(element))))
                })
            }
            Self::Near(near) => value.is_some_and(|value| near.holds(value)),
            Self::Within(shape) => value.is_some_and(|value| shape.holds(value)),
            Self::Not(test) => !test.holds(value),
            Self::All(tests) => tests.iter().all(|test| test.holds(value)),
        }
    }
}

/// Of an array's elements only documents, and arrays read as documents of positions, can answer a filter.
fn element_matches(filter: &Filter, element: RawBsonRef<'_>) -> bool {
    match element {
        RawBsonRef::Document(document) => filter.matches(document),
        RawBsonRef::Array(array) => RawDocument::from_bytes(array.as_bytes()).is_ok_and(|inner| filter.matches(inner)),
        _ => false,
    }
}

/// Where a comparison with MinKey or MaxKey holds for values of every other class.
#[derive(PartialEq)]
enum Edge {
    None,
    Above,
    Below,
}

fn compares(value: Option<RawBsonRef<'_>>, literal: &RawBson, accepts: fn(Ordering) -> bool, edge: Edge) -> bool {
    let literal = literal.as_raw_bson_ref();
    let Some(value) = value.filter(|value| *value != RawBsonRef::Undefined) else {
        return match literal {
            RawBsonRef::Null => accepts(Ordering::Equal),
            RawBsonRef::MinKey => edge == Edge::Above,
            RawBsonRef::MaxKey => edge == Edge::Below,
            _ => false,
        };
    };
    if Class::of(value) != Class::of(literal) {
        return match literal {
            RawBsonRef::MinKey => edge == Edge::Above,
            RawBsonRef::MaxKey => edge == Edge::Below,
            _ => false,
        };
    }
    // NaN equals itself and has no order with other numbers.
    if is_nan(value) != is_nan(literal) {
        return false;
    }
    accepts(value::order(value, literal))
}

fn is_nan(value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::Double(number) => number.is_nan(),
        RawBsonRef::Decimal128(number) => {
            crate::domain::decimal::Decimal::decode(number) == crate::domain::decimal::Decimal::NaN
        }
        _ => false,
    }
}

fn among(value: Option<RawBsonRef<'_>>, values: &[RawBson]) -> bool {
    let value = match value {
        None | Some(RawBsonRef::Undefined) => RawBsonRef::Null,
        Some(value) => value,
    };
    values.binary_search_by(|literal| value::order(literal.as_raw_bson_ref(), value)).is_ok()
}

/// Every number type, for `$type: "number"`.
pub(super) const NUMBERS: [ElementType; 4] =
    [ElementType::Double, ElementType::Int32, ElementType::Int64, ElementType::Decimal128];

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    /// The suite against mongod says the rest.
    #[test]
    fn arrays_null_and_missing() {
        let holds = |filter: bson::RawDocumentBuf, document: bson::RawDocumentBuf| {
            Filter::parse(&filter).expect("a filter").matches(&document)
        };
        assert!(holds(rawdoc! { "a": 1 }, rawdoc! { "a": [3, 1.0] }));
        assert!(holds(rawdoc! { "a": null }, rawdoc! {}));
        assert!(!holds(rawdoc! { "a": { "$ne": null } }, rawdoc! {}));
        assert!(holds(rawdoc! { "a": { "$gt": 1, "$lt": 3 } }, rawdoc! { "a": [0, 5] }));
        assert!(!holds(rawdoc! { "a": { "$elemMatch": { "$gt": 1, "$lt": 3 } } }, rawdoc! { "a": [0, 5] }));
        assert!(!holds(rawdoc! { "a": { "$gt": 1 } }, rawdoc! { "a": "2" }));
        assert!(!holds(rawdoc! { "a": { "$ne": 1 } }, rawdoc! { "a": [1, 2] }));
        assert!(holds(rawdoc! { "a.b": { "$in": [2, null] } }, rawdoc! { "a": [{ "b": 2 }] }));
        assert!(!holds(rawdoc! { "a.b": null }, rawdoc! { "a": [1, 2] }));
    }
}
