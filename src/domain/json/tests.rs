//! Reading and writing Extended JSON: its specification, its bounds, and what it refuses.

use super::*;
use bson::{Bson, doc};
use proptest::prelude::*;

fn read(text: &str) -> bson::Document {
    parse(text.as_bytes(), Limits::default()).unwrap().try_into().unwrap()
}

fn relaxed(document: &RawDocument) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    write_relaxed(document, &mut text).map(|()| text)
}

fn fault(text: &[u8]) -> (bool, &'static str, String, String) {
    let (readable, fault) = match parse(text, Limits::default()).unwrap_err() {
        Error::Unreadable(fault) => (false, fault),
        Error::Invalid(fault) => (true, fault),
    };
    let figure = |name| fault.params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()).unwrap();
    (readable, fault.key, fault.path.clone(), format!("{}:{}", figure("line"), figure("column")))
}

fn assert_fault(text: impl AsRef<[u8]>, readable: bool, key: &str, path: &str, at: &str) {
    let text = text.as_ref();
    assert_eq!(
        fault(text),
        (readable, fault(text).1, path.to_owned(), at.to_owned()),
        "{}",
        String::from_utf8_lossy(text)
    );
    assert_eq!(fault(text).1, key);
}

#[test]
fn numbers_take_the_smallest_type_that_holds_them() {
    let document = read(r#"{"a":1,"b":2147483648,"c":-9223372036854775808,"d":1.0,"e":1e3,"f":-0,"g":2147483647}"#);
    let want = doc! {"a": 1, "b": 2147483648_i64, "c": i64::MIN, "d": 1.0, "e": 1000.0, "f": 0, "g": i32::MAX};
    assert_eq!(document, want);
}

#[test]
fn every_typed_value_is_read() {
    let document = read(
        r#" {"oid": {"$oid": "57e193d7a9cc81b4027498b5"}, "date": {"$date": "2012-12-24T12:15:30.501Z"},
        "zone": {"$date": "1970-01-01T01:00:00+01:00"}, "old": {"$date": {"$numberLong": "-284643869501"}},
        "dec": {"$numberDecimal": "1.50"}, "long": {"$numberLong": "5"}, "int": {"$numberInt": "-5"},
        "double": {"$numberDouble": "-Infinity"}, "bin": {"$binary": {"subType": "80", "base64": "AQID"}},
        "uuid": {"$uuid": "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"},
        "re": {"$regularExpression": {"pattern": "a\"b", "options": "xi"}},
        "ts": {"$timestamp": {"t": 4294967295, "i": 1}}, "min": {"$minKey": 1}, "max": {"$maxKey": 1},
        "escaped": {"\u0024oid": "57e193d7a9cc81b4027498b5"} }"#,
    );
    let hex = bson::oid::ObjectId::parse_str("57e193d7a9cc81b4027498b5").unwrap();
    assert_eq!(document.get("oid"), Some(&Bson::ObjectId(hex)));
    assert_eq!(document.get("escaped"), Some(&Bson::ObjectId(hex)));
    assert_eq!(document.get_datetime("date").unwrap().timestamp_millis(), 1356351330501);
    assert_eq!(document.get_datetime("zone").unwrap().timestamp_millis(), 0);
    assert_eq!(document.get_datetime("old").unwrap().timestamp_millis(), -284643869501);
    assert_eq!(document.get("dec").unwrap().to_string(), "1.50");
    assert_eq!(document.get("long"), Some(&Bson::Int64(5)));
    assert_eq!(document.get("int"), Some(&Bson::Int32(-5)));
    assert_eq!(document.get("double"), Some(&Bson::Double(f64::NEG_INFINITY)));
    assert!(
        matches!(document.get("bin"), Some(Bson::Binary(b)) if b.bytes == [1, 2, 3] && u8::from(b.subtype) == 0x80)
    );
    assert!(matches!(document.get("uuid"), Some(Bson::Binary(binary)) if binary.bytes.len() == 16));
    assert!(matches!(document.get("re"), Some(Bson::RegularExpression(re)) if re.options.as_str() == "ix"));
    assert_eq!(document.get_timestamp("ts").unwrap(), bson::Timestamp { time: u32::MAX, increment: 1 });
    assert_eq!((document.get("min"), document.get("max")), (Some(&Bson::MinKey), Some(&Bson::MaxKey)));
}

#[test]
fn operators_stay_fields() {
    assert_eq!(read(r#"{"a":{"$gt":1,"$regex":"^x"}}"#), doc! {"a": {"$gt": 1, "$regex": "^x"}});
}

#[test]
fn strings_and_their_escapes() {
    let document = read(r#"{"a":"é\u00e9\ud83d\ude00\n\"\\\/\u0000","":"empty name"}"#);
    assert_eq!(document.get_str("a").unwrap(), "éé😀\n\"\\/\0");
    assert_eq!(document.get_str("").unwrap(), "empty name");
}

#[test]
fn unreadable_texts_say_where() {
    assert_fault("{\n \"a\": 01}", false, "json.unexpected", "", "2:8");
    assert_fault("{\"a\": [1, {\"b\": nul}]}", false, "json.unexpected", "a.1.b", "1:20");
    assert_fault("{\"a\":1", false, "json.truncated", "", "1:7");
    assert_fault("", false, "json.truncated", "", "1:1");
    assert_fault("{\"a\":\"x", false, "json.truncated", "a", "1:8");
    assert_fault("{} {}", false, "json.trailing", "", "1:4");
    assert_fault("{\"a\":1,}", false, "json.unexpected", "", "1:8");
    assert_fault("{\"a\" 1}", false, "json.unexpected", "a", "1:6");
    assert_fault("{'a':1}", false, "json.unexpected", "", "1:2");
    assert_fault("{\"a\":+1}", false, "json.unexpected", "a", "1:6");
    assert_fault("{\"a\":.5}", false, "json.unexpected", "a", "1:6");
    assert_fault("{\"a\":1.}", false, "json.unexpected", "a", "1:8");
    assert_fault("{\"a\":1e}", false, "json.unexpected", "a", "1:8");
    assert_fault("{\"a\":NaN}", false, "json.unexpected", "a", "1:6");
    assert_fault("{\"é\":\"a\nb\"}", false, "json.control", "é", "1:8");
    assert_fault(r#"{"a":"\x"}"#, false, "json.escape", "a", "1:7");
    assert_fault(r#"{"a":"\u12g4"}"#, false, "json.escape", "a", "1:7");
    assert_fault(r#"{"a":"\ud800"}"#, false, "json.surrogate", "a", "1:7");
    assert_fault(r#"{"a":"\ud800\u0041"}"#, false, "json.surrogate", "a", "1:7");
    assert_fault(r#"{"a":"\udc00"}"#, false, "json.surrogate", "a", "1:7");
    assert_fault(b"{\"a\":\n\"\xff\"}", false, "json.utf8", "", "2:2");
    assert_fault(b"{\"a\":\"\xed\xa0\x80\"}", false, "json.utf8", "", "1:7");
}

#[test]
fn rules_say_where() {
    assert_fault("[1]", true, "json.document", "", "1:1");
    assert_fault("[1", false, "json.truncated", "", "1:3");
    assert_fault(r#"{"$oid":"57e193d7a9cc81b4027498b5"}"#, true, "json.document", "", "1:1");
    assert_fault(r#"{"a":9223372036854775808}"#, true, "json.integer", "a", "1:6");
    assert_fault(r#"{"a":1e999}"#, true, "json.double", "a", "1:6");
    assert_fault(r#"{"a\u0000b":1}"#, true, "json.name_nul", "", "1:2");
    assert_fault(r#"{"a":{"b":1,"c":2,"b":3}}"#, true, "json.duplicate", "a.b", "1:19");
    let many: String = (0..40).map(|n| format!("\"n{n}\":1,")).collect();
    assert_fault(format!("{{{many}\"n7\":2}}"), true, "json.duplicate", "n7", &format!("1:{}", many.len() + 2));
    for wrong in [
        r#"{"$oid":"57"}"#,
        r#"{"$oid":1}"#,
        r#"{"$numberLong":5}"#,
        r#"{"$numberInt":"2147483648"}"#,
        r#"{"$numberInt":"+5"}"#,
        r#"{"$numberDouble":"inf"}"#,
        r#"{"$numberDecimal":"x"}"#,
        r#"{"$date":"2012-13-01T00:00:00Z"}"#,
        r#"{"$date":1.5}"#,
        r#"{"$binary":{"base64":"AQID"}}"#,
        r#"{"$binary":{"base64":"AQI!","subType":"00"}}"#,
        r#"{"$binary":{"base64":"AQID","subType":"00","x":1}}"#,
        r#"{"$uuid":"73ffd26444b34c6990e8e7d1dfc035d4"}"#,
        r#"{"$regularExpression":{"pattern":"a\u0000","options":""}}"#,
        r#"{"$timestamp":{"t":-1,"i":1}}"#,
        r#"{"$minKey":2}"#,
        r#"{"$undefined":false}"#,
    ] {
        assert_fault(format!("{{\"a\":{wrong}}}"), true, "json.type", "a", "1:6");
    }
    assert_fault(r#"{"a":{"$oid":"57e193d7a9cc81b4027498b5","b":1}}"#, true, "json.type_mixed", "a", "1:40");
    assert_fault(r#"{"a":{"b":1,"$oid":"57e193d7a9cc81b4027498b5"}}"#, true, "json.type_mixed", "a", "1:13");
    assert_fault(r#"{"a":{"$dbPointer":{"$ref":"a","$id":1}}}"#, true, "json.type_unsupported", "a", "1:6");
}

#[test]
fn nesting_is_bounded_whatever_it_is_made_of() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{{\"a\":{}1{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    };
    assert!(parse(nested("[", "]", 100).as_bytes(), Limits::default()).is_ok());
    assert!(parse(nested("{\"a\":", "}", 100).as_bytes(), Limits::default()).is_ok());
    let at_the_floor = nested("[", "]", 100).replace('1', r#"{"$binary":{"base64":"","subType":"00"}}"#);
    assert!(parse(at_the_floor.as_bytes(), Limits::default()).is_ok());
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"$oid\":", "}"), ("{\"$code\":\"\",\"$scope\":", "}")] {
        for levels in [104, 10_000, 200_000] {
            let text = nested(open, close, levels);
            assert_eq!(fault(text.as_bytes()).1, "json.depth", "{open} {levels}");
            let endless = Limits { nesting: usize::MAX };
            assert!(levels < 200 || parse(text.as_bytes(), endless).is_err());
        }
    }
    assert_eq!(fault(nested("[", "]", 101).as_bytes()).1, "json.depth");
    assert_eq!(fault(nested("{\"a\":", "}", 101).as_bytes()).1, "json.depth");
}

#[test]
fn relaxed_is_what_clients_expect() {
    let document = bson::RawDocumentBuf::try_from(&doc! {
        "i": 1, "l": 5_000_000_000_i64, "d": 1.0, "small": 1e-7, "huge": 1e300, "nan": f64::NAN,
        "t": bson::DateTime::from_millis(1_356_351_330_501), "whole": bson::DateTime::from_millis(951_782_400_000),
        "before": bson::DateTime::from_millis(-1), "far": bson::DateTime::from_millis(253_402_300_800_000),
        "s": "é\"\\\n\u{1}", "a": [null, true], "b": Bson::Binary(bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2, 3] }),
    })
    .unwrap();
    let want = concat!(
        r#"{"i":1,"l":5000000000,"d":1.0,"small":1e-7,"huge":1e300,"nan":{"$numberDouble":"NaN"},"#,
        r#""t":{"$date":"2012-12-24T12:15:30.501Z"},"whole":{"$date":"2000-02-29T00:00:00Z"},"#,
        r#""before":{"$date":{"$numberLong":"-1"}},"far":{"$date":{"$numberLong":"253402300800000"}},"#,
        r#""s":"é\"\\\n\u0001","a":[null,true],"b":{"$binary":{"base64":"AQID","subType":"00"}}}"#
    );
    assert_eq!(String::from_utf8(relaxed(&document).unwrap()).unwrap(), want);
}

#[test]
fn dates_agree_with_another_implementation() {
    for day in (0..2_932_896).step_by(89) {
        let millis = day * 86_400_000 + 45_296_789;
        let text = relaxed(&bson::rawdoc! { "d": bson::DateTime::from_millis(millis) }).unwrap();
        let want = bson::DateTime::from_millis(millis).try_to_rfc3339_string().unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), format!(r#"{{"d":{{"$date":"{want}"}}}}"#));
    }
}

#[test]
fn ids_become_text_on_import() {
    let hex = "57e193d7a9cc81b4027498b5";
    let given = parse(format!(r#"{{"a":1,"_id":{{"$oid":"{hex}"}},"b":2}}"#).as_bytes(), Limits::default()).unwrap();
    let normal = bson::Document::try_from(normalise_id(given).unwrap()).unwrap();
    assert_eq!(normal, doc! {"a": 1, "_id": hex, "b": 2});
    let text = parse(br#"{"_id":"x"}"#, Limits::default()).unwrap();
    assert_eq!(normalise_id(text.clone()).unwrap(), text);
    let number = parse(br#"{"_id":5}"#, Limits::default()).unwrap();
    assert_eq!(normalise_id(number).unwrap_err().key, "json.id");
}

#[test]
fn lines_are_cut_whatever_the_chunks() {
    let text = b"{\"a\":1}\r\n\n  \n{\"b\":2}\n0123456789ABCDEF\nlast";
    for size in 1..text.len() {
        let mut splitter = Splitter::new(12);
        let mut lines = Vec::new();
        for chunk in text.chunks(size) {
            splitter.feed(chunk, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        let seen: Vec<_> = lines.iter().map(|line| (line.number, line.next, line.text.as_deref())).collect();
        let want: Vec<(u64, u64, Option<&[u8]>)> =
            vec![(1, 9, Some(b"{\"a\":1}")), (4, 21, Some(b"{\"b\":2}")), (5, 38, None), (6, 42, Some(b"last"))];
        assert_eq!(seen, want, "chunks of {size}");
    }
}

fn value() -> impl Strategy<Value = Bson> {
    let name = "[a-zé]{0,6}";
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        any::<f64>().prop_map(|number| Bson::Double(if number.is_nan() { f64::NAN } else { number })),
        any::<String>().prop_map(Bson::String),
        any::<bool>().prop_map(Bson::Boolean),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        Just(Bson::Undefined),
        any::<i64>().prop_map(|millis| Bson::DateTime(bson::DateTime::from_millis(millis))),
        (0..253_402_300_800_000_i64).prop_map(|millis| Bson::DateTime(bson::DateTime::from_millis(millis))),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(bytes.into())),
        (any::<u32>(), any::<u32>()).prop_map(|(time, increment)| Bson::Timestamp(bson::Timestamp { time, increment })),
        (any::<u8>(), any::<Vec<u8>>())
            .prop_map(|(subtype, bytes)| Bson::Binary(bson::Binary { subtype: subtype.into(), bytes })),
        (any::<i64>(), -6000_i32..6000)
            .prop_map(|(digits, power)| Bson::Decimal128(format!("{digits}E{power}").parse().unwrap())),
        any::<String>().prop_map(Bson::JavaScriptCode),
        any::<String>().prop_map(Bson::Symbol),
        "[^\0]{0,9}".prop_map(|pattern| {
            Bson::RegularExpression(bson::Regex {
                pattern: pattern.try_into().unwrap(),
                options: bson::raw::cstr!("im").into(),
            })
        }),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Bson::Array),
            prop::collection::vec((name, inner.clone()), 0..6)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            ("[a-z]{0,9}", prop::collection::vec((name, inner), 0..3)).prop_map(|(code, scope)| {
                Bson::JavaScriptCodeWithScope(bson::JavaScriptCodeWithScope {
                    code,
                    scope: scope.into_iter().collect(),
                })
            }),
        ]
    })
}

fn document() -> impl Strategy<Value = RawDocumentBuf> {
    prop::collection::vec(("[a-z]{0,8}", value()), 0..8).prop_map(|fields| {
        let document: bson::Document = fields.into_iter().collect();
        RawDocumentBuf::try_from(&document).unwrap()
    })
}

proptest! {
    #[test]
    fn canonical_comes_back_byte_for_byte(document in document()) {
        let text = canonical(&document).unwrap();
        let back = parse(&text, Limits::default()).unwrap();
        prop_assert_eq!(back.as_bytes(), document.as_bytes(), "{}", String::from_utf8_lossy(&text));
    }

    /// Types of numbers aside (a small int64 reads back as int32), relaxed says the same again.
    #[test]
    fn relaxed_reads_back_to_the_same_text(document in document()) {
        let text = relaxed(&document).unwrap();
        let back = parse(&text, Limits::default()).unwrap();
        prop_assert_eq!(String::from_utf8(relaxed(&back).unwrap()).unwrap(), String::from_utf8(text).unwrap());
    }

    #[test]
    fn other_json_readers_agree(document in document()) {
        let text = relaxed(&document).unwrap();
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn no_input_panics(text in any::<Vec<u8>>()) {
        let _ = parse(&text, Limits::default());
    }

    #[test]
    fn no_damaged_text_panics_and_all_that_reads_is_sound(document in document(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut text = relaxed(&document).unwrap();
        for (place, byte) in flips {
            let place = place.index(text.len());
            text[place] = byte;
        }
        if let Ok(read) = parse(&text, Limits::default()) {
            prop_assert!(bson::Document::try_from(read).is_ok());
        }
    }

    #[test]
    fn any_value_alone(value in value()) {
        let raw = bson::RawBson::try_from(value).unwrap();
        let mut text = Vec::new();
        write_value_canonical(raw.as_raw_bson_ref(), &mut text).unwrap();
        let document = bson::rawdoc! { "v": raw };
        prop_assert_eq!(canonical(&document).unwrap(), [br#"{"v":"#, &text[..], b"}"].concat());
    }
}

/// Values of every kind, sound and odd.
fn odd() -> impl Strategy<Value = Bson> {
    let name = prop_oneof![4 => "[a-c]", 1 => "\\$(oid|date|numberInt|binary)", 1 => "[^\\x00]{0,3}"];
    let leaf = prop_oneof![
        any::<f64>().prop_map(Bson::Double),
        any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
        ".{0,8}".prop_map(Bson::String),
        any::<i32>().prop_map(Bson::Int32),
        any::<i64>().prop_map(Bson::Int64),
        any::<bool>().prop_map(Bson::Boolean),
        Just(Bson::Null),
        any::<i64>().prop_map(|millis| Bson::DateTime(bson::DateTime::from_millis(millis))),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(bson::oid::ObjectId::from_bytes(bytes))),
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(subtype, bytes)| { Bson::Binary(bson::Binary { subtype: subtype.into(), bytes }) }),
        any::<[u8; 16]>().prop_map(|bytes| Bson::Decimal128(bson::Decimal128::from_bytes(bytes))),
        Just(Bson::Undefined),
        Just(Bson::MinKey),
        ".{0,4}".prop_map(Bson::Symbol),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        let fields = proptest::collection::vec((name.clone(), inner.clone()), 0..5);
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(Bson::Array),
            fields.prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// What counts as plain does come back byte for byte, whatever was done to its bytes.
    #[test]
    fn plain_documents_come_back(value in odd(), flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..3)) {
        let document = RawDocumentBuf::try_from(&doc! { "a": value }).unwrap();
        let mut bytes = document.as_bytes().to_vec();
        for (at, with) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= with;
        }
        let Ok(document) = RawDocumentBuf::from_bytes(bytes) else { return Ok(()) };
        if is_plain(&document, 100) {
            let text = canonical(&document).unwrap();
            let back = parse(&text, Limits::default()).unwrap();
            prop_assert_eq!(back.as_bytes(), document.as_bytes());
        }
    }
}

#[test]
fn what_is_plain_and_what_is_not() {
    let plain = |document: bson::Document| is_plain(&RawDocumentBuf::try_from(&document).unwrap(), 3);
    assert!(plain(doc! { "a": 1, "b": { "c": [1.5, "x", { "d": null }] }, "e": bson::DateTime::from_millis(-1) }));
    assert!(
        !plain(doc! { "a": { "$oid": 1 } }) && !plain(doc! { "a": f64::NAN }) && !plain(doc! { "a": Bson::MaxKey })
    );
    assert!(plain(doc! { "a": { "b": { "c": { "d": 1 } } } }));
    assert!(!plain(doc! { "a": { "b": { "c": { "d": [] } } } }), "too deep");
    let twice = |count: usize| {
        let mut document = RawDocumentBuf::new();
        for at in 0..count {
            document.append(bson::raw::CString::try_from(format!("f{at}")).unwrap(), 1);
        }
        assert!(is_plain(&document, 3));
        document.append(bson::raw::cstr!("f0"), 1);
        is_plain(&document, 3)
    };
    assert!(!twice(3) && !twice(40), "a name twice");
    // An array whose places are named otherwise.
    let mut bytes = RawDocumentBuf::try_from(&doc! { "a": [1, 2] }).unwrap().into_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'1').unwrap();
    bytes[at] = b'7';
    assert!(!is_plain(&RawDocumentBuf::from_bytes(bytes).unwrap(), 3));
}
