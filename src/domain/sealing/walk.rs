//! The way along a path to every value it leads to, through documents and the lists that hold them, and back with
//! others in their places.

use crate::{
    base::fault::Fault,
    domain::path::{self, Path, position},
};
use bson::{RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, raw::CString};

type Change<'c> = &'c mut dyn FnMut(RawBsonRef<'_>) -> Result<Option<RawBson>, Fault>;

/// The document with what `change` makes of each value; `None` takes it away.
pub fn mapped(document: &RawDocument, parts: &[String], change: Change<'_>) -> Result<RawDocumentBuf, Fault> {
    let Some((first, rest)) = parts.split_first() else { return Ok(document.to_owned()) };
    let mut out = RawDocumentBuf::new();
    for (name, value) in document.iter().map_while(Result::ok) {
        if name.as_str() != first {
            out.append(name, value);
        } else if let Some(value) = mapped_value(value, rest, change)? {
            out.append(name, value);
        }
    }
    Ok(out)
}

fn mapped_value(value: RawBsonRef<'_>, rest: &[String], change: Change<'_>) -> Result<Option<RawBson>, Fault> {
    match value {
        _ if rest.is_empty() => change(value),
        RawBsonRef::Document(inner) => Ok(Some(RawBson::Document(mapped(inner, rest, change)?))),
        RawBsonRef::Array(array) => {
            let mut out = RawArrayBuf::new();
            for element in path::elements(array) {
                if let Some(element) = mapped_value(element, rest, change)? {
                    out.push(element);
                }
            }
            Ok(Some(RawBson::Array(out)))
        }
        other => Ok(Some(other.into())),
    }
}

/// Calls `see` with each value.
pub fn each(document: &RawDocument, parts: &[String], see: &mut dyn FnMut(RawBsonRef<'_>)) {
    let Some((first, rest)) = parts.split_first() else { return };
    let fields = document.iter().map_while(Result::ok).filter(|(name, _)| name.as_str() == first);
    fields.for_each(|(_, value)| each_in(value, rest, see));
}

fn each_in(value: RawBsonRef<'_>, rest: &[String], see: &mut dyn FnMut(RawBsonRef<'_>)) {
    match value {
        _ if rest.is_empty() => see(value),
        RawBsonRef::Document(inner) => each(inner, rest, see),
        RawBsonRef::Array(array) => path::elements(array).for_each(|element| each_in(element, rest, see)),
        _ => {}
    }
}

/// Whether there is a value.
pub fn reaches(document: &RawDocument, parts: &[String]) -> bool {
    let mut reached = false;
    each(document, parts, &mut |_| reached = true);
    reached
}

/// The one value a path leads to through documents alone.
pub fn at<'a>(document: &'a RawDocument, parts: &[String]) -> Option<RawBsonRef<'a>> {
    let (first, rest) = parts.split_first()?;
    match path::field(document, first)? {
        value if rest.is_empty() => Some(value),
        RawBsonRef::Document(inner) => at(inner, rest),
        _ => None,
    }
}

/// The document with a value where the path leads through documents, which are made where they are missing; `None`
/// where something else is in the way.
pub fn placed(document: &RawDocument, parts: &[String], value: RawBson) -> Option<RawDocumentBuf> {
    let (first, rest) = parts.split_first()?;
    let inner = path::field(document, first);
    let value = match (rest.is_empty(), inner) {
        (true, _) => value,
        (false, None) => RawBson::Document(placed(&RawDocumentBuf::new(), rest, value)?),
        (false, Some(RawBsonRef::Document(inner))) => RawBson::Document(placed(inner, rest, value)?),
        (false, Some(_)) => return None,
    };
    let mut out = RawDocumentBuf::new();
    let mut value = Some(value);
    for (name, old) in document.iter().map_while(Result::ok) {
        match (name.as_str() == first, &value) {
            (true, Some(_)) => out.append(name, value.take()?),
            _ => out.append(name, old),
        }
    }
    if let Some(value) = value {
        out.append(CString::try_from(first.as_str()).ok()?, value);
    }
    Some(out)
}

/// Whether two paths may lead to the same value, or one into what the other leads to. In the second a number may
/// stand for any place of a list.
pub fn touch(field: &Path, path: &Path) -> bool {
    fn meet(field: &[String], path: &[String]) -> bool {
        let (Some((name, names)), Some((part, parts))) = (field.split_first(), path.split_first()) else { return true };
        (name == part && meet(names, parts)) || (position(part).is_some() && meet(field, parts))
    }
    field.parts().first() == path.parts().first() && meet(field.parts(), path.parts())
}
