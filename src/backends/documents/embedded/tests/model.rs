//! Random operations: whatever happens, the indexes say what the documents say, and every query answers what reading
//! everything would.

use super::*;
use crate::{backends::documents::embedded::tables, domain::index, ports::documents::Sequence};
use bson::{Bson, Document, doc};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const INDEXES: [&str; 6] = ["a", "a,-b", "-b", "t,a", "d.x,d.y", "-a,b"];

fn scalar() -> BoxedStrategy<Bson> {
    prop_oneof![
        6 => (-2i32..4).prop_map(Bson::Int32),
        1 => (-2i64..4).prop_map(Bson::Int64),
        1 => prop::sample::select(vec![0.5, 1.0, f64::NAN, -1.5]).prop_map(Bson::Double),
        1 => Just(Bson::Decimal128("1.5".parse().expect("a decimal"))),
        2 => "[ab]{0,2}".prop_map(Bson::String),
        1 => prop::sample::select(vec![Bson::Null, Bson::Boolean(true), Bson::Document(doc! { "x": 1 })]),
    ]
    .boxed()
}

fn value() -> BoxedStrategy<Bson> {
    prop_oneof![4 => scalar(), 1 => prop::collection::vec(scalar(), 0..4).prop_map(Bson::Array)].boxed()
}

fn nested() -> BoxedStrategy<Bson> {
    let one = (prop::option::of(scalar()), prop::option::of(scalar())).prop_map(|(x, y)| {
        let fields = [("x", x), ("y", y)].into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Bson::Document(fields.collect())
    });
    let one = one.boxed();
    prop_oneof![2 => one.clone(), 1 => prop::collection::vec(one, 0..3).prop_map(Bson::Array), 1 => scalar()].boxed()
}

fn document() -> BoxedStrategy<RawDocumentBuf> {
    let field = |strategy: BoxedStrategy<Bson>| prop::option::of(strategy);
    (field(value().boxed()), field(scalar().boxed()), field(value().boxed()), field(nested().boxed()), 0i32..30)
        .prop_map(|(a, b, t, d, u)| {
            let fields = [("a", a), ("b", b), ("t", t), ("d", d), ("u", Some(Bson::Int32(u)))];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            RawDocumentBuf::try_from(&fields.collect::<Document>()).expect("a document")
        })
        .boxed()
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, RawDocumentBuf),
    Increment(u8),
    Delete(u8),
}

fn op() -> BoxedStrategy<Op> {
    prop_oneof![
        6 => (0u8..12, document()).prop_map(|(id, document)| Op::Put(id, document)),
        1 => (0u8..12).prop_map(Op::Increment),
        2 => (0u8..12).prop_map(Op::Delete),
    ]
    .boxed()
}

fn condition() -> BoxedStrategy<Document> {
    let path = || prop::sample::select(vec!["a", "b", "t", "d.x", "d.y", "d", "u"]);
    let comparison = || prop::sample::select(vec!["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]);
    prop_oneof![
        4 => (path(), comparison(), scalar()).prop_map(|(path, operator, value)| doc! { path: { operator: value } }),
        2 => (path(), comparison(), scalar(), comparison(), scalar())
            .prop_map(|(path, one, a, two, b)| if one == two { doc! { path: { one: a } } } else { doc! { path: { one: a, two: b } } }),
        2 => (path(), prop::collection::vec(value(), 0..4)).prop_map(|(path, values)| doc! { path: { "$in": values } }),
        1 => (path(), any::<bool>()).prop_map(|(path, exists)| doc! { path: { "$exists": exists } }),
        1 => path().prop_map(|path| doc! { path: { "$regex": "^a" } }),
        1 => (path(), comparison(), scalar(), scalar())
            .prop_map(|(path, operator, a, b)| doc! { path: { "$elemMatch": { operator: a, "$lte": b } } }),
        1 => (scalar(), scalar()).prop_map(|(x, y)| doc! { "d": { "$elemMatch": { "x": x, "y": y } } }),
        1 => (scalar(), scalar()).prop_map(|(x, y)| doc! { "d.x": x, "d.y": y }),
        1 => (0u8..12, comparison()).prop_map(|(id, operator)| doc! { "_id": { operator: format!("{id:02}") } }),
        1 => (path(), value()).prop_map(|(path, value)| doc! { path: value }),
    ]
    .boxed()
}

fn by() -> BoxedStrategy<Document> {
    prop_oneof![
        1 => Just(doc! {}),
        4 => condition(),
        4 => (condition(), condition()).prop_map(|(a, b)| doc! { "$and": [a, b] }),
        1 => (condition(), condition()).prop_map(|(a, b)| doc! { "$or": [a, b] }),
    ]
    .boxed()
}

const SORTS: [&str; 12] = ["", "-_id", "a", "-a", "b", "-b", "a,-b", "-a,b", "a,b", "b,-_id", "t", "u,-a"];

async fn agrees(store: &Embedded) -> BTreeMap<String, RawDocumentBuf> {
    let view = store.shared.view().expect("a view");
    let snapshot = store.snapshot().await.expect("a snapshot");
    let documents = snapshot.documents("c", None, usize::MAX).expect("documents");
    let documents: BTreeMap<String, RawDocumentBuf> =
        documents.into_iter().map(|document| (document.get_str("_id").expect("an id").to_owned(), document)).collect();
    let held = view.catalog.get("c").expect("there");
    assert_eq!(view.count(held), documents.len() as u64);
    for index in &held.indexes {
        let mut expected = BTreeSet::new();
        for (id, document) in &documents {
            let entries = index::entries(document, &index.index).expect("it went in");
            assert_eq!(entries.multikey & !index.multikey, 0, "an array nobody wrote down");
            expected.extend(
                entries.keys.iter().map(|key| [&tables::entry_prefix(index.number, key), id.as_bytes()].concat()),
            );
        }
        let (from, to) = (index.number.to_be_bytes(), (index.number + 1).to_be_bytes());
        let rows = view.tables.entries.range::<&[u8]>(&from[..]..&to[..]).expect("rows");
        let actual: BTreeSet<Vec<u8>> = rows.map(|row| row.expect("a row").0.value().to_vec()).collect();
        assert_eq!(actual, expected, "{}", index.index.name);
    }
    documents
}

async fn answers(store: &Embedded, documents: &BTreeMap<String, RawDocumentBuf>, by: &Document, sort: &str) {
    let by = RawDocumentBuf::try_from(by).expect("a document");
    let Ok(parsed) = Filter::parse(&by) else { return };
    let order = Sort::parse_text(sort).expect("a sort");
    let mut expected: Vec<&RawDocumentBuf> = documents.values().filter(|document| parsed.matches(document)).collect();
    if expected.iter().any(|document| order.key(document).is_err()) {
        return;
    }
    expected.sort_by(|a, b| order.order(&order.key(a).expect("a key"), &order.key(b).expect("a key")));
    let (mut all, mut after) = (Vec::new(), None);
    let explain = loop {
        let page = store.find(query("c", &by, sort, 3, after)).await.expect("a page");
        all.extend(page.documents);
        after = page.next;
        if after.is_none() {
            break page.explain;
        }
    };
    assert_eq!(all.iter().collect::<Vec<_>>(), expected, "{by:?} by \"{sort}\": {explain:?}");
    let (count, explain) = store.count("c", filter(&by)).await.expect("counted");
    assert_eq!(count, expected.len() as u64, "{by:?}: {explain:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn indexes_and_queries_agree_with_the_documents(
        batches in prop::collection::vec((prop::collection::vec(op(), 1..6), prop::collection::vec((by(), 0..SORTS.len()), 12)), 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = in_memory();
            let mut indexes: bson::RawArrayBuf = INDEXES.iter().copied().collect();
            indexes.push(rawdoc! { "keys": "u", "unique": true });
            define(&store, "c", rawdoc! { "indexes": indexes }).await;
            let mut before = BTreeMap::new();
            for (ops, queries) in batches {
                let sequence = store.statistics().await.expect("figures").sequence;
                let count = ops.len() as u64;
                let operations = ops.into_iter().map(|op| match op {
                    Op::Put(id, document) => put("c", &format!("{id:02}"), document),
                    Op::Increment(id) => update("c", &format!("{id:02}"), &rawdoc! { "$inc": { "u": 1 }, "$set": { "b": 2 } }),
                    Op::Delete(id) => delete("c", &format!("{id:02}")),
                });
                let committed = store.commit(batch(operations.collect())).await;
                let documents = agrees(&store).await;
                match committed {
                    Ok(committed) => assert_eq!(committed.sequence, Sequence(sequence.0 + count)),
                    Err(_) => assert_eq!(documents, before, "a refused batch changed something"),
                }
                for (by, sort) in queries {
                    answers(&store, &documents, &by, SORTS[sort]).await;
                }
                before = documents;
            }
        });
    }
}
