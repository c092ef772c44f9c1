//! `serve`: runs until told to stop.

use super::{
    context::Context,
    failure::{Code, Failure, is_absent},
};
use crate::{
    base::{fault::Fault, sockets::Sockets},
    server::{
        self,
        problem::{Kind, Problem},
    },
};

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_name = "ADDR")]
    https: Option<String>,
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    #[arg(long, value_name = "ADDR")]
    ops: Option<String>,
}

pub async fn run(context: &Context, arguments: Arguments, handed: Result<Sockets, Fault>) -> Result<(), Failure> {
    let handed = handed.map_err(|fault| Failure::new(Code::Refused, fault))?;
    let flags = [
        ("server.https", "--https", arguments.https),
        ("server.http", "--http", arguments.http),
        ("server.ops", "--ops", arguments.ops),
    ];
    let flags: Vec<_> = flags.into_iter().filter_map(|(key, flag, word)| Some((key, flag, word?))).collect();
    let config = context.config(flags.clone())?;
    server::serve(config, handed, &|| context.load(flags.clone(), context.file_named)).await.map_err(failure)
}

/// Why the instance could not be opened, made or restored, as an exit code.
pub fn failure(problem: Problem) -> Failure {
    let code = match problem.kind {
        _ if is_absent(problem.fault.key) => Code::Unavailable,
        Kind::Failed => Code::Failed,
        Kind::Refused => Code::Refused,
        Kind::NotFound => Code::NotFound,
        Kind::Integrity => Code::Integrity,
        Kind::Unavailable => Code::Unavailable,
    };
    Failure::all(code, problem.faults().cloned().collect())
}
