//! `backup plan` and `backup prune`: what is kept, what goes, and how each target stands.

use super::path;
use crate::{
    base::{
        fault::Fault,
        messages::{lookup, text},
    },
    cli::{
        client::Client,
        collection::word,
        context::Context,
        failure::{Code, Failure},
        output,
    },
};
use serde_json::{Value, json};

/// What is typed to confirm.
const WORD: &str = "prune";

pub async fn plan(context: &Context, target: Option<&str>) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.get(&path("/plan", target)).await?;
    let mut targets = answer.data["targets"].as_array().into_iter().flatten();
    let reached = targets.any(|at| at["fault"].is_null());
    // The listing fails by its own code where there is one target alone.
    let listed = if reached { Ok(()) } else { client.get(&path("", target)).await.map(drop) };
    client.close().await?;
    context.answer(&answer.data, || shown(context, &answer.data))?;
    match listed {
        Err(failure) if failure.code == Code::Unavailable => Err(Failure::silent(failure.code)),
        _ => Ok(()),
    }
}

/// How each target stands, then what stays and what goes there.
fn shown(context: &Context, plan: &Value) -> String {
    let words = |key| text(context.language, key).to_owned();
    let targets = || plan["targets"].as_array().into_iter().flatten();
    let named = |name: &str| lookup(context.language, &format!("cli.value.backup.{name}")).unwrap_or(name).to_owned();
    let rows: Vec<[String; 6]> = targets()
        .map(|at| {
            let age = at["ageSeconds"].as_u64().map(output::age);
            let status = named(at["status"].as_str().unwrap_or_default());
            let times = ["full", "segment", "next"].map(|name| word(&at[name]));
            let [full, segment, next] = times;
            [word(&at["target"]), status, full, segment, age.unwrap_or_else(|| word(&Value::Null)), next]
        })
        .collect();
    let header = [
        "cli.backup.target",
        "cli.backup.status",
        "cli.backup.full",
        "cli.backup.segment",
        "cli.backup.age",
        "cli.backup.next",
    ];
    let mut shown = output::table(header.map(words), &rows);
    for at in targets() {
        shown.push_str(&format!("\n{} ({})\n", word(&at["target"]), word(&at["place"])));
        // What fails is often what cannot be listed now: it is said once.
        let listing = at["fault"].as_str().filter(|fault| at["failure"]["text"] != *fault);
        let faults = at["failure"]["text"].as_str().into_iter().chain(listing);
        shown.extend(faults.map(|fault| format!("  {fault}\n")));
        let kept = at["kept"].as_array().into_iter().flatten();
        let rows: Vec<[String; 3]> = kept
            .map(|kept| {
                let reasons = kept["reasons"].as_array().into_iter().flatten();
                let reasons: Vec<_> = reasons.map(|reason| named(reason.as_str().unwrap_or_default())).collect();
                [words("cli.backup.stays"), word(&kept["name"]), reasons.join(", ")]
            })
            .chain(names(&at["dropped"]).map(|name| [words("cli.backup.goes"), name, String::new()]))
            .chain(at["damaged"].as_array().into_iter().flatten().map(|damaged| {
                let good = damaged["goodUntil"].as_str().unwrap_or_default().to_owned();
                [named("damaged"), word(&damaged["name"]), good]
            }))
            .collect();
        let header = ["cli.backup.plan", "cli.backup.name", "cli.backup.reasons"];
        shown.push_str(&output::table(header.map(words), &rows));
    }
    shown
}

fn names(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().map(word)
}

pub async fn prune(context: &Context, target: Option<&str>, dry_run: bool, yes: bool) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    // A person thinking must hold no lock.
    let mut client = Client::open(context, config.clone()).await?;
    let would = client.post("/admin/backups/prune", json!({ "target": target, "dryRun": true })).await?.data;
    client.close().await?;
    let count = dropped(&would);
    let fault = |key| Fault::new(key).with("count", count);
    if dry_run || count == 0 {
        return context
            .answer(&would, || format!("{}\n{}", context.words(&fault("cli.backup.would_go")), list(&would)));
    }
    if !yes && !context.quiet {
        eprint!("{}", list(&would));
    }
    context.confirm(&fault("cli.backup.confirm_prune").with("word", WORD), WORD, yes)?;
    let mut client = Client::open(context, config).await?;
    let gone = client.post("/admin/backups/prune", json!({ "target": target, "dryRun": false })).await?.data;
    client.close().await?;
    context.done(&gone, &Fault::new("cli.backup.gone").with("count", dropped(&gone)))?;
    let refused: Vec<_> = gone.as_array().into_iter().flatten().flat_map(|at| names(&at["refused"])).collect();
    let faults = gone.as_array().into_iter().flatten().filter_map(|at| at["fault"].as_str().map(str::to_owned));
    let refused: Vec<_> = refused.into_iter().chain(faults).collect();
    if refused.is_empty() {
        return Ok(());
    }
    context.complain(&Failure::new(Code::Failed, Fault::new("cli.backup.stay").with("which", refused.join(", "))));
    Err(Failure::silent(Code::Failed))
}

fn dropped(all: &Value) -> usize {
    all.as_array().into_iter().flatten().map(|at| names(&at["dropped"]).count()).sum()
}

fn list(all: &Value) -> String {
    let at =
        |at: &Value| names(&at["dropped"]).map(|name| format!("{}: {name}\n", word(&at["target"]))).collect::<String>();
    all.as_array().into_iter().flatten().map(at).collect()
}
