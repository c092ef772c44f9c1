//! Another release in the place of the one that runs, from a signed repository on a disk, and back again: by the programs of
//! an archive's installation, started and stopped by a small supervisor.

mod world;

use crate::appliance::until;
use serde_json::Value;
use std::{fs, time::Instant};
use world::{NEW, OLD, World};

/// Written while releases change; what was acknowledged must be there after.
#[test]
fn a_release_is_applied_and_gone_back_from_with_every_write() {
    let world = World::new(|_, program| program);
    let mut written = world.writer();
    let applied = world.run(&["self-update", "apply"]);
    assert_eq!(applied.code, 0, "{}", applied.words);
    assert!(applied.words.contains(&format!("Release {NEW} runs")), "{}", applied.words);
    assert_eq!(world.answers(), NEW);
    let back = world.run(&["self-update", "rollback"]);
    assert_eq!((back.code, world.answers().as_str()), (0, OLD), "{}", back.words);
    let (acknowledged, failed) = written.stop();
    assert!(acknowledged > 0, "nothing was written meanwhile");
    println!("{acknowledged} acknowledged, {failed} refused");
    assert_eq!(world.documents(), acknowledged);
    let history = world.json(&["self-update", "history"]);
    let outcomes: Vec<_> = history.as_array().unwrap().iter().map(|event| event["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["applied", "rolledBack"]);
    let noted = world.json(&["audit", "list", "--action", "updates.note"]);
    assert_eq!(noted.as_array().unwrap().len(), 2, "{noted}");
    let again = world.run(&["self-update", "rollback"]);
    assert_eq!(again.code, 4, "{}", again.words);
}

#[track_caller]
fn taken_back(fake: &str, why: &str) {
    let world = World::new(|world, program| world.script(&program, fake));
    let document = world.write(1);
    assert_eq!(document, 201);
    let start = Instant::now();
    let applied = world.run(&["self-update", "apply"]);
    let took = start.elapsed().as_secs();
    assert_eq!(applied.code, 1, "{}", applied.words);
    assert!(applied.words.contains(why), "{}", applied.words);
    assert_eq!(world.answers(), OLD);
    assert!(took < 60, "{took} s");
    assert_eq!(world.documents(), 1);
    let history = world.json(&["self-update", "history"]);
    assert_eq!(history[0]["outcome"], "takenBack");
    assert_eq!(world.json(&["self-update", "status"])["failed"], serde_json::json!([NEW]));
    // Not of itself once more.
    let again = world.run(&["self-update", "apply", "--scheduled"]);
    assert_eq!((again.code, world.answers().as_str()), (0, OLD), "{}", again.words);
    assert!(again.words.contains("tried here before"), "{}", again.words);
}

#[test]
fn one_that_crashes_at_its_start_is_taken_back() {
    taken_back("exit 1", "does not answer");
}

#[test]
fn one_that_hangs_is_taken_back() {
    taken_back("exec sleep 1000", "does not answer");
}

#[test]
fn one_that_answers_500_is_taken_back() {
    let server = r#"exec python3 -c '
import http.server, socketserver, sys, os
class Answer(http.server.BaseHTTPRequestHandler):
    def address_string(self): return ""
    def do_GET(self):
        self.send_response(500); self.end_headers(); self.wfile.write(b"{}")
path = os.environ["SOCKET"]
if os.path.exists(path): os.unlink(path)
socketserver.UnixStreamServer(path, Answer).serve_forever()'"#;
    taken_back(server, "500");
}

/// Whoever could lay a socket there says nothing that root acts on.
#[test]
fn one_that_answers_as_another_user_is_taken_back() {
    let server = r#"exec python3 -c '
import os, socketserver
path = os.environ["SOCKET"]
if os.path.exists(path): os.unlink(path)
server = socketserver.UnixStreamServer(path, socketserver.BaseRequestHandler, False)
server.server_bind(); os.setuid(65534); server.server_activate(); server.serve_forever()'"#;
    taken_back(server, "user 65534 answers at");
}

/// Its database the first one could not open: it stays, known as failed, and there is no way back.
#[test]
fn one_that_changes_the_format_and_fails_stays() {
    let world = World::new(|world, program| world.script(&world.later_format(&program), "exit 1"));
    let refused = world.run(&["self-update", "apply"]);
    assert_eq!((refused.code, world.answers().as_str()), (3, OLD), "{}", refused.words);
    let applied = world.run(&["self-update", "apply", "--anyway"]);
    assert_eq!((applied.code, world.answers().as_str()), (1, ""), "{}", applied.words);
    assert!(applied.words.contains("stays in place"), "{}", applied.words);
    let history = world.json(&["self-update", "history"]);
    assert_eq!((history.as_array().unwrap().len(), &history[0]["outcome"]), (1, &"stays".into()));
    assert!(world.run(&["self-update", "history"]).words.contains("failed, stays"));
    let status = world.json(&["self-update", "status"]);
    assert_eq!((&status["failed"], &status["underWay"]), (&serde_json::json!([NEW]), &Value::Null));
    let back = world.run(&["self-update", "rollback"]);
    assert_eq!(back.code, 3, "{}", back.words);
}

/// It serves, and what was written last is not there.
#[test]
fn one_that_loses_data_is_taken_back() {
    let world = World::new(|world, program| {
        world.script(&program, r#"cp "$DATA"/database.earlier "$DATA"/documents.sealed; exec "$REAL" "$@""#)
    });
    world.halt();
    world.copy_database();
    world.start(OLD);
    assert_eq!(world.write(1), 201);
    let applied = world.run(&["self-update", "apply"]);
    assert_eq!(applied.code, 5, "{}", applied.words);
    assert!(
        applied.words.contains("was taken back") && applied.words.contains("Data are missing"),
        "{}",
        applied.words
    );
    assert_eq!(world.answers(), OLD);
    assert!(world.json(&["self-update", "history"])[0]["missing"]["en"].is_string());
}

/// Whenever the command is killed, what runs is whole, and the next one goes on.
#[test]
fn a_command_that_is_killed_leaves_one_of_both_and_is_gone_on_with() {
    let world = World::new(|_, program| program);
    let mut cut = 0;
    for turn in 0..6_u64 {
        let mut command = world.command(&["self-update", "apply", "0.1.1"]);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(150 + turn * 350));
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        cut += u32::from(!ended);
        assert!(until(30, || [OLD, NEW].contains(&world.answers().as_str())), "nobody answers after turn {turn}");
        let settled = world.run(&["self-update", "apply"]);
        assert_eq!(settled.code, 0, "{}", settled.words);
        let status = world.json(&["self-update", "status"]);
        assert_eq!((world.answers().as_str(), &status["underWay"]), (NEW, &Value::Null));
        let back = world.run(&["self-update", "rollback"]);
        assert_eq!((back.code, world.answers().as_str()), (0, OLD), "{}", back.words);
    }
    assert!(cut > 0, "each was over before it was killed");
}

/// As the boot does it: on or back, and to no other release.
#[test]
fn what_was_cut_short_is_finished_and_nothing_else_begun() {
    // It does nothing at all, but for what it is asked before.
    let world = World::new(|world, program| {
        let serves = "*' serve '*) ;; *) exec";
        let script = world.script(&program, "exit 1");
        let text = fs::read_to_string(&script).unwrap();
        assert!(text.contains(serves));
        fs::write(&script, text.replace(serves, "*' version '*|*' status '*) exec")).unwrap();
        script
    });
    let nothing = world.run(&["self-update", "apply", "--unfinished"]);
    assert_eq!((nothing.code, world.answers().as_str()), (0, OLD), "{}", nothing.words);
    assert!(!world.mark().exists());
    let mut child = world.command(&["self-update", "apply"]).spawn().unwrap();
    let phase = || world.json(&["self-update", "status"])["underWay"]["phase"].clone();
    assert!(until(30, || phase() == "watching"), "{}", phase());
    child.kill().unwrap();
    child.wait().unwrap();
    // Neither a wrong name nor a trial forgets it.
    for (version, more, code) in [("9.9.9", None, 4), (NEW, Some("--dry-run"), 0)] {
        let asked: Vec<_> = [version, "--anyway"].into_iter().chain(more).collect();
        let run = world.apply_by_first(&asked);
        assert_eq!((run.code, phase()), (code, "watching".into()), "{}", run.words);
    }
    let settled = world.apply_by_first(&["--unfinished"]);
    assert_eq!((settled.code, world.answers().as_str()), (1, OLD), "{}", settled.words);
    assert!(settled.words.contains("was taken back"), "{}", settled.words);
    assert!(!world.mark().exists());
    // A kill came between the state and its mark.
    fs::write(world.mark(), "").unwrap();
    let nothing = world.run(&["self-update", "apply", "--unfinished"]);
    assert_eq!((nothing.code, world.answers().as_str()), (0, OLD), "{}", nothing.words);
    assert!(!world.mark().exists());
}

/// A power cut may leave all in place that was to be: what the boot started is the same release then, and about to end.
#[test]
fn what_the_boot_started_is_not_taken_for_what_is_started_anew() {
    for (phase, runs) in [("switching", NEW), ("returning", OLD)] {
        // It hangs once, so that the cut comes while it is watched.
        let world = World::new(|world, program| {
            world.script(
                &program,
                r#"[ -e "$DATA.hung" ] || { touch "$DATA.hung"; exec sleep 1000; }; exec "$REAL" "$@""#,
            )
        });
        let mut child = world.command(&["self-update", "apply"]).spawn().unwrap();
        let state = world.state();
        let watching = "\"phase\": \"watching\"";
        let hangs = || world.hung().exists() && fs::read_to_string(&state).is_ok_and(|text| text.contains(watching));
        assert!(until(30, hangs));
        child.kill().unwrap();
        child.wait().unwrap();
        world.kill();
        let text = fs::read_to_string(&state).unwrap();
        fs::write(&state, text.replace(watching, &format!("\"phase\": \"{phase}\""))).unwrap();
        world.put(runs);
        world.start(runs);
        let started = || world.json(&["status"])["startedAt"].clone();
        let by_the_boot = started();
        let settled = world.apply_by_first(&["--unfinished"]);
        assert_ne!(started(), by_the_boot, "{phase}: {}", settled.words);
        assert_eq!((settled.code, world.answers().as_str()), (0, runs), "{phase}: {}", settled.words);
        let status = world.json(&["self-update", "status"]);
        assert_eq!(
            (&status["underWay"], &status["failed"]),
            (&Value::Null, &serde_json::json!([])),
            "{phase}: {status}"
        );
    }
}

#[test]
fn nothing_is_begun_that_could_not_end_well() {
    let world = World::new(|_, program| program);
    let dry = world.run(&["self-update", "apply", "--dry-run"]);
    assert_eq!((dry.code, world.answers().as_str()), (0, OLD), "{}", dry.words);
    world.halt();
    let down = world.run(&["self-update", "apply"]);
    assert_eq!(down.code, 3, "{}", down.words);
    assert!(down.words.contains("does not answer now") && down.words.contains("--anyway"), "{}", down.words);
    assert_eq!(
        fs::read_link(world.root.join("current")).unwrap(),
        fs::canonicalize(world.root.join("versions").join(OLD)).unwrap().strip_prefix(&world.root).unwrap()
    );
    let unknown = world.run(&["self-update", "apply", "9.9.9"]);
    assert_eq!(unknown.code, 4, "{}", unknown.words);
    // What is down may be mended by another release.
    let anyway = world.run(&["self-update", "apply", "--anyway"]);
    assert_eq!((anyway.code, world.answers().as_str()), (0, NEW), "{}", anyway.words);
}
