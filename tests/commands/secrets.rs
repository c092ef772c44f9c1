//! `secrets`: keys shown, rotated and revoked, and the root key's successor, with a server and without.

use crate::{instance::Instance, run, stderr, stdout};
use debrouille_appliance::{
    backends::keys::local::LocalRootKey,
    services::{instance::Stamp, keyring::Keyring},
};
use serde_json::{Value, json};

fn version(instance: &Instance, key: &str) -> Value {
    let status = instance.answer(&["secrets", "status"]);
    status["keys"].as_array().unwrap().iter().find(|one| one["purpose"] == key).unwrap().clone()
}

fn exported(instance: &Instance) -> String {
    let output = instance.run(&["export", "places"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

#[test]
fn every_key_has_its_successor_with_a_server_and_without() {
    let instance = Instance::new().with_places(2000);
    let before = exported(&instance);
    let table = stdout(&instance.run(&["secrets", "status"]));
    assert!(table.contains("token-signing") && table.contains("Root key: file "), "{table}");
    for served in [false, true] {
        let server = served.then(|| instance.serve());
        let answer = instance.answer(&["secrets", "rotate", "--all", "--rewrite"]);
        assert_eq!(answer["keys"].as_array().unwrap().len(), 6);
        assert!(answer["keys"].as_array().unwrap().iter().any(|key| key["rewrittenPages"].as_u64() > Some(50)));
        for key in ["data", "subjects"] {
            let key = version(&instance, key);
            let current = key["version"].as_u64().unwrap();
            assert_eq!(current, if served { 3 } else { 2 });
            let pages: Vec<_> = key["pages"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(pages, [current.to_string()], "all are under the key in use");
        }
        assert_eq!(exported(&instance), before);
        if let Some(server) = server {
            server.stop();
        }
    }
    assert_eq!(exported(&instance), before);
    instance.answer(&["audit", "verify"]);
    // What a rotation leaves is moved without another one.
    instance.answer(&["secrets", "rotate", "data"]);
    instance.answer(&["collection", "create", "since"]);
    assert!(version(&instance, "data")["pages"].as_object().unwrap().len() > 1);
    let rewritten = instance.answer(&["secrets", "rewrite"]);
    assert!(rewritten["keys"][0]["rewrittenPages"].as_u64() > Some(50), "{rewritten}");
    let data = version(&instance, "data");
    assert_eq!((&data["version"], data["pages"].as_object().unwrap().len()), (&json!(4), 1));
    let mut shared = instance.command(&["secrets", "rotate", "token-signing", "--revoke", "--yes"]);
    shared.env("DEBROUILLE_IDENTITY_TOKEN_ALGORITHM", "HS256").env("JWT_SECRET", "s".repeat(40));
    assert_eq!(run(&mut shared).status.code(), Some(3), "it would change nothing");
    // One of them is refused: the others are rotated, and said to be; the answer is one document.
    let mut partly = instance.command(&["secrets", "rotate", "backup-signing", "token-signing", "--revoke", "--yes"]);
    partly.env("DEBROUILLE_IDENTITY_TOKEN_ALGORITHM", "HS256").env("JWT_SECRET", "s".repeat(40)).arg("--json");
    let output = run(&mut partly);
    assert_eq!(output.status.code(), Some(3));
    let answer: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(answer["error"].is_object() && stderr(&output).contains("backup-signing is at version"), "{answer}");
    instance.failure(&["secrets", "rotate"], 2);
    instance.failure(&["secrets", "rotate", "root"], 2);
    instance.failure(&["tls", "status"], 6);
    instance.failure(&["secrets", "rotate", "data", "--revoke", "--yes"], 2);
    instance.failure(&["secrets", "rotate", "token-signing", "--rewrite"], 2);
    instance.failure(&["secrets", "rotate", "token-signing", "--revoke"], 3);
    assert_eq!(version(&instance, "token-signing")["version"], 3);
}

/// The key file knows the first signer alone.
#[test]
fn a_rotated_signer_is_believed_and_one_revoked_is_not() {
    let instance = Instance::backing_up("").vouched().with_places(100);
    let restore = |into: &str, more: &[&str]| {
        let mut command = instance.command(&["restore", "--from", "backups", "--identity", "key", "--into", into]);
        run(command.args(["--environment", "development"]).args(more))
    };
    instance.answer(&["backup", "create"]);
    for _ in 0..2 {
        instance.answer(&["secrets", "rotate", "backup-signing"]);
    }
    instance.answer(&["backup", "create"]);
    let output = restore("one", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let told = instance.run(&["secrets", "rotate", "backup-signing", "--revoke", "--yes"]);
    let signers = instance.answer(&["backup", "keys", "list"])["signers"].clone();
    assert_eq!(signers.as_array().unwrap().len(), 1);
    let signer = signers[0].as_str().unwrap();
    assert!(stdout(&told).contains(signer) && stdout(&told).contains("vouches"), "{}", stdout(&told));
    instance.answer(&["backup", "create"]);
    // What the old key signed is still what its owner believes, and older than what is there; the new key is a stranger.
    let output = restore("two", &[]);
    assert_ne!(output.status.code(), Some(0), "{}", stdout(&output));
    let output = restore("two", &["--signer", signer]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_root_key_has_a_successor_and_a_stop_in_between_finds_it() {
    let instance = Instance::new().with_places(50);
    let rows = exported(&instance);
    let key = instance.data().join("root.key");
    let next = instance.data().join("root.key.next");
    let first = std::fs::read(&key).unwrap();
    for served in [false, true] {
        let before = std::fs::read(&key).unwrap();
        let server = served.then(|| instance.serve());
        instance.answer(&["secrets", "rewrap"]);
        assert!(std::fs::read(&key).unwrap() != before && !next.exists());
        // Saved under the new one too.
        instance.answer(&["secrets", "rotate", "media"]);
        if let Some(server) = server {
            server.stop();
        }
        assert_eq!(exported(&instance), rows);
    }
    // As when it was killed before the successor took the name.
    let last = std::fs::read(&key).unwrap();
    std::fs::copy(&key, &next).unwrap();
    std::fs::write(&key, &first).unwrap();
    assert_ne!(instance.run(&["doctor"]).status.code(), Some(5), "it only looks");
    assert_eq!(exported(&instance), rows);
    assert!(std::fs::read(&key).unwrap() == last && !next.exists());
    // One that never came into use is no more than a file.
    std::fs::copy(&key, &next).unwrap();
    std::fs::write(&next, &first).unwrap();
    instance.answer(&["secrets", "rewrap"]);
    assert!(!next.exists());

    // A link is followed: the key lies on another disk for a reason.
    let elsewhere = instance.path("elsewhere.key");
    std::fs::rename(&key, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &key).unwrap();
    let before = std::fs::read(&elsewhere).unwrap();
    instance.answer(&["secrets", "rewrap"]);
    assert!(std::fs::symlink_metadata(&key).unwrap().is_symlink() && std::fs::read(&elsewhere).unwrap() != before);
    assert_eq!(exported(&instance), rows);

    let file = instance.path("new.key");
    instance.failure(&["secrets", "rewrap", "--to", "new.key"], 3);
    let answer = instance.answer(&["secrets", "rewrap", "--to", "new.key", "--yes"]);
    assert_eq!(answer["rootKey"], json!(format!("file {}", file.display())));
    let refused = instance.failure(&["export", "places"], 5);
    assert!(refused.contains("root.key"), "{refused}");
    let mut command = instance.command(&["export", "places"]);
    let output = run(command.env("DEBROUILLE_ROOT_KEY_FILE", &file));
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), rows));
    let mut again = instance.command(&["secrets", "rewrap", "--to", "new.key", "--yes"]);
    let output = run(again.env("DEBROUILLE_ROOT_KEY_FILE", &file));
    assert_ne!(output.status.code(), Some(0), "it overwrote a key");
}

/// Every form in which a key could be written.
fn forms(material: &[u8]) -> Vec<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::*};
    vec![
        material.to_vec(),
        hex::encode(material).into_bytes(),
        hex::encode_upper(material).into_bytes(),
        STANDARD.encode(material).trim_end_matches('=').as_bytes().to_vec(),
        URL_SAFE_NO_PAD.encode(material).into_bytes(),
        format!("{material:?}").trim_matches(['[', ']']).as_bytes().to_vec(),
    ]
}

/// Finds any of these.
fn finder<'a>(words: impl Iterator<Item = &'a Vec<u8>>) -> regex::bytes::Regex {
    let pattern = |word: &Vec<u8>| word.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let pattern = format!("(?-u)(?:{})", words.map(pattern).collect::<Vec<_>>().join("|"));
    regex::bytes::RegexBuilder::new(&pattern).size_limit(1 << 26).build().unwrap()
}

/// Logs at their loudest, answers, errors, the audit log, backups, stores: none of them holds a key.
#[test]
fn no_key_is_anywhere_it_should_not_be() {
    let instance = Instance::backing_up("").vouched().with_places(100);
    let (data, config) = (instance.data(), instance.read("appliance.toml"));
    let secret = "a-shared-secret-of-forty-two-characters-ab";
    let more = format!("[log]\nlevel = \"trace\"\ndir = \"logs\"\n[identity]\njwt_secret = \"{secret}\"\n");
    instance.write("appliance.toml", &format!("{config}\n{more}"));
    let mut heard: Vec<(String, Vec<u8>)> = Vec::new();
    let mut keys = Vec::new();
    let mut note = || {
        let stamp = Stamp::read(&data, None).unwrap();
        let path = data.join("root.key");
        let root = LocalRootKey::from_file(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        keys.push(text.trim().rsplit(':').next().unwrap().as_bytes().to_vec());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let keyring = runtime.block_on(Keyring::open(&data, &stamp, &root)).unwrap();
        keys.extend(keyring.keys().iter().map(|key| key.material.to_vec()));
    };
    note();
    let server = instance.serve();
    for command in [
        &["secrets", "status"][..],
        &["secrets", "rotate", "--all", "--rewrite"],
        &["secrets", "rewrap"],
        &["secrets", "rotate", "token-signing", "backup-signing", "--revoke", "--yes"],
        &["secrets", "rotate", "nothing"],
        &["secrets", "rewrap", "--to", "/nowhere/at/all", "--yes"],
        &["config", "show"],
        &["backup", "create"],
        &["audit", "export"],
        &["backup", "keys", "list"],
        &["doctor"],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = run(instance.command(command).args(json));
            heard.push((format!("{command:?}"), [output.stdout, output.stderr].concat()));
        }
    }
    note();
    server.stop();
    let mut files = vec![instance.path("backups"), instance.path("logs"), data.clone()];
    while let Some(path) = files.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => files.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) if path.ends_with("root.key") => {}
            Err(_) => heard.push((path.display().to_string(), std::fs::read(&path).unwrap_or_default())),
        }
    }
    assert!(heard.iter().any(|(from, bytes)| from.contains("/logs/") && bytes.len() > 10_000), "the logs are loud");
    assert!(heard.iter().any(|(from, _)| from.contains("/backups/")));
    assert!(keys.len() > 15, "{}", keys.len());
    let words: Vec<_> = keys.iter().flat_map(|key| forms(key)).chain([secret.as_bytes().to_vec()]).collect();
    let finder = finder(words.iter());
    assert!(finder.is_match(&std::fs::read(data.join("root.key")).unwrap()), "it finds what there is to find");
    for (from, bytes) in &heard {
        assert!(!finder.is_match(bytes), "{from} holds a key");
    }
}
