//! `backup`: make, list, check; the keys they are sealed to.

mod keys;
mod plan;
mod recipients;
mod shares;

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    failure::{Code, Failure, unreadable},
    output,
};
use crate::{
    base::{fault::Fault, messages::text},
    server::{self, problem::Problem},
    services::backups::{Identity, Paper, Signer, Verified},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub enum Command {
    #[command(subcommand)]
    Keys(keys::Command),
    Create {
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        #[arg(long, value_parser = ["full", "segment"], default_value = "full")]
        kind: String,
    },
    List {
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
    },
    Verify {
        #[arg(value_name = "ID")]
        backup: Option<String>,
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        #[arg(long, value_name = "SIGNER", requires = "identity")]
        signer: Vec<String>,
    },
    Plan {
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
    },
    Prune {
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        #[arg(long)]
        dry_run: bool,
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Keys(command) => keys::run(context, command).await,
        Command::Create { target, kind } => create(context, target.as_deref(), &kind).await,
        Command::List { target } => list(context, target.as_deref()).await,
        Command::Verify { backup, target, identity, signer } => {
            verify(context, (backup.as_deref(), target.as_deref()), identity.as_deref(), &signer).await
        }
        Command::Plan { target } => plan::plan(context, target.as_deref()).await,
        Command::Prune { target, dry_run, yes } => plan::prune(context, target.as_deref(), dry_run, yes).await,
    }
}

async fn create(context: &Context, target: Option<&str>, kind: &str) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.post("/admin/backups", json!({ "kind": kind, "target": target })).await?;
    client.close().await?;
    let data = answer.data;
    let failed = at_targets(&data["targets"], "fault");
    let done = Fault::new("cli.backup.created")
        .with("id", word(&data["id"]))
        .with("documents", word(&data["documents"]))
        .with("size", output::bytes(data["bytes"].as_u64().unwrap_or_default()))
        .with("place", at_targets(&data["targets"], "place"));
    context.done(&data, &done)?;
    match failed.is_empty() {
        true => Ok(()),
        // The answer is given already, and some targets have none.
        false => {
            let failure = Failure::new(Code::Failed, Fault::new("cli.backup.not_everywhere").with("targets", failed));
            context.complain(&failure);
            Err(Failure::silent(Code::Failed))
        }
    }
}

/// `usb: 20261122T…`, of those targets that have it.
fn at_targets(targets: &Value, name: &str) -> String {
    let all = targets.as_array().into_iter().flatten().filter(|at| !at[name].is_null());
    all.map(|at| format!("{}: {}", word(&at["target"]), word(&at[name]))).collect::<Vec<_>>().join(", ")
}

/// Asked of one target, or of all.
fn path(path: &str, target: Option<&str>) -> String {
    match target {
        Some(target) => format!("/admin/backups{path}?target={}", segment(target)),
        None => format!("/admin/backups{path}"),
    }
}

async fn list(context: &Context, target: Option<&str>) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.get(&path("", target)).await?;
    client.close().await?;
    let rows: Vec<[String; 6]> = answer.data.as_array().into_iter().flatten().map(row).collect();
    let header = [
        "cli.backup.created_at",
        "cli.backup.kind",
        "cli.backup.size",
        "cli.backup.target",
        "cli.backup.name",
        "cli.backup.fault",
    ];
    context.answer(&answer.data, || output::table(header.map(|key| text(context.language, key)), &rows))
}

fn row(backup: &Value) -> [String; 6] {
    let size = output::bytes(backup["bytes"].as_u64().unwrap_or_default());
    let words = ["created", "kind", "target", "name", "fault"].map(|name| word(&backup[name]));
    let [created, kind, target, name, fault] = words;
    [created, kind, size, target, name, fault]
}

/// With a private key the check is made here: the server never sees it.
async fn verify(
    context: &Context,
    (backup, target): (Option<&str>, Option<&str>),
    identity: Option<&Path>,
    signers: &[String],
) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let data = match identity {
        Some(path) => {
            let identity = identity_file(path, signers)?;
            let vouched = !identity.signers().is_empty();
            let known = identity.signers().to_vec();
            let verified = server::verify(&config, (backup.map(str::to_owned), target), identity).await;
            let Verified { header, manifest } = verified.map_err(|problem| untrusted(problem, &known))?;
            if !vouched {
                context.say(&Fault::new("cli.restore.unvouched").with("signer", manifest.signer()));
            }
            json!({
                "id": header.id(),
                "documents": manifest.documents,
                "records": manifest.records,
                "opened": true,
                "signer": manifest.signer(),
                "signerVouched": vouched,
            })
        }
        None => {
            let mut client = Client::open(context, config).await?;
            let answer = client.post("/admin/backups/verify", json!({ "backup": backup, "target": target })).await?;
            client.close().await?;
            answer.data
        }
    };
    let done = Fault::new("cli.backup.sound").with("id", word(&data["id"])).with("documents", word(&data["documents"]));
    context.done(&data, &done)
}

/// A recipient's private key, and whose signature to believe beside what its file says.
pub fn identity_file(path: &Path, signers: &[String]) -> Result<Identity, Failure> {
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new);
    let text = text.map_err(|error| unreadable(path.display(), error))?;
    let failed = |error: crate::services::Error| super::serve::failure(error.into());
    let signers = signers.iter().map(|signer| signer.parse()).collect::<Result<_, _>>().map_err(failed)?;
    let wrong = |error: crate::services::Error| {
        let problem = Problem::from(error);
        let at = |key| Fault::new(key).at(path.display().to_string());
        let faults = match Paper::read(&text) {
            Ok(paper) if !paper.shares.is_empty() => vec![at("cli.backup.key_is_share")],
            _ => vec![at("cli.backup.key_wrong"), problem.fault],
        };
        super::serve::failure(Problem::all(problem.kind, faults))
    };
    Ok(Identity::from_file(&text).map_err(wrong)?.believing(signers))
}

/// A signature nobody believed, as signers are written, beside those that were to be believed.
pub fn untrusted(problem: Problem, known: &[Signer]) -> Failure {
    let signer = problem.fault.params.iter().find(|(name, _)| *name == "signer");
    let signer = signer.and_then(|(_, text)| text.parse::<Signer>().ok());
    let Some(signer) = signer.filter(|_| problem.fault.key == "backups.signer") else {
        return super::serve::failure(problem);
    };
    let known = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let fault = Fault::new("cli.backup.foreign_signer").with("signer", signer).with("known", known);
    super::serve::failure(Problem { fault, ..problem })
}
