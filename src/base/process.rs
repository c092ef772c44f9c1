//! This process as the kernel sees it: processor time, memory, open files, read from `/proc/self`; and programs of the
//! operator's, started by it.

use std::{fs, io, path::Path, process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt, process::Command};

/// `USER_HZ`: the unit of times in `/proc`, 100 on every Linux this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A tenth of the processor where others want it too; all of it where nobody does.
const NICE: i32 = 10;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_files: u64,
    pub open_files_limit: u64,
}

/// `None` where a figure cannot be read (no `/proc`, as in some containers).
pub fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(Usage {
        cpu_seconds: cpu_seconds(&stat)?,
        resident_bytes: resident_bytes(&status)?,
        open_files: u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?,
        open_files_limit: open_files_limit(),
    })
}

/// User and system time, fields 14 and 15 (proc(5)); the second field may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let after = stat.rsplit_once(')')?.1;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of memory of the machine; `None` where it cannot be read.
pub fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Work that others are not to notice, on a thread of its own that gives way to all of the process. The answer comes
/// when it is done, or closed where it panicked.
pub fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<tokio::sync::oneshot::Receiver<T>> {
    let (done, answer) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Of this thread alone, as Linux has it; it could not be taken back. Threads it makes are like it.
        let _ = rustix::process::nice(NICE);
        let _ = done.send(work());
    })?;
    Ok(answer)
}

/// Where a program of the operator's finds others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of what one says as it fails.
const MOST_WORDS: usize = 500;

/// Runs a program the operator named, with these words on its standard input; answers why it failed. Nothing of ours is
/// handed on: our own environment may hold secrets.
pub async fn run(program: &Path, arguments: &[&str], input: &str, patience: Duration) -> Result<(), String> {
    let mut command = command(program, arguments);
    command.env_clear().env("PATH", PATH).current_dir("/").stdout(Stdio::null());
    ended(command, input, patience).await.map(drop)
}

/// Runs a program of the system's, a package manager or systemctl, with this more in its environment; answers what it
/// printed.
pub async fn ask(
    program: &str,
    arguments: &[&str],
    more: &[(&str, &str)],
    patience: Duration,
) -> Result<String, String> {
    let mut command = command(Path::new(program), arguments);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
    command.envs(more.iter().copied());
    // What a terminal sends us is not for a package manager at work.
    command.current_dir("/").stdout(Stdio::piped()).process_group(0);
    ended(command, "", patience).await
}

/// Runs another release of this very program, as this one was run; answers what it printed, or its exit code and why.
pub async fn again(program: &Path, arguments: &[&str], patience: Duration) -> Result<String, (Option<i32>, String)> {
    let mut command = command(program, arguments);
    command.stdout(Stdio::piped());
    output(command, "", patience).await
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that starts programs: those the operator named, the system's own, other releases of this one"
    )]
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

async fn ended(command: Command, input: &str, patience: Duration) -> Result<String, String> {
    output(command, input, patience).await.map_err(|(_, why)| why)
}

async fn output(mut command: Command, input: &str, patience: Duration) -> Result<String, (Option<i32>, String)> {
    command.stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let ended = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read is no fault.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(patience, ended).await;
    let output = output.map_err(|_| (None, format!("no end in {} s", patience.as_secs())))?;
    let output = output.map_err(|error| (None, error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = output.stderr.get(output.stderr.len().saturating_sub(MOST_WORDS)..).unwrap_or_default();
    Err((output.status.code(), format!("{}: {}", output.status, String::from_utf8_lossy(words).trim())))
}

pub fn open_files_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Takes as many open files as the system allows us; answers the limit in force.
pub fn raise_open_files_limit() -> io::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(open_files_limit())
}

/// No core dump ever holds our keys: a limit of one byte keeps both a file and a handler behind a pipe from getting one
/// (core(5); zero would stop the file alone). Nor does another process of the same user read our memory or environment.
pub fn forbid_core_dumps() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Whoever started us may have left less, which cannot be raised.
    if getrlimit(Resource::Core).maximum != Some(0) {
        setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_behind_any_program_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 100 1 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (x) S 1"), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t  20 kB\n"), Some(20480));
    }

    #[test]
    fn this_process_holds_memory_and_files() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
        assert!(usage.open_files > 2 && usage.open_files < usage.open_files_limit, "{usage:?}");
    }

    #[tokio::test]
    async fn what_is_done_aside_gives_way_and_its_panic_is_told() {
        // Field 19 of proc(5)'s stat.
        let nice = || {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        assert_eq!(aside("test", nice).unwrap().await, Ok((before + NICE).min(19)));
        assert_eq!(nice(), before, "of that thread alone");
        assert!(aside("test", || panic!("on purpose")).unwrap().await.is_err());
    }
}
