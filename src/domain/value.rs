//! The order of BSON values across types, as MongoDB compares, sorts and indexes them.

use super::decimal::Decimal;
use bson::{RawArray, RawBsonRef, RawDocument, raw::RawIter, spec::BinarySubtype};
use std::cmp::Ordering;

/// The place of a value's type in the order of types. Values of the same class compare by value; numbers of all
/// four types share one class, and so do strings and symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    MinKey,
    Undefined,
    Null,
    Number,
    String,
    Document,
    Array,
    Binary,
    ObjectId,
    Boolean,
    DateTime,
    Timestamp,
    Regex,
    DbPointer,
    Code,
    CodeWithScope,
    MaxKey,
}

impl Class {
    pub fn of(value: RawBsonRef<'_>) -> Self {
        match value {
            RawBsonRef::MinKey => Self::MinKey,
            RawBsonRef::Undefined => Self::Undefined,
            RawBsonRef::Null => Self::Null,
            RawBsonRef::Int32(_) | RawBsonRef::Int64(_) | RawBsonRef::Double(_) | RawBsonRef::Decimal128(_) => {
                Self::Number
            }
            RawBsonRef::String(_) | RawBsonRef::Symbol(_) => Self::String,
            RawBsonRef::Document(_) => Self::Document,
            RawBsonRef::Array(_) => Self::Array,
            RawBsonRef::Binary(_) => Self::Binary,
            RawBsonRef::ObjectId(_) => Self::ObjectId,
            RawBsonRef::Boolean(_) => Self::Boolean,
            RawBsonRef::DateTime(_) => Self::DateTime,
            RawBsonRef::Timestamp(_) => Self::Timestamp,
            RawBsonRef::RegularExpression(_) => Self::Regex,
            RawBsonRef::DbPointer(_) => Self::DbPointer,
            RawBsonRef::JavaScriptCode(_) => Self::Code,
            RawBsonRef::JavaScriptCodeWithScope(_) => Self::CodeWithScope,
            RawBsonRef::MaxKey => Self::MaxKey,
        }
    }
}

/// Total order over all values. Numbers compare by exact value whatever their type, NaN before all of them;
/// strings by UTF-8 bytes; documents and arrays element by element (type, then name, then value).
pub fn order(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> Ordering {
    Class::of(a).cmp(&Class::of(b)).then_with(|| order_same_class(a, b))
}

fn order_same_class(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> Ordering {
    use RawBsonRef as V;
    match (a, b) {
        (V::String(a) | V::Symbol(a), V::String(b) | V::Symbol(b)) => a.as_bytes().cmp(b.as_bytes()),
        (V::Document(a), V::Document(b)) => order_documents(a, b),
        (V::Array(a), V::Array(b)) => order_arrays(a, b),
        (V::Binary(a), V::Binary(b)) => {
            let length = |subtype, bytes: &[u8]| bytes.len() + if subtype == BinarySubtype::BinaryOld { 4 } else { 0 };
            length(a.subtype, a.bytes)
                .cmp(&length(b.subtype, b.bytes))
                .then_with(|| u8::from(a.subtype).cmp(&u8::from(b.subtype)))
                .then_with(|| a.bytes.cmp(b.bytes))
        }
        (V::ObjectId(a), V::ObjectId(b)) => a.bytes().cmp(&b.bytes()),
        (V::Boolean(a), V::Boolean(b)) => a.cmp(&b),
        (V::DateTime(a), V::DateTime(b)) => a.timestamp_millis().cmp(&b.timestamp_millis()),
        (V::Timestamp(a), V::Timestamp(b)) => (a.time, a.increment).cmp(&(b.time, b.increment)),
        (V::RegularExpression(a), V::RegularExpression(b)) => {
            a.pattern.cmp(b.pattern).then_with(|| a.options.cmp(b.options))
        }
        (V::DbPointer(_), V::DbPointer(_)) => order_pointers(a, b),
        (V::JavaScriptCode(a), V::JavaScriptCode(b)) => a.as_bytes().cmp(b.as_bytes()),
        (V::JavaScriptCodeWithScope(a), V::JavaScriptCodeWithScope(b)) => {
            a.code.as_bytes().cmp(b.code.as_bytes()).then_with(|| order_documents(a.scope, b.scope))
        }
        _ => order_numbers(a, b),
    }
}

/// Exact order of two numbers of any types; `Equal` when either is no number.
pub fn order_numbers(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> Ordering {
    use RawBsonRef as V;
    match (a, b) {
        (V::Int32(a), V::Int32(b)) => a.cmp(&b),
        (V::Int32(a), V::Int64(b)) => i64::from(a).cmp(&b),
        (V::Int64(a), V::Int32(b)) => a.cmp(&i64::from(b)),
        (V::Int64(a), V::Int64(b)) => a.cmp(&b),
        (V::Double(a), V::Double(b)) => order_doubles(a, b),
        (V::Int32(a), V::Double(b)) => order_doubles(f64::from(a), b),
        (V::Double(a), V::Int32(b)) => order_doubles(a, f64::from(b)),
        (V::Int64(a), V::Double(b)) => order_integer_double(a, b),
        (V::Double(a), V::Int64(b)) => order_integer_double(b, a).reverse(),
        (V::Decimal128(a), V::Decimal128(b)) => Decimal::decode(a).order(Decimal::decode(b)),
        (V::Decimal128(a), V::Int32(b)) => Decimal::decode(a).order(Decimal::from(i64::from(b))),
        (V::Int32(a), V::Decimal128(b)) => Decimal::from(i64::from(a)).order(Decimal::decode(b)),
        (V::Decimal128(a), V::Int64(b)) => Decimal::decode(a).order(Decimal::from(b)),
        (V::Int64(a), V::Decimal128(b)) => Decimal::from(a).order(Decimal::decode(b)),
        (V::Decimal128(a), V::Double(b)) => Decimal::decode(a).order_double(b),
        (V::Double(a), V::Decimal128(b)) => Decimal::decode(b).order_double(a).reverse(),
        _ => Ordering::Equal,
    }
}

/// The integer a number of any type is, exactly.
pub fn whole(value: RawBsonRef<'_>) -> Option<i64> {
    let near = match value {
        RawBsonRef::Int32(number) => i64::from(number),
        RawBsonRef::Int64(number) => number,
        RawBsonRef::Double(number) => number as i64,
        RawBsonRef::Decimal128(number) => Decimal::decode(number).whole()?,
        _ => return None,
    };
    order_numbers(value, RawBsonRef::Int64(near)).is_eq().then_some(near)
}

fn order_doubles(a: f64, b: f64) -> Ordering {
    // Only a NaN has no order; it stands before all others.
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// Exactly: a double above 2⁵³ is not every integer.
fn order_integer_double(a: i64, b: f64) -> Ordering {
    const OVER: f64 = 9_223_372_036_854_775_808.0;
    if b.is_nan() {
        Ordering::Greater
    } else if b >= OVER {
        Ordering::Less
    } else if b < -OVER {
        Ordering::Greater
    } else {
        // Within range the cast truncates towards zero, exactly; the rest decides a tie.
        a.cmp(&(b as i64)).then_with(|| 0.0f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
    }
}

fn order_documents(a: &RawDocument, b: &RawDocument) -> Ordering {
    order_elements(a.iter_elements(), b.iter_elements(), true)
}

fn order_arrays(a: &RawArray, b: &RawArray) -> Ordering {
    order_elements(a.iter_elements(), b.iter_elements(), false)
}

/// Element by element: class, then name (of documents), then value; the shorter first. Bytes that are no BSON
/// end the walk (they are met, and refused, where documents come in).
fn order_elements(mut a: RawIter<'_>, mut b: RawIter<'_>, named: bool) -> Ordering {
    loop {
        let (left, right) = match (a.next(), b.next()) {
            (Some(Ok(left)), Some(Ok(right))) => (left, right),
            (Some(Ok(_)), _) => return Ordering::Greater,
            (_, Some(Ok(_))) => return Ordering::Less,
            _ => return Ordering::Equal,
        };
        let (Ok(x), Ok(y)) = (left.value(), right.value()) else { return Ordering::Equal };
        let order = Class::of(x)
            .cmp(&Class::of(y))
            .then_with(|| if named { left.key().cmp(right.key()) } else { Ordering::Equal })
            .then_with(|| order_same_class(x, y));
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// By length of the name, then name and id. The driver keeps both private, so they are read from its debug form.
fn order_pointers(a: RawBsonRef<'_>, b: RawBsonRef<'_>) -> Ordering {
    let (a, b) = (format!("{a:?}"), format!("{b:?}"));
    a.len().cmp(&b.len()).then_with(|| a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, RawBson, doc};

    fn ordered(values: Vec<Bson>) {
        let values: Vec<RawBson> = values.into_iter().map(|value| value.try_into().expect("bson")).collect();
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                assert_eq!(order(a.as_raw_bson_ref(), b.as_raw_bson_ref()), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn types_stand_in_order() {
        ordered(vec![
            Bson::MinKey,
            Bson::Undefined,
            Bson::Null,
            Bson::Double(f64::NAN),
            Bson::Int32(1),
            Bson::String("a".into()),
            Bson::Document(doc! {}),
            Bson::Array(vec![]),
            Bson::Binary(bson::Binary { subtype: BinarySubtype::Generic, bytes: vec![1] }),
            Bson::ObjectId(bson::oid::ObjectId::from_bytes([0; 12])),
            Bson::Boolean(false),
            Bson::DateTime(bson::DateTime::from_millis(-1)),
            Bson::Timestamp(bson::Timestamp { time: 0, increment: 0 }),
            Bson::JavaScriptCode("f".into()),
            Bson::MaxKey,
        ]);
    }

    #[test]
    fn numbers_compare_by_value_across_types() {
        let decimal = |text: &str| Bson::Decimal128(text.parse().expect("a decimal"));
        ordered(vec![
            Bson::Double(f64::NAN),
            Bson::Double(f64::NEG_INFINITY),
            decimal("-1E+300"),
            Bson::Int64(i64::MIN),
            Bson::Double(-1.5),
            Bson::Int32(-1),
            Bson::Double(-0.5),
            decimal("0"),
            decimal("0.1"),
            Bson::Double(0.1),
            Bson::Int64(1 << 53),
            Bson::Int64((1 << 53) + 1),
            Bson::Double(((1i64 << 53) + 2) as f64),
            Bson::Int64(i64::MAX),
            Bson::Double(9_223_372_036_854_775_808.0),
            decimal("9223372036854775808.5"),
            decimal("Infinity"),
        ]);
    }

    #[test]
    fn whole_numbers_of_any_type() {
        let decimal = |text: &str| RawBsonRef::Decimal128(text.parse().expect("a decimal"));
        assert_eq!(whole(RawBsonRef::Double(-3.0)), Some(-3));
        assert_eq!(whole(RawBsonRef::Double(0.5)), None);
        assert_eq!(whole(RawBsonRef::Double(1e300)), None);
        assert_eq!(whole(RawBsonRef::Double(f64::NAN)), None);
        assert_eq!(whole(decimal("1.20E+1")), Some(12));
        assert_eq!(whole(decimal("-300E-2")), Some(-3));
        assert_eq!(whole(decimal("1E+30")), None);
        assert_eq!(whole(RawBsonRef::String("1")), None);
    }

    #[test]
    fn documents_compare_by_type_then_name_then_value() {
        ordered(vec![
            Bson::Document(doc! {}),
            Bson::Document(doc! { "b": 1 }),
            Bson::Document(doc! { "b": 1, "a": 1 }),
            Bson::Document(doc! { "b": 2 }),
            Bson::Document(doc! { "c": 0 }),
            Bson::Document(doc! { "a": "x" }),
        ]);
        ordered(vec![bson::bson!([1]), bson::bson!([1, 2]), bson::bson!([2]), bson::bson!(["a"])]);
    }
}
