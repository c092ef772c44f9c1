//! Values as bytes that order as the values do (MongoDB's order, [`super::value::order`]): the keys of indexes,
//! of sorts in memory and of page cursors.
//!
//! A component is one value: a tag for its class, then a payload that ends by itself, so that no component is the
//! beginning of another. Descending components are the ascending ones with every bit turned. Numbers of all types
//! share one form: the nearest double in eight ordered bytes, a marker (the exact value lies below, at, above it),
//! and unless it is exactly that double the decimal digits of the value. Strings carry a collation byte (0: UTF-8
//! bytes), then their bytes with NUL as `00 FF`, then `00 00`.

use super::{
    decimal::Decimal,
    sort::Direction,
    value::{Class, order_numbers},
};
use bson::{RawArray, RawBsonRef, RawDocument, spec::BinarySubtype};
use std::cmp::Ordering;

/// The first byte of every stored key and cursor.
pub const VERSION: u8 = 1;

const BINARY_COLLATION: u8 = 0;
const END: u8 = 0;
/// Eight bytes below those of every other number.
const NAN: [u8; 8] = [0; 8];

/// The tag of a class; never 0 nor 255, in the order of [`Class`], with room between.
fn tag(class: Class) -> u8 {
    match class {
        Class::MinKey => 0x08,
        Class::Undefined => 0x10,
        Class::Null => 0x18,
        Class::Number => 0x20,
        Class::String => 0x28,
        Class::Document => 0x30,
        Class::Array => 0x38,
        Class::Binary => 0x40,
        Class::ObjectId => 0x48,
        Class::Boolean => 0x50,
        Class::DateTime => 0x58,
        Class::Timestamp => 0x60,
        Class::Regex => 0x68,
        Class::DbPointer => 0x70,
        Class::Code => 0x78,
        Class::CodeWithScope => 0x80,
        Class::MaxKey => 0x88,
    }
}

/// Appends the component of a value.
pub fn append(out: &mut Vec<u8>, value: RawBsonRef<'_>, direction: Direction) {
    let start = out.len();
    out.push(tag(Class::of(value)));
    payload(out, value);
    if direction == Direction::Descending {
        turn(&mut out[start..]);
    }
}

/// The ascending component of a value.
pub fn component(value: RawBsonRef<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    append(&mut out, value, Direction::Ascending);
    out
}

/// Turns ascending into descending and back.
pub fn turn(component: &mut [u8]) {
    for byte in component {
        *byte = !*byte;
    }
}

/// The first bytes after everything that begins with `prefix`; `None` when nothing can follow.
pub fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = prefix.get(..=last)?.to_vec();
    *next.last_mut()? += 1;
    Some(next)
}

fn payload(out: &mut Vec<u8>, value: RawBsonRef<'_>) {
    use RawBsonRef as V;
    match value {
        V::MinKey | V::Undefined | V::Null | V::MaxKey => {}
        V::Int32(_) | V::Int64(_) | V::Double(_) | V::Decimal128(_) => number(out, value),
        V::String(text) | V::Symbol(text) => {
            out.push(BINARY_COLLATION);
            escaped(out, text.as_bytes());
        }
        V::Document(document) => self::document(out, document),
        V::Array(array) => self::array(out, array),
        V::Binary(binary) => {
            let old = if binary.subtype == BinarySubtype::BinaryOld { 4 } else { 0 };
            length(out, binary.bytes.len() + old);
            out.push(binary.subtype.into());
            out.extend_from_slice(binary.bytes);
        }
        V::ObjectId(id) => out.extend_from_slice(&id.bytes()),
        V::Boolean(flag) => out.push(flag.into()),
        V::DateTime(time) => out.extend_from_slice(&signed(time.timestamp_millis())),
        V::Timestamp(time) => {
            out.extend_from_slice(&time.time.to_be_bytes());
            out.extend_from_slice(&time.increment.to_be_bytes());
        }
        V::RegularExpression(regex) => {
            escaped(out, regex.pattern.as_str().as_bytes());
            escaped(out, regex.options.as_str().as_bytes());
        }
        // The driver keeps its parts private; its debug form holds both (as in `value::order`).
        V::DbPointer(_) => {
            let text = format!("{value:?}");
            length(out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
        V::JavaScriptCode(code) => escaped(out, code.as_bytes()),
        V::JavaScriptCodeWithScope(code) => {
            escaped(out, code.code.as_bytes());
            document(out, code.scope);
        }
    }
}

/// Each element as class, name, value; bytes that are no BSON end it (documents are checked where they come in).
fn document(out: &mut Vec<u8>, document: &RawDocument) {
    for element in document.iter_elements().map_while(Result::ok) {
        let Ok(value) = element.value() else { break };
        out.push(tag(Class::of(value)));
        escaped(out, element.key().as_str().as_bytes());
        payload(out, value);
    }
    out.push(END);
}

fn array(out: &mut Vec<u8>, array: &RawArray) {
    for element in array.iter_elements().map_while(Result::ok) {
        let Ok(value) = element.value() else { break };
        out.push(tag(Class::of(value)));
        payload(out, value);
    }
    out.push(END);
}

fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// A BSON value is below 2 GiB.
fn length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn signed(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// Where the exact value stands against its nearest double.
const BELOW: u8 = 0;
const EXACT: u8 = 1;
const ABOVE: u8 = 2;

fn number(out: &mut Vec<u8>, value: RawBsonRef<'_>) {
    let (nearest, exact) = match value {
        RawBsonRef::Double(value) => (value, None),
        RawBsonRef::Int32(value) => (f64::from(value), None),
        RawBsonRef::Int64(value) => (value as f64, Some(Decimal::from(value))),
        RawBsonRef::Decimal128(value) => {
            let decimal = Decimal::decode(value);
            (nearest(decimal), Some(decimal))
        }
        _ => (f64::NAN, None),
    };
    if nearest.is_nan() {
        out.extend_from_slice(&NAN);
        out.push(EXACT);
        return;
    }
    out.extend_from_slice(&double(nearest));
    let Some(Decimal::Finite { negative, coefficient, exponent }) = exact else {
        out.push(EXACT);
        return;
    };
    match order_numbers(value, RawBsonRef::Double(nearest)) {
        Ordering::Equal => out.push(EXACT),
        side => {
            out.push(if side == Ordering::Less { BELOW } else { ABOVE });
            let start = out.len();
            digits(out, coefficient, exponent);
            if negative {
                turn(&mut out[start..]);
            }
        }
    }
}

pub fn is_nan(value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::Double(value) => value.is_nan(),
        RawBsonRef::Decimal128(value) => Decimal::decode(value) == Decimal::NaN,
        _ => false,
    }
}

/// All bits turned for the negative, the sign bit for the others: bytes that order as doubles do.
fn double(value: f64) -> [u8; 8] {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    ordered.to_be_bytes()
}

/// The double nearest to a decimal, at most the largest finite one.
fn nearest(decimal: Decimal) -> f64 {
    match decimal {
        Decimal::NaN => f64::NAN,
        Decimal::Infinity { negative } => {
            if negative {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }
        }
        Decimal::Finite { negative, coefficient, exponent } => {
            let magnitude: f64 = format!("{coefficient}e{exponent}").parse().unwrap_or(f64::MAX);
            let magnitude = magnitude.min(f64::MAX);
            if negative { -magnitude } else { magnitude }
        }
    }
}

/// The magnitude of a number other than zero: the power of ten of its first digit, its digits without closing
/// zeros, an end below every digit.
fn digits(out: &mut Vec<u8>, coefficient: u128, exponent: i32) {
    let text = coefficient.to_string();
    let power = exponent + text.len() as i32 - 1;
    let biased = u16::try_from(power + 0x4000).unwrap_or(u16::MAX);
    out.extend_from_slice(&biased.to_be_bytes());
    out.extend(text.trim_end_matches('0').bytes());
    out.push(END);
}

/// Components from `from` on and before `to`; `None` has no end on that side. Both are beginnings of ascending
/// components, so that the interval holds or leaves out whatever begins with them as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    pub from: Cut,
    pub to: Cut,
    /// Exactly one component.
    point: bool,
}

/// A place between components: just before, or just after, all that begin with some bytes.
#[derive(Debug, Clone)]
pub enum Cut {
    Before(Vec<u8>),
    After(Vec<u8>),
}

impl Cut {
    /// The place as a lower bound of byte strings.
    fn bound(&self) -> Option<Vec<u8>> {
        match self {
            Self::Before(prefix) => Some(prefix.clone()),
            Self::After(prefix) => after(prefix),
        }
    }

    /// Of a place between strings, the first id after it; `None` behind the last.
    fn id(&self) -> Option<Vec<u8>> {
        let (Self::Before(bytes) | Self::After(bytes)) = self;
        let text = bytes.get(2..).unwrap_or_default();
        let Some(whole) = text.strip_suffix(&[0, 0]) else {
            return if matches!(self, Self::Before(_)) { Some(text.to_vec()) } else { after(text) };
        };
        let mut id = Vec::with_capacity(whole.len() + 1);
        for (at, byte) in whole.iter().enumerate() {
            if !(*byte == 0xff && at > 0 && whole.get(at - 1) == Some(&0)) {
                id.push(*byte);
            }
        }
        if matches!(self, Self::After(_)) {
            id.push(0);
        }
        Some(id)
    }

    fn turned(&self) -> Self {
        let turned = |prefix: &[u8]| {
            let mut prefix = prefix.to_vec();
            turn(&mut prefix);
            prefix
        };
        match self {
            Self::Before(prefix) => Self::After(turned(prefix)),
            Self::After(prefix) => Self::Before(turned(prefix)),
        }
    }
}

impl PartialEq for Cut {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cut {}

impl PartialOrd for Cut {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cut {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.bound(), other.bound()) {
            (Some(a), Some(b)) => a.cmp(&b),
            (None, None) => Ordering::Equal,
            (None, _) => Ordering::Greater,
            (_, None) => Ordering::Less,
        }
    }
}

impl Interval {
    fn between(from: Cut, to: Cut) -> Self {
        Self { from, to, point: false }
    }

    /// Every component.
    pub fn all() -> Self {
        Self::between(Cut::Before(Vec::new()), Cut::After(Vec::new()))
    }

    /// The one component of a value.
    pub fn point(value: RawBsonRef<'_>) -> Self {
        let bytes = component(value);
        Self { from: Cut::Before(bytes.clone()), to: Cut::After(bytes), point: true }
    }

    /// Missing, null and undefined: what answers a comparison with null, and more (empty arrays).
    pub fn nothing() -> Self {
        Self::between(Cut::Before(vec![tag(Class::Undefined)]), Cut::After(vec![tag(Class::Null)]))
    }

    pub fn class(class: Class) -> Self {
        Self::between(Self::lowest(class), Cut::After(vec![tag(class)]))
    }

    /// Values of the same class above one, itself too if `with`.
    pub fn above(value: RawBsonRef<'_>, with: bool) -> Self {
        let bytes = component(value);
        let from = if with { Cut::Before(bytes) } else { Cut::After(bytes) };
        Self::between(from, Cut::After(vec![tag(Class::of(value))]))
    }

    /// Values of the same class below one, itself too if `with`.
    pub fn below(value: RawBsonRef<'_>, with: bool) -> Self {
        let bytes = component(value);
        let to = if with { Cut::After(bytes) } else { Cut::Before(bytes) };
        Self::between(Self::lowest(Class::of(value)), to)
    }

    /// Strings that begin with a text.
    pub fn prefix(text: &str) -> Self {
        let mut bytes = vec![tag(Class::String), BINARY_COLLATION];
        escaped(&mut bytes, text.as_bytes());
        bytes.truncate(bytes.len() - 2);
        Self::between(Cut::Before(bytes.clone()), Cut::After(bytes))
    }

    /// Where a class begins; numbers begin after NaN, which has no order with them.
    fn lowest(class: Class) -> Cut {
        let mut bytes = vec![tag(class)];
        if class == Class::Number {
            bytes.extend_from_slice(&NAN);
            return Cut::After(bytes);
        }
        Cut::Before(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    pub fn is_point(&self) -> bool {
        self.point
    }

    /// The component of a point, in a direction; `None`: no point.
    pub fn point_component(&self, direction: Direction) -> Option<Vec<u8>> {
        let Cut::Before(bytes) = &self.from else { return None };
        let mut bytes = bytes.clone();
        if direction == Direction::Descending {
            turn(&mut bytes);
        }
        self.is_point().then_some(bytes)
    }

    /// The strings of this interval as bytes of ids (no NUL within): from (inclusive) and to (exclusive; `None` to the
    /// end). `None`: no strings.
    pub fn ids(&self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let strings = self.intersect(&Self::class(Class::String));
        (!strings.is_empty()).then(|| (strings.from.id().unwrap_or_default(), strings.to.id()))
    }

    pub fn intersect(&self, other: &Self) -> Self {
        // Of equal cuts a point keeps its own, which hold its component: after false is also before true.
        let (first, other) = if self.point { (self, other) } else { (other, self) };
        Self {
            from: other.from.clone().max(first.from.clone()),
            to: first.to.clone().min(other.to.clone()),
            point: first.point,
        }
    }

    /// Both and what lies between, where they overlap or touch.
    pub fn join(self, other: Self) -> Self {
        let point = self.point && other.point && self == other;
        Self { from: self.from.min(other.from), to: self.to.max(other.to), point }
    }

    /// The bytes from (inclusive) and to (exclusive) of keys that begin with `prefix` and go on with a component of
    /// this interval in a direction. `None`: to the end of all keys.
    pub fn bounds(&self, prefix: &[u8], direction: Direction) -> (Vec<u8>, Option<Vec<u8>>) {
        let (from, to) = match direction {
            Direction::Ascending => (self.from.clone(), self.to.clone()),
            Direction::Descending => (self.to.turned(), self.from.turned()),
        };
        let join = |cut: Cut| match cut {
            Cut::Before(bytes) => Some([prefix, &bytes].concat()),
            Cut::After(bytes) => after(&[prefix, &bytes].concat()),
        };
        (join(from).unwrap_or_else(|| vec![0xff; prefix.len() + 2]), join(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::order;
    use bson::{Bson, RawBson};
    use proptest::prelude::*;

    fn raw(value: Bson) -> RawBson {
        value.try_into().expect("bson")
    }

    fn number() -> impl Strategy<Value = Bson> {
        let edges = [0i64, 1, -1, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, i64::MAX, i64::MIN, i64::MAX - 1];
        prop_oneof![
            any::<i32>().prop_map(Bson::Int32),
            (-3i32..3).prop_map(Bson::Int32),
            any::<i64>().prop_map(Bson::Int64),
            prop::sample::select(edges.to_vec()).prop_map(Bson::Int64),
            (prop::sample::select(edges.to_vec()), -2i64..3).prop_map(|(a, b)| Bson::Int64(a.wrapping_add(b))),
            any::<f64>().prop_map(Bson::Double),
            prop::sample::select(edges.to_vec()).prop_map(|edge| Bson::Double(edge as f64)),
            prop::sample::select(vec![f64::NAN, f64::INFINITY, -f64::INFINITY, -0.0, 0.1, f64::MAX, f64::MIN, 5e-324])
                .prop_map(Bson::Double),
            (any::<bool>(), 0u128..10u128.pow(34), -6176i32..6111).prop_map(decimal),
            (any::<bool>(), 0u128..30, -3i32..4).prop_map(decimal),
            (any::<bool>(), 9_007_199_254_740_990u128..9_007_199_254_740_996, 0i32..2).prop_map(decimal),
            (any::<bool>(), 17_976_931_348_623_157u128..17_976_931_348_623_160, 290i32..294).prop_map(decimal),
            prop::sample::select(vec!["NaN", "Infinity", "-Infinity", "0.1", "0.10", "1E-6000", "-1E+6000"])
                .prop_map(|text| Bson::Decimal128(text.parse().expect("a decimal"))),
        ]
    }

    fn decimal((negative, coefficient, exponent): (bool, u128, i32)) -> Bson {
        Bson::Decimal128(Decimal::Finite { negative, coefficient, exponent }.encode())
    }

    fn scalar() -> impl Strategy<Value = Bson> {
        prop_oneof![
            4 => number(),
            2 => "[a\u{0}b\u{e9}]{0,3}".prop_map(Bson::String),
            1 => any::<bool>().prop_map(Bson::Boolean),
            1 => any::<i64>().prop_map(|millis| Bson::DateTime(bson::DateTime::from_millis(millis))),
            1 => prop::sample::select(vec![Bson::Null, Bson::Undefined, Bson::MinKey, Bson::MaxKey]),
            1 => any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(bson::oid::ObjectId::from_bytes(bytes))),
            1 => (any::<u32>(), any::<u32>())
                .prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
            1 => (prop::collection::vec(0u8..3, 0..4), 0u8..6).prop_map(|(bytes, subtype)| {
                Bson::Binary(bson::Binary { subtype: subtype.into(), bytes })
            }),
            1 => ("[ab]{0,2}", "[im]{0,2}").prop_map(|(pattern, options)| {
                Bson::RegularExpression(bson::Regex { pattern: pattern.try_into().expect("no NUL"), options: options.try_into().expect("no NUL") })
            }),
            1 => "[ab]{0,2}".prop_map(Bson::JavaScriptCode),
            1 => ("[ab]{0,2}", -1i32..2).prop_map(|(code, n)| {
                Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope { code, scope: bson::doc! { "n": n } })
            }),
        ]
    }

    fn value() -> impl Strategy<Value = Bson> {
        scalar().prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
                prop::collection::vec(("[ab]{0,2}", inner), 0..4)
                    .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            ]
        })
    }

    fn agree(a: &RawBson, b: &RawBson) {
        let (a, b) = (a.as_raw_bson_ref(), b.as_raw_bson_ref());
        let expected = order(a, b);
        assert_eq!(component(a).cmp(&component(b)), expected, "{a:?} and {b:?}");
        let descending = |value| {
            let mut out = Vec::new();
            append(&mut out, value, Direction::Descending);
            out
        };
        assert_eq!(descending(b).cmp(&descending(a)), expected, "descending: {a:?} and {b:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn bytes_order_as_numbers(a in number(), b in number()) {
            agree(&raw(a), &raw(b));
        }

        #[test]
        fn bytes_order_as_values(a in value(), b in value()) {
            agree(&raw(a), &raw(b));
        }

        #[test]
        fn no_component_begins_another(a in value(), b in value()) {
            let (a, b) = (component(raw(a).as_raw_bson_ref()), component(raw(b).as_raw_bson_ref()));
            prop_assert!(a == b || !b.starts_with(&a));
        }

        #[test]
        fn intervals_hold_what_compares(a in value(), b in value(), descending: bool) {
            let (a, b) = (raw(a), raw(b));
            let (a, b) = (a.as_raw_bson_ref(), b.as_raw_bson_ref());
            let direction = if descending { Direction::Descending } else { Direction::Ascending };
            let mut key = b"prefix".to_vec();
            append(&mut key, a, direction);
            key.extend_from_slice(b"the rest");
            let holds = |interval: Interval| {
                let (from, to) = interval.bounds(b"prefix", direction);
                key >= from && to.is_none_or(|to| key < to)
            };
            let same = Class::of(a) == Class::of(b);
            prop_assert_eq!(holds(Interval::point(b)), order(a, b).is_eq());
            prop_assert!(holds(Interval::all()));
            if !is_nan(a) && !is_nan(b) {
                prop_assert_eq!(holds(Interval::above(b, false)), same && order(a, b).is_gt());
                prop_assert_eq!(holds(Interval::above(b, true)), same && order(a, b).is_ge());
                prop_assert_eq!(holds(Interval::below(b, false)), same && order(a, b).is_lt());
                prop_assert_eq!(holds(Interval::below(b, true)), same && order(a, b).is_le());
                prop_assert_eq!(holds(Interval::class(Class::of(b))), same);
            }
        }
    }

    #[test]
    fn equal_values_of_other_types_are_one_key() {
        let one = component(RawBsonRef::Int32(1));
        for same in [Bson::Int64(1), Bson::Double(1.0), decimal((false, 100, -2))] {
            assert_eq!(component(raw(same).as_raw_bson_ref()), one);
        }
        assert_eq!(component(RawBsonRef::Double(-0.0)), component(RawBsonRef::Int32(0)));
        let big = raw(Bson::Int64((1 << 53) + 1));
        let same = raw(decimal((false, 90_071_992_547_409_930, -1)));
        assert_eq!(component(big.as_raw_bson_ref()), component(same.as_raw_bson_ref()));
    }

    proptest! {
        #[test]
        fn intervals_of_strings_as_ids(a in "[abc\u{e9}]{1,3}", b in "[abc\u{e9}\u{0}]{0,3}") {
            let holds = |interval: Interval| {
                interval.ids().is_some_and(|(from, to)| a.as_bytes() >= &from[..] && to.is_none_or(|to| a.as_bytes() < &to[..]))
            };
            let value = RawBsonRef::String(&b);
            prop_assert_eq!(holds(Interval::point(value)), a == b);
            prop_assert_eq!(holds(Interval::above(value, false)), a > b);
            prop_assert_eq!(holds(Interval::above(value, true)), a >= b);
            prop_assert_eq!(holds(Interval::below(value, false)), a < b);
            prop_assert_eq!(holds(Interval::below(value, true)), a <= b);
            prop_assert!(holds(Interval::all()) && !holds(Interval::point(RawBsonRef::Int32(1))));
            if !b.is_empty() && !b.contains('\0') {
                prop_assert_eq!(holds(Interval::prefix(&b)), a.starts_with(&b));
            }
        }
    }

    #[test]
    fn prefixes_of_strings() {
        let (from, to) = Interval::prefix("ab\0").bounds(&[], Direction::Ascending);
        let inside = |text: &str| {
            let key = component(RawBsonRef::String(text));
            key >= from && to.as_ref().is_some_and(|to| key < *to)
        };
        assert!(inside("ab\0") && inside("ab\0\0") && inside("ab\0c"));
        assert!(!inside("ab") && !inside("ab\u{1}") && !inside("aa") && !inside("ac"));
    }
}
