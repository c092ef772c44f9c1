//! `backup keys`: recipients added, retired and given older backups; a private key split over sheets and found again.

use crate::{
    backups::prepared,
    instance::{Instance, wait},
    stderr, stdout,
};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn generate(instance: &Instance, name: &str) -> String {
    instance.answer(&["backup", "keys", "generate", "-o", name])["recipient"].as_str().unwrap().to_owned()
}

#[test]
fn recipients_come_and_go_in_the_file() {
    let instance = prepared();
    let first = instance.answer(&["backup", "keys", "list"])["recipients"][0].as_str().unwrap().to_owned();
    let text = instance.read("appliance.toml").replace("target", "# where\ntarget") + "# the end\n";
    instance.write("appliance.toml", &text);
    std::fs::set_permissions(instance.path("appliance.toml"), std::fs::Permissions::from_mode(0o640)).unwrap();

    instance.failure(&["backup", "keys", "retire", &first], 3);
    let second = generate(&instance, "second");
    let added = instance.answer(&["backup", "keys", "add", &second]);
    assert_eq!(added["recipients"], serde_json::json!([first, second]));
    let file = instance.read("appliance.toml");
    assert_eq!(file, text.replace(&format!("[\"{first}\"]"), &format!("[\"{first}\", \"{second}\"]")));
    let mode = std::fs::metadata(instance.path("appliance.toml")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640, "the service could not read it any more");
    // Again: nothing more is written.
    instance.answer(&["backup", "keys", "add", &second]);
    assert_eq!(instance.read("appliance.toml"), file);
    instance.failure(&["backup", "keys", "add", &second[1..]], 3);
    instance.failure(&["backup", "keys", "retire", "0123"], 4);

    let dry = instance.answer(&["backup", "keys", "retire", &first, "--dry-run"]);
    assert_eq!((&dry["recipients"][0], instance.read("appliance.toml")), (&second.as_str().into(), file));
    let listed = stdout(&instance.run(&["backup", "keys", "list"]));
    let id = dry["id"].as_str().unwrap();
    assert!(listed.contains(id), "{listed}");
    instance.answer(&["backup", "keys", "retire", id]);
    assert_eq!(instance.answer(&["backup", "keys", "list"])["recipients"], serde_json::json!([second]));

    // What the environment says is not undone by the file.
    let mut command = instance.command(&["backup", "keys", "add", &first]);
    let output = crate::run(command.env("DEBROUILLE_BACKUP_RECIPIENTS", &second));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("DEBROUILLE_BACKUP_RECIPIENTS"));
}

#[test]
fn production_with_one_recipient_serves_loudly_and_fails_the_doctor() {
    let instance = Instance { folder: tempfile::tempdir().unwrap() };
    instance.write("appliance.toml", "");
    let [one, two] = ["one", "two"].map(|name| generate(&instance, name));
    std::fs::remove_file(instance.path("appliance.toml")).unwrap();
    let init = ["init", "--environment", "production", "--hostname", "localhost", "--recipient", &one];
    instance.answer(&init);
    let judged = || {
        let output = crate::run(instance.command(&["doctor"]).arg("--json"));
        let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let checks = answer["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["check"] == "recipients").unwrap()["level"].clone();
        (output.status.code(), found)
    };
    assert_eq!(judged(), (Some(1), "failure".into()));
    // It serves all the same, and is fit to.
    let server = instance.serve();
    wait("it is up", || instance.run(&["doctor"]).status.code().is_some());
    instance.failure(&["backup", "create"], 3);
    server.stop();
    instance.failure(&["backup", "keys", "retire", &one], 3);
    instance.answer(&["backup", "keys", "add", &two]);
    assert_eq!(judged().1, "ok");
}

#[test]
fn a_retired_key_opens_no_backup_that_was_rewrapped() {
    let instance = prepared();
    instance.answer(&["backup", "create"]);
    let new = generate(&instance, "new");
    let signer = instance.answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    instance.write("key", &format!("{}{signer}\n", instance.read("key")));
    let old = instance.answer(&["backup", "keys", "list"])["recipients"][0].as_str().unwrap().to_owned();
    instance.answer(&["backup", "keys", "add", &new]);
    instance.answer(&["backup", "keys", "retire", &old]);
    let outcomes = |more: &[&str]| {
        let answer = instance.answer(&[&["backup", "keys", "rewrap", "--identity", "key"], more].concat());
        let all: Vec<_> = answer["backups"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
        all
    };
    // The documents' backup, and that of the subjects' keys beside it.
    assert_eq!(outcomes(&["--dry-run"]), ["due", "due"]);
    instance.failure(&["backup", "keys", "rewrap", "--identity", "new"], 3);
    instance.answer(&["backup", "verify", "--identity", "key"]);
    assert_eq!(outcomes(&[]), ["done", "done"]);
    assert_eq!(outcomes(&[]), ["same", "same"]);
    instance.failure(&["backup", "verify", "--identity", "key"], 3);
    instance.answer(&["backup", "verify", "--identity", "new"]);
    instance.answer(&["backup", "verify"]);
    instance.answer(&["restore", "--from", "backups", "--identity", "new", "--signer", &signer, "--into", "other"]);
    // Elsewhere, and for others than the configuration's.
    std::fs::create_dir(instance.path("copy")).unwrap();
    let named: Vec<_> =
        std::fs::read_dir(instance.path("backups")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let file = named.iter().find(|path| path.is_file()).unwrap();
    std::fs::copy(file, instance.path("copy").join(file.file_name().unwrap())).unwrap();
    instance.answer(&["backup", "keys", "rewrap", "--identity", "new", "--from", "copy", "--recipient", &old]);
    instance.answer(&["restore", "--from", "copy", "--identity", "key", "--into", "shown", "--dry-run"]);
}

/// Whenever it is killed, each backup opens to the old key or to the new one.
#[test]
fn a_killed_rewrap_leaves_the_old_or_the_new() {
    let instance = prepared();
    for _ in 0..3 {
        instance.answer(&["backup", "create"]);
    }
    let new = generate(&instance, "new");
    let old = instance.answer(&["backup", "keys", "list"])["recipients"][0].as_str().unwrap().to_owned();
    let ids: Vec<_> =
        instance.answer(&["backup", "list"]).as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    let mut by = [("key", &new), ("new", &old)];
    for millis in (0..40).step_by(5) {
        let (identity, recipient) = by[0];
        let mut command =
            instance.command(&["backup", "keys", "rewrap", "--identity", identity, "--recipient", recipient]);
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        for id in &ids {
            let id = id.as_str().unwrap();
            let opened =
                ["key", "new"].map(|key| instance.run(&["backup", "verify", id, "--identity", key]).status.success());
            assert!(opened[0] != opened[1], "{id} after {millis} ms: {opened:?}");
        }
        // Whoever goes on finishes it.
        instance.answer(&["backup", "keys", "rewrap", "--identity", identity, "--recipient", recipient]);
        by.reverse();
    }
    let left = std::fs::read_dir(instance.path("backups"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".partial"));
    assert!(left.count() <= 1, "what the dead left is swept");
}

#[test]
fn a_key_split_over_sheets_is_found_again() {
    let instance = prepared();
    let signer = instance.answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    instance.write("key", &format!("{}{signer}\n", instance.read("key")));
    std::fs::create_dir(instance.path("sheets")).unwrap();
    let split = ["backup", "keys", "split", "key", "--shares", "5", "--threshold", "3"];
    let made = instance.answer(&[&split[..], &["-o", "sheets"]].concat());
    let sheets: Vec<String> =
        made["shares"].as_array().unwrap().iter().map(|share| share["file"].as_str().unwrap().to_owned()).collect();
    for sheet in &sheets {
        let mode = std::fs::metadata(instance.path(sheet)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
    let combine =
        |files: &[&str], output: &str| instance.run(&[&["backup", "keys", "combine"], files, &["-o", output]].concat());
    let found = combine(&[&sheets[4], &sheets[0], &sheets[2]], "found");
    assert_eq!(found.status.code(), Some(0), "{}", stderr(&found));
    assert_eq!(instance.read("found"), instance.read("key"), "key or signers differ");
    assert_eq!(combine(&[&sheets[0], &sheets[1]], "few").status.code(), Some(3));
    assert_eq!(combine(&[&sheets[0], &sheets[1], &sheets[1]], "few").status.code(), Some(3));

    // The words alone, in French here, say the same; only the signers are missing.
    let words = |sheet: &str| {
        let text = instance.read(sheet);
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("debrouille"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let french = crate::run(instance.command(&split).args(["--lang", "fr", "-o", "."]));
    assert_eq!(french.status.code(), Some(0), "{}", stderr(&french));
    let named: Vec<_> = stdout(&french).lines().map(str::to_owned).collect();
    instance.write("typed", &named[..3].iter().map(|sheet| words(sheet) + "\n").collect::<String>());
    let typed = combine(&["typed"], "typed.key");
    assert_eq!(typed.status.code(), Some(0), "{}", stderr(&typed));
    assert!(stderr(&typed).contains("signer"), "{}", stderr(&typed));
    assert_eq!(instance.read("typed.key"), instance.read("key").replace(&format!("{signer}\n"), ""));
    assert!(stderr(&combine(&[&sheets[0], &named[1], &named[2]], "mixed")).contains("set"));

    // A signer that one holder alone adds is not believed.
    let forged = prepared().answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    instance.write(&sheets[1], &format!("{}{forged}\n", instance.read(&sheets[1])));
    let doubted = combine(&[&sheets[1], &sheets[2], &sheets[3]], "doubted");
    assert!(stderr(&doubted).contains(&forged), "{}", stderr(&doubted));
    assert_eq!(instance.read("doubted"), instance.read("key"));
    // A word misread is named.
    let sheet = instance.read(&sheets[0]);
    let word = sheet.lines().find(|line| line.starts_with("  1 ")).unwrap().split_whitespace().nth(1).unwrap();
    instance.write("misread", &sheet.replacen(&format!("  1 {word}"), "  1 xyzzy", 1));
    let misread = stderr(&combine(&["misread", &sheets[1], &sheets[2]], "no"));
    assert!(misread.contains("misread") && misread.contains("xyzzy"), "{misread}");
    instance.failure(&["backup", "keys", "split", "key", "--shares", "3", "--threshold", "1"], 2);
    instance.failure(&["backup", "keys", "split", "key", "--shares", "3", "--threshold", "4"], 3);
}
