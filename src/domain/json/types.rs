//! The typed values of Extended JSON: `{"$oid": …}`, `{"$date": …}` and their like.

use super::parse::{Parser, Result};
use bson::{DateTime, Decimal128, RawBsonRef, RawDocument, oid::ObjectId, spec::ElementType};
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrapper {
    Oid,
    Date,
    Decimal,
    Long,
    Int,
    Double,
    Binary,
    Uuid,
    Regex,
    Timestamp,
    MinKey,
    MaxKey,
    Symbol,
    Code,
    Undefined,
    Pointer,
}

const WRAPPERS: &[(&str, Wrapper)] = &[
    ("$oid", Wrapper::Oid),
    ("$date", Wrapper::Date),
    ("$numberDecimal", Wrapper::Decimal),
    ("$numberLong", Wrapper::Long),
    ("$numberInt", Wrapper::Int),
    ("$numberDouble", Wrapper::Double),
    ("$binary", Wrapper::Binary),
    ("$uuid", Wrapper::Uuid),
    ("$regularExpression", Wrapper::Regex),
    ("$timestamp", Wrapper::Timestamp),
    ("$minKey", Wrapper::MinKey),
    ("$maxKey", Wrapper::MaxKey),
    ("$symbol", Wrapper::Symbol),
    ("$code", Wrapper::Code),
    ("$undefined", Wrapper::Undefined),
    ("$dbPointer", Wrapper::Pointer),
];

/// The type a field name stands for; names such as `$set` or `$gt` stand for none.
pub(super) fn wrapper(name: &[u8]) -> Option<Wrapper> {
    if name.first() != Some(&b'$') {
        return None;
    }
    WRAPPERS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, wrapper)| *wrapper)
}

impl Wrapper {
    pub(super) fn name(self) -> &'static str {
        WRAPPERS.iter().find(|(_, wrapper)| *wrapper == self).map_or("", |(name, _)| name)
    }
}

impl Parser<'_> {
    /// After the name of a typed value: reads its inside as any value, then makes of it what the type says.
    pub(super) fn typed(&mut self, wrapper: Wrapper, opening: usize) -> Result<ElementType> {
        let outer = std::mem::replace(&mut self.typed, true);
        self.check_depth(opening)?;
        self.expect(b':')?;
        self.space();
        let start = self.out.len();
        let kind = self.value()?;
        let inside = self.out.split_off(start);
        let mut made = make(wrapper, kind, &inside);
        self.space();
        if wrapper == Wrapper::Code && self.peek() == Some(b',') && made.is_some() {
            made = self.scope(inside)?;
        }
        if self.peek() == Some(b',') {
            return Err(self.wrong("json.type_mixed", wrapper.name()));
        }
        self.expect(b'}')?;
        self.typed = outer;
        let Some((kind, bytes)) = made else {
            self.at = opening;
            let key = if wrapper == Wrapper::Pointer { "json.type_unsupported" } else { "json.type" };
            return Err(self.wrong(key, wrapper.name()));
        };
        self.out.extend_from_slice(&bytes);
        Ok(kind)
    }

    /// `, "$scope": {…}` after `$code`.
    fn scope(&mut self, code: Vec<u8>) -> Result<Option<(ElementType, Vec<u8>)>> {
        self.at += 1;
        self.space();
        let start = self.out.len();
        self.string()?;
        if self.out.split_off(start) != b"$scope" {
            return Err(self.wrong("json.type_mixed", Wrapper::Code.name()));
        }
        self.expect(b':')?;
        self.space();
        let kind = self.value()?;
        let scope = self.out.split_off(start);
        self.space();
        if kind != ElementType::EmbeddedDocument {
            return Ok(None);
        }
        let Ok(length) = i32::try_from(4 + code.len() + scope.len()) else { return Ok(None) };
        let bytes = [&length.to_le_bytes()[..], &code, &scope].concat();
        Ok(Some((ElementType::JavaScriptCodeWithScope, bytes)))
    }
}

/// The type and bytes a typed value stands for; `None` if its inside is not what the type wants.
fn make(wrapper: Wrapper, kind: ElementType, inside: &[u8]) -> Option<(ElementType, Vec<u8>)> {
    let text = || match kind {
        ElementType::String => std::str::from_utf8(inside.get(4..inside.len().checked_sub(1)?)?).ok(),
        _ => None,
    };
    let fields = |first: &str, second: &str| -> Option<&RawDocument> {
        let document = RawDocument::from_bytes(inside).ok().filter(|_| kind == ElementType::EmbeddedDocument)?;
        let known = document.iter_elements().all(|element| {
            element.is_ok_and(|element| element.key().as_str() == first || element.key().as_str() == second)
        });
        known.then_some(document)
    };
    Some(match wrapper {
        Wrapper::Oid => (ElementType::ObjectId, ObjectId::parse_str(text()?).ok()?.bytes().to_vec()),
        Wrapper::Date => (ElementType::DateTime, date(kind, inside, text())?.to_le_bytes().to_vec()),
        Wrapper::Decimal => (ElementType::Decimal128, Decimal128::from_str(text()?).ok()?.bytes().to_vec()),
        Wrapper::Long => (ElementType::Int64, digits(text()?)?.parse::<i64>().ok()?.to_le_bytes().to_vec()),
        Wrapper::Int => (ElementType::Int32, digits(text()?)?.parse::<i32>().ok()?.to_le_bytes().to_vec()),
        Wrapper::Double => (ElementType::Double, double(text()?)?.to_le_bytes().to_vec()),
        Wrapper::Binary => {
            let document = fields("base64", "subType")?;
            let data = base64(document.get_str("base64").ok()?)?;
            let subtype = document.get_str("subType").ok().filter(|text| (1..=2).contains(&text.len()))?;
            (ElementType::Binary, binary(u8::from_str_radix(subtype, 16).ok()?, &data)?)
        }
        Wrapper::Uuid => {
            let text = text().filter(|text| text.len() == 36)?;
            (ElementType::Binary, binary(4, uuid::Uuid::try_parse(text).ok()?.as_bytes())?)
        }
        Wrapper::Regex => {
            let document = fields("pattern", "options")?;
            let pattern = document.get_str("pattern").ok().filter(|text| !text.contains('\0'))?;
            let options = document.get_str("options").ok().filter(|text| !text.contains('\0'))?;
            let mut sorted: Vec<char> = options.chars().collect();
            sorted.sort_unstable();
            let options: String = sorted.into_iter().collect();
            (ElementType::RegularExpression, [pattern.as_bytes(), b"\0", options.as_bytes(), b"\0"].concat())
        }
        Wrapper::Timestamp => {
            let document = fields("t", "i")?;
            let part = |name: &str| match document.get(name) {
                Ok(Some(RawBsonRef::Int32(value))) => u32::try_from(value).ok(),
                Ok(Some(RawBsonRef::Int64(value))) => u32::try_from(value).ok(),
                _ => None,
            };
            (ElementType::Timestamp, [part("i")?.to_le_bytes(), part("t")?.to_le_bytes()].concat())
        }
        Wrapper::MinKey | Wrapper::MaxKey => {
            let one = kind == ElementType::Int32 && inside == 1_i32.to_le_bytes();
            let kind = if wrapper == Wrapper::MinKey { ElementType::MinKey } else { ElementType::MaxKey };
            one.then_some((kind, Vec::new()))?
        }
        Wrapper::Symbol => text().map(|_| (ElementType::Symbol, inside.to_vec()))?,
        Wrapper::Code => text().map(|_| (ElementType::JavaScriptCode, inside.to_vec()))?,
        Wrapper::Undefined => {
            let yes = kind == ElementType::Boolean && inside == [1];
            yes.then_some((ElementType::Undefined, Vec::new()))?
        }
        Wrapper::Pointer => return None,
    })
}

/// Milliseconds since 1970 of an RFC 3339 text, of `{"$numberLong": …}`, or of a plain integer.
fn date(kind: ElementType, inside: &[u8], text: Option<&str>) -> Option<i64> {
    match kind {
        ElementType::String => DateTime::parse_rfc3339_str(text?).ok().map(DateTime::timestamp_millis),
        ElementType::Int64 => inside.try_into().ok().map(i64::from_le_bytes),
        ElementType::Int32 => inside.try_into().ok().map(i32::from_le_bytes).map(i64::from),
        _ => None,
    }
}

/// Refuses what `str::parse` takes beside digits and a minus.
fn digits(text: &str) -> Option<&str> {
    (!text.starts_with('+')).then_some(text)
}

fn double(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) => {
            text.parse::<f64>().ok().filter(|value| value.is_finite())
        }
        _ => None,
    }
}

/// Standard alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::{
        Engine,
        alphabet::STANDARD,
        engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    };
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, lenient).decode(text).ok()
}

/// BSON's layout of binary data; the old subtype 2 carries its length once more inside.
fn binary(subtype: u8, data: &[u8]) -> Option<Vec<u8>> {
    let length = i32::try_from(data.len()).ok()?;
    let mut bytes = Vec::with_capacity(data.len() + 9);
    if subtype == 2 {
        bytes.extend_from_slice(&length.checked_add(4)?.to_le_bytes());
        bytes.push(subtype);
    }
    bytes.extend_from_slice(&length.to_le_bytes());
    if subtype != 2 {
        bytes.push(subtype);
    }
    bytes.extend_from_slice(data);
    Some(bytes)
}
