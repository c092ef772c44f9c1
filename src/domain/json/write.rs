//! Writing: straight from BSON bytes to text, the hot path of every read.

use crate::base::fault::Fault;
use base64::Engine;
use bson::{RawArray, RawBsonRef, RawDocument};
use std::io::Write;

/// Appends the document as relaxed Extended JSON, as the API answers.
///
/// A fault means stored bytes that are not sound BSON, or a DBPointer, a type long gone; the output is then cut
/// off anywhere and must be thrown away.
pub fn write_relaxed(document: &RawDocument, out: &mut Vec<u8>) -> Result<(), Fault> {
    Writer::<false> { out }.document(document)
}

/// As [`write_relaxed`], in canonical form: every number keeps its type.
pub fn write_canonical(document: &RawDocument, out: &mut Vec<u8>) -> Result<(), Fault> {
    Writer::<true> { out }.document(document)
}

/// Any value, canonical.
pub fn write_value_canonical(value: RawBsonRef<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    Writer::<true> { out }.value(value)
}

struct Writer<'a, const CANONICAL: bool> {
    out: &'a mut Vec<u8>,
}

impl<const CANONICAL: bool> Writer<'_, CANONICAL> {
    fn document(&mut self, document: &RawDocument) -> Result<(), Fault> {
        self.out.push(b'{');
        let mut first = true;
        for element in document.iter() {
            let (name, value) = element.map_err(unsound)?;
            if !first {
                self.out.push(b',');
            }
            first = false;
            quoted(name.as_str(), self.out);
            self.out.push(b':');
            self.value(value)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, array: &RawArray) -> Result<(), Fault> {
        self.out.push(b'[');
        let mut first = true;
        for element in array {
            if !first {
                self.out.push(b',');
            }
            first = false;
            self.value(element.map_err(unsound)?)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn value(&mut self, value: RawBsonRef<'_>) -> Result<(), Fault> {
        match value {
            RawBsonRef::String(text) => quoted(text, self.out),
            RawBsonRef::Document(document) => self.document(document)?,
            RawBsonRef::Array(array) => self.array(array)?,
            RawBsonRef::Boolean(true) => self.out.extend_from_slice(b"true"),
            RawBsonRef::Boolean(false) => self.out.extend_from_slice(b"false"),
            RawBsonRef::Null => self.out.extend_from_slice(b"null"),
            RawBsonRef::Int32(number) if CANONICAL => self.number("$numberInt", i64::from(number)),
            RawBsonRef::Int32(number) => integer(i64::from(number), self.out),
            RawBsonRef::Int64(number) if CANONICAL => self.number("$numberLong", number),
            RawBsonRef::Int64(number) => integer(number, self.out),
            RawBsonRef::Double(number) => self.double(number),
            RawBsonRef::DateTime(date) => self.date(date.timestamp_millis()),
            RawBsonRef::ObjectId(id) => self.typed("$oid", &id.to_hex()),
            RawBsonRef::Decimal128(number) => self.typed("$numberDecimal", &number.to_string()),
            RawBsonRef::Binary(binary) => {
                let data = base64::engine::general_purpose::STANDARD.encode(binary.bytes);
                let subtype = u8::from(binary.subtype);
                // Plain ASCII, nothing to escape; writing to a Vec cannot fail.
                let _ = write!(self.out, r#"{{"$binary":{{"base64":"{data}","subType":"{subtype:02x}"}}}}"#);
            }
            RawBsonRef::RegularExpression(regex) => {
                self.out.extend_from_slice(br#"{"$regularExpression":{"pattern":"#);
                quoted(regex.pattern.as_str(), self.out);
                self.out.extend_from_slice(br#","options":"#);
                quoted(regex.options.as_str(), self.out);
                self.out.extend_from_slice(b"}}");
            }
            RawBsonRef::Timestamp(at) => {
                let _ = write!(self.out, r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, at.time, at.increment);
            }
            RawBsonRef::MinKey => self.out.extend_from_slice(br#"{"$minKey":1}"#),
            RawBsonRef::MaxKey => self.out.extend_from_slice(br#"{"$maxKey":1}"#),
            RawBsonRef::Undefined => self.out.extend_from_slice(br#"{"$undefined":true}"#),
            RawBsonRef::Symbol(symbol) => self.typed("$symbol", symbol),
            RawBsonRef::JavaScriptCode(code) => self.typed("$code", code),
            RawBsonRef::JavaScriptCodeWithScope(code) => {
                self.out.extend_from_slice(br#"{"$code":"#);
                quoted(code.code, self.out);
                self.out.extend_from_slice(br#","$scope":"#);
                self.document(code.scope)?;
                self.out.push(b'}');
            }
            RawBsonRef::DbPointer(_) => return Err(Fault::new("json.stored").with("why", "DBPointer")),
        }
        Ok(())
    }

    /// `{"$type":"text"}`.
    fn typed(&mut self, name: &str, text: &str) {
        self.out.extend_from_slice(b"{\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        quoted(text, self.out);
        self.out.push(b'}');
    }

    fn number(&mut self, name: &str, number: i64) {
        self.out.extend_from_slice(b"{\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":\"");
        integer(number, self.out);
        self.out.extend_from_slice(b"\"}");
    }

    fn double(&mut self, number: f64) {
        if number.is_finite() {
            // `{:?}` is the shortest text that reads back as the same double, always with a point or an exponent.
            let _ = if CANONICAL {
                write!(self.out, r#"{{"$numberDouble":"{number:?}"}}"#)
            } else {
                write!(self.out, "{number:?}")
            };
        } else {
            let text = if number.is_nan() {
                "NaN"
            } else if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            self.typed("$numberDouble", text);
        }
    }

    fn date(&mut self, millis: i64) {
        // 1970-01-01 to 9999-12-31, as the specification bounds the readable form.
        if !CANONICAL && (0..253_402_300_800_000).contains(&millis) {
            self.out.extend_from_slice(br#"{"$date":""#);
            rfc3339(millis, self.out);
            self.out.extend_from_slice(b"\"}");
        } else {
            self.out.extend_from_slice(br#"{"$date":"#);
            self.number("$numberLong", millis);
            self.out.push(b'}');
        }
    }
}

fn unsound(error: bson::error::Error) -> Fault {
    Fault::new("json.stored").with("why", error)
}

/// A quoted JSON string.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(place) = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        let (plain, after) = rest.split_at(place);
        out.extend_from_slice(plain);
        let Some((special, after)) = after.split_first() else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let _ = write!(out, "\\u{control:04x}");
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Decimal digits.
pub(super) fn integer(number: i64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut from = digits.len();
    let mut left = number.unsigned_abs();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
        from -= 1;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(from..).unwrap_or_default());
}

/// `2026-11-22T10:15:00.123Z`, the fraction only where it is not zero; years 1970 to 9999.
fn rfc3339(millis: i64, out: &mut Vec<u8>) {
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    // Civil date from a day count (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    padded(year, 4, out);
    out.push(b'-');
    padded(month, 2, out);
    out.push(b'-');
    padded(day, 2, out);
    out.push(b'T');
    padded(rest / 3_600_000, 2, out);
    out.push(b':');
    padded(rest / 60_000 % 60, 2, out);
    out.push(b':');
    padded(rest / 1000 % 60, 2, out);
    if rest % 1000 != 0 {
        out.push(b'.');
        padded(rest % 1000, 3, out);
    }
    out.push(b'Z');
}

fn padded(number: i64, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10_i64.pow(place) % 10) as u8);
    }
}
