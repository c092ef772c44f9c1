//! `secrets`: how old the instance's keys are, their successors, the key that wraps them.

use super::{
    client::Client,
    collection::word,
    context::Context,
    failure::{Code, Failure},
    output::{self, Progress},
};
use crate::{
    base::{fault::Fault, messages::text},
    services::keyring::ANNOUNCED,
};
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum Command {
    Status,
    Rotate {
        #[arg(value_name = "KEY", required_unless_present = "all", value_parser = ROTATED)]
        key: Vec<String>,
        #[arg(long, conflicts_with = "key")]
        all: bool,
        #[arg(long)]
        rewrite: bool,
        #[arg(long)]
        revoke: bool,
        #[arg(long, short)]
        yes: bool,
    },
    Rewrite {
        #[arg(value_name = "KEY", value_parser = STORES, default_values = STORES)]
        key: Vec<String>,
    },
    Rewrap {
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[arg(long, short)]
        yes: bool,
    },
}

const ROTATED: [&str; 7] = ["token-signing", "backup-signing", "audit-signing", "data", "subjects", "media", "ca"];
/// Those for which nothing is to be done elsewhere.
const ALL: usize = 6;
/// Whose older versions can be made to count no more.
const REVOCABLE: [&str; 3] = ["token-signing", "backup-signing", "ca"];
/// Which seal a store.
const STORES: [&str; 2] = ["data", "subjects"];

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status => status(context).await,
        Command::Rotate { key, all, rewrite, revoke, yes } => {
            let keys = if all { ROTATED.iter().take(ALL).map(|&key| key.to_owned()).collect() } else { key };
            rotate(context, &keys, rewrite, revoke, yes).await
        }
        Command::Rewrite { key } => rewrite(context, &key).await,
        Command::Rewrap { to, yes } => rewrap(context, to, yes).await,
    }
}

async fn status(context: &Context) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let data = client.get("/admin/secrets").await?.data;
    client.close().await?;
    let header = [
        "cli.secrets.key",
        "cli.secrets.version",
        "cli.secrets.created",
        "cli.secrets.next",
        "cli.secrets.older",
        "cli.secrets.pages",
    ];
    let rows: Vec<[String; 6]> = data["keys"].as_array().into_iter().flatten().map(row).collect();
    context.answer(&data, || {
        let table = output::table(header.map(|key| text(context.language, key)), &rows);
        let root = Fault::new("cli.secrets.root").with("source", word(&data["rootKey"]));
        format!("{table}{}", context.words(&root))
    })
}

fn row(key: &Value) -> [String; 6] {
    let day = |name: &str| key[name].as_str().map_or_else(|| "–".to_owned(), |time| time.chars().take(10).collect());
    let current = word(&key["version"]);
    let pages = key["pages"].as_object().map_or_else(String::new, |pages| {
        let count = |(_, pages): (&String, &Value)| pages.as_u64().unwrap_or_default();
        let older: u64 = pages.iter().filter(|(version, _)| **version != current).map(count).sum();
        format!("{older}/{}", pages.iter().map(count).sum::<u64>())
    });
    [word(&key["purpose"]), current, day("createdAt"), day("rotatesAt"), word(&key["older"]), pages]
}

/// One after the other: what is rotated already stays so, and is told.
async fn rotate(context: &Context, keys: &[String], rewrite: bool, revoke: bool, yes: bool) -> Result<(), Failure> {
    let all_are = |these: &[&str]| keys.iter().all(|key| these.contains(&key.as_str()));
    if revoke && !all_are(&REVOCABLE) {
        return Err(Failure::new(Code::Usage, Fault::new("cli.secrets.revocable").with("keys", REVOCABLE.join(", "))));
    }
    if rewrite && !keys.iter().any(|key| STORES.contains(&key.as_str())) {
        return Err(Failure::new(Code::Usage, Fault::new("cli.secrets.rewritable").with("keys", STORES.join(", "))));
    }
    let config = context.config(Vec::new())?;
    if revoke {
        let name = keys.join(" ");
        for key in keys.iter().filter(|_| !yes) {
            context.say(&Fault::new(match key.as_str() {
                "token-signing" => "cli.secrets.revokes_tokens",
                "backup-signing" => "cli.secrets.revokes_backups",
                _ => "cli.secrets.revokes_authority",
            }));
        }
        context.confirm(&Fault::new("cli.secrets.confirm_revoke").with("name", &name), &name, yes)?;
    }
    let mut client = Client::open(context, config).await?;
    let (mut done, mut lines) = (Vec::new(), Vec::new());
    let mut outcome = Ok(());
    for key in keys {
        let rotated = one(context, &mut client, key, rewrite, revoke).await;
        match rotated {
            Ok((data, told)) => {
                done.push(data);
                lines.extend(told.iter().map(|fault| context.words(fault)));
            }
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    let closed = client.close().await;
    if let Err(failure) = outcome.and(closed) {
        // The failure is the answer; what is done already is said beside it.
        lines.iter().for_each(|line| context.note(line));
        return Err(failure);
    }
    context.answer(&json!({ "keys": done }), || if context.quiet { String::new() } else { lines.join("\n") })
}

/// What the rotation of one key answers, and says.
async fn one(
    context: &Context,
    client: &mut Client,
    key: &str,
    rewrite: bool,
    revoke: bool,
) -> Result<(Value, Vec<Fault>), Failure> {
    let mut data = client.post("/admin/secrets/rotate", json!({ "purpose": key, "revoke": revoke })).await?.data;
    let mut told = vec![Fault::new("cli.secrets.rotated").with("key", key).with("version", word(&data["version"]))];
    if rewrite && STORES.contains(&key) {
        let pages = rewrite_all(context, client, key).await?;
        data["rewrittenPages"] = pages.into();
        told.push(Fault::new("cli.secrets.rewritten").with("key", key).with("pages", pages));
    }
    match key {
        "backup-signing" => told.push(signer(client, revoke).await?),
        "ca" if revoke => told.push(Fault::new("cli.secrets.authority_now")),
        "ca" => told.push(Fault::new("cli.secrets.authority_soon").with("days", ANNOUNCED / 86_400)),
        _ => {}
    }
    Ok((data, told))
}

/// What a rotation left under older keys, or a cut of its rewriting.
async fn rewrite(context: &Context, keys: &[String]) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let (mut done, mut lines) = (Vec::new(), Vec::new());
    for key in keys {
        let pages = rewrite_all(context, &mut client, key).await?;
        done.push(json!({ "purpose": key, "rewrittenPages": pages }));
        lines.push(context.words(&Fault::new("cli.secrets.rewritten").with("key", key).with("pages", pages)));
    }
    client.close().await?;
    context.answer(&json!({ "keys": done }), || if context.quiet { String::new() } else { lines.join("\n") })
}

/// The line to keep with the private keys.
async fn signer(client: &mut Client, alone: bool) -> Result<Fault, Failure> {
    let keys = client.get("/admin/backups/keys").await?.data;
    let newest = keys["signers"].as_array().and_then(|signers| signers.last()).map(word);
    let key = if alone { "cli.secrets.signer_alone" } else { "cli.secrets.signer" };
    Ok(Fault::new(key).with("signer", newest.unwrap_or_default()))
}

/// Part by part, so that a cut loses nothing: what is done is not done again.
async fn rewrite_all(context: &Context, client: &mut Client, key: &str) -> Result<u64, Failure> {
    let mut progress = Progress::new(context, Some(1), "cli.progress.pages");
    let (mut from, mut moved) = (0, 0);
    loop {
        let part = client.post("/admin/secrets/rewrite", json!({ "purpose": key, "from": from })).await?.data;
        let (next, total) = (part["next"].as_u64().unwrap_or_default(), part["total"].as_u64().unwrap_or_default());
        moved += part["rewritten"].as_u64().unwrap_or_default();
        if next == 0 {
            return Ok(moved);
        }
        progress.of(next, total);
        from = next;
    }
}

async fn rewrap(context: &Context, to: Option<PathBuf>, yes: bool) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let file = to.map(std::path::absolute).transpose().map_err(|error| super::failure::unreadable("--to", error))?;
    if let Some(file) = &file {
        let shown = file.display().to_string();
        let question = Fault::new("cli.secrets.confirm_rewrap").at(&shown).with("name", "root-key");
        context.confirm(&question, "root-key", yes)?;
    }
    let mut client = Client::open(context, config).await?;
    let data = client.post("/admin/secrets/rewrap", json!({ "file": file })).await?.data;
    client.close().await?;
    let key = if file.is_some() { "cli.secrets.rewrapped_elsewhere" } else { "cli.secrets.rewrapped" };
    context.done(&data, &Fault::new(key).with("source", word(&data["rootKey"])))
}
