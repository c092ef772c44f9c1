//! The real binary with an instance of its own, ended by its process id.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

const BINARY: &str = env!("CARGO_BIN_EXE_debrouille-appliance");
pub const PASSWORD: &str = "correct-horse-battery-staple";
const PATIENCE: Duration = Duration::from_secs(30);

/// A data directory with an instance in it.
pub struct Instance {
    _folder: tempfile::TempDir,
    pub data: PathBuf,
}

impl Instance {
    pub fn new() -> Self {
        Self::of("development", &["localhost"])
    }

    /// For these host names.
    pub fn of(environment: &str, names: &[&str]) -> Self {
        Self::within(&std::env::temp_dir(), environment, names)
    }

    /// On the disk of this folder.
    pub fn within(place: &Path, environment: &str, names: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(place).unwrap();
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        let instance = Self { _folder: folder, data };
        let made = instance
            .command(&["init", "--environment", environment])
            .args(names.iter().flat_map(|name| ["--hostname", name]))
            .args(["--admin-email", "admin@example.cd", "--admin-password-file", password.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", words(&made));
        instance
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        let config = self.data.with_file_name("appliance.toml");
        command.env_clear().arg("--config").arg(config).arg("--data-dir").arg(&self.data).args(["--lang", "en"]);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// `serve` on addresses of its own choice.
    pub fn serve(&self) -> Command {
        self.command(&["serve", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"])
    }

    pub fn start(&self) -> Server {
        Server::of(self.serve(), &self.data)
    }

    /// What a `serve` that is refused says, and its exit code.
    pub fn refused(&self, mut command: Command) -> (i32, String) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if wait(&mut child).is_none() {
            child.kill().unwrap();
            panic!("it was not refused");
        }
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), words(&output))
    }
}

pub fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether it comes to be within so many seconds.
pub fn until(seconds: u64, mut seen: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        if seen() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

/// A server that has said it is ready.
pub struct Server {
    child: Child,
    /// Kept open: a closed pipe would be a fault of the test's own.
    _stdout: Option<BufReader<ChildStdout>>,
    data: PathBuf,
    pub https: SocketAddr,
    pub http: SocketAddr,
    pub ops: SocketAddr,
}

impl Server {
    pub fn of(command: Command, data: &Path) -> Self {
        Self::try_of(command, data).expect("it ended before it was ready")
    }

    /// `None`: it ended before it was ready.
    pub fn try_of(mut command: Command, data: &Path) -> Option<Self> {
        Self::try_by(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap(), data)
    }

    /// One that was started already.
    pub fn by(child: Child, data: &Path) -> Self {
        Self::try_by(child, data).expect("it ended before it was ready")
    }

    fn try_by(mut child: Child, data: &Path) -> Option<Self> {
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let ready = loop {
            line.clear();
            if stdout.read_line(&mut line).unwrap() == 0 {
                wait(&mut child).expect("it closed its output and went on");
                return None;
            }
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a JSON line: {line}"));
            if event["message"] == "ready" {
                break event;
            }
        };
        Some(Self::ready(child, Some(stdout), data, &ready))
    }

    /// What it prints goes to a file.
    pub fn into_file(mut command: Command, data: &Path, file: &Path) -> Self {
        let printed = fs::File::create(file).unwrap();
        let child = command.stdout(printed.try_clone().unwrap()).stderr(printed).spawn().unwrap();
        let mut ready = Value::Null;
        let said = until(PATIENCE.as_secs(), || {
            let text = fs::read_to_string(file).unwrap();
            let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            ready = events.into_iter().find(|event| event["message"] == "ready").unwrap_or_default();
            !ready.is_null()
        });
        assert!(said, "{}", fs::read_to_string(file).unwrap());
        Self::ready(child, None, data, &ready)
    }

    fn ready(child: Child, stdout: Option<BufReader<ChildStdout>>, data: &Path, ready: &Value) -> Self {
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let (https, http, ops) = (address("https"), address("http"), address("ops"));
        Self { child, _stdout: stdout, data: data.to_owned(), https, http, ops }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child).expect("it did not end")
    }

    /// Ends it in order, and expects success.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
    }

    /// `curl` that trusts the instance's authority and nothing else.
    pub fn curl(&self, arguments: &[&str]) -> String {
        let authority = self.data.join("ca.crt");
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(authority)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "curl {arguments:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https.port())
    }

    /// A GET on the ops listener: status and body.
    pub fn ops(&self, path: &str) -> (u16, String) {
        let answer = self.curl(&["--write-out", "\n%{http_code}", &format!("http://{}{path}", self.ops)]);
        let (body, status) = answer.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    pub fn log(&self) -> Vec<Value> {
        let mut text = String::new();
        for entry in fs::read_dir(self.data.join("logs")).unwrap() {
            fs::File::open(entry.unwrap().path()).unwrap().read_to_string(&mut text).unwrap();
        }
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
