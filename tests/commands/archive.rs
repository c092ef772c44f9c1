//! MongoDB's archive by the command line: out and back in, what a real mongod holds, and what must be refused.

use crate::{
    instance::{Instance, places},
    stderr, stdout,
};
use serde_json::{Value, json};
use std::{io::Read, path::Path, process::Command};

/// Values whose type a careless way would lose.
const TYPES: &str = r#"{"_id":"t1","long":{"$numberLong":"5"},"double":{"$numberDouble":"5.0"},"decimal":{"$numberDecimal":"1.50"},"date":{"$date":{"$numberLong":"-5"}},"id":{"$oid":"0123456789abcdef01234567"},"bytes":{"$binary":{"base64":"AAE=","subType":"04"}},"none":null,"deep":{"list":[1,{"a":[]}]},"é \" «":"\u0000x"}"#;

fn filled() -> Instance {
    let instance = Instance::new();
    instance.answer(&["collection", "create", "places", "--index", "country,-population", "--unique", "population"]);
    instance.answer(&["collection", "create", "types"]);
    instance.answer(&["collection", "create", "empty"]);
    instance.write("places.ndjson", &places(1200));
    instance.write("types.ndjson", &format!("{TYPES}\n"));
    instance.answer(&["import", "places", "places.ndjson"]);
    instance.answer(&["import", "types", "types.ndjson"]);
    instance
}

/// The documents of a collection, less what another instance sets anew.
fn documents(instance: &Instance, collection: &str) -> Vec<Value> {
    let output = instance.run(&["export", collection]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let line = |line: &str| {
        let mut document: Value = serde_json::from_str(line).unwrap();
        document.as_object_mut().unwrap().retain(|name, _| name == "_id" || !name.starts_with('_'));
        document
    };
    stdout(&output).lines().map(line).collect()
}

#[test]
fn an_archive_brings_back_what_was_exported() {
    let instance = filled();
    let exported = instance.answer(&["export", "--all", "--format", "archive", "--gzip", "-o", "all.archive.gz"]);
    assert_eq!(
        (&exported["documents"], &exported["collections"]),
        (&1201.into(), &json!(["empty", "places", "types"]))
    );
    let one = instance.answer(&["export", "types", "places", "types", "--format", "archive", "-o", "two.archive"]);
    assert_eq!(one["collections"], json!(["types", "places"]));
    let piped = instance.run(&["export", "types", "--format", "archive"]);
    assert_eq!(piped.stdout[..4], [0x6d, 0xe2, 0x99, 0x81]);
    assert_eq!(
        std::fs::read_dir(&instance.folder)
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial") })
            .count(),
        0
    );

    let other = Instance::new();
    std::fs::copy(instance.path("all.archive.gz"), other.path("all")).unwrap();
    let imported = other.answer(&["import", "--format", "archive", "all"]);
    let row = |name: &str, created: u64| json!({ "collection": name, "created": created, "updated": 0, "failed": 0 });
    assert_eq!(imported["collections"], json!([row("empty", 0), row("places", 1200), row("types", 1)]));
    for collection in ["places", "types", "empty"] {
        assert_eq!(documents(&other, collection), documents(&instance, collection), "{collection}");
        let shape = |instance: &Instance| {
            let described = instance.answer(&["collection", "describe", collection]);
            let index = |index: &Value| json!([index["name"], index["keys"], index["unique"]]);
            described["indexes"].as_array().unwrap().iter().map(index).collect::<Vec<_>>()
        };
        assert_eq!(shape(&other), shape(&instance));
    }
    // Text shows no difference between these and an int; a filter does.
    let kinds = r#"{"long": {"$type": "long"}, "double": {"$type": "double"}, "decimal": {"$type": "decimal"}}"#;
    assert_eq!(other.answer(&["query", "types", "--filter", kinds]).as_array().map(Vec::len), Some(1));
    // By lines the same comes back: the way out makes no difference.
    let lines = Instance::new();
    lines.answer(&["collection", "create", "types"]);
    std::fs::write(lines.path("types"), instance.run(&["export", "types"]).stdout).unwrap();
    lines.answer(&["import", "types", "types"]);
    let relaxed = documents(&lines, "types");
    assert_eq!(relaxed[0]["deep"], documents(&other, "types")[0]["deep"]);

    // Again: each is there, or is replaced.
    let again = other.run(&["import", "--format", "archive", "all", "--json", "--errors", "faults"]);
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    let faults: Vec<Value> = other.read("faults").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(faults.len(), 1201);
    assert_eq!((&faults[700]["collection"], &faults[700]["line"]), (&"places".into(), &701.into()));
    let replaced = other.answer(&["import", "--format", "archive", "all", "--upsert", "--collection", "types"]);
    assert_eq!(replaced["collections"], json!([{ "collection": "types", "created": 0, "updated": 1, "failed": 0 }]));
}

#[test]
fn a_damaged_archive_says_where_and_keeps_what_was_written() {
    let instance = filled();
    instance.answer(&["export", "places", "types", "--format", "archive", "-o", "sound"]);
    let sound = std::fs::read(instance.path("sound")).unwrap();
    let other = Instance::new();
    std::fs::write(other.path("cut"), &sound[..sound.len() / 2]).unwrap();
    let cut = other.run(&["import", "--format", "archive", "cut", "--json"]);
    assert_eq!(cut.status.code(), Some(5), "{}", stderr(&cut));
    assert!(stderr(&cut).contains("byte"), "{}", stderr(&cut));
    let told: Value = serde_json::from_str(&stdout(&cut)).unwrap();
    assert_eq!(told["whole"], false);
    let created = told["collections"][0]["created"].as_u64().unwrap();
    assert!(created > 100 && documents(&other, "places").len() as u64 == created, "{told}");
    // A bit in a document: only the checksum knows.
    let at = sound.windows(6).position(|bytes| bytes == b"p00600").unwrap();
    let mut wrong = sound.clone();
    wrong[at + 5] = b'x';
    std::fs::write(other.path("wrong"), wrong).unwrap();
    let failure = other.failure(&["import", "--format", "archive", "wrong", "--upsert"], 5);
    assert!(failure.contains("debrouille.places"), "{failure}");
    other.write("text", "{}\n");
    other.failure(&["import", "--format", "archive", "text"], 3);
    other.failure(&["import", "--format", "archive", "places", "cut"], 2);
    other.failure(&["import", "--format", "archive", "sound", "--resume"], 2);
    other.failure(&["import", "places", "text", "--collection", "a"], 2);
    other.failure(&["export", "places", "types"], 2);
    other.failure(&["export", "--format", "archive", "-o", "x"], 2);
    other.failure(&["export", "absent", "--format", "archive", "-o", "x"], 4);
    assert!(!other.path("x").exists());
}

/// `$PYTHON` with pymongo, against `$MONGODB_URL`: what a mongod holds, dumped and restored by a program that shares no
/// code with this one.
fn tools(arguments: &[&str]) -> String {
    let url = std::env::var("MONGODB_URL").expect("MONGODB_URL is not set: run ./scripts/test, which starts a mongod");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands/mongo_archive.py");
    let python = std::env::var("PYTHON").unwrap_or("python3".to_owned());
    let output = Command::new(python).arg(script).arg(url).args(arguments).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_mongod_takes_what_is_exported_and_gives_what_is_imported() {
    let database = format!("archive_{}", std::process::id());
    let instance = Instance::new();
    let archive = instance.path("dump.gz").display().to_string();
    tools(&["fill-and-dump", &database, &archive]);
    let refused = instance.failure(&["import", "--format", "archive", "dump.gz"], 3);
    assert!(refused.contains("userProfiles") && refused.contains("=NAME"), "{refused}");
    let renamed = ["--collection", "orders", "--collection", "userProfiles=profiles"];
    let import = [&["import", "--format", "archive", "dump.gz"], &renamed[..]].concat();
    let output = instance.run(&import);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // What cannot be made is named; what was left, too.
    let said = stderr(&output);
    for word in ["words", "expireAfterSeconds", "validator", "latest"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let orders = documents(&instance, "orders");
    assert_eq!(orders.len(), 2500);
    assert_eq!(orders[0]["_id"].as_str().unwrap().len(), 24, "an ObjectId's hex");
    let described = instance.answer(&["collection", "describe", "orders"]);
    let names: Vec<_> = described["indexes"].as_array().unwrap().iter().map(|index| index["name"].clone()).collect();
    assert_eq!(names, ["customer_1_total_-1", "number_1"]);

    // And back: the program that reads it checks every checksum, restores it, and compares by value and type.
    instance.answer(&["export", "--all", "--format", "archive", "--gzip", "-o", "back.gz"]);
    let back = instance.path("back.gz").display().to_string();
    let compared = tools(&["restore-and-compare", &database, &back]);
    assert_eq!(compared.trim(), "orders 2500 profiles 3");
    // A folder of mongodump: one file, its indexes beside it.
    tools(&["dump-folder", &database, instance.folder.path().to_str().unwrap()]);
    let bson = instance.answer(&["import", "copies", "orders.bson.gz", "--format", "bson"]);
    assert_eq!(bson["collections"][0]["created"], 2500);
    assert_eq!(documents(&instance, "copies"), orders);
    assert_eq!(instance.answer(&["collection", "describe", "copies"])["indexes"].as_array().unwrap().len(), 2);
    let mut whole = Vec::new();
    std::fs::File::open(instance.path("orders.bson.gz")).unwrap().read_to_end(&mut whole).unwrap();
    assert!(whole.starts_with(&[0x1f, 0x8b]));
}
