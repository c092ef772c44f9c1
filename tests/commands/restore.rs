//! Restores by the command line: to any moment, of one collection, in place of the live directory; and drills.

use crate::{
    instance::{Instance, places},
    stderr, stdout,
};
use debrouille_appliance::{
    backends::{keys::local::LocalRootKey, objects::folder::Folder},
    base::{
        clock::{Clock, SystemClock},
        config::Config,
    },
    ports::documents::{Sequence, Snapshot},
    server::open,
    services::{
        backups::{Recipient, Request, Span, create},
        instance::Stamp,
        keyring::{Keyring, Purpose},
    },
};
use serde_json::Value;

/// An instance whose backups one key opens and vouches for, with 300 places.
fn prepared() -> Instance {
    Instance::backing_up("").vouched().with_places(300)
}

fn put(instance: &Instance, id: &str) {
    instance.write("one.ndjson", &format!("{{\"_id\":\"{id}\",\"population\":1}}\n"));
    instance.answer(&["import", "places", "one.ndjson"]);
}

/// A segment of the journal since a change, as the schedule makes them. Answers where it ends.
fn segment(instance: &Instance, after: u64) -> u64 {
    let data = instance.data();
    let config = Config::of(&[("instance.data_dir", data.to_str().unwrap())]).unwrap();
    let stamp = Stamp::read(&data, None).unwrap();
    let root = LocalRootKey::from_file(&data.join("root.key")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let keyring = runtime.block_on(Keyring::open(&data, &stamp, &root)).unwrap();
    let snapshot = open::look(&config, &stamp, &keyring, Purpose::Data).unwrap();
    let identity = debrouille_appliance::services::backups::Identity::from_file(&instance.read("key")).unwrap();
    let recipients: [Recipient; 1] = [identity.recipient().clone()];
    let request = Request {
        stamp: &stamp,
        keyring: &keyring,
        recipients: &recipients,
        now: SystemClock.now(),
        span: Span::Segment { after: Sequence(after) },
        previous: [0; 32],
        configuration: None,
    };
    create(&request, &snapshot, &Folder::open(instance.path("backups")).unwrap(), &mut |_| Ok(())).unwrap();
    snapshot.sequence().0
}

fn exported(instance: &Instance, data: &str) -> String {
    let output = crate::run(instance.command(&["export", "places"]).args(["--data-dir", data]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

const RESTORE: [&str; 5] = ["restore", "--from", "backups", "--identity", "key"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RESTORE[..], more].concat()
}

fn moment() -> String {
    std::thread::sleep(std::time::Duration::from_millis(1100));
    SystemClock.now().rfc3339()
}

/// Of the first format, as a release made it.
#[test]
fn a_backup_of_the_first_format_comes_back() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/backups/v1-instance");
    let (instance, identity) = (Instance::new(), format!("{fixture}/identity.txt"));
    let restore = ["restore", "--from", fixture, "--identity", &identity, "--any-signer", "--into", "again"];
    instance.answer(&[&restore[..], &["--environment", "development"]].concat());
    let rows: Vec<Value> = exported(&instance, "again").lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.len(), 40);
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(row["_id"], format!("{n:03}"));
        assert_eq!(row["_rev"], if n == 7 { 2 } else { 1 });
        assert_eq!(row["price"]["$numberDecimal"].as_str(), (n != 7).then_some("1.50"));
    }
    let told = instance.answer(&["collection", "describe", "places", "--data-dir", "again"]);
    let states: Vec<&Value> = told["indexes"].as_array().unwrap().iter().map(|index| &index["state"]).collect();
    assert_eq!(states, ["ready", "ready"], "{told}");
}

#[test]
fn any_moment_comes_back() {
    let instance = prepared();
    instance.answer(&["backup", "create"]);
    let full = instance.answer(&with(&["--into", "x", "--dry-run"]))["point"]["sequence"].as_u64().unwrap();
    let first_moment = moment();
    let first = exported(&instance, "data");
    put(&instance, "later-1");
    let second_moment = moment();
    let second = exported(&instance, "data");
    let middle = segment(&instance, full);
    put(&instance, "later-2");
    instance.write("two.ndjson", &places(3).replace("\"p", "\"q"));
    instance.answer(&["import", "places", "two.ndjson"]);
    let last = exported(&instance, "data");
    let end = segment(&instance, middle);

    let restored = |into: &str, more: &[&str]| {
        let answer = instance.answer(&[&with(&["--into", into]), more].concat());
        (answer, exported(&instance, into))
    };
    let (answer, text) = restored("latest", &["--latest"]);
    assert!(text == last, "{answer}");
    assert_eq!((&answer["point"]["sequence"], &answer["lineage"]), (&end.into(), &2.into()));
    assert_eq!(answer["files"].as_array().unwrap().len(), 3);
    // Of the full backup: segments lack it.
    assert_eq!(instance.read("latest/appliance.toml.restored"), instance.read("appliance.toml"));
    assert!(!instance.path("latest/.restoring").exists());
    let (_, text) = restored("first", &["--at", &first_moment, "--allow-older"]);
    assert!(text == first);
    let (answer, text) = restored("second", &["--at", &second_moment, "--allow-older"]);
    assert!(text == second, "{answer}");
    assert!(answer["point"]["time"].as_str().unwrap() < second_moment.as_str(), "{answer}");
    let at = answer["point"]["sequence"].as_u64().unwrap();
    let (answer, text) = restored("exact", &["--sequence", &at.to_string(), "--allow-older"]);
    assert!(text == second);
    assert!(answer["beyond"]["sequence"] == end && !answer["notes"].as_array().unwrap().is_empty(), "{answer}");

    // Within a transaction there is nothing to restore: three places came in one.
    let records =
        |sequence: u64| instance.run(&with(&["--into", "none", "--sequence", &sequence.to_string(), "--dry-run"]));
    let refused: Vec<_> = (middle + 1..end).map(records).filter(|output| output.status.code() == Some(3)).collect();
    assert!(refused.iter().any(|output| stderr(output).contains("in the middle of a transaction")), "{refused:?}");
    instance.failure(&with(&["--into", "none", "--sequence", &(end + 1).to_string()]), 4);
    instance.failure(&with(&["--into", "none", "--at", "2001-01-01T00:00:00Z"]), 4);
    instance.failure(&with(&["--into", "none", "--at", "yesterday"]), 2);
    instance.failure(&with(&["--into", "none", "--latest", "--sequence", "3"]), 2);

    // What it would be, to be read before it is done.
    let shown = instance.answer(&with(&["--into", "none", "--at", &second_moment, "--dry-run"]));
    assert_eq!((&shown["restored"], &shown["collections"]["places"]), (&false.into(), &301.into()));
    assert!(shown["expectedSeconds"].is_u64() && shown["bytesPerSecond"].as_u64() > Some(0), "{shown}");
    assert_eq!((&shown["signerVouched"], &shown["older"]), (&true.into(), &false.into()));
    let words = instance.run(&with(&["--into", "none", "--dry-run"]));
    assert!(stdout(&words).contains("places") && !instance.path("none/instance.json").exists(), "{}", stdout(&words));

    // A restored lineage opens a new epoch of the audit log, which continues the old.
    instance.answer(&["audit", "export", "--data-dir", "second", "-o", "log.ndjson"]);
    let verdict = instance.answer(&["audit", "verify", "log.ndjson"]);
    assert_eq!(verdict["sound"], true, "{verdict}");
    assert!(instance.read("log.ndjson").contains("\"continues\""));
}

#[test]
fn older_than_the_newest_a_living_instance_tells_of_has_to_be_said() {
    let instance = prepared();
    instance.answer(&["backup", "create"]);
    put(&instance, "later");
    let server = instance.serve();
    instance.answer(&["backup", "create"]);
    let names: Vec<String> = instance
        .answer(&["backup", "list"])
        .as_array()
        .unwrap()
        .iter()
        .map(|backup| backup["name"].as_str().unwrap().to_owned())
        .collect();
    let older = with(&["--into", "other", "--backup", &names[0]]);
    // Asked over the socket, and read from the directory itself.
    let said = instance.failure(&older, 3);
    assert!(said.contains("--allow-older"), "{said}");
    server.stop();
    instance.failure(&older, 3);
    let shown = instance.answer(&with(&["--into", "other", "--dry-run", "--latest"]));
    assert_eq!(shown["anchor"]["sequence"], shown["point"]["sequence"]);
    instance.answer(&[&older[..], &["--allow-older"]].concat());
    // Hidden from the listing, with the segment of the stop, the newest is still known of.
    for entry in std::fs::read_dir(instance.path("backups")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_file() && !entry.ends_with(&names[0]) {
            std::fs::remove_file(entry).unwrap();
        }
    }
    instance.failure(&with(&["--into", "another"]), 3);
    // Where nobody can be asked, the listing alone says.
    std::fs::rename(instance.data(), instance.path("away")).unwrap();
    let words = instance.run(&with(&["--into", "another", "--dry-run"]));
    assert_eq!(words.status.code(), Some(0), "{}", stderr(&words));
    assert!(stderr(&words).contains("witness"), "{}", stderr(&words));
    instance.answer(&with(&["--into", "another"]));
}

/// The recipe of docs/disaster-recovery.md for one collection that was deleted by mistake.
#[test]
fn one_collection_comes_back() {
    let instance = prepared();
    instance.answer(&["collection", "create", "others"]);
    instance.answer(&["import", "others", "places.ndjson"]);
    instance.answer(&["backup", "create"]);
    let before = exported(&instance, "data");
    let server = instance.serve();
    instance.answer(&["collection", "drop", "places", "--yes"]);
    let answer = instance.answer(&with(&["--collection", "places", "--into", "part"]));
    assert_eq!((&answer["collections"]["places"], &answer["collections"]["others"]), (&300.into(), &Value::Null));
    let text = exported(&instance, "part");
    assert!(text == before);
    let others = crate::run(instance.command(&["export", "others"]).args(["--data-dir", "part"]));
    assert_eq!((others.status.code(), stdout(&others).lines().count()), (Some(0), 0));
    instance.write("places.back", &text);
    instance.answer(&["collection", "create", "places", "--index", "population"]);
    assert_eq!(instance.answer(&["import", "places", "places.back", "--upsert"])["created"], 300);
    server.stop();
    // It is no instance to be served.
    let output = crate::run(instance.command(&["serve", "--http", "off", "--ops", "off"]).args(["--data-dir", "part"]));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("some collections only"), "{}", stderr(&output));
    instance.failure(&with(&["--collection", "places", "--swap", "--yes"]), 2);
}

#[test]
fn a_restore_takes_the_place_of_the_live_directory() {
    use std::os::unix::fs::PermissionsExt;
    let instance = prepared();
    let made = instance.answer(&["backup", "create"]);
    let before = exported(&instance, "data");
    let server = instance.serve();
    // What is told of it leaves with the segment of the stop.
    instance.answer(&["collection", "drop", "places", "--yes"]);
    let swap = with(&["--swap", "--yes", "--allow-older", "--backup", made["id"].as_str().unwrap()]);
    let said = instance.failure(&swap, 3);
    assert!(said.contains("systemctl stop"), "{said}");
    server.stop();
    let unasked = instance.failure(&with(&["--swap"]), 3);
    assert!(unasked.contains("--yes"), "{unasked}");
    let root = instance.read("data/root.key");
    std::fs::set_permissions(instance.data(), std::fs::Permissions::from_mode(0o750)).unwrap();
    let answer = instance.answer(&swap);
    assert_eq!((&answer["restored"], &answer["lineage"]), (&true.into(), &2.into()));
    let old = answer["before"].as_str().unwrap();
    assert!(old.contains("data.before-20"), "{old}");
    assert!(exported(&instance, "data") == before);
    assert_eq!(std::fs::metadata(instance.data()).unwrap().permissions().mode() & 0o777, 0o750);
    assert_ne!(instance.read("data/root.key"), root, "a new root key");
    assert!(!instance.path("data.restoring").exists() && !instance.path("data/.restoring").exists());
    // The old one is whole.
    assert_eq!(crate::run(instance.command(&["user", "list"]).args(["--data-dir", old])).status.code(), Some(0));
    instance.serve().stop();
    // And once more, over the restored one: its lineage is another again.
    instance.answer(&["backup", "create"]);
    assert_eq!(instance.answer(&with(&["--swap", "--yes"]))["lineage"], 3);
}

#[test]
fn an_unfinished_restore_never_serves_and_is_taken_up_by_the_same_command() {
    let instance = prepared();
    instance.answer(&["backup", "create"]);
    // As a kill leaves it.
    let marker = instance.path("other/.restoring");
    std::fs::create_dir_all(&marker).unwrap();
    let told =
        "{\"from\":\"backups\",\"wanted\":\"Latest\",\"collections\":[],\"environment\":\"development\",\"copy\":null}";
    std::fs::write(marker.join("restore.json"), told).unwrap();
    std::fs::write(instance.path("other/documents.sealed"), b"half").unwrap();
    let served =
        crate::run(instance.command(&["serve", "--http", "off", "--ops", "off"]).args(["--data-dir", "other"]));
    assert_eq!(served.status.code(), Some(3), "{}", stderr(&served));
    assert!(stderr(&served).contains("unfinished restore"), "{}", stderr(&served));
    instance.failure(&with(&["--into", "other", "--sequence", "3"]), 3);
    assert!(instance.path("other/documents.sealed").exists());
    instance.answer(&with(&["--into", "other"]));
    assert_eq!(exported(&instance, "other").lines().count(), 300);
    assert!(!marker.exists());
    instance.failure(&with(&["--into", "other"]), 3);
}

const DRILL: [&str; 6] = ["restore", "drill", "--identity", "key", "--output", "reports"];

#[test]
fn a_drill_restores_checks_measures_and_signs() {
    let instance = prepared();
    std::fs::create_dir(instance.path("reports")).unwrap();
    instance.answer(&["backup", "create"]);
    let server = instance.serve();
    put(&instance, "after-the-backup");
    let report = instance.answer(&DRILL);
    assert_eq!((&report["outcome"], &report["recorded"]), (&"passed".into(), &true.into()), "{report}");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["outcome"] == "passed"), "{report}");
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["files", "counts", "documents", "subjects", "audit", "live"]);
    assert_eq!((&report["collections"]["places"], &report["rpo"]["against"]), (&300.into(), &"live".into()));
    assert!(report["rpo"]["changes"].as_u64() > Some(0) && report["rto"]["millis"].as_u64() > Some(0), "{report}");
    assert!(!instance.path("data.drill").exists(), "the copy stays behind");
    // It is known where it counts.
    let again = instance.run(&["restore", "drill", "--report", report["file"].as_str().unwrap()]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(stdout(&again).contains("already taken note"), "{}", stdout(&again));
    let doctor = instance.answer(&["doctor"]);
    let drill = doctor["checks"].as_array().unwrap().iter().find(|check| check["check"] == "drill");
    assert_eq!(drill.map(|check| &check["level"]), Some(&"ok".into()), "{doctor}");
    server.stop();
    let file = report["file"].as_str().unwrap();
    assert_eq!(instance.answer(&["restore", "drill", "--report", file])["id"], report["id"]);

    // Offline, by whoever knows the signer.
    assert_eq!(instance.answer(&["restore", "drill", "--verify", file, "--identity", "key"])["id"], report["id"]);
    instance.failure(&["restore", "drill", "--verify", file], 2);
    instance.write("forged.json", &instance.read(file).replace("\"passed\"", "\"failed\""));
    instance.failure(&["restore", "drill", "--verify", "forged.json", "--identity", "key"], 5);
    let page = instance.read(&file.replace(".json", ".html"));
    assert!(page.contains("DRILL PASSED") && page.contains("places") && !page.contains("<script"), "{page}");

    // From a second machine: nothing lives there; the report is carried over.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut elsewhere = instance.command(&[&DRILL[..], &["--environment", "development", "--keep", "--json"]].concat());
    let output = crate::run(elsewhere.args(["--data-dir", "elsewhere", "--scratch", "kept"]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&report["recorded"], &report["rpo"]["against"]), (&false.into(), &"clock".into()), "{report}");
    let taken = instance.answer(&["restore", "drill", "--report", report["file"].as_str().unwrap()]);
    assert_eq!((&taken["id"], &taken["passed"]), (&report["id"], &true.into()));
    let served = crate::run(instance.command(&["serve", "--http", "off", "--ops", "off"]).args(["--data-dir", "kept"]));
    assert_eq!(served.status.code(), Some(3), "{}", stderr(&served));
    assert!(stderr(&served).contains("drill"), "{}", stderr(&served));
}

#[test]
fn a_drill_that_fails_says_so_by_its_exit_code_and_its_report() {
    let instance = prepared();
    std::fs::create_dir(instance.path("reports")).unwrap();
    // What is not a drill's own is left alone.
    std::fs::create_dir(instance.path("precious")).unwrap();
    instance.write("precious/file", "kept");
    let occupied = instance.run(&[&DRILL[..], &["--scratch", "precious"]].concat());
    assert_eq!(occupied.status.code(), Some(3), "{}", stderr(&occupied));
    assert_eq!(instance.read("precious/file"), "kept");
    let nothing = instance.run(&[&DRILL[..], &["--from", "absent"]].concat());
    assert_eq!(nothing.status.code(), Some(6), "{}", stderr(&nothing));
    instance.answer(&["backup", "create"]);
    let file = std::fs::read_dir(instance.path("backups")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.is_file()).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let server = instance.serve();
    let failed = instance.run(&[&DRILL[..], &["--json"]].concat());
    assert_eq!(failed.status.code(), Some(5), "{}", stderr(&failed));
    let report: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    assert_eq!((&report["outcome"], &report["checks"][0]["outcome"]), (&"failed".into(), &"failed".into()), "{report}");
    assert_eq!(report["recorded"], true, "the instance knows that its backups cannot be restored");
    server.stop();
    assert!(!instance.path("data.drill").exists());
}

#[test]
fn a_drill_fails_where_the_subjects_keys_could_not_come_back() {
    let instance = prepared();
    std::fs::create_dir(instance.path("reports")).unwrap();
    instance.answer(&["backup", "create"]);
    let keys = std::fs::read_dir(instance.path("backups/subjects")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&keys).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&keys, bytes).unwrap();
    let failed = instance.run(&[&DRILL[..], &["--json"]].concat());
    assert_eq!(failed.status.code(), Some(5), "{}", stderr(&failed));
    let report: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "subjects").unwrap();
    assert_eq!(check["outcome"], "failed", "{report}");
    // Where there never were any, nothing failed.
    std::fs::remove_dir_all(instance.path("backups/subjects")).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(instance.answer(&DRILL)["outcome"], "passed");
}
