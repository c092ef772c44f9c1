//! How a query is to be answered: over which index, between which keys, and whether in its order. A plan may read
//! too much, never too little: what it reads is checked against the whole filter, unless the keys say it all.

use super::{
    collection::Index,
    filter::{Filter, Test},
    key::{self, Interval},
    path::{Path, position},
    sort::{Direction, Sort},
    value::Class,
};
use bson::{RawBson, RawBsonRef};

/// Key ranges a plan may have: products of `$in` stop growing here.
const MAX_RANGES: usize = 2000;

/// An index as the planner needs it.
pub struct Candidate<'a> {
    pub index: &'a Index,
    /// A bit for each field under which some document has an array.
    pub multikey: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub source: Source,
    pub order: Order,
    /// Whatever the ranges hold answers the filter.
    pub exact: bool,
}

/// Keys from the first (inclusive) to the second (exclusive; `None` to the end), in ascending order.
pub type Range = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The documents by their ids; `bounded` unless every id is in.
    Ids { ranges: Vec<Range>, bounded: bool },
    /// Entries of the candidate at this place.
    Index {
        place: usize,
        ranges: Vec<Range>,
        /// A document may stand in the ranges more than once.
        repeats: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// The keys come in the order asked for.
    Served {
        /// From the last to the first.
        reverse: bool,
        /// Where the sort's fields are in the keys.
        seek: Vec<Seek>,
    },
    /// Gathered and sorted.
    Sorted,
    /// Gathered and sorted by the distance from the filter's `$near`.
    Nearest,
}

/// A component of the index's key, for a cursor to find its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seek {
    /// The same for every row.
    Fixed(Vec<u8>),
    /// The cursor's component at this place, with its bits turned if the index runs the other way.
    Sort { place: usize, turned: bool },
}

/// The sort up to `_id`, and the direction of ids among equals.
pub fn split(sort: &Sort) -> (&[(Path, Direction)], Direction) {
    match sort.0.iter().position(|(path, _)| is_id(path)) {
        Some(place) => {
            (sort.0.get(..place).unwrap_or_default(), sort.0.get(place).map_or(Direction::Ascending, |key| key.1))
        }
        None => (&sort.0, Direction::Ascending),
    }
}

fn is_id(path: &Path) -> bool {
    matches!(path.parts(), [only] if only == "_id")
}

/// Chooses: ids named by the filter; else most fields fixed, then the order served, then a range (for an order by id
/// the other way round); else all documents.
pub fn plan(filter: &Filter, sort: &Sort, candidates: &[Candidate<'_>]) -> Plan {
    let id = ["_id".to_owned()];
    let keys = candidates.iter().flat_map(|candidate| &candidate.index.keys);
    let wanted: Vec<&[String]> = keys.map(|(path, _)| path.parts()).chain([&id[..]]).collect();
    let mut conditions = Conditions { wanted: &wanted, all: Vec::new(), complete: true };
    conditions.gather(filter, &[]);
    let (keys, tie) = split(sort);
    let nearest = keys.is_empty() && sort.0.is_empty() && filter.near().is_some();
    let ids = by_id(&conditions, keys, tie, nearest);
    if matches!(&ids.source, Source::Ids { bounded: true, .. }) {
        return ids;
    }
    let mut best: Option<(usize, Plan)> = None;
    for (place, candidate) in candidates.iter().enumerate() {
        let Some((score, plan)) = by_index(place, candidate, &conditions, keys, tie, nearest) else { continue };
        if best.as_ref().is_none_or(|(other, _)| score > *other) {
            best = Some((score, plan));
        }
    }
    best.map_or(ids, |(_, plan)| plan)
}

fn by_id(conditions: &Conditions, keys: &[(Path, Direction)], tie: Direction, nearest: bool) -> Plan {
    let mut intervals = vec![Interval::all()];
    let (mut used, mut exact) = (0, true);
    for condition in conditions.all.iter().filter(|condition| condition.path == ["_id"]) {
        intervals = intersect(&intervals, &condition.intervals);
        used += 1;
        exact &= condition.exact;
    }
    let ranges = intervals.iter().filter_map(Interval::ids).collect();
    let order = match nearest {
        true => Order::Nearest,
        false if keys.is_empty() => Order::Served { reverse: tie == Direction::Descending, seek: Vec::new() },
        false => Order::Sorted,
    };
    let exact = exact && conditions.complete && used == conditions.all.len();
    Plan { source: Source::Ids { ranges, bounded: used > 0 }, order, exact }
}

fn by_index(
    place: usize,
    candidate: &Candidate<'_>,
    conditions: &Conditions,
    keys: &[(Path, Direction)],
    tie: Direction,
    nearest: bool,
) -> Option<(usize, Plan)> {
    let multikey = |field: usize| candidate.multikey >> field.min(63) & 1 == 1;
    let fields = &candidate.index.keys;
    let mut prefixes = vec![vec![key::VERSION]];
    // The component every row has in a field, if one.
    let mut fixed: Vec<Option<Vec<u8>>> = vec![None; fields.len()];
    let (mut points, mut ranged, mut used, mut exact) = (0, false, 0, true);
    let mut ranges = None;
    let mut roots: Vec<&String> = Vec::new();
    let mut repeats = false;
    for (field, (path, direction)) in fields.iter().enumerate() {
        let many = multikey(field);
        let root = path.parts().first();
        // Two fields of one array may hold in different elements; positions name elements the keys do not.
        let shared = roots.iter().any(|other| Some(*other) == root);
        if many && (shared || path.parts().iter().any(|part| position(part).is_some())) {
            break;
        }
        let Some(bounds) = conditions.bounds(path, many) else { break };
        if many {
            roots.extend(root);
        }
        let count = prefixes.len() * bounds.intervals.len();
        if prefixes.len() > 1 && count > MAX_RANGES {
            break;
        }
        used += bounds.used;
        exact &= bounds.exact && !many;
        let all_points = bounds.intervals.iter().all(Interval::is_point);
        if all_points && count <= MAX_RANGES {
            if let ([only], Some(fixed)) = (bounds.intervals.as_slice(), fixed.get_mut(field)) {
                *fixed = only.point_component(*direction);
            }
            repeats |= many && bounds.intervals.len() != 1;
            prefixes = product(&prefixes, &bounds.intervals, *direction);
            points += 1;
            continue;
        }
        repeats |= many;
        ranged = true;
        let mut all: Vec<Range> = Vec::with_capacity(count);
        for prefix in &prefixes {
            all.extend(bounds.intervals.iter().map(|interval| interval.bounds(prefix, *direction)));
        }
        ranges = Some(all);
        break;
    }
    let pinned = points + usize::from(ranged);
    repeats |= (pinned..fields.len()).any(multikey);
    let mut ranges =
        ranges.unwrap_or_else(|| prefixes.into_iter().map(|prefix| (prefix.clone(), key::after(&prefix))).collect());
    ranges.sort();
    let served = if nearest { None } else { serve(fields, candidate.multikey, &fixed, keys, tie) };
    // Ids are put in order cheaply, from keys alone; for any other order documents must be read.
    let (ordered, narrowed) = if keys.is_empty() { (1, 2) } else { (2, 1) };
    let score = points * 4 + usize::from(served.is_some()) * ordered + usize::from(ranged) * narrowed;
    if points == 0 && !ranged && (served.is_none() || keys.is_empty()) {
        return None;
    }
    let order = match served {
        Some(order) if !repeats => order,
        _ if nearest => Order::Nearest,
        _ => Order::Sorted,
    };
    let exact = exact && conditions.complete && used == conditions.all.len();
    Some((score, Plan { source: Source::Index { place, ranges, repeats }, order, exact }))
}

/// Whether the keys of an index, but for its fixed fields, are the sort's, all one way or all the other.
fn serve(
    fields: &[(Path, Direction)],
    multikey: u64,
    fixed: &[Option<Vec<u8>>],
    keys: &[(Path, Direction)],
    tie: Direction,
) -> Option<Order> {
    let mut rest = keys.iter().enumerate().peekable();
    let mut reverse = None;
    let mut seek = Vec::with_capacity(fields.len());
    for (field, (path, direction)) in fields.iter().enumerate() {
        match (rest.peek(), fixed.get(field)) {
            (Some((_, (wanted, _))), _) if wanted == path => {
                let (place, (_, wanted)) = rest.next()?;
                let turned = wanted != direction;
                if *reverse.get_or_insert(turned) != turned || multikey >> field.min(63) & 1 == 1 {
                    return None;
                }
                seek.push(Seek::Sort { place, turned });
            }
            (_, Some(Some(component))) => seek.push(Seek::Fixed(component.clone())),
            _ => return None,
        }
    }
    if rest.next().is_some() {
        return None;
    }
    let reverse = reverse.unwrap_or(tie == Direction::Descending);
    // Forward, equals come by ascending id; the other way round they are put right group by group.
    (reverse || tie == Direction::Ascending).then_some(Order::Served { reverse, seek })
}

fn product(prefixes: &[Vec<u8>], points: &[Interval], direction: Direction) -> Vec<Vec<u8>> {
    let components: Vec<Vec<u8>> = points.iter().filter_map(|point| point.point_component(direction)).collect();
    prefixes
        .iter()
        .flat_map(|prefix| components.iter().map(move |component| [&prefix[..], component].concat()))
        .collect()
}

/// What the filter demands of single paths: each holds of every document that answers.
struct Conditions<'w> {
    /// The paths to gather for: a filter may name many, and long ones.
    wanted: &'w [&'w [String]],
    all: Vec<Condition<'w>>,
    /// They are the whole filter.
    complete: bool,
}

struct Condition<'w> {
    path: &'w [String],
    /// Apart from one another and in order.
    intervals: Vec<Interval>,
    /// Being in an interval answers the condition.
    exact: bool,
}

struct Bounds {
    intervals: Vec<Interval>,
    exact: bool,
    used: usize,
}

impl Conditions<'_> {
    fn gather(&mut self, filter: &Filter, within: &[&String]) {
        match filter {
            Filter::And(parts) => parts.iter().for_each(|part| self.gather(part, within)),
            Filter::Or(parts) if parts.len() == 1 => parts.iter().for_each(|part| self.gather(part, within)),
            Filter::Field(path, test) => {
                let path: Vec<&String> = within.iter().copied().chain(path.parts()).collect();
                self.test(&path, test);
            }
            Filter::Or(_) | Filter::Nor(_) => self.complete = false,
        }
    }

    fn test(&mut self, path: &[&String], test: &Test) {
        match test {
            Test::All(tests) => tests.iter().for_each(|test| self.test(path, test)),
            // Of an element everything the filter says holds along the longer path; more than that is left out.
            Test::Element(filter) => {
                self.complete = false;
                let mut inner = Conditions { wanted: self.wanted, all: Vec::new(), complete: true };
                inner.gather(filter, path);
                let named = |condition: &Condition<'_>| {
                    condition.path.iter().skip(path.len()).all(|part| position(part).is_none())
                };
                self.all.extend(inner.all.into_iter().filter(named));
            }
            _ => {
                let wanted = self.wanted.iter().find(|wanted| wanted.iter().eq(path.iter().copied()));
                match wanted.and_then(|path| Some((path, intervals(test)?))) {
                    Some((path, (intervals, exact))) => self.all.push(Condition { path, intervals, exact }),
                    None => self.complete = false,
                }
            }
        }
    }

    /// What all conditions on a path leave; over arrays, where each may hold in another element, only the tightest.
    fn bounds(&self, path: &Path, multikey: bool) -> Option<Bounds> {
        let on_path = self.all.iter().filter(|condition| condition.path == path.parts());
        if multikey {
            let tightest = on_path.min_by_key(|condition| {
                (!condition.intervals.iter().all(Interval::is_point), condition.intervals.len())
            })?;
            return Some(Bounds { intervals: tightest.intervals.clone(), exact: tightest.exact, used: 1 });
        }
        let mut bounds: Option<Bounds> = None;
        for condition in on_path {
            let next = match bounds {
                None => Bounds { intervals: condition.intervals.clone(), exact: condition.exact, used: 1 },
                Some(bounds) => Bounds {
                    intervals: intersect(&bounds.intervals, &condition.intervals),
                    exact: bounds.exact && condition.exact,
                    used: bounds.used + 1,
                },
            };
            bounds = Some(next);
        }
        bounds
    }
}

/// Where the values of an answer lie, and whether all there are answers. `None`: anywhere.
fn intervals(test: &Test) -> Option<(Vec<Interval>, bool)> {
    match test {
        Test::Eq(value) => equal(value).map(|(interval, exact)| (vec![interval], exact)),
        Test::Gt(value) => compared(value, |value| Interval::above(value, false)),
        Test::Gte(value) => compared(value, |value| Interval::above(value, true)),
        Test::Lt(value) => compared(value, |value| Interval::below(value, false)),
        Test::Lte(value) => compared(value, |value| Interval::below(value, true)),
        Test::In { values, patterns } => {
            let mut all = Vec::with_capacity(values.len() + patterns.len());
            let mut exact = patterns.is_empty();
            for value in values {
                let (interval, whole) = equal(value)?;
                exact &= whole;
                all.push(interval);
            }
            for pattern in patterns {
                all.push(Interval::prefix(&pattern.prefix()?));
                all.push(Interval::class(Class::Regex));
            }
            Some((union(all), exact))
        }
        Test::Regex(pattern) => {
            Some((vec![Interval::prefix(&pattern.prefix()?), Interval::class(Class::Regex)], false))
        }
        Test::Exists(false) => Some((vec![Interval::nothing()], false)),
        Test::ElementValue(tests) => {
            let mut all: Option<Vec<Interval>> = None;
            // Elements of an element have no keys of their own.
            let keyed = tests.iter().filter(|test| !matches!(test, Test::ElementValue(_)));
            for (some, _) in keyed.filter_map(intervals) {
                all = Some(match all {
                    None => some,
                    Some(all) => intersect(&all, &some),
                });
            }
            all.map(|all| (all, false))
        }
        _ => None,
    }
}

fn equal(value: &RawBson) -> Option<(Interval, bool)> {
    let value = value.as_raw_bson_ref();
    match Class::of(value) {
        Class::Null => Some((Interval::nothing(), false)),
        // An array equals a whole field, which has no entry; the others compare with every class.
        Class::Array | Class::Undefined | Class::MinKey | Class::MaxKey => None,
        _ => Some((Interval::point(value), true)),
    }
}

fn compared(value: &RawBson, interval: impl Fn(RawBsonRef<'_>) -> Interval) -> Option<(Vec<Interval>, bool)> {
    let (equal, exact) = equal(value)?;
    let value = value.as_raw_bson_ref();
    let special = !exact || key::is_nan(value);
    Some(if special { (vec![equal], false) } else { (vec![interval(value)], true) })
}

/// Of intervals apart and in order, as [`union`] leaves them: each is met once.
fn intersect(a: &[Interval], b: &[Interval]) -> Vec<Interval> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut shared = Vec::new();
    while let (Some(one), Some(other)) = (a.peek(), b.peek()) {
        shared.push(one.intersect(other));
        if one.to < other.to {
            a.next()
        } else {
            b.next()
        };
    }
    shared.retain(|interval| !interval.is_empty());
    shared
}

/// In order, overlaps joined.
fn union(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by(|a, b| a.from.cmp(&b.from).then_with(|| a.to.cmp(&b.to)));
    let mut apart: Vec<Interval> = Vec::with_capacity(intervals.len());
    for next in intervals {
        match apart.last_mut() {
            Some(last) if next.from < last.to => *last = last.clone().join(next),
            _ => apart.push(next),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawDocumentBuf, rawdoc};

    fn index(keys: &str) -> Index {
        Index::read(RawBsonRef::String(keys)).expect("an index")
    }

    fn planned(filter: RawDocumentBuf, sort: &str, indexes: &[(&str, u64)]) -> Plan {
        let indexes: Vec<(Index, u64)> = indexes.iter().map(|(keys, multikey)| (index(keys), *multikey)).collect();
        let candidates: Vec<Candidate<'_>> =
            indexes.iter().map(|(index, multikey)| Candidate { index, multikey: *multikey }).collect();
        plan(&Filter::parse(&filter).expect("a filter"), &Sort::parse_text(sort).expect("a sort"), &candidates)
    }

    /// The place of the index, its ranges, whether the order is served, whether the keys say it all.
    fn told(plan: &Plan) -> (Option<usize>, usize, bool, bool) {
        let (place, ranges) = match &plan.source {
            Source::Ids { ranges, .. } => (None, ranges),
            Source::Index { place, ranges, .. } => (Some(*place), ranges),
        };
        (place, ranges.len(), matches!(plan.order, Order::Served { .. }), plan.exact)
    }

    #[test]
    fn the_index_that_fixes_most_and_serves_the_order() {
        let indexes = [("country", 0), ("population", 0), ("country,-population", 0)];
        let of = |filter, sort| told(&planned(filter, sort, &indexes));
        assert_eq!(of(rawdoc! { "country": "CD" }, "-population"), (Some(2), 1, true, true));
        assert_eq!(of(rawdoc! { "country": "CD" }, "population"), (Some(2), 1, true, true));
        assert_eq!(of(rawdoc! { "country": "CD", "population": { "$gt": 5 } }, ""), (Some(2), 1, false, true));
        assert_eq!(of(rawdoc! { "country": "CD" }, ""), (Some(0), 1, true, true));
        assert_eq!(of(rawdoc! { "country": { "$in": ["CD", "RW"] } }, "country,-population"), (Some(2), 2, true, true));
        assert_eq!(of(rawdoc! { "country": { "$in": ["CD", "RW"] } }, "-population"), (Some(0), 2, false, true));
        assert_eq!(of(rawdoc! { "country": { "$gt": "CD" } }, "-population"), (Some(1), 1, true, false));
        assert_eq!(of(rawdoc! {}, "population"), (Some(1), 1, true, true));
        assert_eq!(of(rawdoc! { "country": "CD", "name": "x" }, ""), (Some(0), 1, true, false));
        assert_eq!(of(rawdoc! { "name": "x" }, ""), (None, 1, true, false));
        assert_eq!(of(rawdoc! { "_id": { "$in": ["a", "b", 5] } }, ""), (None, 2, true, true));
        // Nothing can answer.
        assert_eq!(of(rawdoc! { "country": "CD", "$and": [{ "country": "RW" }] }, ""), (Some(0), 0, false, true));
    }

    #[test]
    fn arrays_take_one_bound_at_a_time() {
        let between = rawdoc! { "a": { "$gt": 1, "$lt": 5 } };
        let ranges = |multikey| match planned(between.clone(), "", &[("a", multikey)]).source {
            Source::Index { ranges, repeats, .. } => (ranges, repeats),
            Source::Ids { .. } => panic!("scanned"),
        };
        assert_ne!(ranges(0), ranges(1));
        assert!(ranges(1).1 && !ranges(0).1);
        // In one element both bounds hold.
        let element = planned(rawdoc! { "a": { "$elemMatch": { "$gt": 1, "$lt": 5 } } }, "", &[("a", 1)]).source;
        assert!(matches!(element, Source::Index { ranges: element, .. } if element == ranges(0).0));
        assert!(!told(&planned(rawdoc! { "a": 5 }, "", &[("a", 1)])).3);
        // Two fields of one array may hold in different elements.
        let both = rawdoc! { "d.x": 1, "d.y": 2 };
        let narrow = planned(both.clone(), "", &[("d.x,d.y", 0)]).source;
        assert_ne!(planned(both, "", &[("d.x,d.y", 3)]).source, narrow);
        // An order over arrays is not the keys'.
        assert!(!told(&planned(rawdoc! {}, "a", &[("a", 1)])).2);
        assert!(told(&planned(rawdoc! { "t": 1 }, "a", &[("t,a", 1)])).2);
    }

    #[test]
    fn a_value_stays_one_beside_a_bound_that_touches_it() {
        let date = |millis| RawBson::from(bson::DateTime::from_millis(millis));
        let stamp = |increment| RawBson::from(bson::Timestamp { time: 1, increment });
        let id = |last| RawBson::from(bson::oid::ObjectId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, last]));
        let binary = |last| RawBson::from(bson::Binary { subtype: 0.into(), bytes: vec![1, last] });
        let [no, yes] = [false, true].map(RawBson::from);
        let mut given = vec![("$gt", no.clone(), yes.clone()), ("$lt", yes, no)];
        for last in [5, 255] {
            let next = [date(last - 1), date(last), date(last + 1)];
            given.extend([("$gt", next[0].clone(), next[1].clone()), ("$lt", next[2].clone(), next[1].clone())]);
        }
        for of in [&stamp as &dyn Fn(u32) -> RawBson, &|n| id(n as u8), &|n| binary(n as u8)] {
            given.extend([("$gt", of(4), of(5)), ("$lt", of(6), of(5)), ("$gt", of(254), of(255))]);
        }
        for (operator, bound, value) in given {
            for keys in ["a", "-a", "a,b"] {
                let of = |filter| planned(filter, "", &[(keys, 0)]);
                let mut bounded = rawdoc! {};
                bounded.append(bson::raw::CString::try_from(operator).expect("no NUL"), bound.clone());
                let mut first = rawdoc! { "$eq": value.clone() };
                first.append(bson::raw::CString::try_from(operator).expect("no NUL"), bound.clone());
                bounded.append(bson::cstr!("$eq"), value.clone());
                let alone = of(rawdoc! { "a": value.clone() });
                assert_eq!(told(&alone).1, 1);
                assert_eq!(of(rawdoc! { "a": first }), alone, "{value:?} then {operator} {bound:?} over {keys}");
                assert_eq!(of(rawdoc! { "a": bounded }), alone, "{operator} {bound:?} then {value:?} over {keys}");
            }
        }
    }

    #[test]
    fn lists_meet_where_both_have_a_value() {
        let of = |filter| planned(filter, "", &[("a", 0)]);
        let both =
            of(rawdoc! { "a": { "$in": ["x", 3, 1, 2, true] }, "$and": [{ "a": { "$in": [4, 3.0, "y", "x", 2] } }] });
        assert_eq!(both, of(rawdoc! { "a": { "$in": [2, 3, "x"] } }));
        let above = rawdoc! { "a": { "$in": ["w", "xa", "xb", 7], "$gt": "w", "$regex": "^x" } };
        assert_eq!(of(above).source, of(rawdoc! { "a": { "$in": ["xa", "xb"] } }).source);
    }

    #[test]
    fn the_beginning_of_a_string_is_a_range_not_a_value() {
        let begins = planned(rawdoc! { "a": { "$regex": "^x" }, "b": 1 }, "b", &[("a,b", 0)]);
        assert_eq!(told(&begins), (Some(0), 2, false, false));
    }
}
