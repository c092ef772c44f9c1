//! From a document to the filter tree. What is not understood is refused by name and place, never ignored.

use super::{
    Filter, MAX_CONDITIONS, Near, Pattern, Point, Polygon, Shape, Test, geo, matches::NUMBERS, pattern::MAX_PATTERNS,
};
use crate::{
    base::fault::Fault,
    domain::{
        limits,
        path::{self, Path},
        value::{self, Class},
    },
};
use bson::{RawArray, RawBson, RawBsonRef, RawDocument, spec::ElementType};
use std::{cell::Cell, fmt};

impl Filter {
    /// Reads a filter document. At most 100 levels deep, so that nothing that walks the tree can overflow.
    pub fn parse(document: &RawDocument) -> Result<Self, Fault> {
        Self::parse_beside(document, &Cell::new(0))
    }

    /// Reads one filter of several, whose patterns so far are counted.
    pub fn parse_beside(document: &RawDocument, patterns: &Cell<usize>) -> Result<Self, Fault> {
        limits::nesting(document)?;
        let filter = conditions(document, &Place { outer: None, name: "", patterns })?;
        if filter.size() > MAX_CONDITIONS {
            return Err(Fault::new("query.conditions").with("limit", MAX_CONDITIONS));
        }
        match nears(&filter) {
            0 => Ok(filter),
            1 if filter.near().is_some() => Ok(filter),
            _ => Err(Fault::new("query.near_alone")),
        }
    }
}

/// Where the reader stands, for faults (its text is made for those alone), and the patterns there are so far.
struct Place<'a> {
    outer: Option<&'a Place<'a>>,
    name: &'a str,
    patterns: &'a Cell<usize>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer.filter(|outer| outer.outer.is_some()) {
            write!(f, "{outer}.")?;
        }
        f.write_str(self.name)
    }
}

/// Every `$near`, wherever it stands.
fn nears(filter: &Filter) -> usize {
    fn within(test: &Test) -> usize {
        match test {
            Test::Near(_) => 1,
            Test::Not(test) => within(test),
            Test::All(tests) | Test::ElementValue(tests) => tests.iter().map(within).sum(),
            Test::Element(filter) => nears(filter),
            _ => 0,
        }
    }
    match filter {
        Filter::And(parts) | Filter::Or(parts) | Filter::Nor(parts) => parts.iter().map(nears).sum(),
        Filter::Field(_, test) => within(test),
    }
}

fn conditions(document: &RawDocument, at: &Place<'_>) -> Result<Filter, Fault> {
    let mut parts = Vec::new();
    for (name, value) in entries(document) {
        match name {
            "$and" => parts.push(Filter::And(branches(name, value, at)?)),
            "$or" => parts.push(Filter::Or(branches(name, value, at)?)),
            "$nor" => parts.push(Filter::Nor(branches(name, value, at)?)),
            _ if name.starts_with('$') => return Err(unknown(name, at)),
            _ => {
                let path = Path::parse(name)?;
                let place = Place { outer: Some(at), name, patterns: at.patterns };
                for test in field_tests(value, &place)? {
                    parts.push(Filter::Field(path.clone(), test));
                }
            }
        }
    }
    Ok(match parts.len() {
        1 => parts.remove(0),
        _ => Filter::And(parts),
    })
}

fn branches(operator: &str, value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Vec<Filter>, Fault> {
    let array = expect_array(operator, value, at)?;
    let branches = path::elements(array)
        .map(|element| conditions(expect_document(operator, element, at)?, at))
        .collect::<Result<Vec<_>, _>>()?;
    if branches.is_empty() { Err(about("query.empty", operator, at)) } else { Ok(branches) }
}

/// What stands beside a field: a literal, a regular expression, or operators.
fn field_tests(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Vec<Test>, Fault> {
    match value {
        RawBsonRef::Document(document) if is_operators(document) => operators(document, at),
        RawBsonRef::RegularExpression(regex) => {
            Ok(vec![Test::Regex(compiled(regex.pattern.as_str(), regex.options.as_str(), at)?)])
        }
        literal => Ok(vec![Test::Eq(owned("$eq", literal, at)?)]),
    }
}

/// A document whose first name starts with `$`, unless it is a reference to another document.
fn is_operators(document: &RawDocument) -> bool {
    let reference = path::field(document, "$ref").is_some() && path::field(document, "$id").is_some();
    !reference && entries(document).next().is_some_and(|(name, _)| name.starts_with('$'))
}

fn operators(document: &RawDocument, at: &Place<'_>) -> Result<Vec<Test>, Fault> {
    let mut tests = Vec::new();
    for (name, value) in entries(document) {
        let test = match name {
            "$eq" => Test::Eq(owned(name, value, at)?),
            "$ne" => Test::Not(Box::new(Test::Eq(comparable(name, value, at)?))),
            "$gt" => Test::Gt(comparable(name, value, at)?),
            "$gte" => Test::Gte(comparable(name, value, at)?),
            "$lt" => Test::Lt(comparable(name, value, at)?),
            "$lte" => Test::Lte(comparable(name, value, at)?),
            "$in" => list(name, value, at)?,
            "$nin" => Test::Not(Box::new(list(name, value, at)?)),
            "$exists" => Test::Exists(is_true(value)),
            "$type" => Test::Type(types(value, at)?),
            "$size" => Test::Size(size(value, at)?),
            "$all" => all(value, at)?,
            "$elemMatch" => element(value, at)?,
            "$not" => Test::Not(Box::new(negated(value, at)?)),
            "$regex" => Test::Regex(pattern(value, path::field(document, "$options"), at)?),
            "$options" if path::field(document, "$regex").is_some() => continue,
            "$options" => return Err(about("query.options_alone", name, at)),
            "$near" => Test::Near(near(value, at)?),
            "$geoWithin" => Test::Within(shape(value, at)?),
            _ if name.starts_with('$') => return Err(unknown(name, at)),
            _ => return Err(Fault::new("query.mixed").at(at.to_string()).with("name", name)),
        };
        tests.push(test);
    }
    Ok(tests)
}

fn negated(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Test, Fault> {
    match value {
        RawBsonRef::RegularExpression(regex) => {
            Ok(Test::Regex(compiled(regex.pattern.as_str(), regex.options.as_str(), at)?))
        }
        RawBsonRef::Document(document) => {
            let mut tests = operators(document, at)?;
            match tests.len() {
                0 => Err(about("query.empty", "$not", at)),
                1 => Ok(tests.remove(0)),
                _ => Ok(Test::All(tests)),
            }
        }
        _ => Err(about("query.expects_operators", "$not", at)),
    }
}

fn list(operator: &str, value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Test, Fault> {
    let (mut values, mut patterns) = (Vec::new(), Vec::new());
    for element in path::elements(expect_array(operator, value, at)?) {
        match element {
            RawBsonRef::RegularExpression(regex) => {
                patterns.push(compiled(regex.pattern.as_str(), regex.options.as_str(), at)?);
            }
            RawBsonRef::Document(document) if is_operators(document) => {
                return Err(about("query.expects_literals", operator, at));
            }
            literal => values.push(owned(operator, literal, at)?),
        }
    }
    values.sort_by(|a, b| value::order(a.as_raw_bson_ref(), b.as_raw_bson_ref()));
    values.dedup_by(|a, b| value::order(a.as_raw_bson_ref(), b.as_raw_bson_ref()).is_eq());
    Ok(Test::In { values, patterns })
}

fn all(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Test, Fault> {
    let mut tests = Vec::new();
    let mut kinds = (false, false);
    for wanted in path::elements(expect_array("$all", value, at)?) {
        tests.push(match wanted {
            RawBsonRef::Document(document) if is_operators(document) => {
                kinds.0 = true;
                match entries(document).next() {
                    Some(("$elemMatch", inner)) if entries(document).count() == 1 => element(inner, at)?,
                    _ => return Err(about("query.expects_literals", "$all", at)),
                }
            }
            RawBsonRef::RegularExpression(regex) => {
                kinds.1 = true;
                Test::Regex(compiled(regex.pattern.as_str(), regex.options.as_str(), at)?)
            }
            literal => {
                kinds.1 = true;
                Test::Eq(owned("$all", literal, at)?)
            }
        });
    }
    if kinds == (true, true) {
        return Err(about("query.expects_literals", "$all", at));
    }
    Ok(match tests.len() {
        // Nothing holds all of nothing.
        0 => Test::In { values: Vec::new(), patterns: Vec::new() },
        1 => tests.remove(0),
        _ => Test::All(tests),
    })
}

fn element(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Test, Fault> {
    let document = expect_document("$elemMatch", value, at)?;
    let logical = |name| matches!(name, "$and" | "$or" | "$nor");
    match entries(document).next() {
        Some((name, _)) if is_operators(document) && !logical(name) => Ok(Test::ElementValue(operators(document, at)?)),
        _ => Ok(Test::Element(Box::new(conditions(document, at)?))),
    }
}

fn size(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<i64, Fault> {
    value::whole(value)
        .filter(|size| (0..=i64::from(i32::MAX)).contains(size))
        .ok_or_else(|| about("query.expects_size", "$size", at))
}

/// As MongoDB reads a flag: everything but false, zero and null.
fn is_true(value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::Boolean(flag) => flag,
        RawBsonRef::Null | RawBsonRef::Undefined => false,
        number if Class::of(number) == Class::Number => !value::order(number, RawBsonRef::Int32(0)).is_eq(),
        _ => true,
    }
}

fn types(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Vec<ElementType>, Fault> {
    let mut types = Vec::new();
    match value {
        RawBsonRef::Array(array) => {
            for name in path::elements(array) {
                types.extend(type_named(name, at)?);
            }
        }
        single => types.extend(type_named(single, at)?),
    }
    if types.is_empty() { Err(about("query.empty", "$type", at)) } else { Ok(types) }
}

/// BSON's names and numbers of types, and `number` for the four of them.
fn type_named(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Vec<ElementType>, Fault> {
    const NAMES: [(&str, i64, ElementType); 21] = [
        ("double", 1, ElementType::Double),
        ("string", 2, ElementType::String),
        ("object", 3, ElementType::EmbeddedDocument),
        ("array", 4, ElementType::Array),
        ("binData", 5, ElementType::Binary),
        ("undefined", 6, ElementType::Undefined),
        ("objectId", 7, ElementType::ObjectId),
        ("bool", 8, ElementType::Boolean),
        ("date", 9, ElementType::DateTime),
        ("null", 10, ElementType::Null),
        ("regex", 11, ElementType::RegularExpression),
        ("dbPointer", 12, ElementType::DbPointer),
        ("javascript", 13, ElementType::JavaScriptCode),
        ("symbol", 14, ElementType::Symbol),
        ("javascriptWithScope", 15, ElementType::JavaScriptCodeWithScope),
        ("int", 16, ElementType::Int32),
        ("timestamp", 17, ElementType::Timestamp),
        ("long", 18, ElementType::Int64),
        ("decimal", 19, ElementType::Decimal128),
        ("minKey", -1, ElementType::MinKey),
        ("maxKey", 127, ElementType::MaxKey),
    ];
    let (shown, found) = match value {
        RawBsonRef::String("number") => return Ok(NUMBERS.to_vec()),
        RawBsonRef::String(name) => (name.to_owned(), NAMES.iter().find(|(known, ..)| *known == name)),
        other => match value::whole(other) {
            Some(code) => (code.to_string(), NAMES.iter().find(|(_, known, _)| *known == code)),
            None => (String::from("?"), None),
        },
    };
    let (_, _, kind) = found.ok_or_else(|| Fault::new("query.type").at(at.to_string()).with("type", shown))?;
    Ok(vec![*kind])
}

fn compiled(source: &str, options: &str, at: &Place<'_>) -> Result<Pattern, Fault> {
    at.patterns.set(at.patterns.get() + 1);
    if at.patterns.get() > MAX_PATTERNS {
        return Err(Fault::new("query.patterns").at(at.to_string()).with("limit", MAX_PATTERNS));
    }
    Pattern::parse(source, options, &at.to_string())
}

fn pattern(value: RawBsonRef<'_>, options: Option<RawBsonRef<'_>>, at: &Place<'_>) -> Result<Pattern, Fault> {
    let options = match options {
        None => None,
        Some(RawBsonRef::String(options)) => Some(options),
        Some(_) => return Err(about("query.expects_text", "$options", at)),
    };
    match value {
        RawBsonRef::String(source) => compiled(source, options.unwrap_or_default(), at),
        RawBsonRef::RegularExpression(regex) => match (options, regex.options.as_str()) {
            (Some(_), own) if !own.is_empty() => Err(about("query.options_twice", "$options", at)),
            (given, own) => compiled(regex.pattern.as_str(), given.unwrap_or(own), at),
        },
        _ => Err(about("query.expects_text", "$regex", at)),
    }
}

/// `{$geometry: {type: "Point", coordinates: [longitude, latitude]}, $minDistance: metres, $maxDistance: metres}`.
fn near(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Near, Fault> {
    let fault = || about("query.geo_near", "$near", at);
    let (mut point, mut min, mut max) = (None, None, None);
    for (name, value) in entries(value.as_document().ok_or_else(fault)?) {
        let metres = || geo::number(value).filter(|metres| *metres >= 0.0).ok_or_else(fault);
        match name {
            "$geometry" => point = Point::read(value),
            "$minDistance" => min = Some(metres()?),
            "$maxDistance" => max = Some(metres()?),
            _ => return Err(unknown(name, at)),
        }
    }
    Ok(Near { point: point.ok_or_else(fault)?, min, max })
}

fn shape(value: RawBsonRef<'_>, at: &Place<'_>) -> Result<Shape, Fault> {
    let fault = || about("query.geo_within", "$geoWithin", at);
    let mut given = entries(expect_document("$geoWithin", value, at)?);
    let (Some((name, value)), None) = (given.next(), given.next()) else { return Err(fault()) };
    match name {
        "$geometry" => polygons(value.as_document().ok_or_else(fault)?, at),
        "$centerSphere" | "$box" => {
            let mut pair = path::elements(expect_array(name, value, at)?);
            let (Some(first), Some(second), None) = (pair.next(), pair.next(), pair.next()) else {
                return Err(fault());
            };
            let first = Point::read_flat(first).ok_or_else(fault)?;
            if name == "$centerSphere" {
                let radius = geo::number(second).filter(|radius| *radius >= 0.0).ok_or_else(fault)?;
                let centre = Some(first).filter(Point::is_on_earth).ok_or_else(fault)?;
                return Ok(Shape::Cap { centre, radius });
            }
            let second = Point::read_flat(second).ok_or_else(fault)?;
            Ok(Shape::Box {
                low: Point {
                    longitude: first.longitude.min(second.longitude),
                    latitude: first.latitude.min(second.latitude),
                },
                high: Point {
                    longitude: first.longitude.max(second.longitude),
                    latitude: first.latitude.max(second.latitude),
                },
            })
        }
        _ => Err(unknown(name, at)),
    }
}

/// A GeoJSON polygon or several.
fn polygons(geometry: &RawDocument, at: &Place<'_>) -> Result<Shape, Fault> {
    let at = at.to_string();
    let fault = || Fault::new("query.geo_polygon").at(&at);
    let kind = path::field(geometry, "type").and_then(RawBsonRef::as_str);
    let coordinates = path::field(geometry, "coordinates").and_then(RawBsonRef::as_array).ok_or_else(fault)?;
    let polygon = |rings: &RawArray| {
        let rings: Option<Vec<Vec<Point>>> = path::elements(rings)
            .map(|ring| path::elements(ring.as_array()?).map(Point::read_flat).collect())
            .collect();
        Polygon::new(&rings.ok_or_else(fault)?, &at)
    };
    let polygons = match kind {
        Some("Polygon") => vec![polygon(coordinates)?],
        Some("MultiPolygon") => path::elements(coordinates)
            .map(|rings| polygon(rings.as_array().ok_or_else(fault)?))
            .collect::<Result<Vec<_>, _>>()?,
        _ => return Err(fault()),
    };
    if polygons.is_empty() { Err(fault()) } else { Ok(Shape::Polygons(polygons)) }
}

/// Names and values; the bytes were checked before.
fn entries(document: &RawDocument) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
    document.iter().map_while(Result::ok).map(|(name, value)| (name.as_str(), value))
}

fn expect_array<'a>(operator: &str, value: RawBsonRef<'a>, at: &Place<'_>) -> Result<&'a RawArray, Fault> {
    value.as_array().ok_or_else(|| about("query.expects_array", operator, at))
}

fn expect_document<'a>(operator: &str, value: RawBsonRef<'a>, at: &Place<'_>) -> Result<&'a RawDocument, Fault> {
    value.as_document().ok_or_else(|| about("query.expects_document", operator, at))
}

fn owned(operator: &str, value: RawBsonRef<'_>, at: &Place<'_>) -> Result<RawBson, Fault> {
    if value == RawBsonRef::Undefined { Err(about("query.undefined", operator, at)) } else { Ok(value.into()) }
}

fn comparable(operator: &str, value: RawBsonRef<'_>, at: &Place<'_>) -> Result<RawBson, Fault> {
    if matches!(value, RawBsonRef::RegularExpression(_)) {
        return Err(about("query.no_pattern", operator, at));
    }
    owned(operator, value, at)
}

fn unknown(operator: &str, at: &Place<'_>) -> Fault {
    about("query.unknown_operator", operator, at)
}

fn about(key: &'static str, operator: &str, at: &Place<'_>) -> Fault {
    // An operator that stands at the top is its own place.
    let place = if at.outer.is_none() { operator.to_owned() } else { at.to_string() };
    Fault::new(key).at(place).with("operator", operator)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bson::{Bson, Document, RawDocumentBuf, bson, rawdoc};
    use proptest::prelude::*;

    type Names = &'static [&'static str];

    /// Names of three levels and values under them, put together without regard for sense.
    pub(crate) fn nonsense(first: Names, second: Names, third: Names) -> impl Strategy<Value = Document> {
        let regex = bson::Regex { pattern: bson::cstr!("^a").into(), options: bson::cstr!("i").into() };
        let scalars = vec![
            bson!(1),
            bson!(-1),
            bson!(0.5),
            bson!(f64::NAN),
            bson!(i64::MIN),
            bson!("a"),
            bson!("("),
            bson!("Polygon"),
            bson!([]),
            bson!([1, 2]),
            bson!([[0, 0], 1]),
            bson!({}),
            Bson::Null,
            Bson::Undefined,
            Bson::RegularExpression(regex),
            bson!({ "type": "Point", "coordinates": [1, 2] }),
        ];
        let leaf = prop::sample::select(scalars).boxed();
        let within = |names: Names, inner: BoxedStrategy<Bson>| {
            let entry = (prop::sample::select(names), inner.clone());
            let fields = prop::collection::vec(entry, 1..3).prop_map(|all| {
                Bson::Document(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            });
            let fields = fields.boxed();
            prop_oneof![4 => fields.clone(), 1 => inner.clone(), 1 => prop::collection::vec(fields, 0..3).prop_map(Bson::Array)]
                .boxed()
        };
        let value = within(second, within(third, leaf));
        prop::collection::vec((prop::sample::select(first), value), 1..3)
            .prop_map(|all| all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    const TOP: Names = &["a", "a.0", "b", "$and", "$nor"];
    const TESTS: Names = &[
        "a",
        "$not",
        "$eq",
        "$gte",
        "$in",
        "$all",
        "$elemMatch",
        "$size",
        "$type",
        "$exists",
        "$regex",
        "$options",
        "$near",
        "$geoWithin",
    ];
    const INNER: Names =
        &["a", "$gt", "$elemMatch", "$geometry", "$box", "$centerSphere", "$maxDistance", "type", "coordinates"];

    fn fault(filter: &RawDocument) -> (&'static str, String) {
        let fault = Filter::parse(filter).expect_err("a fault");
        (fault.key, fault.path)
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name_and_place() {
        assert_eq!(fault(&rawdoc! { "$where": "true" }), ("query.unknown_operator", "$where".into()));
        assert_eq!(fault(&rawdoc! { "$expr": {} }), ("query.unknown_operator", "$expr".into()));
        assert_eq!(fault(&rawdoc! { "a.b": { "$mod": [2, 0] } }), ("query.unknown_operator", "a.b".into()));
        assert_eq!(fault(&rawdoc! { "$or": [{ "a": { "$text": 1 } }] }), ("query.unknown_operator", "a".into()));
        let nested = rawdoc! { "a": { "$elemMatch": { "b": { "$function": 1 } } } };
        assert_eq!(fault(&nested), ("query.unknown_operator", "a.b".into()));
        assert_eq!(fault(&rawdoc! { "$and": [] }), ("query.empty", "$and".into()));
        assert_eq!(fault(&rawdoc! { "a..b": 1 }), ("query.path", "a..b".into()));
        let shown = Filter::parse(&rawdoc! { "a": { "$mod": 1 } }).expect_err("a fault").to_string();
        assert!(shown.starts_with("a: the operator \"$mod\""), "{shown}");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| (0..depth).fold(rawdoc! { "a": 1 }, |inner, _| rawdoc! { "$nor": [inner] });
        // Each level is a document and an array.
        let deepest = Filter::parse(&nested(49)).expect("a filter");
        assert!(!deepest.matches(&rawdoc! { "a": 1 }));
        assert_eq!(fault(&nested(50)).0, "documents.nesting");
        assert_eq!(fault(&nested(5_000)).0, "documents.nesting");
    }

    fn patterns(count: usize) -> bson::RawArrayBuf {
        let pattern = |n: usize| bson::Regex {
            pattern: format!("a{n}").try_into().expect("no NUL"),
            options: "".to_owned().try_into().expect("no NUL"),
        };
        let mut patterns = bson::RawArrayBuf::new();
        (0..count).for_each(|n| patterns.push(RawBson::from(pattern(n))));
        patterns
    }

    #[test]
    fn conditions_are_counted_and_a_list_is_one() {
        let any = |count: i32| {
            let mut branches = bson::RawArrayBuf::new();
            (0..count).for_each(|n| branches.push(rawdoc! { "a": n }));
            rawdoc! { "$or": branches }
        };
        assert_eq!(Filter::parse(&any(999)).map(|filter| filter.size()).ok(), Some(1000));
        assert_eq!(fault(&any(1000)).0, "query.conditions");
        let list = bson::RawArrayBuf::from_iter(0..5000);
        assert_eq!(Filter::parse(&rawdoc! { "a": { "$in": list } }).map(|filter| filter.size()).ok(), Some(1));
        let pull = |count| crate::domain::update::Update::parse(&rawdoc! { "$pull": { "list": any(count) } });
        assert!(pull(49).is_ok());
        assert_eq!(pull(50).map(|_| ()).map_err(|fault| fault.key), Err("query.conditions"));
    }

    #[test]
    fn patterns_are_counted_over_the_whole_filter() {
        let over = |filter: RawDocumentBuf| assert_eq!(fault(&filter), ("query.patterns", "b.c".into()), "{filter:?}");
        let most = patterns(MAX_PATTERNS);
        let last = patterns(1);
        let last = last.get(0).expect("an array").expect("a pattern");
        assert!(Filter::parse(&rawdoc! { "a": { "$in": most.clone() } }).is_ok());
        over(rawdoc! { "b.c": { "$in": patterns(MAX_PATTERNS + 1) } });
        over(rawdoc! { "b.c": { "$all": patterns(MAX_PATTERNS + 1) } });
        over(rawdoc! { "a": { "$nin": most.clone() }, "b.c": last });
        over(rawdoc! { "a": { "$in": most.clone() }, "b": { "$elemMatch": { "c": { "$not": last } } } });
        over(rawdoc! { "$or": [{ "a": { "$in": most } }, { "b.c": { "$regex": "x" } }] });
        // What is compared with is no pattern.
        assert!(Filter::parse(&rawdoc! { "a": { "b": patterns(MAX_PATTERNS + 1) } }).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_input_panics(filter in nonsense(TOP, TESTS, INNER), noise: Vec<u8>) {
            let filter = RawDocumentBuf::try_from(&filter).expect("bson");
            for document in [Ok(filter), RawDocumentBuf::from_bytes(noise)].into_iter().flatten() {
                if let Ok(filter) = Filter::parse(&document) {
                    filter.matches(&document);
                    filter.matches(&rawdoc! { "a": [2, { "0": 3 }, [1]], "b": ["A", { "type": "Point", "coordinates": [1, 2] }] });
                }
            }
        }
    }
}
