//! The table holds together, sources override each other in order, and faults come all at once with their places.

use super::*;
use crate::base::messages::{Language, lookup};

fn inputs(folder: &Path, file: &str, dotenv: &str, environment: &[(&str, &str)]) -> Inputs {
    let path = folder.join("appliance.toml");
    std::fs::write(&path, file).unwrap();
    std::fs::write(folder.join(".env"), dotenv).unwrap();
    Inputs {
        file: path,
        file_named: true,
        dotenv: Some(folder.join(".env")),
        environment: environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        flags: Vec::new(),
    }
}

fn keys(result: Result<Config, Vec<Fault>>) -> Vec<&'static str> {
    result.unwrap_err().iter().map(|fault| fault.key).collect()
}

#[test]
fn the_table_its_defaults_its_sections_and_its_words_hold_together() {
    let config = Config::of(&[]).unwrap();
    assert_eq!(config.entries.len(), SETTINGS.len());
    assert_eq!(config.server.https.port(), 443);
    assert_eq!(config.instance.environment, None);
    let mut names: Vec<String> = SETTINGS.iter().flat_map(Setting::environment).collect();
    names.sort();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before, "two settings share a name in the environment");
    for setting in SETTINGS {
        for language in [Language::French, Language::English] {
            assert!(lookup(language, &setting.message()).is_some(), "{} has no words", setting.key);
        }
    }
}

#[test]
fn each_source_overrides_the_one_below() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[server]\nhttps = \"127.0.0.1:1\"\npage_rows = 10\nheader_seconds = 5\n[log]\nlevel = \"warn\"\n";
    let mut inputs = inputs(folder.path(), file, "API_PORT=2\nDEBROUILLE_LOG=debug\n", &[("API_PORT", "3")]);
    let config = Config::load(&inputs).unwrap();
    assert_eq!(config.server.https.to_string(), "127.0.0.1:3", "a port alone keeps the file's address");
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.server.page_rows, 10);
    let origin = |config: &Config, key: &str| {
        let entry = config.entries.iter().find(|entry| entry.setting.key == key).unwrap();
        entry.origin.to_string().replace(&folder.path().display().to_string(), "")
    };
    assert_eq!(origin(&config, "server.page_rows"), "/appliance.toml:3");
    assert_eq!(origin(&config, "log.level"), "/.env:2 DEBROUILLE_LOG");
    assert_eq!(origin(&config, "server.https"), "env API_PORT");
    assert_eq!(origin(&config, "server.http"), "default");
    inputs.flags.push(("server.https", "--https", "4".to_owned()));
    let config = Config::load(&inputs).unwrap();
    assert_eq!(config.server.https.to_string(), "127.0.0.1:4");
    assert_eq!(origin(&config, "server.https"), "--https");
}

#[test]
fn every_fault_is_reported_at_once_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[server]\nhttsp = \"x\"\npage_rows = 5000\nhttp = 80\n\n[serveur]\na = 1\n";
    let inputs = inputs(
        folder.path(),
        file,
        "API_PORT=one\nbroken line\n",
        &[
            ("DATABASE_URL", "mongodb://user:hunter2@db/app"),
            ("DEBROUILLE_SERVER_HTPS", "1"),
            ("NODE_ENV", "production"),
            ("APP_ENV", "staging"),
            ("JWT_SECRET_FILE", "/absent"),
        ],
    );
    let faults = Config::load(&inputs).unwrap_err();
    let found: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.key, fault.path.replace(&folder.path().display().to_string(), "")))
        .collect();
    assert_eq!(
        found,
        [
            "config.unknown_key /appliance.toml:2",
            "config.unknown_section /appliance.toml:6",
            "config.dotenv_line /.env:2",
            "config.contradiction env NODE_ENV",
            "config.secret_file env JWT_SECRET_FILE",
            "config.unknown_name env DEBROUILLE_SERVER_HTPS",
            "config.expected_address /.env:1 API_PORT",
            "config.expected_text /appliance.toml:4",
            "config.out_of_range /appliance.toml:3",
            "config.place_later env DATABASE_URL",
        ]
    );
    let words: String = faults.iter().map(ToString::to_string).collect();
    assert!(!words.contains("hunter2"), "a password was echoed");
    assert!(!words.contains('{'), "a message was left unfilled: {words}");
}

#[test]
fn placeholders_are_refused_outside_development() {
    let secret = ("identity.jwt_secret", "changeme-changeme-changeme-changeme");
    for environment in ["staging", "production"] {
        assert_eq!(keys(Config::of(&[("instance.environment", environment), secret])), ["config.placeholder"]);
    }
    assert_eq!(keys(Config::of(&[secret])), ["config.placeholder"], "unsaid counts as production");
    assert!(Config::of(&[("instance.environment", "development"), secret]).is_ok());
    assert_eq!(keys(Config::of(&[("server.hostnames", "<host>")])).len(), 1);
}

#[test]
fn secrets_are_read_from_their_file_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "b5U0x2kQmT7vJp9aRz4sWc8dYf1gHn3e";
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    let named = path.display().to_string();
    let config = Config::load(&inputs(folder.path(), "", "", &[("JWT_SECRET_FILE", &named)])).unwrap();
    assert_eq!(config.identity.jwt_secret.as_ref().map(Secret::expose), Some(secret));
    assert!(!format!("{config:?}").contains(secret));
    let both = inputs(folder.path(), "", "", &[("JWT_SECRET_FILE", &named), ("JWT_SECRET", secret)]);
    assert_eq!(keys(Config::load(&both)), ["config.secret_twice"]);
}

#[test]
fn an_absent_file_is_a_fault_only_when_named() {
    let mut inputs = Inputs { file: "/absent/appliance.toml".into(), ..Inputs::default() };
    assert!(Config::load(&inputs).is_ok());
    inputs.file_named = true;
    assert_eq!(keys(Config::load(&inputs)), ["config.unreadable"]);
}

fn generated() -> [(std::path::PathBuf, String); 3] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [
        (root.join("config/appliance.example.toml"), generate::example()),
        (root.join("config/appliance.schema.json"), generate::schema_text()),
        (root.join(".env.example"), generate::dotenv()),
    ]
}

#[test]
fn the_generated_files_are_fresh() {
    for (path, text) in generated() {
        let held = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(held == text, "{} is stale: run cargo test --lib write_generated_files -- --ignored", path.display());
    }
}

#[test]
#[ignore = "writes the files of the table; run it after changing the table or its words"]
fn write_generated_files() {
    for (path, text) in generated() {
        std::fs::write(path, text).unwrap();
    }
}

/// The example with every setting uncommented.
fn uncommented() -> String {
    let lines = generate::example();
    let lines = lines.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn the_example_is_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::load(&inputs(folder.path(), &uncommented(), "", &[])).unwrap();
    for (entry, default) in config.entries.iter().zip(Config::of(&[]).unwrap().entries) {
        assert_eq!(entry.value, default.value, "{}", entry.setting.key);
    }
}

#[test]
fn the_schema_accepts_the_example_and_refuses_what_the_reader_refuses() {
    let validator = jsonschema::validator_for(&generate::schema()).unwrap();
    let json = |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    assert!(validator.is_valid(&json(&uncommented())));
    assert!(validator.is_valid(&json("[server]\npage_rows = 10\nhttps = \"0.0.0.0:1\"")));
    assert!(!validator.is_valid(&json("[server]\npage_rows = 5000")));
    assert!(!validator.is_valid(&json("[identity]\njwt_secret = \"short\"")));
    assert!(!validator.is_valid(&json("[log]\nformat = \"\"")));
    assert!(!validator.is_valid(&json("[server]\nhttsp = \"x\"")));
}
