//! A change carried out on a document. It works on what it is given: on a fault the caller drops it.

use super::{Action, Fields, Kind, Name, Node, Update, array, merge, number, type_name};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    domain::{path::Path, value},
};
use bson::{Bson, Document};
use std::collections::BTreeSet;

/// Nulls an update may leave before what it writes past the end of arrays, in all: they are there before the size is
/// checked.
const MAX_PADDING: usize = 1_500_000;

impl Update {
    /// Changes the document. After a fault it is half changed and must be dropped. Its size and depth are to be
    /// checked anew ([`crate::domain::limits::check`]).
    pub fn apply(&self, document: &mut Document, now: Timestamp) -> Result<(), Fault> {
        match &self.0 {
            Kind::Merge(patch) => {
                merge::merge(document, patch);
                Ok(())
            }
            Kind::Operators { fields, sources } => {
                let taken = sources.iter().map(|source| taken(document, source)).collect::<Result<Vec<_>, _>>()?;
                let run = Run { taken, now };
                run.fields(document, fields, &mut Place::default())
            }
        }
    }
}

/// What a `$rename` moves. Nothing may be taken out of an array.
fn taken(document: &Document, source: &Path) -> Result<Option<Bson>, Fault> {
    let array = || Fault::new("update.rename_array").at(source.to_string());
    let Some((first, rest)) = source.parts().split_first() else { return Ok(None) };
    let (mut current, mut in_array) = (document.get(first), false);
    for part in rest {
        current = match current {
            None => return Ok(None),
            Some(Bson::Document(inner)) => inner.get(part),
            Some(Bson::Array(items)) => {
                in_array = true;
                items.get(position(part).ok_or_else(array)?)
            }
            Some(other) => return Err(scalar(source.to_string(), other)),
        };
    }
    if in_array && current.is_some() { Err(array()) } else { Ok(current.cloned()) }
}

fn scalar(path: String, found: &Bson) -> Fault {
    Fault::new("update.not_a_document").at(path).with("type", type_name(found.element_type()))
}

/// An array position; unlike a filter's, it may have leading zeros.
fn position(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten()
}

/// One application: what renames move, and the time.
struct Run {
    taken: Vec<Option<Bson>>,
    now: Timestamp,
}

/// Where the walk stands, for faults and for what arrays forbid; and the nulls it left behind.
#[derive(Default)]
struct Place<'a> {
    parts: Vec<&'a str>,
    arrays: usize,
    padded: usize,
}

impl Place<'_> {
    fn text(&self) -> String {
        self.parts.join(".")
    }
}

/// What becomes of a field.
enum Outcome {
    /// As it stands (changed in place, or not at all).
    Stay,
    Become(Bson),
    Vanish,
}

impl Run {
    fn fields<'a>(&self, document: &mut Document, fields: &'a Fields, place: &mut Place<'a>) -> Result<(), Fault> {
        let mut vanished = BTreeSet::new();
        for (Name(name), node) in fields {
            place.parts.push(name);
            match self.node(document.get_mut(name), node, place)? {
                Outcome::Stay => {}
                Outcome::Become(value) => drop(document.insert(name.clone(), value)),
                Outcome::Vanish => drop(vanished.insert(name.as_str())),
            }
            place.parts.pop();
        }
        if !vanished.is_empty() {
            merge::remove(document, |name| vanished.contains(name));
        }
        Ok(())
    }

    fn elements<'a>(&self, array: &mut Vec<Bson>, fields: &'a Fields, place: &mut Place<'a>) -> Result<(), Fault> {
        place.arrays += 1;
        for (Name(name), node) in fields {
            place.parts.push(name);
            let Some(index) = position(name) else {
                if self.creates(node) {
                    return Err(Fault::new("update.not_a_position").at(place.text()));
                }
                place.parts.pop();
                continue;
            };
            match self.node(array.get_mut(index), node, place)? {
                Outcome::Stay => {}
                Outcome::Become(value) => {
                    place.padded = place.padded.saturating_add(index.saturating_sub(array.len()));
                    if place.padded > MAX_PADDING {
                        return Err(Fault::new("update.padding").at(place.text()).with("limit", MAX_PADDING));
                    }
                    if index >= array.len() {
                        array.resize(index + 1, Bson::Null);
                    }
                    if let Some(slot) = array.get_mut(index) {
                        *slot = value;
                    }
                }
                Outcome::Vanish => {
                    if let Some(slot) = array.get_mut(index) {
                        *slot = Bson::Null;
                    }
                }
            }
            place.parts.pop();
        }
        place.arrays -= 1;
        Ok(())
    }

    fn node<'a>(&self, current: Option<&mut Bson>, node: &'a Node, place: &mut Place<'a>) -> Result<Outcome, Fault> {
        match (node, current) {
            (Node::Leaf(action), current) => self.action(current, action, place),
            (Node::Inner(fields), Some(Bson::Document(inner))) => {
                self.fields(inner, fields, place).map(|()| Outcome::Stay)
            }
            (Node::Inner(fields), Some(Bson::Array(inner))) => {
                self.elements(inner, fields, place).map(|()| Outcome::Stay)
            }
            (Node::Inner(_), Some(other)) => {
                if self.creates(node) {
                    Err(scalar(place.text(), other))
                } else {
                    Ok(Outcome::Stay)
                }
            }
            (Node::Inner(fields), None) => {
                let mut created = Document::new();
                self.fields(&mut created, fields, place)?;
                Ok(if created.is_empty() { Outcome::Stay } else { Outcome::Become(Bson::Document(created)) })
            }
        }
    }

    /// Whether something in it must stand where the path leads, so that a path leading nowhere is a fault.
    fn creates(&self, node: &Node) -> bool {
        match node {
            Node::Inner(fields) => fields.values().any(|node| self.creates(node)),
            Node::Leaf(Action::RenameTo(source)) => self.taken.get(*source).is_some_and(Option::is_some),
            Node::Leaf(action) => !matches!(action, Action::Unset),
        }
    }

    fn action(&self, current: Option<&mut Bson>, action: &Action, place: &Place<'_>) -> Result<Outcome, Fault> {
        Ok(match action {
            Action::Set(value) => Outcome::Become(value.clone()),
            Action::Unset => Outcome::Vanish,
            Action::Increment(by) => match current {
                None => Outcome::Become(by.clone()),
                Some(value) => computed("$inc", value, by, number::add, place)?,
            },
            Action::Multiply(by) => match current {
                None => match computed("$mul", &Bson::Int32(0), by, number::multiply, place)? {
                    Outcome::Stay => Outcome::Become(Bson::Int32(0)),
                    computed => computed,
                },
                Some(value) => computed("$mul", value, by, number::multiply, place)?,
            },
            Action::Min(bound) => bounded(current, bound, std::cmp::Ordering::is_lt)?,
            Action::Max(bound) => bounded(current, bound, std::cmp::Ordering::is_gt)?,
            Action::Push(push) => on_array("$push", current, place, true, |items| array::push(items, push))?,
            Action::AddToSet(members) => {
                on_array("$addToSet", current, place, true, |items| array::add_to_set(items, members))?
            }
            Action::Pull(pull) => on_array("$pull", current, place, false, |items| array::pull(items, pull))?,
            Action::PopFirst => on_array("$pop", current, place, false, |items| {
                drop(items.drain(..items.len().min(1)));
                Ok(())
            })?,
            Action::PopLast => on_array("$pop", current, place, false, |items| {
                items.pop();
                Ok(())
            })?,
            Action::CurrentDate { timestamp: false } => {
                Outcome::Become(Bson::DateTime(bson::DateTime::from_millis(self.now.0)))
            }
            Action::CurrentDate { timestamp: true } => {
                let time = u32::try_from(self.now.seconds()).unwrap_or_default();
                Outcome::Become(Bson::Timestamp(bson::Timestamp { time, increment: 1 }))
            }
            Action::RenameTo(source) => match self.taken.get(*source) {
                Some(Some(_)) if place.arrays > 0 => return Err(Fault::new("update.rename_array").at(place.text())),
                Some(Some(value)) => Outcome::Become(value.clone()),
                _ => Outcome::Stay,
            },
        })
    }
}

fn computed(
    operator: &str,
    value: &Bson,
    by: &Bson,
    compute: fn(&Bson, &Bson) -> Option<Bson>,
    place: &Place<'_>,
) -> Result<Outcome, Fault> {
    let fault = |key| Fault::new(key).at(place.text()).with("operator", operator);
    let kind = value.element_type();
    let (Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_)) = value else {
        return Err(fault("update.not_a_number").with("type", type_name(kind)));
    };
    let result = compute(value, by).ok_or_else(|| fault("update.overflow"))?;
    // What is equal and of the same type keeps its digits and its zero's sign.
    let equal = value::order(array::raw(value)?.as_raw_bson_ref(), array::raw(&result)?.as_raw_bson_ref()).is_eq();
    Ok(if equal && result.element_type() == kind { Outcome::Stay } else { Outcome::Become(result) })
}

fn bounded(current: Option<&mut Bson>, bound: &Bson, wins: fn(std::cmp::Ordering) -> bool) -> Result<Outcome, Fault> {
    let Some(current) = current else { return Ok(Outcome::Become(bound.clone())) };
    let order = value::order(array::raw(bound)?.as_raw_bson_ref(), array::raw(current)?.as_raw_bson_ref());
    Ok(if wins(order) { Outcome::Become(bound.clone()) } else { Outcome::Stay })
}

fn on_array(
    operator: &str,
    current: Option<&mut Bson>,
    place: &Place<'_>,
    create: bool,
    change: impl FnOnce(&mut Vec<Bson>) -> Result<(), Fault>,
) -> Result<Outcome, Fault> {
    match current {
        Some(Bson::Array(items)) => change(items).map(|()| Outcome::Stay),
        Some(other) => Err(Fault::new("update.not_an_array")
            .at(place.text())
            .with("operator", operator)
            .with("type", type_name(other.element_type()))),
        None if create => {
            let mut items = Vec::new();
            change(&mut items)?;
            Ok(Outcome::Become(Bson::Array(items)))
        }
        None => Ok(Outcome::Stay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::filter::tests::nonsense;
    use bson::{RawDocument, RawDocumentBuf, doc, rawdoc};
    use proptest::prelude::*;

    fn applied(update: &RawDocument, mut document: Document) -> Result<Document, (&'static str, String)> {
        let applied = Update::parse(update).and_then(|update| update.apply(&mut document, Timestamp(1_500)));
        applied.map(|()| document).map_err(|fault| (fault.key, fault.path))
    }

    #[test]
    fn operators_change_what_they_name() {
        let update = rawdoc! {
            "$set": { "a.b": 1 }, "$inc": { "n": 2 }, "$push": { "l": { "$each": [3, 1], "$sort": 1, "$slice": 2 } },
            "$unset": { "gone": "" }, "$rename": { "old": "new" }, "$currentDate": { "at": true },
        };
        let before = doc! { "n": i32::MAX, "l": [2], "gone": 1, "old": "x" };
        let after = doc! {
            "n": i64::from(i32::MAX) + 2, "l": [1, 2], "a": { "b": 1 },
            "at": bson::DateTime::from_millis(1_500), "new": "x",
        };
        assert_eq!(applied(&update, before), Ok(after));
    }

    #[test]
    fn faults_name_the_place() {
        let fault = |update: RawDocumentBuf, document: Document| applied(&update, document).expect_err("a fault");
        assert_eq!(fault(rawdoc! { "$set": { "_rev": 1 } }, doc! {}), ("update.system_field", "_rev".into()));
        assert_eq!(fault(rawdoc! { "$rename": { "a": "_owner" } }, doc! {}), ("update.system_field", "_owner".into()));
        assert_eq!(fault(rawdoc! { "$unset": { "_id.x": 1 } }, doc! {}), ("update.system_field", "_id.x".into()));
        let both = rawdoc! { "$set": { "a": 1 }, "$inc": { "a.b": 1 } };
        assert_eq!(fault(both, doc! {}), ("update.conflict", "a.b".into()));
        assert_eq!(fault(rawdoc! { "$set": { "a.b": 1 } }, doc! { "a": 1 }), ("update.not_a_document", "a".into()));
        assert_eq!(fault(rawdoc! { "$inc": { "a": 1 } }, doc! { "a": "x" }), ("update.not_a_number", "a".into()));
        assert_eq!(fault(rawdoc! { "$inc": { "a": 1 } }, doc! { "a": i64::MAX }), ("update.overflow", "a".into()));
        assert_eq!(
            fault(rawdoc! { "$set": { "a.9999999": 1 } }, doc! { "a": [] }),
            ("update.padding", "a.9999999".into())
        );
        // Each alone would be allowed.
        let often = rawdoc! { "$set": { "a.1": 1, "a.1500002": 1 } };
        assert_eq!(fault(often, doc! { "a": [] }), ("update.padding", "a.1500002".into()));
        let apart = rawdoc! { "$set": { "a.1": 1, "b.1500000": 1 } };
        assert_eq!(fault(apart, doc! { "a": [], "b": [] }), ("update.padding", "b.1500000".into()));
        assert_eq!(fault(rawdoc! { "$bit": { "a": 1 } }, doc! {}).0, "update.unknown_operator");
        assert_eq!(fault(rawdoc! { "$set": { "a": 1 }, "b": 1 }, doc! {}).0, "update.mixed");
        assert_eq!(fault(rawdoc! {}, doc! {}).0, "update.empty");
    }

    #[test]
    fn patterns_are_counted_over_the_whole_update() {
        let regex = |n| bson::Regex {
            pattern: format!("a{n}").try_into().expect("no NUL"),
            options: "".to_owned().try_into().expect("no NUL"),
        };
        let pulls = |count: usize| {
            let pulls: Document =
                (0..count).map(|n| (format!("f{n:03}"), bson::Bson::RegularExpression(regex(n)))).collect();
            RawDocumentBuf::try_from(&doc! { "$pull": pulls }).expect("bson")
        };
        assert_eq!(applied(&pulls(100), doc! {}), Ok(doc! {}));
        assert_eq!(applied(&pulls(101), doc! {}), Err(("query.patterns", "value".into())));
    }

    /// What is taken away leaves the order of the rest, and what is added comes last.
    #[test]
    fn many_fields_are_taken_away_at_once() {
        let before = || doc! { "a": 1, "b": { "x": 1, "y": 2, "z": 3 }, "c": 3, "d": 4, "e": 5, "f": [1, 2] };
        let in_order = |update: RawDocumentBuf| applied(&update, before()).map(|document| document.to_string());
        let unset =
            rawdoc! { "$unset": { "e": 1, "a": 1, "b.y": 1, "none": 1, "f.0": 1, "c.x": 1 }, "$set": { "n": 6 } };
        let after = doc! { "b": { "x": 1, "z": 3 }, "c": 3, "d": 4, "f": [null, 2], "n": 6 };
        assert_eq!(in_order(unset), Ok(after.to_string()));
        let renamed =
            rawdoc! { "$rename": { "b.x": "z", "a": "y", "c": "d", "none": "x", "b.none": "b.w", "f.5": "b.y" } };
        let after = doc! { "b": { "y": 2, "z": 3 }, "d": 3, "e": 5, "f": [1, 2], "y": 1, "z": 1 };
        assert_eq!(in_order(renamed), Ok(after.to_string()));
    }

    const OPERATORS: &[&str] =
        &["$set", "$unset", "$inc", "$mul", "$max", "$rename", "$push", "$pull", "$addToSet", "$pop", "$currentDate"];
    const PATHS: &[&str] = &["a", "a.0", "a.b", "b", "c.d"];
    const MODIFIERS: &[&str] = &["$each", "$position", "$slice", "$sort", "$in", "$type", "a"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_input_panics(given in nonsense(OPERATORS, PATHS, MODIFIERS), noise: Vec<u8>, place: prop::sample::Index, figure: i64) {
            let given = RawDocumentBuf::try_from(&given).expect("bson");
            let push = rawdoc! { "$push": { "b": { "$each": [1], "$position": figure, "$slice": figure, "$sort": { "x": 1 } } } };
            let mut damaged = push.clone().into_bytes();
            let place = place.index(damaged.len());
            damaged[place] ^= figure as u8;
            for bytes in [given.into_bytes(), push.into_bytes(), damaged, noise] {
                let Ok(given) = RawDocumentBuf::from_bytes(bytes) else { continue };
                let document = doc! { "a": [1, { "b": i64::MAX }], "b": [{ "x": 2 }, 3], "c": "x" };
                let _ = applied(&given, document.clone());
                let _ = Update::merge(&given).and_then(|patch| patch.apply(&mut document.clone(), Timestamp(0)));
            }
        }
    }
}
