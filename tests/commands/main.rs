//! The command line as people and scripts meet it: the real binary, in both languages, with its exit codes.

mod archive;
mod audit;
mod backups;
mod configuration;
mod flows;
mod instance;
mod recipients;
mod recovery;
mod restore;
mod secrets;
mod self_update;
mod subjects;
mod tls;
mod usage;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// The binary in an environment of its own: nothing of the caller's but what a test adds.
pub fn appliance(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_debrouille-appliance"));
    command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

pub fn run(command: &mut Command) -> Output {
    command.output().expect("the binary starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on stdout")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on stderr")
}
