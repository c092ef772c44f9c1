//! Sealing over random documents: opened, it is what it was; filters by equality answer as on the plain one.

use super::*;
use bson::{Bson, Document, bson, rawdoc};
use proptest::prelude::*;
use std::collections::HashSet;

/// Turns bytes around under a key that is the subject's name; those of the lost are gone.
#[derive(Default)]
struct Toy {
    lost: HashSet<String>,
}

impl Cipher for Toy {
    fn seal(&self, subject: &str, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let turned: Vec<u8> = plain.iter().map(|byte| !byte).collect();
        Ok([framed(&[subject]), (bound.len() as u64).to_be_bytes().to_vec(), bound.to_vec(), turned].concat())
    }

    fn open(&self, subject: &str, bound: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let start = [framed(&[subject]), (bound.len() as u64).to_be_bytes().to_vec(), bound.to_vec()].concat();
        match sealed.strip_prefix(start.as_slice()) {
            _ if self.lost.contains(subject) => Ok(None),
            Some(turned) => Ok(Some(turned.iter().map(|byte| !byte).collect())),
            None if !sealed.starts_with(&framed(&[subject])) => Ok(None),
            None => Err(Fault::new("sealing.damaged")),
        }
    }

    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        use sha2::{Digest, Sha256};
        let mut cut = [0; 16];
        cut.iter_mut().zip(Sha256::digest(bytes)).for_each(|(byte, hashed)| *byte = hashed);
        cut
    }
}

fn sealing(definition: &RawDocument) -> Sealing {
    let definition = stored(Definition::read("c", definition).unwrap()).unwrap();
    Sealing::of(&definition)
}

fn usual() -> Sealing {
    sealing(&rawdoc! {
        "classes": { "a": "restricted", "b.c": "confidential", "d": "internal" },
        "indexes": ["a", "b.c,d"],
        "subject": "who",
    })
}

fn value() -> BoxedStrategy<Bson> {
    let scalars = vec![
        bson!(1),
        bson!(1.0),
        bson!(2_i64),
        bson!("x"),
        bson!(""),
        Bson::Null,
        bson!(true),
        bson!([]),
        bson!([1, "x"]),
        bson!([[1]]),
        bson!({}),
        bson!({ "c": 1 }),
        Bson::Binary(Binary { subtype: SUBTYPE, bytes: vec![1, 2] }),
        Bson::Undefined,
    ];
    let scalar = prop::sample::select(scalars).boxed();
    let documents = prop::collection::vec((prop::sample::select(vec!["c", "e"]), scalar.clone()), 0..3);
    let document = documents
        .prop_map(|all| Bson::Document(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()));
    let document = document.boxed();
    let elements = prop_oneof![document.clone(), scalar.clone()];
    prop_oneof![3 => scalar, 3 => document, 2 => prop::collection::vec(elements, 0..3).prop_map(Bson::Array)].boxed()
}

fn document() -> impl Strategy<Value = RawDocumentBuf> {
    let fields = prop::collection::vec((prop::sample::select(vec!["a", "b", "d"]), value()), 0..4);
    fields.prop_map(|fields| {
        let mut document = bson::doc! { "_id": "x" };
        document.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        document.insert("who", "p");
        RawDocumentBuf::try_from(&document).unwrap()
    })
}

/// Equality on one of the fields, alone or joined.
fn filter() -> impl Strategy<Value = RawDocumentBuf> {
    let test = (prop::sample::select(vec!["a", "b.c", "d"]), 0..5, value(), value());
    let test = test.prop_map(|(path, way, one, other)| {
        let one = if one == Bson::Undefined { Bson::Null } else { one };
        let other = if other == Bson::Undefined { Bson::Null } else { other };
        let asked = match way {
            0 => bson!({ "$eq": one }),
            1 => bson!({ "$ne": one }),
            2 => bson!({ "$in": [one, other] }),
            3 => bson!({ "$nin": [one, other] }),
            _ => bson!({ "$all": [one, other] }),
        };
        bson::doc! { path: asked }
    });
    (prop::collection::vec(test, 1..3), prop::sample::select(vec!["$and", "$or", "$nor"])).prop_map(|(tests, join)| {
        let tests: Vec<Bson> = tests.into_iter().map(Bson::Document).collect();
        RawDocumentBuf::try_from(&bson::doc! { join: tests }).unwrap()
    })
}

/// Nothing of a sealed field is left: what stands there is a sealed value.
fn covered(value: &Bson, parts: &[&str]) -> bool {
    match (value, parts) {
        (Bson::Binary(binary), []) => binary.subtype == SUBTYPE,
        (_, []) => false,
        (Bson::Document(document), [first, rest @ ..]) => document.get(first).is_none_or(|inner| covered(inner, rest)),
        (Bson::Array(array), parts) => array.iter().all(|element| match element {
            Bson::Document(_) | Bson::Array(_) => covered(element, parts),
            _ => true,
        }),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn what_is_sealed_opens_as_it_was(document in document()) {
        let (sealing, toy) = (usual(), Toy::default());
        let stored = sealing.seal(&document, None, &toy).unwrap();
        prop_assert_eq!(sealing.open(&stored, &toy).unwrap(), document.clone());
        let whole = Bson::Document(Document::try_from(&*stored).unwrap());
        prop_assert!(covered(&whole, &["a"]) && covered(&whole, &["b", "c"]), "{:?}", whole);
        // Unchanged, it is the same to the byte.
        prop_assert_eq!(sealing.seal(&document, Some(&stored), &toy).unwrap(), stored.clone());
        let stripped = sealing.strip(&stored, &toy).unwrap();
        prop_assert!(!sealing.is_sealed(&stripped));
        prop_assert_eq!(sealing.is_sealed(&stored), sealing.concerns(&document));
    }

    #[test]
    fn equality_answers_as_on_what_is_plain(documents in prop::collection::vec(document(), 1..6), filter in filter()) {
        let (sealing, toy) = (usual(), Toy::default());
        let filter = Filter::parse(&filter).unwrap();
        let translated = sealing.translate(filter.clone(), &toy).unwrap();
        for document in documents {
            let stored = sealing.seal(&document, None, &toy).unwrap();
            prop_assert_eq!(translated.matches(&stored), filter.matches(&document), "{:?}", document);
        }
    }
}

#[test]
fn what_cannot_be_opened_is_absent_and_kept() {
    let sealing = sealing(&rawdoc! { "classes": { "a": "restricted", "b.c": "restricted" }, "indexes": ["a"] });
    let mut toy = Toy::default();
    let plain = rawdoc! { "_id": "x", "a": 1, "b": { "c": 2, "e": 3 }, "_owner": "p" };
    let stored = sealing.seal(&plain, None, &toy).unwrap();
    toy.lost.insert("p".to_owned());
    let opened = sealing.open(&stored, &toy).unwrap();
    assert_eq!(opened, rawdoc! { "_id": "x", "b": { "e": 3 }, "_owner": "p" });
    let again = sealing.seal(&opened, Some(&stored), &toy).unwrap();
    toy.lost.clear();
    let back = Document::try_from(&*sealing.open(&again, &toy).unwrap()).unwrap();
    assert_eq!(back, Document::try_from(&*plain).unwrap());
    assert_eq!(
        at(&again, &["_hashes".to_owned(), "a".to_owned()]),
        at(&stored, &["_hashes".to_owned(), "a".to_owned()])
    );
    // Written anew, it is replaced.
    toy.lost.insert("p".to_owned());
    let anew = rawdoc! { "_id": "x", "a": 9, "b": 4, "_owner": "q" };
    assert_eq!(sealing.seal(&anew, Some(&stored), &toy).unwrap_err().key, "sealing.unreadable", "b is in the way");
    let anew = rawdoc! { "_id": "x", "a": 9, "_owner": "q" };
    let sealed = sealing.seal(&anew, Some(&stored), &toy).unwrap();
    assert_eq!(sealing.open(&sealed, &toy).unwrap().get_i32("a").unwrap(), 9);
    // In a list it cannot be put back.
    let listed = rawdoc! { "_id": "x", "b": [{ "c": 1 }], "_owner": "p" };
    let listed = sealing.seal(&listed, None, &Toy::default()).unwrap();
    let opened = sealing.open(&listed, &toy).unwrap();
    assert_eq!(sealing.seal(&opened, Some(&listed), &toy).unwrap_err().key, "sealing.unreadable");
}

#[test]
fn under_a_unique_index_nothing_is_like_nothing_else() {
    let sealing =
        sealing(&rawdoc! { "classes": { "a": "restricted" }, "indexes": [{ "keys": { "a": 1 }, "unique": true }] });
    let toy = Toy::default();
    let hash = |id: &str, value: Option<i32>| {
        let mut document = rawdoc! { "_id": id, "_owner": "p" };
        if let Some(value) = value {
            document.append(bson::cstr!("a"), value);
        }
        let stored = sealing.seal(&document, None, &toy).unwrap();
        at(&stored, &["_hashes".to_owned(), "a".to_owned()]).map(RawBson::from)
    };
    assert_eq!(hash("x", Some(1)), hash("y", Some(1)));
    assert_ne!(hash("x", None), hash("y", None));
    assert!(hash("x", None).is_some());
    let null = Filter::parse(&rawdoc! { "a": null }).unwrap();
    assert_eq!(sealing.translate(null, &toy).unwrap_err().key, "sealing.null");
}

#[test]
fn all_else_is_refused_by_name() {
    let (sealing, toy) = (usual(), Toy::default());
    for filter in [
        rawdoc! { "a": { "$gt": 1 } },
        rawdoc! { "a": { "$exists": true } },
        rawdoc! { "a.0": 1 },
        rawdoc! { "a.x": 1 },
        rawdoc! { "b": { "c": 1 } },
        rawdoc! { "b.0.c": 1 },
        rawdoc! { "b": { "$elemMatch": { "c": 1 } } },
        rawdoc! { "b": { "$not": { "$elemMatch": { "c": 1 } } } },
        rawdoc! { "a": { "$elemMatch": { "$eq": 1 } } },
        rawdoc! { "a": { "$in": [bson::Regex { pattern: bson::cstr!("x").into(), options: bson::cstr!("").into() }] } },
        rawdoc! { "$nor": [{ "d": 1 }, { "_hashes.a": 1 }] },
        rawdoc! { "_hashes": null },
    ] {
        let parsed = Filter::parse(&filter).unwrap();
        assert_eq!(
            sealing.translate(parsed, &toy).map_err(|fault| fault.key).err(),
            Some("sealing.filter"),
            "{filter:?}"
        );
    }
    for filter in [rawdoc! { "b.e": 1 }, rawdoc! { "b": { "$elemMatch": { "e": 1 } } }, rawdoc! { "d": { "$gt": 1 } }] {
        assert!(sealing.translate(Filter::parse(&filter).unwrap(), &toy).is_ok(), "{filter:?}");
    }
    let sort = |text: &str| sealing.check_sort(&Sort::parse_text(text).unwrap()).is_ok();
    assert!(sort("d,b.e") && !sort("a") && !sort("d,-b") && !sort("b.c.x") && !sort("_hashes.a"));
}

#[test]
fn a_definition_is_told_as_it_was_given() {
    let given = rawdoc! { "classes": { "a": "restricted" }, "indexes": ["a,d", "d"], "subject": "who" };
    let given = Definition::read("c", &given).unwrap();
    let kept = stored(given.clone()).unwrap();
    assert_eq!(kept.indexes[0].name, "a_1_d_1");
    assert_eq!(kept.indexes[0].keys[0].0.to_string(), "_hashes.a");
    assert_eq!(shown(kept), given);
    // The outermost class seals the whole.
    let nested = sealing(&rawdoc! { "classes": { "a": "restricted", "a.b": "confidential" }, "indexes": ["a"] });
    assert_eq!(nested.fields().len(), 1);
}
