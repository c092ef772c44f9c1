//! Queries: the same in the URL and in the body; pages that neither skip nor repeat.

use crate::house::House;
use serde_json::{Value, json};
use std::collections::HashSet;

const QUERY: &str = "/api/v1/collections/places/query";

async fn towns(count: usize) -> (House, String) {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places", "indexes": ["country,-population"] })).await;
    let operations: Vec<_> = (0..count)
        .map(|n| {
            let country = if n % 2 == 0 { "CD" } else { "CG" };
            let document = json!({ "_id": format!("p{n:03}"), "country": country, "population": n / 4, "name": format!("town {n}") });
            json!({ "action": "create", "collection": "places", "document": document })
        })
        .collect();
    house.post("/api/v1/batch", json!({ "operations": operations })).await.ok(200);
    (house, path)
}

fn ids(page: &Value) -> Vec<String> {
    page.as_array().unwrap().iter().map(|row| row["_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_url_and_the_body_ask_the_same() {
    let (house, path) = towns(40).await;
    let filter = r#"{"country":"CD","population":{"$gte":5}}"#;
    let by_url = house.get(&format!("{path}?filter={filter}&sort=-population,name&limit=5&fields=name")).await.ok(200);
    let asked = json!({
        "filter": { "country": "CD", "population": { "$gte": 5 } },
        "sort": { "population": -1, "name": 1 }, "limit": 5, "fields": { "name": 1 },
    });
    let by_body = house.post(QUERY, asked.clone()).await.ok(200);
    assert_eq!(by_url.data(), by_body.data());
    let (mut as_text, json) = (asked, r#"{"population":-1,"name":1}"#);
    (as_text["sort"], as_text["fields"]) = (json.into(), r#"{"name":1}"#.into());
    assert_eq!(by_url.data(), house.post(QUERY, as_text).await.ok(200).data());
    assert_eq!(
        by_url.data(),
        house.get(&format!("{path}?filter={filter}&sort={json}&limit=5&fields=name")).await.data()
    );
    assert_eq!(by_url.data().as_array().unwrap().len(), 5);
    assert_eq!(by_url.data()[0], json!({ "_id": "p036", "name": "town 36" }));
    assert_eq!(by_url.json()["meta"]["page"]["limit"], 5);
    let next = |answer: &Value| answer["meta"]["page"]["next"].clone();
    assert_eq!(next(&by_url.json()), next(&by_body.json()));
    assert!(next(&by_url.json()).is_string());
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_others_write() {
    let (house, path) = towns(60).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let at = if cursor.is_empty() { String::new() } else { format!("&cursor={cursor}") };
        let page = house.get(&format!("{path}?sort=-population&limit=7{at}")).await.ok(200);
        seen.extend(ids(&page.data()));
        // New rows before and after the place reached, and one gone from before it.
        house.post(&path, json!({ "country": "CD", "population": 1000, "new": true })).await.ok(201);
        house.post(&path, json!({ "country": "CD", "population": -1, "new": true })).await.ok(201);
        if let Some(first) = seen.first() {
            house.delete(&format!("{path}/{first}")).await;
        }
        match page.json()["meta"]["page"]["next"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    let old: Vec<_> = seen.iter().filter(|id| id.starts_with('p')).collect();
    let unique: HashSet<_> = old.iter().collect();
    assert_eq!((old.len(), unique.len()), (60, 60), "skipped or repeated");
}

#[tokio::test]
async fn a_cursor_belongs_to_its_query() {
    let (house, path) = towns(20).await;
    let first = house.get(&format!("{path}?sort=population&limit=3")).await.ok(200);
    let cursor = first.json()["meta"]["page"]["next"].as_str().unwrap().to_owned();
    house.get(&format!("{path}?sort=population&limit=9&cursor={cursor}")).await.ok(200);
    for other in ["sort=-population", "sort=population&filter={\"a\":1}", "limit=3"] {
        let answer = house.get(&format!("{path}?{other}&cursor={cursor}")).await;
        answer.refused(422, "VALIDATION_ERROR", "documents.cursor_query");
    }
    let broken = house.get(&format!("{path}?sort=population&cursor=AAAA")).await;
    broken.refused(422, "VALIDATION_ERROR", "documents.cursor");
    // A forged place within a true query: refused or answered, never a failure of the server.
    for cut in 23..cursor.len() {
        let answer = house.get(&format!("{path}?sort=population&limit=3&cursor={}", &cursor[..cut])).await;
        assert!(answer.status.as_u16() < 500, "{}", answer.text);
    }
}

#[tokio::test]
async fn counts_and_explanations() {
    let (house, path) = towns(40).await;
    let at = path.trim_end_matches("/documents");
    let filter = r#"{"country":"CD"}"#;
    assert_eq!(house.get(&format!("{at}/count?filter={filter}")).await.ok(200).data(), json!({ "count": 20 }));
    let page = house.get(&format!("{path}?filter={filter}&limit=2&total=true")).await.ok(200).json();
    assert_eq!(page["meta"]["page"]["total"], 20);
    let explained = house.get(&format!("{at}/explain?filter={filter}&sort=-population&limit=5")).await.ok(200).data();
    assert_eq!(explained["index"], "country_1_population_-1", "{explained}");
    assert_eq!((&explained["sortedInMemory"], &explained["returned"]), (&json!(false), &json!(5)));
    assert!(explained["documentsExamined"].as_u64().unwrap() <= 6, "{explained}");
    let scan = house.get(&format!("{at}/explain?filter={}&limit=5", r#"{"name":"town 39"}"#)).await.ok(200).data();
    assert_eq!(scan["documentsExamined"], 40);
}

#[tokio::test]
async fn a_wrong_query_is_told_what_is_wrong() {
    let (house, path) = towns(1).await;
    let at = path.trim_end_matches("/documents");
    let url = async |query: &str| house.get(&format!("{path}?{query}")).await;
    url("filter={\"a\":{\"$where\":\"1\"}}").await.refused(422, "VALIDATION_ERROR", "query.unknown_operator");
    url("filter={\"$function\":{}}").await.refused(422, "VALIDATION_ERROR", "query.unknown_operator");
    url("limit=0").await.refused(422, "VALIDATION_ERROR", "search.page");
    url("limit=1001").await.refused(422, "VALIDATION_ERROR", "search.limit");
    url("limit=-1").await.refused(400, "VALIDATION_ERROR", "http.parameter");
    assert_eq!(url("filter={").await.refusal().0, 400);
    assert_eq!(url("filter=[]").await.status.as_u16() / 100, 4);
    let body = async |asked: Value| house.post(QUERY, asked).await;
    body(json!({ "filtre": {} })).await.refused(422, "VALIDATION_ERROR", "search.unknown");
    body(json!({ "filter": [] })).await.refused(422, "VALIDATION_ERROR", "search.type");
    body(json!({ "limit": "x" })).await.refused(422, "VALIDATION_ERROR", "search.type");
    body(json!({ "limit": -3 })).await.refused(422, "VALIDATION_ERROR", "search.page");
    body(json!({ "sort": "a,-a" })).await.refused(422, "VALIDATION_ERROR", "query.sort_twice");
    let cut = body(json!({ "sort": "{\"a\":" })).await;
    assert_eq!((cut.refusal().0, cut.refusal().2.as_str()), (400, "json.truncated"));
    for place in ["nowhere", "Places", "a.b"] {
        let answer = house.get(&format!("/api/v1/collections/{place}/count")).await;
        answer.refused(404, "RESOURCE_NOT_FOUND", "collections.unknown");
    }
    house.get(&format!("{at}/explain?filter={{\"a\":{{\"$regex\":\"(\"}}}}")).await.refused(
        422,
        "VALIDATION_ERROR",
        "query.pattern",
    );
}
