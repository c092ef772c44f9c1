//! `doctor`: every precondition as a line: ok, warning or failure, and what to do.

use super::{
    context::Context,
    failure::{Code, Failure},
};
use crate::{
    base::{config::Config, fault::Fault, messages::lookup},
    server,
    services::health::{Finding, Level},
};
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;

pub async fn run(context: &Context) -> Result<(), Failure> {
    let findings = match context.load(Vec::new(), context.file_named) {
        Ok(config) => {
            let mut findings = vec![Finding::ok("configuration"), running(&config)];
            findings.extend(server::preconditions(&config).await);
            findings
        }
        // Nothing else can be judged without it.
        Err(faults) => faults.into_iter().map(|fault| Finding::failure("configuration", fault)).collect(),
    };
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let document =
        json!({ "level": worst, "checks": findings.iter().map(|finding| row(context, finding)).collect::<Vec<_>>() });
    context.answer(&document, || findings.iter().map(|finding| line(context, finding)).collect())?;
    match worst {
        Level::Failure => Err(Failure::silent(Code::Failed)),
        Level::Ok | Level::Warning => Ok(()),
    }
}

/// Whether a server answers here: `serve` would be refused, other commands go through it.
fn running(config: &Config) -> Finding {
    let socket = config.control_socket();
    match UnixStream::connect(&socket) {
        Ok(_) => Finding::warning("server", Fault::new("cli.doctor.running").at(socket.display().to_string())),
        Err(_) => Finding::ok("server"),
    }
}

fn row(context: &Context, finding: &Finding) -> Value {
    json!({
        "check": finding.check,
        "level": finding.level,
        "rule": finding.fault.as_ref().map(|fault| fault.key),
        "message": finding.fault.as_ref().map(|fault| context.words(fault)),
    })
}

fn line(context: &Context, finding: &Finding) -> String {
    let (level, colour) = match finding.level {
        Level::Ok => ("cli.value.ok", "32"),
        Level::Warning => ("cli.value.warning", "33"),
        Level::Failure => ("cli.value.failure", "31"),
    };
    let level = format!("{:<9}", lookup(context.language, level).unwrap_or_default());
    let level = if context.colours() { format!("\x1b[{colour}m{level}\x1b[0m") } else { level };
    let name = lookup(context.language, &format!("cli.value.check.{}", finding.check)).unwrap_or(finding.check);
    match &finding.fault {
        None => format!("{level} {name}\n"),
        Some(fault) => format!("{level} {name}\n          {}\n", context.words(fault)),
    }
}
