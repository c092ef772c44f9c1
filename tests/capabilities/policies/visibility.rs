//! Whatever the policies, the documents and what is asked: no endpoint shows what no policy covers, nor lets it be felt.

use crate::house::{Answer, House};
use poem::http::Method;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

const DOCUMENTS: &str = "/api/v1/collections/things/documents";
const QUERY: &str = "/api/v1/collections/things/query";
const FIELDS: [&str; 3] = ["a", "b", "c"];

/// A document by its fields' values; each 0, 1 or 2.
type Row = [u8; 3];

/// A policy over such documents: a field that must have a value, if any, and the fields opened.
#[derive(Debug, Clone)]
struct Rule {
    wants: Option<(usize, u8)>,
    opens: [bool; 3],
    /// Whether the fields not opened are named, or those opened.
    by_exclusion: bool,
}

/// What is asked: fields that must have values, under one of four ways of asking, and a sort.
#[derive(Debug, Clone)]
struct Wish {
    tests: Vec<(usize, u8)>,
    way: u8,
    sort: Option<usize>,
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (proptest::option::of((0..3_usize, 0..3_u8)), any::<[bool; 3]>(), any::<bool>());
    proptest::collection::vec(rule.prop_map(|(wants, opens, by_exclusion)| Rule { wants, opens, by_exclusion }), 1..4)
}

fn wish() -> impl Strategy<Value = Wish> {
    let tests = proptest::collection::vec((0..3_usize, 0..3_u8), 0..3);
    (tests, 0..4_u8, proptest::option::of(0..3_usize)).prop_map(|(tests, way, sort)| Wish { tests, way, sort })
}

impl Rule {
    fn json(&self, place: usize) -> Value {
        let scope = self.wants.map_or_else(|| json!({}), |(field, value)| json!({ FIELDS[field]: value }));
        let named = (0..3).filter(|field| self.opens[*field] != self.by_exclusion);
        let mut read: Vec<String> = named.map(|field| FIELDS[field].to_owned()).collect();
        if self.by_exclusion {
            read.iter_mut().for_each(|name| name.insert(0, '-'));
        }
        // No names at all open nothing; an exclusion of nothing is everything, as no mask is.
        let fields = if self.by_exclusion && read.is_empty() { json!({}) } else { json!({ "read": read }) };
        json!({ "name": format!("r{place}"), "action": "VIEW", "roles": ["identity"], "where": scope, "fields": fields })
    }

    fn covers(&self, row: &Row) -> bool {
        self.wants.is_none_or(|(field, value)| row[field] == value)
    }
}

impl Wish {
    fn filter(&self) -> Value {
        let tests: Vec<_> = self.tests.iter().map(|(field, value)| json!({ FIELDS[*field]: value })).collect();
        match (self.way, tests.is_empty()) {
            (_, true) => json!({}),
            (0, _) => json!({ "$and": tests }),
            (1, _) => json!({ "$or": tests }),
            (2, _) => json!({ "$nor": tests }),
            _ => json!({ "$and": [{ "$nor": [{ "$or": tests }] }] }),
        }
    }

    fn holds(&self, row: &Row) -> bool {
        let mut tests = self.tests.iter().map(|(field, value)| row[*field] == *value);
        match (self.way, self.tests.is_empty()) {
            (_, true) => true,
            (0, _) => tests.all(|holds| holds),
            (1, _) => tests.any(|holds| holds),
            _ => !tests.any(|holds| holds),
        }
    }

    fn names(&self) -> impl Iterator<Item = usize> {
        self.tests.iter().map(|(field, _)| *field).chain(self.sort)
    }
}

/// What may be answered, by the plainest reading of the rules: ids, each with the fields shown. `None`: refused.
fn expected(rules: &[Rule], rows: &[Row], wish: &Wish) -> Option<Vec<(String, [bool; 3])>> {
    let able: Vec<_> = rules.iter().filter(|rule| wish.names().all(|field| rule.opens[field])).collect();
    if able.is_empty() {
        return None;
    }
    let found = rows.iter().enumerate().filter(|(_, row)| wish.holds(row) && able.iter().any(|rule| rule.covers(row)));
    let shown = |row: &Row| {
        let covering: Vec<_> = rules.iter().filter(|rule| rule.covers(row)).collect();
        [0, 1, 2].map(|field| covering.iter().any(|rule| rule.opens[field]))
    };
    Some(found.map(|(place, row)| (format!("d{place}"), shown(row))).collect())
}

fn told(answer: &Answer) -> Option<Vec<(String, [bool; 3])>> {
    if answer.status == 403 {
        assert_eq!(answer.refusal().2, "access.field_read");
        return None;
    }
    let rows = answer.data();
    let mut told: Vec<_> = rows.as_array().unwrap().iter().map(seen).collect();
    told.sort();
    Some(told)
}

fn seen(row: &Value) -> (String, [bool; 3]) {
    (row["_id"].as_str().unwrap().to_owned(), FIELDS.map(|field| row.get(field).is_some()))
}

#[tokio::test]
async fn no_endpoint_shows_what_no_policy_covers() {
    let house = House::open().await;
    let person = json!({ "email": "p@example.org", "password": "a person's own phrase" });
    house.post("/api/v1/admin/identities", person).await.ok(201);
    let login = house.login("p@example.org", "a person's own phrase").await.data();
    let bearer = format!("Bearer {}", login["accessToken"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let mut runner = TestRunner::deterministic();
    let cases = (rules(), proptest::collection::vec(any::<[u8; 3]>(), 1..6), proptest::collection::vec(wish(), 4));
    for case in 0..60 {
        let (rules, rows, wishes) = cases.new_tree(&mut runner).unwrap().current();
        let rows: Vec<Row> = rows.into_iter().map(|row| row.map(|value| value % 3)).collect();
        let policies: Vec<_> = rules.iter().enumerate().map(|(place, rule)| rule.json(place)).collect();
        // Every second time through indexes.
        let indexes = if case % 2 == 0 { json!([]) } else { json!(["a", "b,-c"]) };
        house.collection(json!({ "name": "things", "policies": policies, "indexes": indexes })).await;
        for (place, row) in rows.iter().enumerate() {
            let document = json!({ "_id": format!("d{place}"), "a": row[0], "b": row[1], "c": row[2] });
            house.post(DOCUMENTS, document).await.ok(201);
        }
        let about = format!("{rules:?} {rows:?}");
        let everything = expected(&rules, &rows, &Wish { tests: Vec::new(), way: 0, sort: None }).unwrap();
        for (place, _) in rows.iter().enumerate() {
            let answer = house.ask(Method::GET, &format!("{DOCUMENTS}/d{place}"), &headers, None).await;
            let wanted = everything.iter().find(|(id, _)| *id == format!("d{place}"));
            let got = (answer.status == 200).then(|| seen(&answer.data()));
            assert_eq!(got.as_ref(), wanted, "get d{place}: {about}");
        }
        for wish in &wishes {
            let about = format!("{wish:?}: {about}");
            let wanted = expected(&rules, &rows, wish);
            let mut asked = json!({ "filter": wish.filter(), "total": true });
            if let Some(field) = wish.sort {
                asked["sort"] = FIELDS[field].into();
            }
            let answer = house.ask(Method::POST, QUERY, &headers, Some(json!({ "data": asked }))).await;
            assert_eq!(told(&answer), wanted, "query {about}");
            if let Some(wanted) = &wanted {
                assert_eq!(answer.json()["meta"]["page"]["total"], wanted.len(), "total {about}");
            }
            let unsorted = Wish { sort: None, ..wish.clone() };
            let wanted = expected(&rules, &rows, &unsorted);
            let of = |room: &str| format!("/api/v1/collections/things/{room}?filter={}", wish.filter());
            let count = house.ask(Method::GET, &of("count"), &headers, None).await;
            let counted = (count.status == 200).then(|| count.data()["count"].as_u64().unwrap());
            assert_eq!(counted, wanted.as_ref().map(|rows| rows.len() as u64), "count {about}");
            let export = house.ask(Method::GET, &of("export"), &headers, None).await;
            let lines =
                || export.text.lines().map(|line| seen(&serde_json::from_str(line).unwrap())).collect::<Vec<_>>();
            assert_eq!((export.status == 200).then(lines), wanted, "export {about}");
        }
        house.delete("/api/v1/collections/things").await.ok(200);
    }
}
