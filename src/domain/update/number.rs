//! Arithmetic between BSON numbers: the wider type wins, int32 grows into int64, int64 does not overflow.

use crate::domain::decimal::Decimal;
use bson::Bson;

/// `None`: an int64 would overflow, or one of them is no number.
pub(super) fn add(a: &Bson, b: &Bson) -> Option<Bson> {
    combine(a, b, i64::checked_add, |a, b| a + b, Decimal::add)
}

/// As [`add`].
pub(super) fn multiply(a: &Bson, b: &Bson) -> Option<Bson> {
    combine(a, b, i64::checked_mul, |a, b| a * b, Decimal::multiply)
}

fn combine(
    a: &Bson,
    b: &Bson,
    integers: fn(i64, i64) -> Option<i64>,
    doubles: fn(f64, f64) -> f64,
    decimals: fn(Decimal, Decimal) -> Decimal,
) -> Option<Bson> {
    if let (Bson::Decimal128(_), _) | (_, Bson::Decimal128(_)) = (a, b) {
        return Some(Bson::Decimal128(decimals(decimal(a)?, decimal(b)?).encode()));
    }
    if let (Bson::Double(_), _) | (_, Bson::Double(_)) = (a, b) {
        return Some(Bson::Double(doubles(double(a)?, double(b)?)));
    }
    let result = integers(integer(a)?, integer(b)?)?;
    Some(match (a, b, i32::try_from(result)) {
        (Bson::Int32(_), Bson::Int32(_), Ok(small)) => Bson::Int32(small),
        _ => Bson::Int64(result),
    })
}

fn integer(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

fn double(value: &Bson) -> Option<f64> {
    match value {
        Bson::Double(number) => Some(*number),
        other => integer(other).map(|number| number as f64),
    }
}

fn decimal(value: &Bson) -> Option<Decimal> {
    match value {
        Bson::Decimal128(number) => Some(Decimal::decode(*number)),
        Bson::Double(number) => Some(Decimal::from_double(*number)),
        other => integer(other).map(Decimal::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_grow_and_do_not_overflow() {
        assert_eq!(add(&Bson::Int32(1), &Bson::Int32(2)), Some(Bson::Int32(3)));
        assert_eq!(add(&Bson::Int32(i32::MAX), &Bson::Int32(1)), Some(Bson::Int64(i64::from(i32::MAX) + 1)));
        assert_eq!(add(&Bson::Int64(1), &Bson::Int32(1)), Some(Bson::Int64(2)));
        assert_eq!(add(&Bson::Int64(i64::MAX), &Bson::Int32(1)), None);
        assert_eq!(multiply(&Bson::Int64(i64::MAX), &Bson::Int32(2)), None);
        assert_eq!(multiply(&Bson::Int64(i64::MAX), &Bson::Double(2.0)), Some(Bson::Double(i64::MAX as f64 * 2.0)));
        assert_eq!(add(&Bson::Int32(1), &Bson::Null), None);
    }
}
