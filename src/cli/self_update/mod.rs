//! `self-update`: new releases of this program, seen, brought here, put in place and taken back.

mod apply;
mod history;

use super::{
    context::Context,
    failure::Failure,
    output::{self, Progress},
    serve::failure,
};
use crate::{
    base::{clock::SystemClock, fault::Fault, messages::Language},
    domain::release::{Choice, Release},
    server::update::{Checked, Downloaded, Updates},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(clap::Subcommand)]
pub enum Command {
    Check(From),
    Download(From),
    Apply(apply::Apply),
    Rollback(apply::Rollback),
    Status,
    History,
}

#[derive(clap::Args)]
pub struct From {
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(From { from }) => check(context, from.as_deref(), false).await,
        Command::Download(From { from }) => check(context, from.as_deref(), true).await,
        Command::Apply(asked) => apply::apply(context, asked).await,
        Command::Rollback(asked) => apply::rollback(context, asked).await,
        Command::Status => history::status(context).await,
        Command::History => history::history(context),
    }
}

async fn check(context: &Context, from: Option<&str>, bring: bool) -> Result<(), Failure> {
    let updates = Updates::open(&context.config(Vec::new())?, Arc::new(SystemClock)).map_err(failure)?;
    let checked = updates.check(from).await.map_err(failure)?;
    match &checked.choice {
        Choice::Newest(release) if bring => download(context, &updates, &checked, release).await,
        _ => context.answer(&document(&checked), || found(context, &checked, from)),
    }
}

async fn download(context: &Context, updates: &Updates, checked: &Checked, release: &Release) -> Result<(), Failure> {
    let downloaded = bring(context, updates, checked, release).await?;
    let file = downloaded.file.display().to_string();
    let mut answer = document(checked);
    answer["file"] = file.as_str().into();
    let key = if downloaded.already { "cli.self_update.already" } else { "cli.self_update.downloaded" };
    context.done(&answer, &Fault::new(key).at(file).with("version", &release.version))
}

async fn bring(
    context: &Context,
    updates: &Updates,
    checked: &Checked,
    release: &Release,
) -> Result<Downloaded, Failure> {
    let bar = Mutex::new(Progress::of_bytes(context, Some(release.bytes)));
    let progress = |bytes| bar.lock().unwrap_or_else(PoisonError::into_inner).at(bytes);
    updates.download(checked, release, &progress).await.map_err(failure)
}

fn document(checked: &Checked) -> Value {
    let (state, release) = match &checked.choice {
        Choice::Newest(release) => ("newest", Some(release)),
        Choice::Current => ("current", None),
        Choice::Pinned(release) => ("pinned", Some(release)),
        Choice::Waiting(release) => ("waiting", Some(release)),
    };
    json!({
        "source": checked.source,
        "current": checked.current.to_string(),
        "channel": checked.channel,
        "available": state == "newest",
        "state": state,
        "release": release.map(|release| json!({
            "version": release.version.to_string(),
            "channel": release.channel,
            "file": release.file,
            "kind": release.kind,
            "bytes": release.bytes,
            "sha256": release.sha256,
            "staged": release.staged,
            "notes": release.notes,
        })),
    })
}

/// What was found and, where there is something to bring, what to type next.
fn found(context: &Context, checked: &Checked, from: Option<&str>) -> String {
    let fault = |key| Fault::new(key).with("current", &checked.current).with("source", &checked.source);
    let of = |key, release: &Release| fault(key).with("version", &release.version).with("channel", &release.channel);
    let release = match &checked.choice {
        Choice::Newest(release) => release,
        Choice::Current => return context.words(&fault("cli.self_update.current").with("channel", &checked.channel)),
        Choice::Pinned(release) => {
            let pin = checked.pin.map(|pin| pin.to_string()).unwrap_or_default();
            return context.words(&of("cli.self_update.pinned", release).with("pin", pin));
        }
        Choice::Waiting(release) => {
            return context.words(&of("cli.self_update.waiting", release).with("staged", release.staged));
        }
    };
    let mut lines =
        vec![context.words(&of("cli.self_update.newest", release).with("size", output::bytes(release.bytes)))];
    lines.extend(release.notes.as_ref().map(|notes| match context.language {
        Language::French => notes.fr.clone(),
        Language::English => notes.en.clone(),
    }));
    let next = context.words(&Fault::new("cli.self_update.next").with("command", context.command()));
    lines.push(from.map_or(next.clone(), |from| format!("{next} --from '{from}'")));
    lines.join("\n")
}
