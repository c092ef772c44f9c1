//! Whether a document comes back byte for byte from its canonical text, found without writing that and reading it again.

use bson::{RawBsonRef, RawDocument, spec::BinarySubtype};

/// More names than these are sorted to find a double.
const FEW: usize = 16;

/// `false` where that is not certain: a field named like a type, a double name, a NaN, a type rarely met, bytes that are
/// no sound BSON, documents within one another deeper than `nesting`.
pub fn is_plain(document: &RawDocument, nesting: usize) -> bool {
    let mut names = Vec::with_capacity(FEW);
    fields(document, nesting, |name| {
        names.push(name);
        !name.starts_with('$')
    }) && distinct(&mut names)
}

/// Whether every field is plain and passes, and nothing but fields is in the bytes.
fn fields<'a>(document: &'a RawDocument, nesting: usize, mut passes: impl FnMut(&'a str) -> bool) -> bool {
    // The length before, the zero after.
    let mut bytes = 5;
    for element in document.iter() {
        let Ok((name, value)) = element else { return false };
        let Some(size) = plain_size(value, nesting) else { return false };
        if !passes(name.as_str()) {
            return false;
        }
        // The type before the name, the zero after.
        bytes += 2 + name.as_str().len() + size;
    }
    bytes == document.as_bytes().len()
}

/// Bytes a plain value takes.
fn plain_size(value: RawBsonRef<'_>, nesting: usize) -> Option<usize> {
    Some(match value {
        RawBsonRef::Double(number) if number.is_finite() => 8,
        RawBsonRef::String(text) => 5 + text.len(),
        RawBsonRef::Document(document) => {
            let inner = nesting.checked_sub(1)?;
            is_plain(document, inner).then(|| document.as_bytes().len())?
        }
        RawBsonRef::Array(array) => {
            let (inner, mut place) = (nesting.checked_sub(1)?, 0_usize);
            let document = RawDocument::from_bytes(array.as_bytes()).ok()?;
            let in_place = |name: &str| {
                place += 1;
                name.parse() == Ok(place - 1) && (name == "0" || !name.starts_with(['0', '+']))
            };
            fields(document, inner, in_place).then(|| array.as_bytes().len())?
        }
        RawBsonRef::Boolean(_) => 1,
        RawBsonRef::Null => 0,
        RawBsonRef::Int32(_) => 4,
        RawBsonRef::Int64(_) | RawBsonRef::DateTime(_) => 8,
        RawBsonRef::ObjectId(_) => 12,
        // The old kind has its length twice.
        RawBsonRef::Binary(binary) if binary.subtype != BinarySubtype::BinaryOld => 5 + binary.bytes.len(),
        _ => return None,
    })
}

fn distinct(names: &mut [&str]) -> bool {
    if names.len() <= FEW {
        return names.iter().enumerate().all(|(at, name)| !names.iter().skip(at + 1).any(|other| other == name));
    }
    names.sort_unstable();
    names.is_sorted_by(|one, next| one < next)
}
