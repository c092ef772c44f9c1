//! The real binary killed, and its disk failing, in the middle of a backup and of a prune: whatever the moment, what bears
//! a backup's name is whole, and the next run does what was left undone.

use crate::appliance::{Instance, words};
use serde_json::Value;
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub const ROWS: usize = 50;

/// An instance whose backups the key beside it opens.
pub struct Prepared {
    pub instance: Instance,
    pub folder: PathBuf,
}

fn rows(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{{\"_id\":\"{n:04}\"}}\n")).collect()
}

impl Prepared {
    /// With one backup of [`ROWS`] rows, and one row since.
    pub fn new() -> Self {
        let prepared = Self::with("");
        prepared.told(&["backup", "create"]);
        prepared.import(ROWS, ROWS + 1);
        prepared
    }

    fn with(settings: &str) -> Self {
        Self::over(Instance::new(), settings)
    }

    /// With rows, and no backup yet.
    pub fn over(instance: Instance, settings: &str) -> Self {
        let folder = instance.data.parent().unwrap().to_owned();
        let prepared = Self { instance, folder };
        let path = |name: &str| prepared.folder.join(name).to_str().unwrap().to_owned();
        fs::write(path("appliance.toml"), "").unwrap();
        let recipient = prepared.told(&["backup", "keys", "generate", "-o", &path("key")]);
        fs::create_dir(path("backups")).unwrap();
        let backup = format!("[backup]\ntargets = [{:?}]\nrecipients = [{:?}]\n", path("backups"), recipient.trim());
        fs::write(path("appliance.toml"), backup + settings).unwrap();
        prepared.told(&["collection", "create", "rows"]);
        prepared.import(0, ROWS);
        prepared
    }

    fn told(&self, arguments: &[&str]) -> String {
        let output = self.instance.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn import(&self, from: usize, to: usize) {
        let path = self.folder.join("rows");
        fs::write(&path, rows(from, to)).unwrap();
        self.told(&["import", "rows", path.to_str().unwrap()]);
    }

    /// Run with a fault injected into a system call.
    fn faulty(call: &str, fault: &str, command: &Command) -> Output {
        let fault = format!("inject={call}:{fault}");
        let mut strace = Command::new("strace");
        strace.env_clear().args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &fault]);
        strace.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null()).output().unwrap()
    }

    /// Killed when a thread makes this call for the nth time; `None`: it never did.
    pub fn killed(call: &str, nth: usize, command: &Command) -> Option<Output> {
        let output = Self::faulty(call, &format!("signal=KILL:when={nth}"), command);
        match output.status.signal() {
            Some(9) => Some(output),
            _ => {
                assert!(output.status.success(), "{call} {nth}: {}", words(&output));
                None
            }
        }
    }

    /// How many rows a directory shows; `None`: there is no instance that opens.
    pub fn rows(&self, data: &Path) -> Option<usize> {
        let mut command = self.instance.command(&["export", "rows"]);
        let output = command.args(["--data-dir", data.to_str().unwrap()]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().lines().count())
    }

    /// Names of the backups, each of which is verified.
    fn sound(&self) -> Vec<String> {
        let listed = self.told(&["--json", "backup", "list"]);
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let names: Vec<String> = listed.iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect();
        names.iter().for_each(|name| drop(self.told(&["backup", "verify", name])));
        names
    }

    pub fn restore(&self, more: &[&str]) -> Command {
        let path = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        let (from, key) = (path("backups"), path("key"));
        let given = ["restore", "--from", &from, "--identity", &key, "--any-signer", "--environment", "development"];
        self.instance.command(&[&given[..], more].concat())
    }

    fn restored(&self) -> Option<usize> {
        let into = self.folder.join("into");
        let output = self.restore(&["--into", into.to_str().unwrap(), "--allow-older"]).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        let rows = self.rows(&into);
        fs::remove_dir_all(&into).unwrap();
        rows
    }

    fn left_over(&self) -> usize {
        let partial = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(".partial-");
        fs::read_dir(self.folder.join("backups")).unwrap().flatten().filter(partial).count()
    }
}

#[test]
fn a_backup_killed_at_any_moment_is_whole_or_not_there() {
    let prepared = Prepared::with("");
    let create = || prepared.instance.command(&["backup", "create"]);
    let (mut kills, mut before) = (0, prepared.sound().len());
    for (call, moments) in [
        ("openat", &[60, 90, 120][..]),
        ("write", &[1, 2, 4, 8][..]),
        ("fsync", &[1, 2, 3, 4, 5][..]),
        ("fdatasync", &[1, 3, 5, 8][..]),
        ("renameat2", &[1, 2][..]),
        ("rename", &[1][..]),
        ("linkat", &[1, 2][..]),
    ] {
        for nth in moments {
            let ended = Prepared::killed(call, *nth, &create()).is_none();
            kills += usize::from(!ended);
            let sound = prepared.sound().len();
            assert!(sound == before + 1 || (!ended && sound == before), "{call} {nth}: {before}, then {sound}");
            before = sound;
        }
    }
    assert!(kills > 8, "killed {kills} times only");
    prepared.import(ROWS, ROWS + 1);
    prepared.told(&["backup", "create"]);
    assert_eq!(prepared.left_over(), 0, "what was left behind is swept");
    assert_eq!((prepared.sound().len(), prepared.restored()), (before + 1, Some(ROWS + 1)));
}

#[test]
fn a_target_that_fails_in_the_middle_of_a_backup_gets_none() {
    let prepared = Prepared::with("");
    for (call, fault) in
        [("fsync", "error=EIO:when=1"), ("fsync", "error=ENOSPC:when=1+"), ("renameat2", "error=EIO:when=1")]
    {
        let output = Prepared::faulty(call, fault, &prepared.instance.command(&["backup", "create"]));
        assert!(!output.status.success(), "{call} {fault}: {}", words(&output));
        assert_eq!(output.status.code(), Some(6), "{call} {fault}: {}", words(&output));
        assert!(words(&output).contains("could not be made"), "{call} {fault}: {}", words(&output));
        assert!(prepared.sound().is_empty(), "{call} {fault}");
    }
    prepared.told(&["backup", "create"]);
    assert_eq!(prepared.left_over(), 0);
    assert_eq!(prepared.restored(), Some(ROWS));
}

#[test]
fn a_prune_killed_at_any_moment_leaves_what_is_kept_whole() {
    let prepared = Prepared::with("keep = [\"last=1\", \"within_days=0\"]\n");
    let mut kills = 0;
    for nth in 1..=6 {
        while prepared.sound().len() < 4 {
            prepared.told(&["backup", "create"]);
        }
        let prune = prepared.instance.command(&["backup", "prune", "--yes"]);
        kills += usize::from(Prepared::killed("unlink", nth, &prune).is_some());
        assert!(!prepared.sound().is_empty(), "{nth}");
        assert_eq!(prepared.restored(), Some(ROWS), "{nth}");
    }
    assert!(kills > 1, "killed {kills} times only");
    prepared.told(&["backup", "prune", "--yes"]);
    assert_eq!(prepared.sound().len(), 1);
    assert_eq!(prepared.restored(), Some(ROWS));
}
