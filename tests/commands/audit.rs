//! The audit log by the command line: listed, exported, proven; verified without the instance.

use crate::{
    instance::{Instance, places},
    stderr, stdout,
};
use serde_json::Value;
use std::io::{Read, Write};

fn prepared() -> Instance {
    let instance = Instance { folder: tempfile::tempdir().unwrap() };
    instance.write("appliance.toml", "[instance]\nenvironment = \"development\"\n[audit]\nwitness = [\"witness\"]\n");
    instance.answer(&["init", "--environment", "development", "--hostname", "localhost"]);
    instance.answer(&["collection", "create", "places"]);
    instance.write("places.ndjson", &places(600));
    instance.answer(&["import", "places", "places.ndjson"]);
    instance
}

#[test]
fn what_was_done_is_listed_exported_and_verified_elsewhere() {
    let instance = prepared();
    instance.answer(&["query", "places"]);
    let listed = instance.answer(&["audit", "list", "--limit", "1000"]);
    let actions: Vec<&str> = listed.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in ["collections.create", "documents.import", "documents.query", "documents.create", "identities.create"]
    {
        assert!(actions.contains(&action), "{action} in {actions:?}");
    }
    assert!(listed.as_array().unwrap().iter().any(|entry| entry["who"].as_str().unwrap().starts_with("local:uid")));

    let listed = instance.answer(&["query", "places", "--limit", "1"]);
    let id = listed[0]["_id"].as_str().unwrap();
    let document = format!("places/{id}");
    // Over the local socket a query is told without its documents: it may have been of any.
    let about = instance.answer(&["audit", "list", "--document", &document, "--since", "2020-01-01T00:00:00Z"]);
    let actions: Vec<&str> = about.as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["documents.query", "documents.query", "documents.create"]);
    assert_eq!(instance.answer(&["audit", "list", "--actor", "anonymous"]), Value::Array(Vec::new()));
    instance.failure(&["audit", "list", "--document", "places"], 1);

    // Nobody but the administrator may, and root, whom no policy bounds.
    let output = instance.run(&["access", "who", "places", id]);
    let policies = "admin-collections@1";
    assert!(stdout(&output).contains(policies) && stderr(&output).contains("root"), "{}", stdout(&output));
    let who = instance.answer(&["access", "who", "places", id, "--action", "update", "--limit", "5"]);
    assert_eq!((who.as_array().unwrap().len(), &who[0]["policies"][0]["policy"]), (1, &policies.into()));
    instance.failure(&["access", "who", "places", "none"], 4);
    instance.answer(&["collection", "create", "patients", "--audit-reads", "on"]);
    instance.answer(&["query", "patients"]);
    let told = instance.answer(&["audit", "list", "--object", "patients"]);
    assert_eq!(told[0]["details"]["documents"], Value::Array(Vec::new()));
    instance.failure(&["access", "who", "places", id, "--action", "create"], 2);

    let server = instance.serve();
    let started = instance.answer(&["audit", "list", "--action", "audit.read"]);
    assert!(started.as_array().is_some());
    let key = instance.answer(&["audit", "key"])["keys"][0].as_str().unwrap().to_owned();
    let checkpoint = instance.run(&["audit", "checkpoint"]);
    instance.write("note", &stdout(&checkpoint));
    instance.answer(&["audit", "export", "-o", "log"]);
    assert_eq!(instance.answer(&["audit", "verify"])["sound"], true);
    instance.answer(&["audit", "prove", "5", "-o", "proof"]);
    server.stop();

    // From here on nothing but the files.
    let verified = instance.answer(&["audit", "verify", "log", "--key", &key, "--against", "note"]);
    assert_eq!((&verified["sound"], &verified["vouched"]), (&true.into(), &true.into()));
    assert_eq!(instance.answer(&["audit", "verify", "proof", "--key", &key])["sound"], true);
    assert_eq!(instance.answer(&["audit", "verify", "log"])["vouched"], false);

    let log = instance.read("log");
    assert!(log.contains("\"action\":\"server.start\""));
    let line = log.lines().find(|line| line.starts_with("{\"index\":100,")).unwrap();
    let forged = |text: String, kind: &str| {
        instance.write("forged", &text);
        let output = instance.run(&["--json", "audit", "verify", "forged", "--key", &key]);
        assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
        let verdict: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&verdict["wrong"][0]["index"], &verdict["wrong"][0]["kind"]), (&100.into(), &kind.into()));
        assert!(stderr(&output).contains("100"), "the entry is named: {}", stderr(&output));
    };
    forged(log.replace(line, &line.replace("allowed", "denied")), "edited");
    forged(log.replace(&format!("{line}\n"), ""), "missing");
    forged(log[..log.find(line).unwrap()].to_owned(), "truncated");
    let proof = instance.read("proof").replace("allowed", "denied");
    instance.write("proof", &proof);
    assert_eq!(instance.run(&["audit", "verify", "proof"]).status.code(), Some(5));
    instance.write("neither", "{}");
    instance.failure(&["audit", "verify", "neither"], 5);
    instance.failure(&["audit", "verify", "log", "--key", "nonsense"], 2);
    instance.failure(&["audit", "verify", "log", "--against", "log"], 2);
    instance.failure(&["audit", "prove", "999999"], 4);
    // The witness got the last checkpoint at the stop.
    let witness = instance.read("witness");
    assert!(witness.starts_with("debrouille-appliance/"), "{witness}");
    instance.answer(&["audit", "verify", "--against", "witness"]);
}

#[test]
fn a_restored_instance_continues_the_log_under_the_next_lineage() {
    let instance = Instance { folder: tempfile::tempdir().unwrap() };
    instance.write("appliance.toml", "");
    let recipient = instance.answer(&["backup", "keys", "generate", "-o", "key"])["recipient"].clone();
    let recipient = recipient.as_str().unwrap();
    let text = format!("[instance]\nenvironment = \"development\"\n[backup]\nrecipients = [\"{recipient}\"]\n");
    instance.write("appliance.toml", &text);
    instance.answer(&["init", "--environment", "development", "--hostname", "localhost"]);
    instance.answer(&["collection", "create", "places"]);
    instance.write("places.ndjson", &places(300));
    instance.answer(&["import", "places", "places.ndjson"]);
    let note = |name: &str| instance.write(name, &stdout(&instance.run(&["audit", "checkpoint"])));
    note("before");
    instance.answer(&["backup", "create"]);
    // What the restore will lose.
    instance.answer(&["collection", "create", "lost"]);
    note("lost");
    instance.answer(&["restore", "--from", "data/backups", "--identity", "key", "--any-signer", "--into", "other"]);
    let there = |words: &[&str]| {
        let output = crate::run(instance.command(words).args(["--data-dir", "other", "--json"]));
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()
    };
    let key = instance.answer(&["audit", "key"])["keys"][0].as_str().unwrap().to_owned();
    // The first command seals what the backup brought; the second sees it.
    there(&["collection", "list"]);
    let verified = there(&["audit", "verify", "--key", &key, "--against", "before", "--against", "lost"]);
    assert_eq!(verified["sound"], true, "{verified}");
    assert_eq!((&verified["restored"][0]["lineage"], verified["restored"].as_array().unwrap().len()), (&1.into(), 1));
    assert!(verified["origin"].as_str().unwrap().ends_with("/2"), "{verified}");
    let epochs = there(&["audit", "list", "--action", "audit.epoch"]);
    assert_eq!(epochs.as_array().unwrap().len(), 2);
    assert_eq!(epochs[0]["details"]["continues"]["lineage"], 1);
    // Where nothing was restored, the same checkpoints simply hold.
    let verified = instance.answer(&["audit", "verify", "--against", "before", "--against", "lost"]);
    assert_eq!((&verified["sound"], &verified["restored"]), (&true.into(), &Value::Array(Vec::new())));
}

/// A server on this machine that takes what it is sent.
#[test]
fn a_witness_server_gets_the_checkpoint_of_a_running_instance() {
    let instance = prepared();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let configured = |url: &str| {
        let token = "witness_token = \"a secret of both sides\"";
        let text = format!("[instance]\nenvironment = \"development\"\n[audit]\nwitness = [\"{url}\"]\n{token}\n");
        instance.write("appliance.toml", &text);
    };
    configured("http://witness.example.org/log");
    assert!(instance.failure(&["audit", "list"], 3).contains("https://"));
    configured(&format!("http://{}/log", listener.local_addr().unwrap()));
    let taken = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut sent, mut part) = (Vec::new(), [0; 4096]);
        while !sent.ends_with(b"==\n") && !sent.ends_with(b"=\n") {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "cut after {}", String::from_utf8_lossy(&sent));
            sent.extend_from_slice(&part[..read]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        String::from_utf8(sent).unwrap()
    });
    let server = instance.serve();
    let sent = taken.join().unwrap();
    server.stop();
    let (head, note) = sent.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /log ") && head.contains("Bearer a secret of both sides"), "{head}");
    instance.write("note", note);
    assert_eq!(instance.answer(&["audit", "verify", "--against", "note"])["sound"], true);
}
