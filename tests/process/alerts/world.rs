//! An instance whose time runs ahead of the machine's as the test says (decision 0023), and faults of its disk and threads
//! that come and go while it runs. Whatever is wrong with it is so in truth: no figure is made up.

use crate::appliance::{Instance, PASSWORD, Server, words};
use debrouille_appliance::base::metrics::alerts::{ALERTS, Alert};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::FileExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

/// Seconds from one look at the metrics to the next, at most.
pub const LOOK: i64 = 17;
/// Steps after which what did not come never will.
const STEPS: usize = 80;

pub struct World {
    pub instance: Instance,
    clock: PathBuf,
    ahead: Cell<i64>,
    settings: RefCell<Vec<(String, String)>>,
}

impl World {
    pub fn new(settings: &[(&str, &str)]) -> Self {
        Self::of(Instance::new(), settings)
    }

    pub fn of(instance: Instance, settings: &[(&str, &str)]) -> Self {
        let clock = instance.data.with_file_name("clock");
        fs::write(&clock, [0; 8]).unwrap();
        let world = Self { instance, clock, ahead: Cell::new(0), settings: RefCell::default() };
        world.set("DEBROUILLE_LIMITS_REQUESTS_PER_MINUTE", "0");
        settings.iter().for_each(|(name, value)| world.set(name, value));
        world
    }

    /// From its next start on.
    pub fn set(&self, name: &str, value: &str) {
        self.settings.borrow_mut().push((name.to_owned(), value.to_owned()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.instance.data.with_file_name(name)
    }

    fn at_its_time(&self, mut command: Command) -> Command {
        command.env("APPLIANCE_TEST_CLOCK", &self.clock);
        command.envs(self.settings.borrow().iter().cloned());
        command
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.at_its_time(self.instance.command(arguments))
    }

    pub fn told(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn serve(&self) -> Command {
        self.at_its_time(self.instance.serve())
    }

    pub fn start(&self) -> Server {
        Server::of(self.serve(), &self.instance.data)
    }

    /// Ends what may not be able to end in order.
    pub fn end(&self, mut server: Server) {
        server.signal(Signal::TERM);
        server.wait();
    }

    pub fn forward(&self, seconds: i64) {
        self.ahead.set(self.ahead.get() + seconds * 1000);
        let clock = File::options().write(true).open(&self.clock).unwrap();
        clock.write_all_at(&self.ahead.get().to_le_bytes(), 0).unwrap();
    }

    /// Seconds since 1970, there.
    pub fn now(&self) -> i64 {
        let real = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        i64::try_from(real.as_secs()).unwrap() + self.ahead.get() / 1000
    }

    /// Lets so much time pass, after which it has looked at itself.
    pub fn pass(&self, server: &Server, seconds: i64) {
        self.forward(seconds.max(LOOK));
        let from = self.now();
        let start = Instant::now();
        while figure(server, r#"debrouille_job_last_success_timestamp_seconds{job="alert_watch"} "#) < from {
            assert!(start.elapsed() < Duration::from_secs(60), "it looks at itself no more");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn known(&self) -> Vec<Value> {
        serde_json::from_str(&self.told(&["--json", "alert", "list"])).unwrap()
    }

    /// Whether it fires; `None`: it never did.
    fn firing(known: &[Value], name: &str) -> Option<bool> {
        let all: Vec<_> = known.iter().filter(|alert| alert["name"] == format!("Debrouille{name}")).collect();
        (!all.is_empty()).then(|| all.iter().any(|alert| alert["ended"].is_null()))
    }

    /// Steps on, doing this at each step, until all of these fire, or none of them any more.
    pub fn until(&self, server: &Server, names: &[&str], wanted: bool, step: i64, mut meanwhile: impl FnMut()) {
        for name in names {
            assert!(Alert::named(&format!("Debrouille{name}")).is_some(), "{name}: no such alert");
        }
        let mut known = Vec::new();
        for _ in 0..STEPS {
            meanwhile();
            self.pass(server, step);
            known = self.known();
            if names.iter().all(|name| Self::firing(&known, name) == Some(wanted)) {
                return;
            }
        }
        panic!("{names:?}, firing: {wanted}, did not come: {known:#?}");
    }

    /// Until all of these fire, none of which does yet.
    pub fn fires(&self, server: &Server, names: &[&str], step: i64, meanwhile: impl FnMut()) {
        let known = self.known();
        let already: Vec<_> = names.iter().filter(|name| Self::firing(&known, name) == Some(true)).collect();
        assert!(already.is_empty(), "{already:?} fire before anything is wrong");
        self.until(server, names, true, step, meanwhile);
    }

    pub fn ends(&self, server: &Server, names: &[&str], step: i64, meanwhile: impl FnMut()) {
        self.until(server, names, false, step, meanwhile);
    }
}

/// The status of a login with the right password. A certificate made ahead is of no day yet to who asks.
pub fn login(server: &Server) -> String {
    let body = format!(r#"{{"data":{{"email":"admin@example.cd","password":"{PASSWORD}"}}}}"#);
    let (form, url) = ("content-type: application/json", server.url("/api/v1/auth/login"));
    server.curl(&["--insecure", "-o", "/dev/null", "-w", "%{http_code}", "-H", form, "-d", &body, &url])
}

/// A line of the metrics by its beginning; 0 where there is none.
pub fn figure(server: &Server, line: &str) -> i64 {
    let text = metrics(server);
    let found = text.lines().find_map(|known| known.strip_prefix(line));
    found.map_or(0, |figure| figure.parse::<f64>().unwrap() as i64)
}

/// Without a program for each look.
fn metrics(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.ops).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What strace does to some system calls of a server, until this is dropped.
pub struct Fault(Child);

impl Fault {
    pub fn of(server: &Server, calls: &str, fault: &str) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{fault}"), "-p", &server.process().to_string()]);
        let mut child = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Whoever adds an alert to the table makes it fire and end here, or beside what it is about.
#[test]
fn none_of_the_table_is_left_out() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/alerts");
    let files = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let text = files.collect::<String>() + include_str!("../stapling.rs");
    let ended: String = text.split("world.ends(").skip(1).map(|call| call.split(']').next().unwrap()).collect();
    let short = |name: &'static str| name.strip_prefix("Debrouille").unwrap();
    let left = ALERTS.iter().map(|alert| short(alert.name)).filter(|name| !ended.contains(&format!("\"{name}\"")));
    assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
}
