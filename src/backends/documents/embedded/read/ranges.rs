//! Ranges of keys in the tables: made, clipped by a cursor, walked either way.

use super::{
    super::tables::{self, Bytes},
    Run,
};
use crate::{
    domain::{
        cursor::Cursor,
        key,
        plan::{Range, Seek},
    },
    ports::Error,
};
use redb::ReadOnlyTable;
use std::ops::Bound;

pub(super) fn entry_id(key: &[u8], length: u16) -> Run<&str> {
    tables::entry_id(key, length).ok_or_else(|| Error::Corrupt("an index entry has no id".to_owned()).into())
}

/// The key of an entry without its id.
pub(super) fn values(key: &[u8], length: u16) -> &[u8] {
    key.get(..key.len().saturating_sub(length.into())).unwrap_or_default()
}

/// What the entries under a cursor's values begin with.
pub(super) fn group_key(prefix: &[u8], seek: &[Seek], cursor: &Cursor) -> Vec<u8> {
    let mut group = prefix.to_vec();
    group.push(key::VERSION);
    for part in seek {
        match part {
            Seek::Fixed(component) => group.extend_from_slice(component),
            Seek::Sort { place, turned } => {
                let start = group.len();
                group.extend_from_slice(cursor.components.get(*place).map_or(&[][..], Vec::as_slice));
                if *turned {
                    key::turn(group.get_mut(start..).unwrap_or_default());
                }
            }
        }
    }
    group
}

pub(super) fn directed(ranges: &[Range], reverse: bool) -> Box<dyn Iterator<Item = &Range> + '_> {
    if reverse { Box::new(ranges.iter().rev()) } else { Box::new(ranges.iter()) }
}

/// A range of keys under a number.
pub(super) fn bounds(prefix: &[u8; 4], from: &[u8], to: Option<&[u8]>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let to = match to {
        Some(to) => Bound::Excluded([prefix, to].concat()),
        None => end_of(prefix),
    };
    (Bound::Included([&prefix[..], from].concat()), to)
}

/// Before everything that comes after what begins with these bytes.
pub(super) fn end_of(prefix: &[u8]) -> Bound<Vec<u8>> {
    key::after(prefix).map_or(Bound::Unbounded, Bound::Excluded)
}

/// Leaves what comes after a place, in the direction of the walk.
pub(super) fn clip(from: &mut Bound<Vec<u8>>, to: &mut Bound<Vec<u8>>, place: &[u8], reverse: bool) {
    let bytes = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Included(bytes) | Bound::Excluded(bytes) => Some(bytes.clone()),
        Bound::Unbounded => None,
    };
    if reverse {
        if bytes(to).is_none_or(|to| *place < *to) {
            *to = Bound::Excluded(place.to_vec());
        }
    } else if bytes(from).is_none_or(|from| *place >= *from) {
        *from = Bound::Excluded(place.to_vec());
    }
}

pub(super) fn within(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    (match from {
        Bound::Included(from) => key >= from.as_slice(),
        Bound::Excluded(from) => key > from.as_slice(),
        Bound::Unbounded => true,
    }) && match to {
        Bound::Included(to) => key <= to.as_slice(),
        Bound::Excluded(to) => key < to.as_slice(),
        Bound::Unbounded => true,
    }
}

pub(super) type Row<V> =
    std::result::Result<(redb::AccessGuard<'static, Bytes>, redb::AccessGuard<'static, V>), redb::StorageError>;

/// The rows between two bounds, either way; none where they have crossed.
pub(super) fn span<V: redb::Value + 'static>(
    table: &ReadOnlyTable<Bytes, V>,
    from: &Bound<Vec<u8>>,
    to: &Bound<Vec<u8>>,
    reverse: bool,
) -> Run<Box<dyn Iterator<Item = Row<V>>>> {
    let crossed = match (from, to) {
        (Bound::Included(a), Bound::Excluded(b)) => a >= b,
        (Bound::Excluded(a), Bound::Excluded(b) | Bound::Included(b)) => a >= b,
        _ => false,
    };
    if crossed {
        return Ok(Box::new(std::iter::empty()));
    }
    let from = from.as_ref().map(Vec::as_slice);
    let to = to.as_ref().map(Vec::as_slice);
    let rows = table.range::<&[u8]>((from, to))?;
    Ok(if reverse { Box::new(rows.rev()) } else { Box::new(rows) })
}
