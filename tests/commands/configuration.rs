//! The configuration through the binary: precedence, origins, every fault at once.

use crate::{appliance, run, stderr, stdout};
use serde_json::Value;
use std::path::Path;

fn settings(folder: &Path, names: &[(&str, &str)], arguments: &[&str]) -> Vec<Value> {
    let mut command = appliance(folder);
    let output = run(command.envs(names.iter().copied()).args(["config", "show", "--json"]).args(arguments));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    document["settings"].as_array().unwrap().clone()
}

fn value(settings: &[Value], key: &str) -> (Value, String) {
    let entry = settings.iter().find(|entry| entry["key"] == key).unwrap();
    (entry["value"].clone(), entry["origin"].as_str().unwrap().to_owned())
}

#[test]
fn the_environment_overrides_dotenv_which_overrides_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), "[server]\nhttps = \"127.0.0.1:1\"\npage_rows = 7\n").unwrap();
    let file = ["--config", "a.toml"];
    let of = |names: &[(&str, &str)]| value(&settings(folder.path(), names, &file), "server.https");
    assert_eq!(of(&[]), ("127.0.0.1:1".into(), "a.toml:2".to_owned()));
    std::fs::write(folder.path().join(".env"), "# ports\nAPI_PORT=2\n").unwrap();
    assert_eq!(of(&[]), ("127.0.0.1:2".into(), ".env:2 API_PORT".to_owned()));
    assert_eq!(of(&[("API_PORT", "3")]), ("127.0.0.1:3".into(), "env API_PORT".to_owned()));
    let all = settings(folder.path(), &[("DEBROUILLE_DATA_DIR", "/a")], &["--config", "a.toml", "--data-dir", "/b"]);
    assert_eq!(value(&all, "instance.data_dir"), ("/b".into(), "--data-dir".to_owned()));
    assert_eq!(value(&all, "server.page_rows"), (7.into(), "a.toml:3".to_owned()));
    assert_eq!(value(&all, "log.level"), ("info".into(), "default".to_owned()));
    let named = settings(folder.path(), &[("DEBROUILLE_CONFIG", "a.toml")], &[]);
    assert_eq!(value(&named, "server.page_rows").0, 7);
}

#[test]
fn every_fault_comes_at_once_with_its_place_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), "[server]\nhttsp = \"x\"\npage_rows = 5000\n").unwrap();
    let run = |language: &str| {
        let output = run(appliance(folder.path())
            .env("DEBROUILLE_LANG", language)
            .env("REDIS_URL", "redis://:hunter2@cache:6379")
            .env("NODE_ENV", "production")
            .env("JWT_SECRET", "changeme-changeme-changeme-changeme")
            .args(["config", "check", "--config", "a.toml"]));
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    let french = run("fr");
    let lines: Vec<&str> = french.lines().collect();
    assert_eq!(lines.len(), 4, "{french}");
    assert!(lines[0].starts_with("a.toml:2 : réglage « httsp » inconnu dans [server]"), "{french}");
    assert!(
        lines[1].starts_with("a.toml:3 : server.page_rows vaut 5000 ; il doit être compris entre 1 et 1000"),
        "{french}"
    );
    assert!(lines[2].starts_with("env REDIS_URL : storage.cache désigne un service"), "{french}");
    assert!(lines[3].starts_with("env JWT_SECRET : identity.jwt_secret porte encore une valeur d'exemple"), "{french}");
    assert!(!french.contains("hunter2") && !french.contains("changeme"), "{french}");
    assert!(run("en").contains("a.toml:3: server.page_rows is 5000; it must lie between 1 and 1000."));
}

#[test]
fn secrets_are_masked() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "b5U0x2kQmT7vJp9aRz4sWc8dYf1gHn3e";
    std::fs::write(folder.path().join("secret"), secret).unwrap();
    let all = settings(folder.path(), &[("JWT_SECRET_FILE", "secret")], &[]);
    assert_eq!(value(&all, "identity.jwt_secret"), ("********".into(), "env JWT_SECRET_FILE".to_owned()));
}

#[test]
fn example_and_schema_are_those_of_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (command, file) in [("example", "config/appliance.example.toml"), ("schema", "config/appliance.schema.json")] {
        let output = run(appliance(folder.path()).args(["config", command]));
        assert_eq!(stdout(&output), std::fs::read_to_string(root.join(file)).unwrap());
    }
}

#[test]
fn init_keeps_a_file_only_if_it_says_what_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let init = |file: &str| {
        std::fs::write(folder.path().join("a.toml"), file).unwrap();
        let asked = ["init", "--environment", "development", "--hostname", "localhost"];
        run(appliance(folder.path()).args(["--lang", "en", "--config", "a.toml", "--data-dir", "data"]).args(asked))
    };
    let made = || std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    for other in ["[server]\nhostnames = [\"other.example\"]\n", "[instance]\nenvironment = \"staging\"\n"] {
        let output = init(other);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        assert!(!folder.path().join("data").exists(), "something was made all the same");
    }
    let file = || std::fs::read_to_string(folder.path().join("a.toml")).unwrap();
    let (environment, names) = ("[instance]\nenvironment = \"development\"\n", "hostnames = [\"localhost\"]\n");
    let whole = format!("# whole\n{environment}\n[server]\n{names}");
    let output = init(&whole);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(file(), whole);
    made();
    let output = init("# ours\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(file().starts_with("# ours\n\n[instance]"), "{}", file());
    // What it is silent on is added, below what was there.
    made();
    let output = init("# of ours\n[server]\npage_rows = 20 # enough\n# the end\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(file().starts_with("# of ours\n[server]\npage_rows = 20 # enough\n"), "{}", file());
    assert!(file().contains(environment) && file().contains("# the end"), "{}", file());
}
