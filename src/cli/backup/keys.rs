//! `backup keys`: who can open backups; their private keys, made, split and put together off the server.

use super::{
    identity_file,
    recipients::{self, Recipients},
    shares,
};
use crate::{
    base::{
        fault::Fault,
        files,
        messages::{lookup, text},
    },
    cli::{
        client::Client,
        collection::word,
        context::Context,
        failure::{Code, Failure, uncreated},
        output::{self, Progress},
        serve::failure,
    },
    server,
    services::backups::{Identity, Recipient},
};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub enum Command {
    Generate {
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    List,
    Add {
        #[arg(value_name = "PUBKEY")]
        recipient: String,
    },
    Retire {
        #[arg(value_name = "PUBKEY")]
        recipient: String,
        #[arg(long)]
        dry_run: bool,
    },
    Rewrap(Rewrap),
    Split(shares::Split),
    Combine(shares::Combine),
}

#[derive(clap::Args)]
pub struct Rewrap {
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    #[arg(long, value_name = "PUBKEY", num_args = 1..)]
    recipient: Vec<String>,
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Generate { output } => generate(context, output.as_deref()),
        Command::List => list(context).await,
        Command::Add { recipient } => recipients::add(context, &recipient),
        Command::Retire { recipient, dry_run } => recipients::retire(context, &recipient, dry_run),
        Command::Rewrap(arguments) => rewrap(context, arguments).await,
        Command::Split(arguments) => shares::split(context, &arguments),
        Command::Combine(arguments) => shares::combine(context, &arguments),
    }
}

fn generate(context: &Context, path: Option<&Path>) -> Result<(), Failure> {
    keep(context, &Identity::generate(Vec::new()), path, "cli.backup.key_kept")
}

/// The private half goes to its file, or to stdout, and nowhere else; the public half is said.
pub fn keep(context: &Context, identity: &Identity, path: Option<&Path>, said: &'static str) -> Result<(), Failure> {
    let recipient = identity.recipient().to_string();
    let text = identity.to_file();
    match path {
        Some(path) => {
            files::create(path, text.as_bytes(), 0o600).map_err(|error| uncreated(path.display(), &error))?;
            let shown = path.display().to_string();
            let document = json!({ "recipient": recipient, "file": shown });
            context.say(&Fault::new(said).at(&shown));
            context.answer(&document, || recipient.clone())
        }
        None => context.answer(&json!({ "recipient": recipient, "identity": text.as_str() }), || text.to_string()),
    }
}

/// Whom backups are sealed to, and who signs them.
async fn list(context: &Context) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.get("/admin/backups/keys").await?;
    client.close().await?;
    let id = |key: &str| key.parse::<Recipient>().map(|recipient| hex::encode(recipient.id())).unwrap_or_default();
    let rows = |name: &str, role: &'static str| {
        let keys = answer.data[name].as_array().into_iter().flatten().map(word);
        keys.map(|key| [text(context.language, role).to_owned(), id(&key), key]).collect::<Vec<_>>()
    };
    let all = [rows("recipients", "cli.backup.recipient"), rows("signers", "cli.backup.signer")].concat();
    let header = ["cli.backup.role", "cli.backup.id", "cli.backup.key"].map(|key| text(context.language, key));
    context.answer(&answer.data, || output::table(header, &all))
}

/// Here and offline: it takes a private key. The table is the answer, each backup under its name.
async fn rewrap(context: &Context, arguments: Rewrap) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let named = Recipients::parse(&arguments.recipient)?;
    let recipients = if named.is_empty() { Recipients::parse(&config.backup.recipients)? } else { named };
    let identity = identity_file(&arguments.identity, &[])?;
    if identity.signers().is_empty() {
        context.say(&Fault::new("cli.backup.rewrap_unvouched"));
    }
    let folder = arguments.from.or_else(|| server::rewrap::folder(&config));
    let folder = folder.filter(|folder| !folder.to_string_lossy().contains("://"));
    let folder = folder.ok_or_else(|| Failure::new(Code::Refused, Fault::new("cli.backup.rewrap_bucket")))?;
    let shown = folder.display().to_string();
    let dry = arguments.dry_run;
    let mut bar = Progress::of_bytes(context, Some(0));
    let told = move |gone, total| bar.of(gone, total);
    let all = server::rewrap(folder, identity, recipients.0, dry, told).await.map_err(failure)?;
    if all.is_empty() {
        return Err(Failure::new(Code::NotFound, Fault::new("backups.none").with("place", shown)));
    }
    let outcome = |done: &Result<bool, server::problem::Problem>| match done {
        Ok(true) if dry => ("due", String::new()),
        Ok(true) => ("done", String::new()),
        Ok(false) => ("same", String::new()),
        Err(problem) => ("failed", context.words(&problem.fault)),
    };
    let rows: Vec<_> = all
        .iter()
        .map(|one| {
            let (outcome, why) = outcome(&one.done);
            let said = lookup(context.language, &format!("cli.value.rewrapped.{outcome}")).unwrap_or_default();
            (json!({ "name": one.name, "outcome": outcome, "fault": why }), [one.name.clone(), said.to_owned(), why])
        })
        .collect();
    let (documents, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    let header = ["cli.backup.name", "cli.backup.slots", "cli.backup.fault"];
    context.answer(&json!({ "backups": documents, "dryRun": dry }), || {
        output::table(header.map(|key| text(context.language, key)), &rows)
    })?;
    let mut failures: Vec<Failure> = all.into_iter().filter_map(|one| one.done.err()).map(failure).collect();
    // The worst decides: damage before all else.
    failures.sort_by_key(|failure| failure.code != Code::Integrity);
    match failures.first() {
        Some(worst) => Err(Failure::silent(worst.code)),
        None => {
            if !dry {
                context.say(&Fault::new("cli.backup.rewrapped"));
            }
            Ok(())
        }
    }
}
