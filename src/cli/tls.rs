//! `tls ca export`: the authority that clients must trust.

use super::{
    context::Context,
    failure::{Failure, unreadable, unwritable},
    output,
};
use crate::{base::fault::Fault, server};
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum Command {
    #[command(subcommand)]
    Ca(Authority),
}

#[derive(clap::Subcommand)]
pub enum Authority {
    Export {
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// The certificate is public and lies in the data directory: no server is asked.
pub fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let Command::Ca(Authority::Export { output: path }) = command;
    let source = context.config(Vec::new())?.instance.data_dir.join(server::init::AUTHORITY);
    let pem = std::fs::read_to_string(&source).map_err(|error| unreadable(source.display(), error))?;
    match path {
        None if context.json => context.answer(&json!({ "certificate": pem }), String::new),
        None => output::write(pem.as_bytes()),
        Some(path) => {
            std::fs::write(&path, pem).map_err(|error| unwritable(path.display(), error))?;
            let shown = path.display().to_string();
            context.done(&json!({ "file": shown }), &Fault::new("cli.tls.exported").at(&shown))
        }
    }
}
