//! `completions SHELL`: a script the shell loads.

use super::{context::Context, failure::Failure, output, words};
use clap_complete::Shell;

#[derive(clap::Args)]
pub struct Arguments {
    shell: Shell,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = words::command(context.language);
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    // clap_complete 4.6 names the same function two ways when the command's name has a hyphen.
    let script = String::from_utf8_lossy(&script).replace("debrouille__subcmd__appliance", "debrouille__appliance");
    output::write(script.as_bytes())
}
