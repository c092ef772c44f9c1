//! The real binary killed at its syncs, and on a disk that fails: what was acknowledged is there, no batch is torn.

use crate::appliance::{Instance, PASSWORD, Server};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

/// `serve` under strace with a fault injected, itself the child (`-D`), so that signals and the lock are its own.
fn faulty(instance: &Instance, fault: &str) -> Command {
    let serve = instance.serve();
    let mut command = Command::new("strace");
    command.env_clear().args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,pwrite64", "-e", fault]);
    command.arg(serve.get_program()).args(serve.get_args()).stdin(std::process::Stdio::null());
    command
}

/// Status and body of a request; `None` when nobody answered.
fn ask(server: &Server, instance: &Instance, token: &str, path: &str, body: Option<&Value>) -> Option<(u16, String)> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert"]);
    curl.arg(instance.data.join("ca.crt")).args(["-H", &format!("authorization: Bearer {token}")]);
    if let Some(body) = body {
        curl.args(["-H", "content-type: application/json", "--data", &body.to_string()]);
    }
    let output = curl.arg(server.url(path)).output().unwrap();
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    Some((status.parse().unwrap(), body.to_owned()))
}

/// Batches of three documents, and what was said of each.
#[derive(Default)]
struct Ledger {
    token: String,
    next: u64,
    acknowledged: BTreeSet<u64>,
}

impl Ledger {
    /// Signs in and makes the collection.
    fn open(instance: &Instance, server: &Server) -> Self {
        let login = json!({ "data": { "email": "admin@example.cd", "password": PASSWORD } });
        let (status, body) = ask(server, instance, "", "/api/v1/auth/login", Some(&login)).unwrap();
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let token = body["data"]["accessToken"].as_str().unwrap().to_owned();
        let made = json!({ "data": { "name": "towns", "indexes": ["batch"] } });
        let (status, body) = ask(server, instance, &token, "/api/v1/collections", Some(&made)).unwrap();
        assert_eq!(status, 201, "{body}");
        Self { token, ..Self::default() }
    }

    /// One batch; its status, `None` when nobody answered.
    fn write(&mut self, instance: &Instance, server: &Server) -> Option<u16> {
        let batch = self.next;
        self.next += 1;
        let operations: Vec<Value> = (0..3)
            .map(|place| {
                let document = json!({ "_id": format!("{batch}-{place}"), "batch": batch, "text": "é".repeat(300) });
                json!({ "action": "create", "collection": "towns", "document": document })
            })
            .collect();
        let body = json!({ "data": { "operations": operations } });
        let (status, _) = ask(server, instance, &self.token, "/api/v1/batch", Some(&body))?;
        if status == 200 {
            self.acknowledged.insert(batch);
        }
        Some(status)
    }

    /// What a living server must show, at the latest once its store is read again after a write that failed.
    fn check(&self, instance: &Instance, server: &Server) {
        let shown = (0..100).any(|turn| {
            std::thread::sleep(Duration::from_millis(if turn == 0 { 0 } else { 100 }));
            self.shown(instance, server)
        });
        assert!(shown, "reads go on");
    }

    /// Everything acknowledged, and whole; `false`: nobody answered, or not now.
    fn shown(&self, instance: &Instance, server: &Server) -> bool {
        let export = "/api/v1/collections/towns/export";
        let Some((status, lines)) = ask(server, instance, &self.token, export, None) else { return false };
        if status == 503 {
            return false;
        }
        assert_eq!(status, 200, "{lines}");
        let mut found: BTreeMap<u64, usize> = BTreeMap::new();
        for line in lines.lines().filter(|line| !line.is_empty()) {
            let document: Value = serde_json::from_str(line).unwrap();
            *found.entry(document["batch"].as_u64().unwrap()).or_default() += 1;
        }
        let torn: Vec<_> = found.iter().filter(|(_, documents)| **documents != 3).collect();
        assert!(torn.is_empty(), "torn batches: {torn:?}");
        let lost: Vec<_> = self.acknowledged.iter().filter(|batch| !found.contains_key(batch)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        true
    }
}

/// The first, the second, … the last `fdatasync` of a run is where the process ends: while opening, at commits, at
/// a repair, at the syncs of growth.
#[test]
fn killed_at_any_sync_it_keeps_what_it_acknowledged() {
    const LAST: usize = 30;
    let instance = Instance::new();
    let server = instance.start();
    let mut ledger = Ledger::open(&instance, &server);
    server.stop();
    let (mut opening, mut writing) = (0, 0);
    for nth in 1..=LAST {
        let fault = format!("inject=fdatasync:signal=KILL:when={nth}");
        let Some(server) = Server::try_of(faulty(&instance, &fault), &instance.data) else {
            opening += 1;
            continue;
        };
        // The audit log is sealed meanwhile: that sync may be the one.
        if !ledger.shown(&instance, &server) {
            continue;
        }
        let mut answered = 0;
        while ledger.write(&instance, &server).is_some() {
            answered += 1;
            assert!(answered < 200, "fdatasync {nth} never came");
        }
        writing += 1;
    }
    assert!(opening > 0 && writing > LAST / 3, "killed {opening} times while opening, {writing} while writing");
    let server = instance.start();
    ledger.check(&instance, &server);
    assert_eq!(ledger.write(&instance, &server), Some(200));
    ledger.check(&instance, &server);
    server.stop();
}

/// From some sync or write on, every one fails: not one more batch is acknowledged, reads go on, and after a start on
/// a sound disk everything acknowledged is there.
#[test]
fn a_failing_disk_ends_writing_and_leaves_reading() {
    for fault in ["fdatasync:error=EIO:when=25+", "pwrite64:error=EIO:when=120+", "pwrite64:error=ENOSPC:when=160+"] {
        let instance = Instance::new();
        let server = instance.start();
        let mut ledger = Ledger::open(&instance, &server);
        server.stop();
        let server = Server::of(faulty(&instance, &format!("inject={fault}")), &instance.data);
        let mut answered = 0;
        let refused = loop {
            match ledger.write(&instance, &server).expect("it goes on answering") {
                200 => answered += 1,
                other => break other,
            }
            assert!(answered < 300, "{fault} never came");
        };
        assert!(answered > 0 && refused >= 500, "{fault}: {answered} batches, then {refused}");
        ledger.check(&instance, &server);
        for _ in 0..3 {
            let status = ledger.write(&instance, &server).expect("it goes on answering");
            assert!(status >= 500, "{fault}: acknowledged after a failure");
        }
        ledger.check(&instance, &server);
        drop(server);
        let server = instance.start();
        ledger.check(&instance, &server);
        assert_eq!(ledger.write(&instance, &server), Some(200));
        server.stop();
    }
}
