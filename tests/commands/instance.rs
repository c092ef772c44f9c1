//! An instance of a test's own, spoken to by commands, with or without a server running over it.

use crate::{appliance, run, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

pub struct Instance {
    pub folder: tempfile::TempDir,
}

impl Instance {
    pub fn new() -> Self {
        let instance = Self { folder: tempfile::tempdir().unwrap() };
        let made = instance.run(&["init", "--environment", "development", "--hostname", "localhost"]);
        assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
        instance
    }

    /// With a folder for backups that the private key in `key` opens; `settings` more of `[backup]`.
    pub fn backing_up(settings: &str) -> Self {
        let instance = Self { folder: tempfile::tempdir().unwrap() };
        instance.write("appliance.toml", "");
        let key = instance.answer(&["backup", "keys", "generate", "-o", "key"]);
        std::fs::create_dir(instance.path("backups")).unwrap();
        let backup = format!("targets = [\"backups\"]\nrecipients = [{}]\n{settings}", key["recipient"]);
        instance.write("appliance.toml", &format!("[instance]\nenvironment = \"development\"\n[backup]\n{backup}"));
        instance.answer(&["init", "--environment", "development", "--hostname", "localhost"]);
        instance
    }

    /// Its signature in the key file, so that what it signs is believed.
    pub fn vouched(self) -> Self {
        let signer = self.answer(&["backup", "keys", "list"])["signers"][0].as_str().unwrap().to_owned();
        self.write("key", &format!("{}{signer}\n", self.read("key")));
        self
    }

    /// With a collection of so many.
    pub fn with_places(self, count: usize) -> Self {
        self.answer(&["collection", "create", "places", "--index", "population"]);
        self.write("places.ndjson", &places(count));
        self.answer(&["import", "places", "places.ndjson"]);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = appliance(self.folder.path());
        command.args(["--config", "appliance.toml", "--data-dir", "data", "--lang", "en"]).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// The JSON answer of a command that must succeed.
    pub fn answer(&self, arguments: &[&str]) -> Value {
        let output = run(self.command(arguments).arg("--json"));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    /// What a command that must fail says.
    pub fn failure(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stderr(&output)
    }

    pub fn serve(&self) -> Server {
        self.serve_as(&["serve", "--https", "127.0.0.1:0", "--http", "off", "--ops", "off"])
    }

    pub fn serve_as(&self, arguments: &[&str]) -> Server {
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let server = Server(child);
        wait("the server answers", || UnixStream::connect(self.data().join("control.sock")).is_ok());
        server
    }
}

pub struct Server(Child);

impl Server {
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "the server stops as asked");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < Duration::from_secs(60), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// So many lines of places, each with its `_id`.
pub fn places(count: usize) -> String {
    let place =
        |number: usize| format!("{{\"_id\":\"p{number:05}\",\"country\":\"CD\",\"population\":{}}}\n", number * 7);
    (0..count).map(place).collect()
}
