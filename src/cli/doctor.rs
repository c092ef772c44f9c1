//! `doctor`: every precondition as a line: ok, warning or failure, and what to do.

use super::{
    client::Client,
    context::Context,
    failure::{Code, Failure},
};
use crate::{
    base::{
        clock::{Clock, SystemClock},
        config::Config,
        fault::Fault,
        messages::lookup,
    },
    server,
    services::{
        drills,
        health::{Finding, Level},
        instance::Stamp,
    },
};
use serde_json::{Value, json};
use std::{os::unix::net::UnixStream, time::Duration};

/// What only a stopped instance can be asked: a running one holds its own addresses.
const WHEN_STOPPED: &str = "addresses";
/// A server that takes longer to answer is not up.
const PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(context: &Context) -> Result<(), Failure> {
    let findings = match context.load(Vec::new(), context.file_named) {
        Ok(config) => {
            let server = running(context, &config).await;
            let stopped = server.fault.is_none();
            let mut findings = vec![Finding::ok("configuration"), server];
            if !stopped {
                findings.extend(drill(context, &config).await);
                findings.extend(migrations(context, &config).await);
            }
            let others = server::preconditions(&config).await;
            findings.extend(others.into_iter().filter(|finding| stopped || finding.check != WHEN_STOPPED));
            findings
        }
        // Nothing else can be judged without it.
        Err(faults) => faults.into_iter().map(|fault| Finding::failure("configuration", fault)).collect(),
    };
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let checks = rows(context, &findings);
    context.answer(&json!({ "level": worst, "checks": checks }), || {
        findings.iter().map(|finding| line(context, finding)).collect()
    })?;
    match worst {
        Level::Failure => Err(Failure::silent(Code::Failed)),
        Level::Ok | Level::Warning => Ok(()),
    }
}

/// Whether a server answers here, and is up. A finding without words: none runs, which is no fault.
async fn running(context: &Context, config: &Config) -> Finding {
    const CHECK: &str = "server";
    let socket = config.control_socket();
    if UnixStream::connect(&socket).is_err() {
        return Finding::ok(CHECK);
    }
    let up = async {
        let mut client = Client::open(context, config.clone()).await?;
        let status = client.get("/health").await?.data["status"].take();
        client.close().await?;
        Ok::<_, Failure>(status == "up")
    };
    let socket = socket.display().to_string();
    match tokio::time::timeout(PATIENCE, up).await {
        Ok(Ok(true)) => {
            let fault = Some(Fault::new("cli.doctor.running").at(socket));
            Finding { check: CHECK.into(), level: Level::Ok, fault }
        }
        _ => Finding::failure(CHECK, Fault::new("cli.doctor.not_up").at(socket)),
    }
}

/// Whether a restore drill is due, as the running server knows.
async fn drill(context: &Context, config: &Config) -> Option<Finding> {
    let stamp = Stamp::read(&config.instance.data_dir, None).ok()?;
    let asked = async {
        let mut client = Client::open(context, config.clone()).await.ok()?;
        let newest = client.get("/admin/backups/drills").await.ok()?.data[0].clone();
        client.close().await.ok()?;
        Some(newest)
    };
    let newest = tokio::time::timeout(PATIENCE, asked).await.ok()??;
    let newest = super::restore::drill::kept(&newest);
    let (environment, days) = (stamp.environment, config.backup.drill_days);
    let found = drills::finding(environment, days, newest.as_ref(), stamp.created_at, SystemClock.now());
    Some(server::drill::judged(environment, found))
}

/// Whether this program knows what the data went through that the running server serves.
async fn migrations(context: &Context, config: &Config) -> Option<Finding> {
    let asked = async {
        let mut client = Client::open(context, config.clone()).await.ok()?;
        let applied = client.get("/admin/migrations").await.ok()?.data;
        client.close().await.ok()?;
        Some(applied)
    };
    let applied = tokio::time::timeout(PATIENCE, asked).await.ok()??;
    let newest = applied.as_array().and_then(|all| all.last()).and_then(|newest| {
        let number = u32::try_from(newest["number"].as_u64()?).ok()?;
        Some((number, newest["name"].as_str()?, newest["release"].as_str()?))
    });
    server::migrations::of_served(newest)
}

pub fn rows(context: &Context, findings: &[Finding]) -> Value {
    findings.iter().map(|finding| row(context, finding)).collect()
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
    let name = lookup(context.language, &format!("cli.value.check.{}", finding.check)).unwrap_or(&finding.check);
    match &finding.fault {
        None => format!("{level} {name}\n"),
        Some(fault) => format!("{level} {name}\n          {}\n", context.words(fault)),
    }
}
