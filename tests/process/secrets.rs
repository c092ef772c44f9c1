//! Keys rotated under the feet of a busy server, and commands killed in the middle of it: no request fails, no key is lost.

use crate::appliance::{Instance, PASSWORD, Server, words};
use serde_json::Value;
use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

fn curl(instance: &Instance, arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert"]);
    let output = curl.arg(instance.data.join("ca.crt")).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn run(instance: &Instance, arguments: &[&str]) -> String {
    let output = instance.command(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", words(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn filled() -> Instance {
    let instance = Instance::new();
    let rows = instance.data.with_file_name("rows.ndjson");
    let row = |number: u32| format!("{{\"_id\":\"r{number:05}\",\"text\":\"{}\"}}\n", "x".repeat(400));
    std::fs::write(&rows, (0..3000).map(row).collect::<String>()).unwrap();
    run(&instance, &["collection", "create", "rows"]);
    run(&instance, &["import", "rows", rows.to_str().unwrap()]);
    instance
}

#[test]
fn no_request_and_no_session_is_lost_while_every_key_is_rotated() {
    let instance = filled();
    let mut serve = instance.serve();
    serve.env("DEBROUILLE_LIMITS_REQUESTS_PER_MINUTE", "0");
    let server = Server::of(serve, &instance.data);
    let login = r#"{"data":{"email":"admin@example.cd","password":"PASSWORD"}}"#.replace("PASSWORD", PASSWORD);
    let json = ["-H", "content-type: application/json", "--data"];
    let login = curl(&instance, &[&json[..], &[&login, &server.url("/api/v1/auth/login")]].concat());
    let (body, status) = login.rsplit_once('\n').unwrap();
    assert_eq!(status, "200", "{body}");
    let body: Value = serde_json::from_str(body).unwrap();
    let bearer = format!("authorization: Bearer {}", body["data"]["accessToken"].as_str().unwrap());
    let (ended, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (instance, server, ended, asked, bearer) = (&instance, &server, &ended, &asked, &bearer);
            scope.spawn(move || {
                let mut turn = 0;
                while !ended.load(Ordering::Relaxed) {
                    let read = server.url(&format!("/api/v1/collections/rows/documents/r{:05}", turn * 7 % 3000));
                    let answer = curl(instance, &["-H", bearer, &read]);
                    assert!(answer.ends_with("\n200"), "{answer}");
                    let row = format!(r#"{{"data":{{"_id":"n{thread}-{turn}"}}}}"#);
                    let write = server.url("/api/v1/collections/rows/documents");
                    let wanted = [&["-H", bearer][..], &json, &[&row, &write]].concat();
                    let answer = curl(instance, &wanted);
                    assert!(answer.ends_with("\n201"), "{answer}");
                    asked.fetch_add(2, Ordering::Relaxed);
                    turn += 1;
                }
            });
        }
        for _ in 0..5 {
            run(&instance, &["secrets", "rotate", "--all", "--rewrite"]);
            run(&instance, &["secrets", "rewrap"]);
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 40, "{asked:?}");
    let refresh = format!(r#"{{"data":{{"refreshToken":{}}}}}"#, body["data"]["refreshToken"]);
    let answer = curl(&instance, &[&json[..], &[&refresh, &server.url("/api/v1/auth/refresh")]].concat());
    assert!(answer.ends_with("\n200"), "{answer}");
    server.stop();
    let lines = run(&instance, &["export", "rows"]).lines().count() as u64;
    assert_eq!(lines, 3000 + asked.load(Ordering::Relaxed) / 2);
}

/// Each time the old key or the new one is the one in use, wholly, and the command again does what it was to do.
#[test]
fn killed_in_the_middle_no_key_is_lost() {
    let instance = filled();
    let mut kills = 0;
    for (command, calls) in [
        (&["secrets", "rewrap"][..], &["rename", "fsync", "unlink", "openat"][..]),
        (&["secrets", "rotate", "data", "token-signing"], &["rename", "fsync", "fdatasync"]),
        (&["secrets", "rotate", "data", "--rewrite"], &["fdatasync", "pwrite64", "ftruncate"]),
    ] {
        for call in calls {
            for nth in [1, 2, 3, 5, 9, 14, 60, 200, 700] {
                let inner = instance.command(command);
                let mut strace = Command::new("strace");
                strace.env_clear().args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
                strace.args(["-e", &format!("inject={call}:signal=KILL:when={nth}")]);
                let killed = strace.arg(inner.get_program()).args(inner.get_args()).output().unwrap();
                if killed.status.success() {
                    break;
                }
                kills += 1;
                let lines = run(&instance, &["export", "rows"]).lines().count();
                assert_eq!(lines, 3000, "{command:?}, {call} {nth}");
            }
        }
        run(&instance, command);
    }
    assert!(kills > 25, "killed {kills} times only");
    // A root key that cannot be replaced where it lies stays the one in use.
    let key = std::fs::read(instance.data.join("root.key")).unwrap();
    let mut failed = 0;
    for nth in 1..=3 {
        let inner = instance.command(&["secrets", "rewrap"]);
        let mut strace = Command::new("strace");
        strace.env_clear().args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename"]);
        strace.args(["-e", &format!("inject=rename:error=EBUSY:when={nth}")]);
        let output = strace.arg(inner.get_program()).args(inner.get_args()).output().unwrap();
        let same = std::fs::read(instance.data.join("root.key")).unwrap() == key;
        assert!(output.status.success() || same, "{nth}: {}", words(&output));
        failed += usize::from(!output.status.success());
        assert_eq!(run(&instance, &["export", "rows"]).lines().count(), 3000, "{nth}");
    }
    assert!(failed >= 2, "{failed}");
    run(&instance, &["secrets", "rotate", "data", "--rewrite"]);
    let status: Value = serde_json::from_str(&run(&instance, &["secrets", "status", "--json"])).unwrap();
    let data = status["keys"].as_array().unwrap().iter().find(|key| key["purpose"] == "data").unwrap();
    assert_eq!(data["pages"].as_object().unwrap().len(), 1, "{data}");
    run(&instance, &["audit", "verify"]);
}

/// Who trusts the old authority connects until the new one's turn; who was given both, ever.
#[test]
fn a_new_authority_is_announced_and_then_signs() {
    let instance = Instance::new();
    let server = instance.start();
    let given = |name: &str| {
        let path = instance.data.with_file_name(name);
        std::fs::copy(instance.data.join("ca.crt"), &path).unwrap();
        path
    };
    let connects = |trusted: &std::path::Path| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--cacert"]).arg(trusted);
        curl.arg(server.url("/api/v1/health")).output().unwrap().status.success()
    };
    let shown = || -> Value { serde_json::from_str(&run(&instance, &["tls", "status", "--json"])).unwrap() };
    let (old, first) = (given("old.crt"), shown());
    run(&instance, &["secrets", "rotate", "ca"]);
    let both = given("both.crt");
    assert_eq!(std::fs::read_to_string(&both).unwrap().matches("BEGIN CERTIFICATE").count(), 2);
    assert!(connects(&old) && connects(&both));
    // What a device is offered, and what it is to compare.
    let offered = |path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "20", "--cacert"]).arg(&old).arg(server.url(path));
        curl.output().unwrap().stdout
    };
    assert_eq!(offered("/console/authority.pem"), std::fs::read(&both).unwrap());
    let page = String::from_utf8(offered("/console/authority")).unwrap();
    let told: Value = serde_json::from_str(&run(&instance, &["tls", "ca", "export", "--json"])).unwrap();
    let fingerprints = told["fingerprints"].as_array().unwrap();
    assert!(
        fingerprints.len() == 2 && fingerprints.iter().all(|print| page.contains(print.as_str().unwrap())),
        "{page}"
    );
    assert!(String::from_utf8(offered("/console/authority.mobileconfig")).unwrap().contains("com.apple.security.root"));
    let der = offered("/console/authority.crt");
    assert!(is_last_of(&both, &der), "the newest, alone");
    assert_eq!(shown()["issuer"], first["issuer"], "it is not its turn yet");
    let renewed: Value = serde_json::from_str(&run(&instance, &["tls", "renew", "--json"])).unwrap();
    assert!(renewed["fingerprint"] == shown()["fingerprint"]);
    // The rotation, and the asking, each made another.
    assert!(first["fingerprint"] != renewed["fingerprint"] && connects(&old));

    run(&instance, &["secrets", "rotate", "ca", "--revoke", "--yes"]);
    let new = given("new.crt");
    assert_eq!(std::fs::read_to_string(&new).unwrap().matches("BEGIN CERTIFICATE").count(), 1);
    assert!(shown()["issuer"] != first["issuer"] && shown()["names"] == first["names"]);
    assert!(connects(&new) && !connects(&old) && !connects(&both));
    server.stop();
    // It stays so; what clients are given is written again where it is lost.
    std::fs::remove_file(instance.data.join("ca.crt")).unwrap();
    let server = instance.start();
    assert_eq!(std::fs::read(&new).unwrap(), std::fs::read(instance.data.join("ca.crt")).unwrap());
    server.stop();
}

fn is_last_of(pem: &std::path::Path, der: &[u8]) -> bool {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = std::fs::read_to_string(pem).unwrap();
    let last = text.rsplit("-----BEGIN CERTIFICATE-----").next().unwrap();
    let body: String = last.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap() == der
}
