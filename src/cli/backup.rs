//! `backup`: make, list, check; the keys they are sealed to.

mod keys;
mod recipients;
mod shares;

use super::{
    client::Client,
    collection::word,
    context::Context,
    failure::{Failure, unreadable},
    output,
};
use crate::{
    base::{fault::Fault, messages::text},
    server,
    services::backups::{Identity, Verified},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub enum Command {
    #[command(subcommand)]
    Keys(keys::Command),
    Create,
    List,
    Verify {
        #[arg(value_name = "ID")]
        backup: Option<String>,
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        #[arg(long, value_name = "SIGNER", requires = "identity")]
        signer: Vec<String>,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Keys(command) => keys::run(context, command).await,
        Command::Create => create(context).await,
        Command::List => list(context).await,
        Command::Verify { backup, identity, signer } => {
            verify(context, backup.as_deref(), identity.as_deref(), &signer).await
        }
    }
}

async fn create(context: &Context) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.post("/admin/backups", json!({ "kind": "full" })).await?;
    client.close().await?;
    let data = answer.data;
    let done = Fault::new("cli.backup.created")
        .with("id", word(&data["id"]))
        .with("documents", word(&data["documents"]))
        .with("size", output::bytes(data["bytes"].as_u64().unwrap_or_default()))
        .with("place", word(&data["place"]));
    context.done(&data, &done)
}

async fn list(context: &Context) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.get("/admin/backups").await?;
    client.close().await?;
    let rows: Vec<[String; 5]> = answer.data.as_array().into_iter().flatten().map(row).collect();
    let header = ["cli.backup.created_at", "cli.backup.kind", "cli.backup.size", "cli.backup.name", "cli.backup.fault"];
    context.answer(&answer.data, || output::table(header.map(|key| text(context.language, key)), &rows))
}

fn row(backup: &Value) -> [String; 5] {
    let size = output::bytes(backup["bytes"].as_u64().unwrap_or_default());
    [word(&backup["created"]), word(&backup["kind"]), size, word(&backup["name"]), word(&backup["fault"])]
}

/// With a private key the check is made here: the server never sees it.
async fn verify(
    context: &Context,
    backup: Option<&str>,
    identity: Option<&Path>,
    signers: &[String],
) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let data = match identity {
        Some(path) => {
            let identity = identity_file(path, signers)?;
            let vouched = !identity.signers().is_empty();
            let verified = server::verify(config.backup_target(), backup.map(str::to_owned), identity).await;
            let Verified { header, manifest } = verified.map_err(super::serve::failure)?;
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
            let answer = client.post("/admin/backups/verify", json!({ "backup": backup })).await?;
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
    Ok(Identity::from_file(&text).map_err(failed)?.believing(signers))
}
