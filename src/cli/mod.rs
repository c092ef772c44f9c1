//! The command line: one file per subcommand; no rules, only words and tables.

mod access;
mod alert;
mod audit;
mod backup;
mod client;
mod collection;
mod completions;
mod config;
mod context;
mod debug;
mod doctor;
mod export;
mod failure;
mod import;
mod init;
mod man;
mod membership;
mod migrate;
mod openapi;
mod organization;
mod output;
mod policy;
mod query;
mod restore;
mod secrets;
mod self_update;
mod serve;
mod status;
mod subject;
mod tls;
mod token;
mod usage;
mod user;
mod version;
mod words;

use crate::base::{config::process_environment, fault::Fault, process::forbid_core_dumps, sockets::Sockets};
use clap::{FromArgMatches, Parser, Subcommand};
use context::Context;
use failure::{Code, Failure};
use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

/// Its words are `cli.help.*` in the catalogue: see [`words`].
#[derive(Parser)]
#[command(name = "debrouille-appliance")]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags every command takes.
#[derive(clap::Args)]
struct Global {
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[arg(long, global = true, value_name = "LANG", value_parser = ["fr", "en"])]
    lang: Option<String>,
    #[arg(long, global = true)]
    json: bool,
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Arguments),
    Serve(serve::Arguments),
    Doctor,
    Status(status::Arguments),
    #[command(subcommand)]
    Alert(alert::Command),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Collection(collection::Command),
    Import(import::Given),
    Export(export::Arguments),
    Query(query::Arguments),
    #[command(subcommand)]
    User(user::Command),
    #[command(subcommand)]
    Policy(policy::Command),
    #[command(subcommand)]
    Access(access::Command),
    #[command(subcommand)]
    Audit(audit::Command),
    #[command(subcommand)]
    Token(token::Command),
    #[command(subcommand)]
    Organization(organization::Command),
    #[command(subcommand)]
    Membership(membership::Command),
    #[command(subcommand)]
    Backup(backup::Command),
    Restore(restore::Arguments),
    #[command(subcommand)]
    Subject(subject::Command),
    #[command(subcommand)]
    Tls(tls::Command),
    #[command(subcommand)]
    Migrate(migrate::Command),
    #[command(subcommand)]
    Secrets(secrets::Command),
    #[command(subcommand)]
    SelfUpdate(self_update::Command),
    #[command(subcommand)]
    Debug(debug::Command),
    Openapi,
    Completions(completions::Arguments),
    Man(man::Arguments),
    Version,
}

/// Parses, dispatches, answers the exit code.
pub fn main() -> ExitCode {
    // Servers and commands alike hold keys; where it is refused, the system's own limit stands.
    if let Err(error) = forbid_core_dumps() {
        eprintln!("core: {error}");
    }
    let environment = process_environment();
    let handed = Sockets::handed(&environment);
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let language = words::language(&arguments, &environment);
    let parsed = words::command(language)
        .try_get_matches_from(&arguments)
        .and_then(|mut matches| Arguments::from_arg_matches_mut(&mut matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(language, words::json(&arguments, &environment), &error),
    };
    let context = Context::new(language, environment, arguments.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(Code::Unavailable as u8);
        }
    };
    let done = runtime.block_on(run(&context, arguments.command, handed));
    // What still reads on a thread of its own, a long check of a backup, is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(2));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            context.report(&failure);
            ExitCode::from(failure.code as u8)
        }
    }
}

async fn run(context: &Context, command: Command, handed: Result<Sockets, Fault>) -> Result<(), Failure> {
    match command {
        Command::Init(arguments) => init::run(context, arguments).await,
        Command::Serve(arguments) => serve::run(context, arguments, handed).await,
        Command::Doctor => doctor::run(context).await,
        Command::Status(arguments) => status::run(context, arguments).await,
        Command::Alert(command) => alert::run(context, command).await,
        Command::Config(command) => config::run(context, command),
        Command::Collection(command) => collection::run(context, command).await,
        Command::Import(arguments) => import::run(context, arguments).await,
        Command::Export(arguments) => export::run(context, arguments).await,
        Command::Query(arguments) => query::run(context, arguments).await,
        Command::User(command) => user::run(context, command).await,
        Command::Policy(command) => policy::run(context, command).await,
        Command::Access(command) => access::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Token(command) => token::run(context, command).await,
        Command::Organization(command) => organization::run(context, command).await,
        Command::Membership(command) => membership::run(context, command).await,
        Command::Backup(command) => backup::run(context, command).await,
        Command::Restore(arguments) => restore::run(context, arguments).await,
        Command::Subject(command) => subject::run(context, command).await,
        Command::Tls(command) => tls::run(context, command).await,
        Command::Migrate(command) => migrate::run(context, command).await,
        Command::Secrets(command) => secrets::run(context, command).await,
        Command::SelfUpdate(command) => self_update::run(context, command).await,
        Command::Debug(command) => debug::run(context, command).await,
        Command::Openapi => openapi::run(context),
        Command::Completions(arguments) => completions::run(context, arguments),
        Command::Man(arguments) => man::run(context, arguments),
        Command::Version => version::run(context),
    }
}
