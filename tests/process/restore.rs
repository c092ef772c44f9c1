//! The real binary killed in the middle of a restore and of a swap: whatever the moment, a whole directory is there, and
//! the same command again ends what was begun.

use crate::appliance::{Instance, words};
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output, Stdio},
};

const ROWS: usize = 50;

struct Prepared {
    instance: Instance,
    folder: std::path::PathBuf,
}

/// An instance with one backup of 50 rows, and one row since.
fn prepared() -> Prepared {
    let instance = Instance::new();
    let folder = instance.data.parent().unwrap().to_owned();
    let told = |arguments: &[&str]| {
        let output = instance.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(path("appliance.toml"), "").unwrap();
    let recipient = told(&["backup", "keys", "generate", "-o", &path("key")]);
    fs::create_dir(path("backups")).unwrap();
    let backup = format!("[backup]\ntargets = [{:?}]\nrecipients = [{:?}]\n", path("backups"), recipient.trim());
    fs::write(path("appliance.toml"), backup).unwrap();
    told(&["collection", "create", "rows"]);
    let rows = |from: usize, to: usize| (from..to).map(|n| format!("{{\"_id\":\"{n:04}\"}}\n")).collect::<String>();
    fs::write(path("rows"), rows(0, ROWS)).unwrap();
    told(&["import", "rows", &path("rows")]);
    told(&["backup", "create"]);
    fs::write(path("rows"), rows(ROWS, ROWS + 1)).unwrap();
    told(&["import", "rows", &path("rows")]);
    Prepared { instance, folder }
}

impl Prepared {
    fn restore(&self, more: &[&str]) -> Command {
        let path = |name: &str| self.folder.join(name).to_str().unwrap().to_owned();
        let (from, key) = (path("backups"), path("key"));
        let given = ["restore", "--from", &from, "--identity", &key, "--any-signer", "--environment", "development"];
        self.instance.command(&[&given[..], more].concat())
    }

    /// Killed when a thread makes this call for the nth time; `None`: it never did.
    fn killed(&self, call: &str, nth: usize, more: &[&str]) -> Option<Output> {
        let restore = self.restore(more);
        let fault = format!("inject={call}:signal=KILL:when={nth}");
        let mut command = Command::new("strace");
        command.env_clear().args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &fault]);
        let output = command.arg(restore.get_program()).args(restore.get_args()).stdin(Stdio::null()).output().unwrap();
        match output.status.signal() {
            Some(9) => Some(output),
            _ => {
                assert!(output.status.success(), "{call} {nth}: {}", words(&output));
                None
            }
        }
    }

    /// How many rows a directory shows; `None`: there is no instance that opens.
    fn rows(&self, data: &Path) -> Option<usize> {
        let mut command = self.instance.command(&["export", "rows"]);
        let output = command.args(["--data-dir", data.to_str().unwrap()]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().lines().count())
    }
}

/// Calls and the moments of them at which a run ends. Every rename counts; of the many syncs some.
const MOMENTS: [(&str, &[usize]); 4] =
    [("rename", &[1, 2]), ("fsync", &[1, 2, 4, 6, 9]), ("fdatasync", &[1, 3, 7, 12, 20]), ("unlink", &[1, 2])];

#[test]
fn a_restore_killed_at_any_moment_is_taken_up() {
    let prepared = prepared();
    let into = prepared.folder.join("into");
    let more = ["--into", into.to_str().unwrap()];
    let mut kills = 0;
    for (call, moments) in MOMENTS {
        for nth in moments {
            if prepared.killed(call, *nth, &more).is_none() {
                // It got through: whole, and to be made anew for the next.
                assert_eq!(prepared.rows(&into), Some(ROWS));
                fs::remove_dir_all(&into).unwrap();
                continue;
            }
            kills += 1;
            // Not said to be an instance, or one that is whole.
            assert!(matches!(prepared.rows(&into), None | Some(ROWS)), "{call} {nth}");
            if prepared.rows(&into).is_some() {
                fs::remove_dir_all(&into).unwrap();
            }
        }
    }
    assert!(kills > 6, "killed {kills} times only");
    let output = prepared.restore(&more).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(prepared.rows(&into), Some(ROWS));
    assert!(!into.join(".restoring").exists());
}

#[test]
fn a_swap_killed_at_any_moment_leaves_the_old_or_the_new() {
    let prepared = prepared();
    let live = prepared.instance.data.clone();
    let more = ["--swap", "--yes"];
    let beside = prepared.folder.join("data.restoring");
    let mut kills = 0;
    for (call, moments) in [("renameat2", &[1, 2, 3][..]), MOMENTS[1], MOMENTS[2], ("unlinkat", &[1, 2, 3][..])] {
        for nth in moments {
            let ended = prepared.killed(call, *nth, &more).is_none();
            kills += usize::from(!ended);
            let rows = prepared.rows(&live);
            assert!(matches!(rows, Some(ROWS) | Some(51)), "{call} {nth}: {rows:?}");
            if rows == Some(ROWS) {
                // The new one is in place: the same command ends it, and the next swap begins from the old.
                let settled = prepared.restore(&more).output().unwrap();
                assert!(settled.status.success(), "{call} {nth}: {}", words(&settled));
                assert!(!beside.exists() && !live.join(".restoring").exists(), "{call} {nth}");
                let before = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().contains(".before-");
                let entries: Vec<_> = fs::read_dir(&prepared.folder).unwrap().flatten().filter(before).collect();
                let old = entries.iter().find(|entry| prepared.rows(&entry.path()) == Some(ROWS + 1));
                let old = old.unwrap_or_else(|| panic!("{call} {nth}: the old one is gone"));
                fs::remove_dir_all(&live).unwrap();
                fs::rename(old.path(), &live).unwrap();
                for entry in fs::read_dir(&prepared.folder).unwrap().flatten().filter(before) {
                    fs::remove_dir_all(entry.path()).unwrap();
                }
            }
        }
    }
    assert!(kills > 6, "killed {kills} times only");
    let output = prepared.restore(&more).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(prepared.rows(&live), Some(ROWS));
    assert!(!beside.exists());
}
