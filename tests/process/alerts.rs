//! The real binary finds something wrong with itself, and tells by every way there is, once, whatever becomes of the process.

mod audit;
mod backups;
mod certificates;
mod disk;
mod load;
mod starts;
mod store;
pub mod world;

use crate::{
    appliance::{Instance, Server, until, words},
    backups::Prepared,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

/// 24 bytes in base64.
const KEY: &str = "c2VjcmV0LW9mLXRoZS13ZWJob29rLTI0";

/// A request as it came: its head in lower case, its body.
type Request = (String, String);

/// A server of another's that takes what comes.
pub struct Receiver {
    pub port: u16,
    had: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    pub fn start() -> Self {
        Self::at(0)
    }

    /// `0`: at a port of the system's choice.
    fn at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (port, had) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<Request>>>::default());
        let into = had.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                into.lock().unwrap().push(take(stream.unwrap()));
            }
        });
        Self { port, had }
    }

    /// All of what came, without the heads.
    pub fn bodies(&self) -> String {
        self.had.lock().unwrap().iter().map(|(_, body)| body.as_str()).collect()
    }

    fn to(&self, path: &str) -> Vec<Request> {
        let had = self.had.lock().unwrap();
        had.iter().filter(|(head, _)| head.starts_with(&format!("post {path} "))).cloned().collect()
    }
}

fn take(mut stream: TcpStream) -> Request {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "cut in its head: {head}");
    }
    // Names of fields are what varies in case.
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// By another's hand: openssl's HMAC.
fn hmac(text: &str) -> String {
    let script = format!(
        "openssl dgst -sha256 -mac HMAC -macopt hexkey:$(echo {KEY} | base64 -d | od -An -vtx1 | tr -d ' \\n') -binary | base64"
    );
    let mut child =
        Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

fn serve(instance: &Instance, receiver: &Receiver, program: &Path) -> Server {
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}", receiver.port);
    let mut command = instance.serve();
    command
        .env("DEBROUILLE_BACKUP_SEGMENT_SECONDS", "1")
        .env("DEBROUILLE_ALERTS_MAIL", "ops@example.cd")
        .env("DEBROUILLE_ALERTS_WEBHOOK", url("hook"))
        .env("DEBROUILLE_ALERTS_WEBHOOK_SECRET", format!("whsec_{KEY}"))
        .env("DEBROUILLE_ALERTS_PUSH", url("garde"))
        .env("DEBROUILLE_ALERTS_PUSH_TOKEN", "tk_secret")
        .env("DEBROUILLE_ALERTS_SMS_PROGRAM", program)
        .env("DEBROUILLE_ALERTS_SMS_NUMBERS", "+243000,+243001");
    Server::of(command, &instance.data)
}

/// Each header by its name.
fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.0.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap_or_default()
}

#[test]
fn a_drill_that_failed_is_told_by_every_way_once() {
    let (prepared, receiver) = (Prepared::new(), Receiver::start());
    let (instance, folder) = (&prepared.instance, &prepared.folder);
    let (program, sms) = (folder.join("gateway"), folder.join("sms"));
    fs::write(&program, format!("#!/bin/sh\n{{ echo \"$1 $(cat)\"; env; }} >> {}\n", sms.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let status = |arguments: &[&str]| instance.command(&[&["status"], arguments].concat()).output().unwrap();
    assert_eq!(status(&["--json"]).status.code(), Some(6), "nobody serves");

    // A bit of its backup is another, which a drill finds.
    let backup = fs::read_dir(folder.join("backups")).unwrap().map(|entry| entry.unwrap().path());
    let backup = backup.into_iter().find(|path| path.is_file()).unwrap();
    let mut bytes = fs::read(&backup).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&backup, bytes).unwrap();
    fs::create_dir(folder.join("reports")).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let drill =
        ["restore", "drill", "--identity", &path("key"), "--output", &path("reports"), "--any-signer", "--json"];
    let drill = instance.command(&drill).output().unwrap();
    assert_eq!(drill.status.code(), Some(5), "{}", words(&drill));

    let mut server = serve(instance, &receiver, &program);
    let tried = instance.command(&["alert", "test"]).output().unwrap();
    assert!(tried.status.success(), "{}", words(&tried));
    let told = fs::read_to_string(&sms).unwrap();
    assert_eq!(told.matches("Test: test (localhost, development)").count(), 2, "{told}");
    assert!(told.contains("+243001 ") && !told.contains("DEBROUILLE") && !told.contains("tk_secret"), "{told}");
    let push = receiver.to("/")[0].clone();
    let body: Value = serde_json::from_str(&push.1).unwrap();
    assert_eq!((&body["topic"], &body["priority"]), (&"garde".into(), &5.into()));
    assert_eq!(header(&push, "authorization"), "bearer tk_secret");

    let fired = || receiver.to("/hook").into_iter().filter(|(_, body)| body.contains("DebrouilleDrillFailed"));
    assert!(until(90, || fired().count() > 0), "nobody was told");
    let request = fired().next().unwrap();
    let body: Value = serde_json::from_str(&request.1).unwrap();
    let alert = &body["alerts"][0];
    assert_eq!((&alert["status"], &alert["severity"]), (&"firing".into(), &"critical".into()), "{body}");
    assert!(alert["summary"].as_str().unwrap().len() > 10, "{body}");
    let signed = format!("{}.{}.{}", header(&request, "webhook-id"), header(&request, "webhook-timestamp"), request.1);
    assert_eq!(header(&request, "webhook-signature"), format!("v1,{}", hmac(&signed)).to_lowercase());
    assert!(until(60, || receiver.to("/").len() == 2), "not pushed");
    let mails = || {
        let letters = fs::read_dir(instance.data.join("mail")).into_iter().flatten();
        letters.map(|letter| fs::read_to_string(letter.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    assert!(until(60, || mails().len() == 2), "not mailed: {:?}", mails());
    let short = || fs::read_to_string(&sms).unwrap().matches("+243000 ").count();
    assert!(until(60, || short() == 2), "no message");

    // Killed once that is noted, and started again, it tells nobody a second time.
    let noted = || {
        let state = fs::read(instance.data.join("alerts.json")).unwrap();
        let state: Value = serde_json::from_slice(&state).unwrap();
        let drill = state["alerts"].as_array().unwrap().iter().find(|alert| alert["name"] == "DebrouilleDrillFailed");
        drill.is_some_and(|alert| alert["told"].as_object().unwrap().len() == 4)
    };
    assert!(until(60, noted), "not noted");
    server.signal(Signal::KILL);
    server.wait();
    let fell = status(&[]);
    assert_eq!(fell.status.code(), Some(6));
    assert!(
        words(&fell).contains("DebrouilleDrillFailed") && words(&fell).contains("did not stop by itself"),
        "{}",
        words(&fell)
    );
    let server = serve(instance, &receiver, &program);
    std::thread::sleep(Duration::from_secs(50));
    assert_eq!((fired().count(), mails().len(), short()), (1, 2, 2));
    let shown = status(&[]);
    assert!(shown.status.success(), "{}", words(&shown));
    for wanted in ["critical DebrouilleDrillFailed", "Availability", "budget left", "▁", "development"] {
        assert!(words(&shown).contains(wanted), "{wanted} in {}", words(&shown));
    }
    let shown: Value = serde_json::from_slice(&status(&["--json"]).stdout).unwrap();
    assert_eq!(shown["alerts"][0]["name"], "DebrouilleDrillFailed", "{shown:#}");
    assert_eq!(shown["minutes"]["requests"].as_array().unwrap().len(), 60);
    assert!(shown["objectives"]["budgetLeft"].as_f64().unwrap() <= 1.0);
    assert!(server.ops("/metrics").1.contains("debrouille_alerts_firing{severity=\"critical\"} 1"));
    assert!(!server.ops("/metrics").1.contains("/api/v1/admin/status"), "operators' own looks count");
    // What others see of us holds no secret of ours.
    let state = fs::read_to_string(instance.data.join("alerts.json")).unwrap();
    assert!(!state.contains(KEY) && !state.contains("tk_secret"));
    server.stop();
    let stopped = status(&["--json"]);
    let stopped: Value = serde_json::from_slice(&stopped.stdout).unwrap();
    assert_eq!(stopped["stoppedInOrder"], true);
}
