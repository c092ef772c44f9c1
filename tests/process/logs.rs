//! What the real binary says of itself: to a central log, more of one module for a while, and in a bundle for who helps.

use crate::appliance::{Instance, PASSWORD, Server, until, words};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    time::{Duration, Instant},
};

fn partner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./scripts/test, which starts a central log"))
}

#[test]
fn a_central_log_gets_every_line_over_tls() {
    let instance = Instance::of("staging", &["localhost"]);
    let mut command = instance.serve();
    command.env("DEBROUILLE_LOG_SYSLOG", partner("SYSLOG_URL")).env("DEBROUILLE_TLS_TRUSTED", partner("SYSLOG_CA"));
    let server = Server::of(command, &instance.data);
    let own = server.process().to_string();
    let taken = || {
        let text = fs::read_to_string(partner("SYSLOG_TAKEN")).unwrap_or_default();
        let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|message| message["procid"] == own.as_str()).collect::<Vec<_>>()
    };
    let ready = |message: &Value| message["msg"].as_str().unwrap_or_default().contains("\"message\":\"ready\"");
    assert!(until(20, || taken().iter().any(ready)), "{:?}", taken());
    server.stop();
    assert!(until(20, || taken().iter().any(|message| message["msg"].as_str().unwrap().contains("\"stopped\""))));
    let ready = taken().into_iter().find(ready).unwrap();
    assert_eq!((&ready["syslogfacility"], &ready["syslogseverity"]), (&"3".into(), &"6".into()), "{ready}");
    assert_eq!((&ready["app-name"], &ready["hostname"]), (&"debrouille-appliance".into(), &"localhost".into()));
    let line: Value = serde_json::from_str(ready["msg"].as_str().unwrap()).unwrap();
    assert_eq!(ready["timereported"], line["time"]);
    assert_eq!((&line["environment"], &line["version"]), (&"staging".into(), &env!("CARGO_PKG_VERSION").into()));
    let stamp = fs::read_to_string(instance.data.join("instance.json")).unwrap();
    assert!(stamp.contains(line["instance"].as_str().unwrap()), "{line}");

    // One that nobody vouches for gets nothing, and holds up nobody.
    let mut command = instance.serve();
    command.env("DEBROUILLE_LOG_SYSLOG", partner("SYSLOG_URL"));
    let server = Server::of(command, &instance.data);
    let (own, start) = (server.process().to_string(), Instant::now());
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert!(!fs::read_to_string(partner("SYSLOG_TAKEN")).unwrap().contains(&format!("\"procid\": \"{own}\"")));
    let mut command = instance.serve();
    command.env("DEBROUILLE_LOG_SYSLOG", "tcp://198.51.100.1:601");
    let (code, said) = instance.refused(command);
    assert!(code != 0 && said.contains("log.syslog"), "{said}");
}

#[test]
fn one_module_says_more_for_a_while_and_the_audit_log_knows() {
    let instance = Instance::new();
    let mut server = instance.start();
    let raise = |words: &[&str]| instance.command(&[&["debug", "log-level"], words].concat()).output().unwrap();
    let ask = |server: &Server| drop(server.curl(&[&server.url("/api/v1/meta")]));
    let body = format!(r#"{{"data": {{"email": "admin@example.cd", "password": "{PASSWORD}"}}}}"#);
    let login = server.curl(&["-H", "content-type: application/json", "-d", &body, &server.url("/api/v1/auth/login")]);
    let login: Value = serde_json::from_str(&login).unwrap();
    let bearer = format!("authorization: Bearer {}", login["data"]["accessToken"].as_str().unwrap());
    ask(&server);
    let raised = raise(&["access=debug", "--for", "3s"]);
    assert!(raised.status.success(), "{}", words(&raised));
    ask(&server);
    server.curl(&["-H", &bearer, &server.url("/api/v1/auth/sessions")]);
    std::thread::sleep(Duration::from_secs(7));
    ask(&server);
    for bad in [&["access"][..], &["access=loud"], &["access=debug", "--for", "2d"], &["access=debug", "--for", "25h"]]
    {
        let refused = raise(bad);
        assert!(!refused.status.success(), "{bad:?}: {}", words(&refused));
    }
    let audit = instance.command(&["audit", "list", "--json"]).output().unwrap();
    let told = words(&audit);
    assert!(told.contains("logs.level") && told.contains("access"), "{told}");
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait().success());
    let log = server.log();
    let asked = log.iter().filter(|line| line["target"] == "access" && line["route"].to_string().contains("meta"));
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked.len(), 1, "{log:?}");
    assert_eq!(asked[0]["span"].as_str().map(str::len), Some(16), "{}", asked[0]);
    let known = log.iter().any(|line| line["identity"].as_str().is_some_and(|name| name.starts_with('~')));
    assert!(known, "{log:?}");
    // Alone there is nobody to say more.
    assert_eq!(raise(&["access=debug"]).status.code(), Some(3));
}

#[test]
fn a_bundle_says_much_and_gives_nothing_away() {
    let instance = Instance::new();
    let config = instance.data.with_file_name("appliance.toml");
    let secret = "whsec_c2VjcmV0LW9mLXRoZS13ZWJob29rLTI0";
    fs::write(&config, format!("[alerts]\nwebhook = \"https://hook.example.cd/x\"\nwebhook_secret = \"{secret}\"\nsms_program = \"/bin/true\"\nsms_numbers = [\"+243998877665\"]\n"))
        .unwrap();
    let mut command = instance.serve();
    command.env("DEBROUILLE_LOG", "trace");
    let server = Server::of(command, &instance.data);
    let body = format!(r#"{{"data": {{"email": "admin@example.cd", "password": "{PASSWORD}"}}}}"#);
    let login = server.curl(&["-H", "content-type: application/json", "-d", &body, &server.url("/api/v1/auth/login")]);
    let token: Value = serde_json::from_str(&login).unwrap();
    let token = token["data"]["accessToken"].as_str().unwrap().to_owned();
    let bearer = format!("authorization: Bearer {token}");
    server.curl(&[
        "-H",
        &bearer,
        "-H",
        "x-forwarded-for: 198.51.100.7",
        &server.url("/api/v1/auth/sessions?x=ana@example.cd"),
    ]);
    let file = instance.data.with_file_name("bundle.tar.gz");
    let mut bundling = instance.command(&["debug", "bundle", "--json", "-o", file.to_str().unwrap()]);
    bundling.env("DEBROUILLE_OPS", server.ops.to_string());
    let bundled = bundling.output().unwrap();
    assert!(bundled.status.success(), "{}", words(&bundled));
    let parts = extracted(&file);
    for (name, wanted) in [
        ("version.json", env!("CARGO_PKG_VERSION")),
        ("configuration.json", "\"alerts.webhook_secret\""),
        ("machine.json", "MemTotal"),
        ("doctor.json", "data_directory"),
        ("status.json", "budgetLeft"),
        ("metrics.txt", "debrouille_storage_size_bytes"),
    ] {
        assert!(parts[name].contains(wanted), "{wanted} in {name}: {}", parts[name]);
    }
    let log = parts.iter().find(|(name, _)| name.starts_with("logs/appliance.")).unwrap().1;
    assert!(log.contains("\"message\":\"ready\""), "{log}");
    let keys = fs::read_to_string(instance.data.join("root.key")).unwrap();
    for (name, text) in &parts {
        for gone in [
            PASSWORD,
            secret,
            &token,
            "admin@example.cd",
            "ana@example.cd",
            "198.51.100.7",
            "998877665",
            "hook.example.cd",
            keys.trim(),
        ] {
            assert!(!text.contains(gone), "{gone} in {name}");
        }
    }
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
    server.stop();
    // Of one that is down, what there is; nothing is written over.
    let refused = bundling.output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    fs::remove_file(&file).unwrap();
    let bundled = bundling.output().unwrap();
    assert!(bundled.status.success(), "{}", words(&bundled));
    assert!(extracted(&file)["status.json"].contains("no server answers"));
}

/// By another's hand: tar's.
fn extracted(file: &std::path::Path) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let done = std::process::Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(folder.path()).output().unwrap();
    assert!(done.status.success(), "{}", words(&done));
    let mut parts = BTreeMap::new();
    let mut folders = vec![folder.path().join("debrouille-debug")];
    while let Some(within) = folders.pop() {
        for entry in fs::read_dir(within).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut text = String::new();
            fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
            let name = path.strip_prefix(folder.path().join("debrouille-debug")).unwrap();
            parts.insert(name.display().to_string(), text);
        }
    }
    parts
}
