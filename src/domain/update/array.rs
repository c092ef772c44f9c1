//! What `$push`, `$addToSet`, `$pull` and `$pop` do to an array.

use super::{Order, Pull, Push, WRAPPED};
use crate::{
    base::fault::Fault,
    domain::{key, path::Path, sort::Direction, value},
};
use bson::{Bson, RawBson, RawBsonRef, RawDocumentBuf};
use std::{cmp::Ordering, collections::BTreeSet};

/// A value in the form values are compared in.
pub(super) fn raw(value: &Bson) -> Result<RawBson, Fault> {
    value
        .clone()
        .try_into()
        .map_err(|error: bson::error::Error| Fault::new("documents.malformed").with("reason", error))
}

pub(super) fn push(array: &mut Vec<Bson>, push: &Push) -> Result<(), Fault> {
    let place = match push.position {
        None => array.len(),
        Some(place) => from_either_end(place, array.len()),
    };
    array.splice(place..place, push.values.iter().cloned());
    if let Some(order) = &push.order {
        sort(array, order)?;
    }
    match push.slice {
        Some(keep) if keep >= 0 => array.truncate(usize::try_from(keep).unwrap_or(usize::MAX)),
        Some(keep) => drop(array.drain(..from_either_end(keep, array.len()))),
        None => {}
    }
    Ok(())
}

/// A place counted from the start, or from the end when negative, within the array.
fn from_either_end(place: i64, length: usize) -> usize {
    let count = usize::try_from(place.unsigned_abs()).unwrap_or(usize::MAX);
    if place < 0 { length.saturating_sub(count) } else { count.min(length) }
}

fn sort(array: &mut Vec<Bson>, order: &Order) -> Result<(), Fault> {
    let mut keyed = Vec::with_capacity(array.len());
    for element in array.drain(..) {
        let key: Vec<RawBson> = match order {
            Order::Whole(_) => vec![raw(&element)?],
            Order::Fields(fields) => {
                fields.iter().map(|(path, _)| raw(at(&element, path))).collect::<Result<_, _>>()?
            }
        };
        keyed.push((key, element));
    }
    let directions: Vec<Direction> = match order {
        Order::Whole(direction) => vec![*direction],
        Order::Fields(fields) => fields.iter().map(|(_, direction)| *direction).collect(),
    };
    keyed.sort_by(|(a, _), (b, _)| {
        let by_field = directions.iter().zip(a.iter().zip(b)).map(|(direction, (a, b))| {
            let order = value::order(a.as_raw_bson_ref(), b.as_raw_bson_ref());
            if *direction == Direction::Ascending { order } else { order.reverse() }
        });
        by_field.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    array.extend(keyed.into_iter().map(|(_, element)| element));
    Ok(())
}

/// What a path leads to in an element, null if nothing; positions count in arrays.
fn at<'a>(element: &'a Bson, path: &Path) -> &'a Bson {
    let mut current = element;
    for part in path.parts() {
        let next = match current {
            Bson::Document(document) => document.get(part),
            Bson::Array(array) => crate::domain::path::position(part).and_then(|place| array.get(place)),
            _ => None,
        };
        let Some(next) = next else { return &Bson::Null };
        current = next;
    }
    current
}

/// Members equal to one already there are left out, numbers by value.
pub(super) fn add_to_set(array: &mut Vec<Bson>, members: &[Bson]) -> Result<(), Fault> {
    let component = |value: &Bson| Ok(key::component(raw(value)?.as_raw_bson_ref()));
    let mut known = array.iter().map(component).collect::<Result<BTreeSet<_>, Fault>>()?;
    for member in members {
        if known.insert(component(member)?) {
            array.push(member.clone());
        }
    }
    Ok(())
}

pub(super) fn pull(array: &mut Vec<Bson>, pull: &Pull) -> Result<(), Fault> {
    let doomed = array.iter().map(|element| is_pulled(element, pull)).collect::<Result<Vec<_>, _>>()?;
    let mut doomed = doomed.into_iter();
    array.retain(|_| !doomed.next().unwrap_or(false));
    Ok(())
}

fn is_pulled(element: &Bson, pull: &Pull) -> Result<bool, Fault> {
    let element = raw(element)?;
    Ok(match (pull, element.as_raw_bson_ref()) {
        (Pull::Equal(wanted), element) => value::order(wanted.as_raw_bson_ref(), element).is_eq(),
        (Pull::Documents(filter), RawBsonRef::Document(document)) => filter.matches(document),
        (Pull::Documents(_), _) => false,
        (Pull::Values(filter), element) => {
            let mut wrapped = RawDocumentBuf::new();
            wrapped.append(WRAPPED, element);
            filter.matches(&wrapped)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{bson, doc};

    #[test]
    fn a_set_takes_what_it_does_not_hold() {
        let decimal = |text: &str| Bson::Decimal128(text.parse().expect("a decimal"));
        let mut set = vec![bson!(2), bson!(2), bson!("a"), bson!(null)];
        let members = [
            bson!(2.0),
            decimal("2.00"),
            bson!(3_i64),
            bson!(3),
            Bson::Undefined,
            bson!(null),
            Bson::Symbol("a".into()),
            bson!({ "x": 1 }),
            bson!({ "x": 1.0 }),
            bson!({ "y": 1 }),
            bson!([2]),
            bson!([2_i64]),
            bson!("A"),
        ];
        add_to_set(&mut set, &members).expect("sound");
        let kept = [
            bson!(2),
            bson!(2),
            bson!("a"),
            bson!(null),
            bson!(3_i64),
            Bson::Undefined,
            bson!({ "x": 1 }),
            bson!({ "y": 1 }),
            bson!([2]),
            bson!("A"),
        ];
        assert_eq!(set, kept);
        let mut many = vec![bson!(7)];
        let descending: Vec<Bson> = (0..1000).rev().map(Bson::Int32).collect();
        add_to_set(&mut many, &descending).expect("sound");
        assert_eq!((many.len(), &many[0], &many[1], &many[999]), (1000, &bson!(7), &bson!(999), &bson!(0)));
    }

    #[test]
    fn what_is_pulled_is_equal_by_value() {
        let after = |wanted: bson::RawBson| {
            let update = bson::rawdoc! { "$pull": { "a": wanted } };
            let mut document = doc! { "a": [1, { "x": 1 }, [1, 2], 1.0, "1", null] };
            let update = super::super::Update::parse(&update).expect("an update");
            update.apply(&mut document, crate::base::clock::Timestamp(0)).expect("applied");
            document.remove("a")
        };
        assert_eq!(after(RawBson::Int64(1)), Some(bson!([{ "x": 1 }, [1, 2], "1", null])));
        assert_eq!(after(bson::rawbson!([1.0, 2])), Some(bson!([1, { "x": 1 }, 1.0, "1", null])));
        assert_eq!(after(RawBson::Null), Some(bson!([1, { "x": 1 }, [1, 2], 1.0, "1"])));
    }
}
