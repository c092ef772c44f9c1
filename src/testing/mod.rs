//! What tests share: faulty wrappers, a fixed clock, the harness. Never in a shipped binary.

use std::process::Command;

/// Runs an ignored test of this very program with a small tmpfs, mounted in a namespace of its own, as its working
/// directory.
pub fn on_small_disk(test: &str) {
    on_disk("size=80m", test);
}

/// As [`on_small_disk`], of another size.
pub fn on_disk(options: &str, test: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o \"$4\" none \"$1\" && cd \"$1\" && exec \"$2\" --exact --ignored \"$3\"";
    let answer = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().expect("this program"))
        .args([test, options])
        .output()
        .expect("util-linux has unshare");
    let output = String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success() && output.contains("1 passed"), "{output}");
}
