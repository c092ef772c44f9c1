//! Backups by the command line: made, listed, checked, restored, and refused when they must be.

use crate::{
    instance::{Instance, places, wait},
    stderr, stdout,
};

/// An instance with a recipient, its private key in `key`, and 300 places.
pub fn prepared() -> Instance {
    Instance::backing_up("").with_places(300)
}

#[test]
fn a_private_key_is_written_once_and_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let instance = Instance { folder: tempfile::tempdir().unwrap() };
    instance.write("appliance.toml", "");
    let output = instance.run(&["backup", "keys", "generate", "-o", "key"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mode = std::fs::metadata(instance.path("key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let before = instance.read("key");
    assert!(before.contains(stdout(&output).trim()), "the public half is said");
    instance.failure(&["backup", "keys", "generate", "-o", "key"], 1);
    assert_eq!(instance.read("key"), before);
}

#[test]
fn a_backup_is_made_checked_and_restored() {
    let instance = prepared();
    let server = instance.serve();
    let made = instance.answer(&["backup", "create"]);
    let id = made["id"].as_str().unwrap();
    let listed = instance.answer(&["backup", "list"]);
    assert!(listed.as_array().unwrap().iter().any(|backup| backup["id"] == id), "{listed}");
    assert_eq!(instance.answer(&["backup", "verify", id])["id"], id);
    let opened = instance.answer(&["backup", "verify", id, "--identity", "key"]);
    assert_eq!((&opened["id"], &opened["opened"]), (&id.into(), &true.into()));
    instance.failure(&["backup", "verify", "absent"], 4);
    server.stop();

    let restore = ["restore", "--from", "backups", "--identity", "key"];
    let with = |more: &[&'static str]| [&restore[..], more].concat();
    // Nobody vouches for it yet: shown, not restored. Another's signature neither.
    assert_eq!(opened["signerVouched"], false);
    assert_eq!(instance.answer(&with(&["--into", "shown", "--dry-run"]))["signer"], opened["signer"]);
    instance.failure(&with(&["--into", "other"]), 3);
    let keys = instance.answer(&["backup", "keys", "list"]);
    assert_eq!((&keys["signers"][0], keys["recipients"].as_array().unwrap().len()), (&opened["signer"], 1));
    let other = prepared().answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    let stranger = instance.run(&[&restore[..], &["--into", "other", "--signer", &other]].concat());
    assert_eq!(stranger.status.code(), Some(5), "{}", stderr(&stranger));
    assert!(!instance.path("other").exists() || std::fs::read_dir(instance.path("other")).unwrap().count() == 0);
    instance.write("key", &format!("{}{}\n", instance.read("key"), keys["signers"][0].as_str().unwrap()));
    assert_eq!(instance.answer(&["backup", "verify", "--identity", "key"])["signerVouched"], true);
    instance.failure(&with(&["--into", "data"]), 3);
    instance.failure(&with(&["--into", "other", "--environment", "production"]), 3);
    let shown = instance.answer(&with(&["--into", "shown", "--dry-run"]));
    assert_eq!(shown["restored"], false);
    assert!(!instance.path("shown").exists(), "a dry run wrote");
    let restored = instance.answer(&with(&["--into", "other"]));
    // A segment of what was told at the stop may have gone after it.
    assert_eq!(restored["lineage"], 2);

    let export = |data: &str| {
        let output = crate::run(instance.command(&["export", "places"]).args(["--data-dir", data]));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let before = export("data");
    assert_eq!(before.lines().count(), 300);
    assert_eq!(export("other"), before);
}

/// The kinds of the backups in the folder, by their names, in their order.
fn kinds(instance: &Instance) -> Vec<String> {
    let files = std::fs::read_dir(instance.path("backups")).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".backup"));
    names.sort();
    names.iter().map(|name| name.split('-').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn backups_run_by_themselves_and_a_stop_loses_nothing() {
    let instance = Instance::backing_up("segment_seconds = 1\n").with_places(300);
    let server = instance.serve();
    wait("a full one, and a segment of what is told of it", || kinds(&instance).len() >= 2);
    assert_eq!(kinds(&instance)[0], "full");
    // With nothing new nothing is sent.
    let still = || {
        let before = kinds(&instance).len();
        std::thread::sleep(std::time::Duration::from_millis(3500));
        kinds(&instance).len() == before
    };
    wait("it rests", still);
    let before = kinds(&instance).len();
    instance.answer(&["collection", "create", "people"]);
    wait("a segment", || kinds(&instance).len() > before);
    // Killed, it goes on from where it was.
    drop(server);
    let server = instance.serve();
    wait("another segment", || kinds(&instance).len() > before + 1);
    instance.write("more.ndjson", &places(310));
    instance.answer(&["import", "places", "more.ndjson", "--upsert"]);
    server.stop();
    let all = kinds(&instance);
    assert_eq!(all.iter().filter(|kind| *kind == "full").count(), 1, "{all:?}");
    let plan = instance.answer(&["backup", "plan"]);
    let target = &plan["targets"][0];
    assert_eq!((&target["status"], target["kept"].as_array().unwrap().len()), (&"ok".into(), all.len()), "{plan}");
    assert_eq!(target["dropped"].as_array().unwrap().len(), 0);
    // What a restart then has to send is what was noted of the start: the documents are there already.
    assert!(target["segment"].as_str().unwrap() > target["full"].as_str().unwrap());
    let shown = stdout(&instance.run(&["backup", "plan"]));
    assert!(shown.contains("any moment") && shown.contains("last"), "{shown}");
    assert_eq!(instance.answer(&["backup", "prune", "--dry-run"])[0]["dropped"].as_array().unwrap().len(), 0);
    instance.failure(&["backup", "plan", "--target", "absent"], 4);
    assert_eq!(instance.answer(&["backup", "create", "--kind", "segment"])["kind"], "segment");
}

/// Into a bucket, by who may do all and by who may only write.
#[test]
fn a_backup_goes_to_a_bucket() {
    use std::os::unix::fs::PermissionsExt;
    let url = std::env::var("S3_URL").expect("S3_URL is not set: run ./scripts/test, which starts the server");
    let instance = prepared();
    let prefix = format!("commands-{}", std::process::id());
    let into = |who: &str| {
        let file = instance.path(who);
        std::fs::write(&file, format!("{who}\nsecret-of-{who}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let place = format!("away=s3://plain/{prefix}?endpoint={url}&credentials={}", file.display());
        let text = instance.read("appliance.toml");
        let (start, rest) = text.split_once("targets = ").unwrap();
        let (_, end) = rest.split_once('\n').unwrap();
        instance.write("appliance.toml", &format!("{start}targets = [\"{place}\"]\n{end}"));
    };
    into("put");
    let blind = instance.answer(&["backup", "create"]);
    assert_eq!(blind["targets"][0]["reread"], false);
    let refused = instance.failure(&["backup", "list"], 1);
    assert!(refused.contains("s3:ListBucket"), "{refused}");
    into("full");
    let seen = instance.answer(&["backup", "create"]);
    assert_eq!(seen["targets"][0]["reread"], true);
    let listed = instance.answer(&["backup", "list"]);
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&blind["id"], &seen["id"]]);
    for made in [&blind, &seen] {
        let id = made["id"].as_str().unwrap();
        assert_eq!(instance.answer(&["backup", "verify", id, "--identity", "key"])["opened"], true);
    }
    let text = instance.read("appliance.toml").replace(&url, "http://127.0.0.1:1");
    instance.write("appliance.toml", &text);
    let away = instance.failure(&["backup", "verify", "--identity", "key"], 6);
    assert!(away.contains("127.0.0.1:1/plain"), "{away}");
}

#[test]
fn a_damaged_backup_and_a_foreign_key_are_refused() {
    let instance = prepared();
    instance.answer(&["backup", "create"]);
    instance.answer(&["backup", "keys", "generate", "-o", "foreign"]);
    let restore = ["restore", "--from", "backups", "--into", "other", "--identity"];
    let foreign = instance.run(&[&restore[..], &["foreign"]].concat());
    assert!(matches!(foreign.status.code(), Some(1 | 3)), "{}", stderr(&foreign));
    assert!(!instance.path("other").exists() || std::fs::read_dir(instance.path("other")).unwrap().count() == 0);

    let mut files = std::fs::read_dir(instance.path("backups")).unwrap().map(|entry| entry.unwrap().path());
    let path = files.find(|path| path.is_file()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    instance.failure(&["backup", "verify"], 5);
    instance.failure(&["backup", "verify", "--identity", "key"], 5);
    instance.failure(&[&restore[..], &["key", "--any-signer"]].concat(), 5);
    assert!(!instance.path("other").exists() || std::fs::read_dir(instance.path("other")).unwrap().count() == 0);
}
