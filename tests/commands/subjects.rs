//! Citizens' rights by the command line: handed over, erased, certified; and what comes back with a restore.

use crate::{instance::Instance, stderr, stdout};
use serde_json::Value;

/// An instance that backs up, with one person's file in it.
fn prepared() -> Instance {
    let instance = Instance::backing_up("").vouched();
    let classes = ["--class", "diagnosis=confidential", "--subject", "person"];
    instance.answer(&[&["collection", "create", "patients"], &classes[..]].concat());
    instance
        .write("patients.ndjson", "{\"_id\":\"d1\",\"person\":\"CD-1\",\"diagnosis\":\"malaria\",\"ward\":\"B\"}\n");
    instance.answer(&["import", "patients", "patients.ndjson"]);
    instance
}

fn exported(instance: &Instance, data: &str) -> Value {
    let output = crate::run(instance.command(&["export", "patients"]).args(["--data-dir", data]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap()
}

#[test]
fn a_person_is_handed_over_and_erased() {
    let instance = prepared();
    let server = instance.serve();
    instance.failure(&["subject", "export", "nobody"], 4);
    let told = instance.answer(&["subject", "export", "CD-1", "-o", "person.ndjson"]);
    let lines = instance.read("person.ndjson");
    assert_eq!(told["lines"], lines.lines().count());
    assert!(lines.contains("malaria"), "{lines}");
    instance.write("last", lines.lines().last().unwrap());
    assert_eq!(instance.answer(&["subject", "verify", "last"])["certificate"]["type"], "export");

    assert_eq!(instance.answer(&["subject", "erase", "CD-1", "--dry-run"])["holdings"]["holdings"][0]["about"], 1);
    let unasked = instance.failure(&["subject", "erase", "CD-1"], 3);
    assert!(unasked.contains("--yes"), "{unasked}");
    assert_eq!(exported(&instance, "data")["diagnosis"], "malaria");
    let erased = instance.answer(&["subject", "erase", "CD-1", "--yes"]);
    let id = erased["id"].as_str().unwrap();
    assert_eq!(exported(&instance, "data")["diagnosis"], Value::Null);
    assert_eq!(instance.answer(&["subject", "certificate"])[0]["id"], id);
    let shown = instance.run(&["subject", "certificate", id]);
    instance.write("certificate.json", &stdout(&shown));
    server.stop();

    let sound = instance.answer(&["subject", "verify", "certificate.json"]);
    let key = sound["key"].as_str().unwrap();
    assert_eq!(sound["keyVouched"], false);
    assert_eq!(instance.answer(&["subject", "verify", "certificate.json", "--key", key])["keyVouched"], true);
    instance.failure(&["subject", "verify", "certificate.json", "--key", "00"], 5);
    let altered = instance.read("certificate.json").replace("\"about\": 1", "\"about\": 0");
    instance.write("altered.json", &altered);
    instance.failure(&["subject", "verify", "altered.json"], 5);
    instance.failure(&["collection", "create", "c", "--class", "diagnosis"], 2);
}

#[test]
fn a_restore_brings_the_keys_of_those_not_erased() {
    let instance = prepared();
    instance.answer(&["backup", "create"]);
    assert_eq!(instance.answer(&["backup", "list"]).as_array().unwrap().len(), 1);
    instance.answer(&["backup", "verify", "--identity", "key"]);
    let restore = |into: &str| {
        let output = instance.run(&["restore", "--from", "backups", "--identity", "key", "--into", into]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    restore("whole");
    assert_eq!(exported(&instance, "whole")["diagnosis"], "malaria");
    instance.answer(&["subject", "erase", "CD-1", "--yes"]);
    restore("later");
    let later = exported(&instance, "later");
    assert_eq!((&later["diagnosis"], &later["ward"]), (&Value::Null, &"B".into()));
    let (keys, away) = (instance.path("backups").join("subjects"), instance.path("away"));
    std::fs::rename(&keys, &away).unwrap();
    // There, and not to be read: not the same as none.
    std::fs::write(&keys, "a disk at fault").unwrap();
    let refused = instance.failure(&["restore", "--from", "backups", "--identity", "key", "--into", "unread"], 3);
    let left = std::fs::read_dir(instance.path("unread")).unwrap().count();
    assert!(refused.contains("subjects") && left == 0, "{refused}");
    std::fs::remove_file(&keys).unwrap();
    let said = restore("blind");
    assert!(said.contains("WARNING") && said.contains("subjects"), "{said}");
    assert_eq!(exported(&instance, "blind")["diagnosis"], Value::Null);
}

#[test]
fn a_backup_of_keys_that_nothing_replaces_is_certified() {
    let instance = prepared();
    instance.answer(&["backup", "create"]);
    let whole = instance.read("appliance.toml");
    let line = whole.lines().find(|line| line.starts_with("recipients")).unwrap();
    instance.write("appliance.toml", &whole.replace(line, ""));
    let erased = instance.run(&["subject", "erase", "CD-1", "--yes"]);
    assert_eq!(erased.status.code(), Some(0), "{}", stderr(&erased));
    let said = stdout(&erased) + &stderr(&erased);
    assert!(said.contains("erased here") && said.contains("backup.recipients"), "{said}");
    let certificate = &instance.answer(&["subject", "certificate"])[0]["certificate"];
    assert_eq!(certificate["unreadableEverywhereFrom"], Value::Null);
    assert!(certificate["remains"].to_string().contains("\"key-in-backup-of-keys\""), "{certificate}");
    let book = include_str!("../../docs/subjects.md");
    assert!(book.contains("`key-in-backup-of-keys`"));
}

#[test]
fn an_instance_of_before_gets_a_store_of_keys_once() {
    let instance = Instance::new();
    let (keyring, store) = (instance.data().join("keyring.json"), instance.data().join("subjects.sealed"));
    std::fs::write(&keyring, without_subjects(&std::fs::read(&keyring).unwrap())).unwrap();
    std::fs::remove_file(&store).unwrap();
    instance.answer(&["user", "list"]);
    instance.answer(&["user", "list"]);
    assert!(std::fs::read_to_string(&keyring).unwrap().contains("\"subjects\""));
    // Lost, it is never replaced by an empty one.
    std::fs::remove_file(&store).unwrap();
    let lost = instance.failure(&["user", "list"], 5);
    assert!(lost.contains("subjects.sealed"), "{lost}");
}

#[test]
fn an_older_keyring_put_back_destroys_nobodys_keys() {
    let instance = prepared();
    let (keyring, store) = (instance.data().join("keyring.json"), instance.data().join("subjects.sealed"));
    let (newest, keys) = (std::fs::read(&keyring).unwrap(), std::fs::read(&store).unwrap());
    std::fs::write(&keyring, without_subjects(&newest)).unwrap();
    for command in [["user", "list"], ["export", "patients"]] {
        let refused = instance.failure(&command, 5);
        assert!(refused.contains("subjects.sealed") && refused.contains("older keyring.json"), "{refused}");
    }
    let told = instance.run(&["doctor"]);
    let told = stdout(&told) + &stderr(&told);
    assert!(told.contains("older keyring.json"), "{told}");
    assert!(std::fs::read(&store).unwrap() == keys, "the store was touched");
    // What the fault says to do.
    std::fs::write(&keyring, newest).unwrap();
    assert_eq!(exported(&instance, "data")["diagnosis"], "malaria");
}

/// The keyring as a release without people's keys kept it.
fn without_subjects(keyring: &[u8]) -> String {
    let mut before: Value = serde_json::from_slice(keyring).unwrap();
    before["keys"].as_array_mut().unwrap().retain(|key| key["purpose"] != "subjects");
    before.to_string()
}
