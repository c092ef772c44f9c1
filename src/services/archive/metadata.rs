//! What an archive says of a collection beside its documents: `{options, indexes}` in Extended JSON, read into what a
//! collection here can be, and written so that a mongod can build the same.

use serde_json::{Map, Value, json};

/// Of an index, what says nothing more than its keys do. `sparse` changes answers only where it is unique.
const PLAIN: &[&str] = &["v", "key", "name", "ns", "background", "unique", "sparse"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    /// 1 or -1 each.
    pub keys: Vec<(String, i64)>,
    pub unique: bool,
}

/// What can be made here, and what cannot, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub indexes: Vec<Index>,
    pub beyond: Vec<Beyond>,
}

/// What a collection here cannot be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beyond {
    Index { name: String, because: String },
    Option(String),
}

impl Metadata {
    /// `None`: not what a mongodump writes. Nothing at all, as in the first archives, is nothing to make.
    pub fn read(text: &str) -> Option<Self> {
        let mut metadata = Self::default();
        if text.is_empty() {
            return Some(metadata);
        }
        let value: Value = serde_json::from_str(text).ok()?;
        let fields = value.as_object()?;
        for (option, value) in fields.get("options").and_then(Value::as_object).into_iter().flatten() {
            // Those every collection has.
            if !matches!(option.as_str(), "uuid" | "create" | "autoIndexId" | "flags") && *value != json!(false) {
                metadata.beyond.push(Beyond::Option(option.clone()));
            }
        }
        for index in fields.get("indexes").and_then(Value::as_array).into_iter().flatten() {
            let index = index.as_object()?;
            let name = index.get("name").and_then(Value::as_str)?.to_owned();
            match read(index, &name) {
                Ok(index) if index.keys == [("_id".to_owned(), 1)] => {}
                Ok(index) => metadata.indexes.push(index),
                Err(because) => metadata.beyond.push(Beyond::Index { name, because }),
            }
        }
        Some(metadata)
    }

    pub fn write(&self, collection: &str) -> String {
        let own = Index { name: "_id_".to_owned(), keys: vec![("_id".to_owned(), 1)], unique: false };
        let written = |index: &Index| {
            let number = |number: i64| json!({ "$numberInt": number.to_string() });
            let keys: Map<_, _> = index.keys.iter().map(|(path, way)| (path.clone(), number(*way))).collect();
            let mut text = json!({ "v": number(2), "key": keys, "name": index.name });
            if index.unique {
                text["unique"] = true.into();
            }
            text
        };
        let indexes: Vec<_> = std::iter::once(&own).chain(&self.indexes).map(written).collect();
        json!({ "options": {}, "indexes": indexes, "collectionName": collection, "type": "collection" }).to_string()
    }
}

/// The index, or which of its options have no like here.
fn read(index: &Map<String, Value>, name: &str) -> Result<Index, String> {
    let on = |option: &str| index.get(option).is_some_and(|value| *value != json!(false));
    let unique = on("unique");
    let mut beyond: Vec<String> =
        index.keys().filter(|option| !PLAIN.contains(&option.as_str()) && on(option)).cloned().collect();
    if unique && on("sparse") {
        beyond.push("sparse".to_owned());
    }
    let mut keys = Vec::new();
    for (path, value) in index.get("key").and_then(Value::as_object).into_iter().flatten() {
        match way(value) {
            Some(way) if !path.contains("$**") => keys.push((path.clone(), way)),
            _ => beyond.push(format!("{path}: {}", value.as_str().unwrap_or("?"))),
        }
    }
    if beyond.is_empty() && !keys.is_empty() {
        return Ok(Index { name: name.to_owned(), keys, unique });
    }
    Err(beyond.join(", "))
}

/// Any number says a direction by its sign.
fn way(value: &Value) -> Option<i64> {
    let text = ["$numberInt", "$numberLong", "$numberDouble"].iter().find_map(|kind| value[*kind].as_str());
    let number = match text {
        Some(text) => text.parse::<f64>().ok()?,
        None => value.as_f64()?,
    };
    if number > 0.0 {
        Some(1)
    } else if number < 0.0 {
        Some(-1)
    } else {
        None
    }
}
