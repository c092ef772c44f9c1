//! `subject`: what is held about someone, handed over or destroyed, and the certificates of it.

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    export,
    failure::{Failure, unreadable},
    output::{self, Progress},
};
use crate::{
    base::{config::Config, fault::Fault, messages::text},
    services::subjects,
};
use hyper::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub enum Command {
    Export {
        #[arg(value_name = "WHO")]
        who: String,
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    Erase {
        #[arg(value_name = "WHO")]
        who: String,
        #[arg(long)]
        delete_owned: bool,
        #[arg(long)]
        dry_run: bool,
        #[arg(long, short)]
        yes: bool,
    },
    Certificate {
        #[arg(value_name = "ID")]
        id: Option<String>,
    },
    Verify {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Verify { file, key } => verify(context, &file, key.as_deref()),
        Command::Export { who, output } => hand_over(context, &who, output.as_deref()).await,
        Command::Erase { who, delete_owned, dry_run, yes } => erase(context, &who, delete_owned, dry_run, yes).await,
        Command::Certificate { id } => certificate(context, id.as_deref()).await,
    }
}

async fn hand_over(context: &Context, who: &str, file: Option<&Path>) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let response = client.send(Method::GET, &format!("{}/export", path(who)), "", bytes::Bytes::new()).await?;
    match file.filter(|path| *path != Path::new("-")) {
        None => export::pour(response, output::write).await?,
        Some(file) => {
            let mut progress = Progress::new(context, None, "cli.progress.lines");
            let lines = export::to_file(response, file, &mut progress).await?;
            drop(progress);
            let shown = file.display().to_string();
            let done = Fault::new("cli.subject.exported").at(&shown).with("who", who).with("lines", lines);
            context.done(&json!({ "who": who, "lines": lines, "file": shown }), &done)?;
        }
    }
    client.close().await
}

async fn erase(context: &Context, who: &str, delete: bool, dry_run: bool, yes: bool) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let found = describe(context, config.clone(), who).await?;
    let name = found["email"].as_str().or(found["subject"].as_str()).unwrap_or(who).to_owned();
    let fault = |key| Fault::new(key).with("who", &name).with("subject", word(&found["subject"]));
    let deletes = |key: &'static str, deleting: &'static str| fault(if delete { deleting } else { key });
    if dry_run {
        let document = json!({ "holdings": found, "deleteOwned": delete, "erased": false });
        return context.answer(&document, || {
            let would = context.words(&deletes("cli.subject.would_erase", "cli.subject.would_delete"));
            format!("{would}\n{}", holdings(context, &found))
        });
    }
    if !yes {
        context.say(&deletes("cli.subject.will_erase", "cli.subject.will_delete"));
        if !context.quiet {
            eprint!("{}", holdings(context, &found));
        }
    }
    context.confirm(&fault("cli.subject.confirm"), &name, yes)?;
    let mut client = Client::open(context, config).await?;
    let answer = client.post(&format!("{}/erase", path(who)), json!({ "deleteOwned": delete })).await?;
    client.close().await?;
    let done = match answer.data["certificate"]["unreadableEverywhereFrom"].as_str() {
        Some(from) => fault("cli.subject.erased").with("from", from),
        None => fault("cli.subject.erased_here"),
    };
    context.done(&answer.data, &done.with("certificate", word(&answer.data["id"])))
}

/// A person thinking must hold no lock.
async fn describe(context: &Context, config: Config, who: &str) -> Result<Value, Failure> {
    let mut client = Client::open(context, config).await?;
    let found = client.get(&path(who)).await?.data;
    client.close().await?;
    Ok(found)
}

fn holdings(context: &Context, found: &Value) -> String {
    let mut rows: Vec<[String; 4]> = found["holdings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|held| {
            let sealed = held["sealed"].as_array().into_iter().flatten().map(word).collect::<Vec<_>>().join(" ");
            [word(&held["collection"]), word(&held["about"]), word(&held["owned"]), sealed]
        })
        .collect();
    let own = |(name, count): (&String, &Value)| [format!("system.{name}"), word(count), String::new(), String::new()];
    rows.extend(found["traces"].as_object().into_iter().flatten().map(own));
    let header = ["cli.subject.collection", "cli.subject.about", "cli.subject.owned", "cli.subject.sealed"];
    output::table(header.map(|key| text(context.language, key)), &rows)
}

async fn certificate(context: &Context, id: Option<&str>) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let path = id.map_or_else(|| "/admin/erasures".to_owned(), |id| format!("/admin/erasures/{}", segment(id)));
    let data = client.get(&path).await?.data;
    client.close().await?;
    if id.is_some() {
        // As `verify` reads it.
        let signed = json!({ "certificate": data["certificate"], "signature": data["signature"] });
        return context.answer(&signed, || format!("{signed:#}"));
    }
    let rows: Vec<[String; 4]> = data
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let certificate = &one["certificate"];
            let words = ["subject", "erasedAt", "unreadableEverywhereFrom"].map(|name| word(&certificate[name]));
            let [subject, erased, from] = words;
            [word(&one["id"]), subject, erased, from]
        })
        .collect();
    let header = ["cli.subject.id", "cli.subject.pseudonym", "cli.subject.erased_at", "cli.subject.from"];
    context.answer(&data, || output::table(header.map(|key| text(context.language, key)), &rows))
}

/// Without an instance: anyone who holds the file may ask.
fn verify(context: &Context, file: &Path, key: Option<&str>) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file.display(), error))?;
    let signed = subjects::verify(&text, key).map_err(|error| super::serve::failure(error.into()))?;
    if key.is_none() {
        context.say(&Fault::new("cli.subject.unvouched").with("key", &signed.signature.key));
    }
    let certificate = &signed.certificate;
    let done = Fault::new("cli.subject.sound").with("id", word(&certificate["id"]));
    let document =
        json!({ "certificate": certificate, "key": signed.signature.key, "keyVouched": key.is_some(), "sound": true });
    context.done(&document, &done)
}

fn path(who: &str) -> String {
    format!("/admin/subjects/{}", segment(who))
}
