//! What an operator in trouble is told: by whom it is signed, what is missing, what was mistaken for what.

use crate::{backups::prepared, instance::Instance, stderr, stdout};
use std::{io::Write, process::Stdio};

const RESTORE: [&str; 5] = ["restore", "--from", "backups", "--identity", "key"];

fn vouched() -> Instance {
    let instance = prepared().vouched();
    instance.answer(&["backup", "create"]);
    instance
}

fn restore(instance: &Instance, more: &[&str]) -> std::process::Output {
    instance.run(&[&RESTORE[..], more].concat())
}

/// The line of the private key in a file of one.
fn private(instance: &Instance, name: &str) -> String {
    let text = instance.read(name);
    text.lines().find(|line| line.starts_with("debrouille-identity-1-")).unwrap().to_owned()
}

#[test]
fn a_restore_says_who_signed_and_whether_the_configuration_came_along() {
    let instance = vouched();
    let shown = restore(&instance, &["--into", "new", "--dry-run"]);
    let words = stderr(&shown);
    assert!(words.contains("Signed by debrouille-signer-1-") && words.contains("came along"), "{words}");
    assert!(!words.contains("witness"), "{words}");
    std::fs::rename(instance.data(), instance.path("away")).unwrap();
    let done = restore(&instance, &["--into", "new"]);
    let words = stderr(&done);
    assert_eq!(done.status.code(), Some(0), "{words}");
    for said in ["Signed by debrouille-signer-1-", "new/appliance.toml.restored", "witness"] {
        assert!(words.contains(said), "{said}: {words}");
    }
}

#[test]
fn a_dry_run_tells_what_the_restore_would_refuse() {
    let instance = vouched();
    // As a newer backup whose beginning is gone.
    instance.write("backups/29991231T000000Z-full-0.backup", "gone");
    let dry = restore(&instance, &["--into", "new", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert!(stdout(&dry).contains("refused without --allow-older"), "{}", stdout(&dry));
    let accepted = restore(&instance, &["--into", "new", "--dry-run", "--allow-older"]);
    assert!(stdout(&accepted).contains("can be restored"), "{}", stdout(&accepted));
    assert_eq!(restore(&instance, &["--into", "new"]).status.code(), Some(3));
}

#[test]
fn a_disk_that_is_full_is_named_with_its_room() {
    let instance = vouched();
    let restore = instance.command(&[&RESTORE[..], &["--into", "new"]].concat());
    let mut command = std::process::Command::new("strace");
    command.current_dir(instance.folder.path()).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=pwrite64",
        "-e",
        "inject=pwrite64:error=ENOSPC:when=9+",
    ]);
    let output = crate::run(command.arg(restore.get_program()).args(restore.get_args()));
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("disk of new is full") && stderr(&output).contains("iB free of"));
}

#[test]
fn nothing_is_restored_into_backups_or_within_an_instance() {
    let instance = vouched();
    for into in ["backups", "backups/new", "backups/../backups/new", "data/new"] {
        for more in [&["--into", into][..], &["--into", into, "--dry-run"]] {
            let refused = restore(&instance, more);
            assert_eq!(refused.status.code(), Some(3), "{into}: {}", stderr(&refused));
            assert!(stderr(&refused).contains("restore elsewhere"), "{into}: {}", stderr(&refused));
        }
        assert!(!instance.path(into).join("instance.json").exists());
    }
    std::os::unix::fs::symlink(instance.path("backups"), instance.path("link")).unwrap();
    assert_eq!(restore(&instance, &["--into", "link/new"]).status.code(), Some(3));
    assert_eq!(restore(&instance, &["--into", "backups-new"]).status.code(), Some(0));
}

#[test]
fn what_was_mistaken_for_the_key_is_named() {
    let instance = vouched();
    instance.answer(&["backup", "keys", "split", "key", "--shares", "2", "--threshold", "2", "-o", "new/sheets"]);
    let sheet = std::fs::read_dir(instance.path("new/sheets")).unwrap().next().unwrap().unwrap().path();
    let failure =
        |file: &str| instance.failure(&["restore", "--from", "backups", "--into", "new/data", "--identity", file], 3);
    let share = failure(sheet.to_str().unwrap());
    assert!(share.contains("backup keys combine") && share.contains("new/sheets"), "{share}");
    let wrong = failure("appliance.toml");
    assert!(wrong.contains("appliance.toml is not") && wrong.contains("Line 1"), "{wrong}");

    let other = prepared().answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    instance.write("doubting", &format!("{}\n{other}\n", private(&instance, "key")));
    let own = instance.answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    let foreign = ["restore", "--from", "backups", "--into", "new/data", "--identity", "doubting"];
    for command in [&foreign[..], &["backup", "verify", "--identity", "doubting"]] {
        let foreign = instance.failure(command, 5);
        assert!(foreign.contains(&own) && foreign.contains(&other), "{foreign}");
    }
    let bucket = instance.failure(&["restore", "--from", "s3://b", "--into", "new/data", "--identity", "key"], 3);
    assert!(bucket.contains("s3://b") && !bucket.contains("backup.targets"), "{bucket}");
}

#[test]
fn a_private_key_given_for_a_public_one_is_not_said_back() {
    let instance = vouched();
    let secret = private(&instance, "key");
    let hidden = secret.trim_start_matches("debrouille-identity-1-");
    let rewrap = ["backup", "keys", "rewrap", "--identity", "key", "--recipient", &secret];
    let signer = [&RESTORE[..], &["--into", "new", "--signer", &secret]].concat();
    let given: [(&[&str], i32); 6] = [
        (&["backup", "keys", "add", &secret], 3),
        (&["backup", "keys", "retire", &secret], 4),
        (&rewrap, 3),
        (&signer, 3),
        (&["backup", "keys", "add", "debrouille-recipient-1-", &secret], 2),
        (&["backup", "create", "--kind", &secret], 2),
    ];
    for (command, code) in given {
        let said = instance.failure(command, code);
        assert!(!said.contains(hidden), "{command:?}: {said}");
        assert!(code == 2 || said.contains("private key"), "{command:?}: {said}");
        let document = crate::run(instance.command(command).arg("--json"));
        assert!(!stdout(&document).contains(hidden) && !stderr(&document).contains(hidden), "{command:?}");
    }
    // Nor where it was put into the configuration.
    let text = instance.read("appliance.toml");
    let (start, rest) = text.split_once("recipients = [").unwrap();
    instance.write("appliance.toml", &format!("{start}recipients = [\"{secret}\", {rest}"));
    for command in [&["config", "show"][..], &["config", "check"], &["backup", "create"], &["backup", "keys", "list"]] {
        for output in [instance.run(command), crate::run(instance.command(command).arg("--json"))] {
            let said = stdout(&output) + &stderr(&output);
            assert!(!said.contains(hidden), "{command:?}: {said}");
        }
    }
}

#[test]
fn locks_are_changed_where_backups_are_and_nowhere_else() {
    let instance = vouched();
    std::fs::create_dir(instance.path("empty")).unwrap();
    let rewrap = |from: &str, code: i32| {
        instance.failure(&["backup", "keys", "rewrap", "--identity", "key", "--from", from], code)
    };
    let nothing = rewrap("empty", 4);
    assert!(nothing.contains("No backup in empty") && !nothing.contains("Only the present"), "{nothing}");
    assert!(rewrap("s3://bucket/prefix", 3).contains("copy the backups"));
    rewrap("absent", 6);
    // The other backups are not passed over for not being a folder.
    std::fs::remove_dir_all(instance.path("backups/subjects")).unwrap();
    instance.write("backups/subjects", "");
    rewrap("backups", 3);
}

#[test]
fn a_missing_place_has_one_code_and_is_said_once() {
    let instance = vouched();
    std::fs::rename(instance.path("backups"), instance.path("unplugged")).unwrap();
    let commands: [&[&str]; 7] = [
        &["backup", "create"],
        &["backup", "list"],
        &["backup", "verify"],
        &["backup", "verify", "--identity", "key"],
        &["backup", "prune", "--dry-run"],
        &["backup", "keys", "rewrap", "--identity", "key"],
        &["restore", "--from", "backups", "--identity", "key", "--into", "new"],
    ];
    for command in commands {
        let said = instance.failure(command, 6);
        assert!(said.contains("does not exist"), "{command:?}: {said}");
    }
    let plan = instance.run(&["backup", "plan"]);
    assert_eq!(plan.status.code(), Some(6), "{}", stderr(&plan));
    assert_eq!(stdout(&plan).matches("does not exist").count(), 1, "{}", stdout(&plan));
    let drill = instance.run(&["restore", "drill", "--identity", "key", "-o", "reports/here"]);
    assert_eq!(drill.status.code(), Some(6), "{}", stderr(&drill));
    assert!(!stderr(&drill).contains("--report"), "{}", stderr(&drill));
    assert_eq!(std::fs::read_dir(instance.path("reports/here")).unwrap().count(), 2);
}

#[test]
fn what_cannot_be_written_is_said_before_the_work_and_nothing_is_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let instance = vouched();
    instance.write("file", "kept");
    let refused = instance.failure(&["restore", "drill", "--identity", "key", "-o", "file"], 1);
    assert!(refused.contains("file") && !instance.path("data.drill").exists(), "{refused}");
    let split = ["backup", "keys", "split", "key", "--shares", "3", "--threshold", "2", "-o"];
    instance.failure(&[&split[..], &["file/sheets"]].concat(), 1);
    instance.answer(&[&split[..], &["made/sheets"]].concat());
    for folder in ["made", "made/sheets"] {
        let mode = std::fs::metadata(instance.path(folder)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{folder}");
    }
    let there = instance.failure(&["backup", "keys", "generate", "-o", "file"], 1);
    assert!(there.contains("already there"), "{there}");
    assert_eq!(instance.read("file"), "kept");
}

#[test]
fn signers_of_several_sheets_in_one_text_are_not_believed() {
    let instance = vouched();
    let forged = prepared().answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    let own = instance.answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
    let split = ["backup", "keys", "split", "key", "--shares", "3", "--threshold", "3", "-o", "sheets"];
    let made = instance.answer(&split);
    let sheets: Vec<String> =
        made["shares"].as_array().unwrap().iter().map(|share| instance.read(share["file"].as_str().unwrap())).collect();
    let combine = |text: String, output: &str| {
        let mut command = instance.command(&["backup", "keys", "combine", "-o", output]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output)
    };
    // One holder, who says it as often as he likes.
    let added = sheets.join("\n") + &format!("{forged}\n").repeat(3);
    let said = combine(added, "found");
    assert!(said.contains(&forged) && said.contains(&own) && said.contains("one text"), "{said}");
    let found = instance.read("found");
    assert!(!found.contains(&forged) && found.contains(&private(&instance, "key")), "{found}");
    let clean = combine(sheets.join("\n"), "clean");
    assert!(!instance.read("clean").contains("debrouille-signer-1-"), "{clean}");
}

#[test]
fn a_backup_is_opened_at_the_target_that_is_named() {
    let instance = vouched();
    std::fs::create_dir(instance.path("second")).unwrap();
    let text = instance.read("appliance.toml").replace("[\"backups\"]", "[\"backups\", \"usb=second\"]");
    instance.write("appliance.toml", &text);
    let made = instance.answer(&["backup", "create", "--target", "usb"]);
    let verify = ["backup", "verify", made["id"].as_str().unwrap(), "--identity", "key"];
    instance.failure(&verify, 4);
    assert_eq!(instance.answer(&[&verify[..], &["--target", "usb"]].concat())["id"], made["id"]);
    let unknown = instance.failure(&[&verify[..], &["--target", "absent"]].concat(), 4);
    assert!(unknown.contains("backups, usb"), "{unknown}");
}

#[test]
fn a_collection_that_is_not_there_brings_nothing_back() {
    let instance = Instance::backing_up("").vouched().with_places(3);
    instance.answer(&["backup", "create"]);
    let restore = ["restore", "--from", "backups", "--identity", "key", "--into", "new", "--collection", "plcaes"];
    for more in [&["--dry-run"][..], &[]] {
        let said = instance.failure(&[&restore, more].concat(), 4);
        assert!(said.contains("\"plcaes\"") && said.contains("there are: places."), "{said}");
        assert!(!instance.path("new/instance.json").exists());
    }
}

#[test]
fn a_drill_asked_for_wrongly_is_refused_and_leaves_no_report() {
    let instance = Instance::backing_up("").vouched().with_places(3);
    instance.answer(&["backup", "create"]);
    let mut drill = instance.command(&["restore", "drill", "--identity", "key", "-o", "reports", "--from", "backups"]);
    let refused = crate::run(drill.args(["--environment", "staging", "--data-dir", "elsewhere"]));
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
    assert_eq!(std::fs::read_dir(instance.path("reports")).unwrap().count(), 0);
    assert!(!instance.path("elsewhere.drill").exists());
    // Of an empty folder it is said that there is nothing in it.
    std::fs::create_dir(instance.path("empty")).unwrap();
    let said = instance.failure(&["restore", "--from", "empty", "--identity", "key", "--into", "new"], 4);
    assert!(said.contains("No backup in empty"), "{said}");
}
