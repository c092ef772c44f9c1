//! Decimal128 as IEEE 754-2008 defines it (binary integer coefficient): decode, encode, compare, add, multiply.

use bigdecimal::num_bigint::{BigInt, BigUint, Sign};
use std::cmp::Ordering;

/// A coefficient has at most 34 digits.
pub const DIGITS: u32 = 34;
const LIMIT: u128 = 10u128.pow(DIGITS);
const BIAS: i32 = 6176;
const LOWEST: i32 = -BIAS;
const HIGHEST: i32 = 6111;

/// The value of a decimal128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decimal {
    NaN,
    Infinity {
        negative: bool,
    },
    /// `coefficient × 10^exponent`; coefficient below 10³⁴, exponent from -6176 to 6111.
    Finite {
        negative: bool,
        coefficient: u128,
        exponent: i32,
    },
}

impl Decimal {
    pub fn decode(value: bson::Decimal128) -> Self {
        let bits = u128::from_le_bytes(value.bytes());
        let high = (bits >> 64) as u64;
        let negative = high >> 63 == 1;
        match (high >> 58) & 0x1f {
            0x1f => return Self::NaN,
            0x1e => return Self::Infinity { negative },
            _ => {}
        }
        if (high >> 61) & 3 == 3 {
            // A coefficient over 10^34: not canonical, and by the standard a zero.
            let exponent = ((high >> 47) & 0x3fff) as i32 - BIAS;
            return Self::Finite { negative, coefficient: 0, exponent };
        }
        let exponent = ((high >> 49) & 0x3fff) as i32 - BIAS;
        let coefficient = bits & ((1 << 113) - 1);
        Self::Finite { negative, coefficient: if coefficient < LIMIT { coefficient } else { 0 }, exponent }
    }

    pub fn encode(self) -> bson::Decimal128 {
        let bits = match self {
            Self::NaN => 0x1f << 122,
            Self::Infinity { negative } => (u128::from(negative) << 127) | (0x1e << 122),
            Self::Finite { negative, coefficient, exponent } => {
                let biased = u128::from((exponent + BIAS).unsigned_abs());
                (u128::from(negative) << 127) | (biased << 113) | coefficient
            }
        };
        bson::Decimal128::from_bytes(bits.to_le_bytes())
    }

    /// A double rounded to 15 digits, as MongoDB's arithmetic mixes the two types.
    pub fn from_double(value: f64) -> Self {
        if value.is_nan() {
            return Self::NaN;
        }
        if value.is_infinite() {
            return Self::Infinity { negative: value < 0.0 };
        }
        let negative = value.is_sign_negative();
        if value == 0.0 {
            return Self::Finite { negative, coefficient: 0, exponent: 0 };
        }
        // `1.23456789012345e-7`: digits and exponent, correctly rounded.
        let text = format!("{:.14e}", value.abs());
        let (digits, power) = text.split_once('e').expect("the format asks for an exponent");
        let coefficient: u128 = digits.replace('.', "").parse().expect("fifteen digits");
        let exponent: i32 = power.parse().expect("an exponent of a double");
        Self::Finite { negative, coefficient, exponent: exponent - 14 }
    }

    #[allow(clippy::should_implement_trait, reason = "an operator would hide that it rounds as decimal128 does")]
    pub fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Self::NaN,
            (Self::Infinity { negative: a }, Self::Infinity { negative: b }) if a != b => Self::NaN,
            (Self::Infinity { .. }, _) => self,
            (_, Self::Infinity { .. }) => other,
            (
                Self::Finite { negative: a, coefficient: x, exponent: e },
                Self::Finite { negative: b, coefficient: y, exponent: f },
            ) => {
                let exponent = e.min(f);
                let sum = signed(a, x) * power_of_ten(e - exponent) + signed(b, y) * power_of_ten(f - exponent);
                let negative = match sum.sign() {
                    Sign::Minus => true,
                    Sign::Plus => false,
                    Sign::NoSign => a && b,
                };
                round(negative, sum.into_parts().1, exponent)
            }
        }
    }

    pub fn multiply(self, other: Self) -> Self {
        let zero = |value| matches!(value, Self::Finite { coefficient: 0, .. });
        match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => Self::NaN,
            (Self::Infinity { .. }, by) | (by, Self::Infinity { .. }) if zero(by) => Self::NaN,
            (Self::Infinity { negative: a }, Self::Infinity { negative: b } | Self::Finite { negative: b, .. })
            | (Self::Finite { negative: a, .. }, Self::Infinity { negative: b }) => Self::Infinity { negative: a != b },
            (
                Self::Finite { negative: a, coefficient: x, exponent: e },
                Self::Finite { negative: b, coefficient: y, exponent: f },
            ) => round(a != b, BigUint::from(x) * BigUint::from(y), e + f),
        }
    }

    /// By value: NaN first and equal to itself, zeros equal, `1.0` equal to `1.00`.
    pub fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::NaN, Self::NaN) => Ordering::Equal,
            (Self::NaN, _) => Ordering::Less,
            (_, Self::NaN) => Ordering::Greater,
            _ => {
                let (a, b) = (self.sign(), other.sign());
                a.cmp(&b).then_with(|| {
                    let magnitude = self.order_magnitude(other);
                    if a < 0 { magnitude.reverse() } else { magnitude }
                })
            }
        }
    }

    /// Exactly, whatever the digits of the double.
    pub fn order_double(self, other: f64) -> Ordering {
        let Self::Finite { negative, coefficient, exponent } = self else {
            return self.order(Self::from_double(other));
        };
        if !other.is_finite() {
            return self.order(Self::from_double(other));
        }
        let other_sign = if other == 0.0 { 0 } else { other.signum() as i32 };
        let by_sign = self.sign().cmp(&other_sign);
        if by_sign != Ordering::Equal || other_sign == 0 {
            return by_sign;
        }
        let magnitude = order_decimal_binary(coefficient, exponent, other.abs());
        if negative { magnitude.reverse() } else { magnitude }
    }

    /// The integer it is, if it fits.
    pub fn whole(self) -> Option<i64> {
        let Self::Finite { negative, coefficient, exponent } = self else { return None };
        let scale = || 10u128.checked_pow(exponent.unsigned_abs());
        let magnitude = match exponent {
            _ if coefficient == 0 => 0,
            0.. => coefficient.checked_mul(scale()?)?,
            _ => {
                let scale = scale()?;
                (coefficient % scale == 0).then_some(coefficient / scale)?
            }
        };
        let magnitude = i128::try_from(magnitude).ok()?;
        i64::try_from(if negative { -magnitude } else { magnitude }).ok()
    }

    fn sign(self) -> i32 {
        match self {
            Self::NaN | Self::Finite { coefficient: 0, .. } => 0,
            Self::Infinity { negative } | Self::Finite { negative, .. } => {
                if negative {
                    -1
                } else {
                    1
                }
            }
        }
    }

    fn order_magnitude(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Finite { coefficient: x, exponent: e, .. }, Self::Finite { coefficient: y, exponent: f, .. }) => {
                if x == 0 || y == 0 {
                    return x.cmp(&y);
                }
                let reach = |coefficient: u128, exponent: i32| coefficient.ilog10() as i32 + exponent;
                reach(x, e).cmp(&reach(y, f)).then_with(|| {
                    // Same leading digit's place: aligning keeps both within 34 digits.
                    if e >= f {
                        (x * 10u128.pow((e - f).unsigned_abs())).cmp(&y)
                    } else {
                        x.cmp(&(y * 10u128.pow((f - e).unsigned_abs())))
                    }
                })
            }
            (Self::Infinity { .. }, Self::Infinity { .. }) => Ordering::Equal,
            (Self::Infinity { .. }, _) => Ordering::Greater,
            _ => Ordering::Less,
        }
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self::Finite { negative: value < 0, coefficient: u128::from(value.unsigned_abs()), exponent: 0 }
    }
}

fn signed(negative: bool, coefficient: u128) -> BigInt {
    let value = BigInt::from(coefficient);
    if negative { -value } else { value }
}

fn power_of_ten(exponent: i32) -> BigInt {
    BigInt::from(10u8).pow(exponent.unsigned_abs())
}

/// Orders `coefficient × 10^exponent` and a positive finite double, both not zero.
fn order_decimal_binary(coefficient: u128, exponent: i32, double: f64) -> Ordering {
    let reach = f64::from(coefficient.ilog10()) + f64::from(exponent);
    let other = double.log10();
    // A whole power of ten apart: no need for the digits. (`reach` is below the true logarithm by less than one.)
    if reach > other + 0.5 {
        return Ordering::Greater;
    }
    if reach + 1.5 < other {
        return Ordering::Less;
    }
    let bits = double.to_bits();
    let field = (bits >> 52) as i32;
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, power) = if field == 0 { (fraction, -1074) } else { (fraction | (1 << 52), field - 1075) };
    let mut left = BigUint::from(coefficient);
    let mut right = BigUint::from(mantissa);
    let tens = BigUint::from(10u8).pow(exponent.unsigned_abs());
    if exponent >= 0 {
        left *= tens
    } else {
        right *= tens
    }
    if power >= 0 {
        right <<= power.unsigned_abs()
    } else {
        left <<= power.unsigned_abs()
    }
    left.cmp(&right)
}

/// To 34 digits, half to even, within the range of exponents.
fn round(negative: bool, coefficient: BigUint, exponent: i32) -> Decimal {
    let digits = if coefficient == BigUint::ZERO { 0 } else { coefficient.to_str_radix(10).len() as i32 };
    let drop = (digits - DIGITS as i32).max(LOWEST - exponent).max(0);
    let mut exponent = exponent + drop;
    let mut kept = if drop > digits { 0 } else { divide_half_even(&coefficient, drop) };
    if kept == LIMIT {
        kept /= 10;
        exponent += 1;
    }
    if kept == 0 {
        return Decimal::Finite { negative, coefficient: 0, exponent: exponent.clamp(LOWEST, HIGHEST) };
    }
    while exponent > HIGHEST && kept < LIMIT / 10 {
        kept *= 10;
        exponent -= 1;
    }
    if exponent > HIGHEST {
        return Decimal::Infinity { negative };
    }
    Decimal::Finite { negative, coefficient: kept, exponent }
}

/// `value / 10^drop`, half to even; at most 10³⁴.
fn divide_half_even(value: &BigUint, drop: i32) -> u128 {
    let divisor = BigUint::from(10u8).pow(drop.unsigned_abs());
    let quotient = value / &divisor;
    let twice = (value - &quotient * &divisor) * 2u8;
    let quotient = u128::try_from(&quotient).expect("at most 34 digits are left");
    match twice.cmp(&divisor) {
        Ordering::Less => quotient,
        Ordering::Equal => quotient + quotient % 2,
        Ordering::Greater => quotient + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::decode(text.parse().expect("a decimal"))
    }

    #[test]
    fn decodes_what_the_driver_encodes() {
        assert_eq!(decimal("-1.50"), Decimal::Finite { negative: true, coefficient: 150, exponent: -2 });
        assert_eq!(decimal("NaN"), Decimal::NaN);
        assert_eq!(decimal("-Infinity"), Decimal::Infinity { negative: true });
    }

    #[test]
    fn arithmetic_rounds_half_to_even_at_34_digits() {
        let nines = decimal("9999999999999999999999999999999999");
        assert_eq!(nines.add(Decimal::from(1)).encode().to_string(), "1.000000000000000000000000000000000E+34");
        assert_eq!(decimal("0.1").add(decimal("0.2")).encode().to_string(), "0.3");
        assert_eq!(decimal("1.20").multiply(decimal("2")).encode().to_string(), "2.40");
        // …2.5 and …3.5 in the last place.
        let even = decimal("2000000000000000000000000000000002").add(decimal("0.5"));
        assert_eq!(even.encode().to_string(), "2000000000000000000000000000000002");
        let odd = decimal("2000000000000000000000000000000003").add(decimal("0.5"));
        assert_eq!(odd.encode().to_string(), "2000000000000000000000000000000004");
        assert_eq!(decimal("9E+6144").multiply(decimal("10")), Decimal::Infinity { negative: false });
        assert_eq!(decimal("Infinity").multiply(decimal("0")), Decimal::NaN);
    }

    #[test]
    fn compares_exactly_with_doubles() {
        // 0.1 the double is a little more than 0.1 the decimal.
        assert_eq!(decimal("0.1").order_double(0.1), Ordering::Less);
        assert_eq!(decimal("0.5").order_double(0.5), Ordering::Equal);
        assert_eq!(decimal("-1E+400").order_double(-f64::MAX), Ordering::Less);
        assert_eq!(decimal("1E-6176").order_double(f64::from_bits(1)), Ordering::Less);
        assert_eq!(decimal("NaN").order_double(f64::NAN), Ordering::Equal);
        assert_eq!(decimal("-0").order_double(0.0), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn encoding_is_exact(negative: bool, coefficient in 0..LIMIT, exponent in LOWEST..=HIGHEST) {
            let value = Decimal::Finite { negative, coefficient, exponent };
            prop_assert_eq!(Decimal::decode(value.encode()), value);
        }

        #[test]
        fn orders_as_integers_do(a: i64, b: i64) {
            prop_assert_eq!(Decimal::from(a).order(Decimal::from(b)), a.cmp(&b));
        }

        #[test]
        fn doubles_order_as_their_exact_digits(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            // Seventeen digits lie on the same side of a different double as the double itself.
            let text = format!("{b:e}");
            let near: Decimal = Decimal::decode(text.parse().expect("a decimal"));
            if a != b {
                prop_assert_eq!(near.order_double(a), b.partial_cmp(&a).expect("finite"));
            }
        }
    }
}
