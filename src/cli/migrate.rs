//! `migrate`: what the data has been through and what it would go through; up, down, and rehearsed on a copy.

use super::{
    backup::{identity_file, untrusted},
    client::Client,
    collection::word,
    context::Context,
    failure::{Code, Failure},
    output::{self, Progress},
    serve::failure,
};
use crate::{
    base::{config::Config, environment::Environment, fault::Fault, messages::text},
    domain::migration::Direction,
    server::{
        drill,
        migrations::{self, FromBackup},
    },
    services::migrations::{Done, Part, Plan, Progress as Step, Rehearsed},
};
use hyper::Method;
use serde_json::{Value, json};
use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

#[derive(clap::Subcommand)]
pub enum Command {
    Status,
    Plan {
        #[arg(long, value_name = "N")]
        to: Option<u32>,
    },
    Up {
        #[arg(long, value_name = "N")]
        to: Option<u32>,
    },
    Down {
        #[arg(long, value_name = "N")]
        to: u32,
        #[arg(long, short = 'y')]
        yes: bool,
    },
    Validate(Validate),
}

#[derive(clap::Args)]
pub struct Validate {
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    #[arg(long, value_name = "PLACE", requires = "identity")]
    from: Option<String>,
    #[arg(long, value_name = "ENV", value_parser = ["development", "staging", "production"], requires = "identity")]
    environment: Option<String>,
    #[arg(long, value_name = "SIGNER", requires = "identity")]
    signer: Vec<String>,
    #[arg(long, requires = "identity")]
    any_signer: bool,
    #[arg(long, value_name = "DIR", requires = "identity")]
    scratch: Option<PathBuf>,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status => status(context).await,
        Command::Plan { to } => plan(context, to).await,
        Command::Up { to } => {
            let config = stopped(context)?;
            moved(context, &config, (Direction::Up, to)).await
        }
        Command::Down { to, yes } => down(context, to, yes).await,
        Command::Validate(validate) => rehearsed(context, validate).await,
    }
}

fn is_served(config: &Config) -> bool {
    UnixStream::connect(config.control_socket()).is_ok()
}

/// Data that is served is nobody else's to change.
fn stopped(context: &Context) -> Result<Config, Failure> {
    let config = context.config(Vec::new())?;
    match is_served(&config) {
        false => Ok(config),
        true => Err(Failure::new(Code::Unavailable, Fault::new("migrations.served"))),
    }
}

async fn status(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let applied: Vec<Value> = if is_served(&config) {
        let mut client = Client::open(context, config).await?;
        let answer = client.get("/admin/migrations").await?;
        client.close().await?;
        answer.data.as_array().cloned().unwrap_or_default()
    } else {
        let held = migrations::held(&config).await.map_err(failure)?;
        let told = held.into_iter().map(|held| {
            json!({
                "number": held.number, "name": held.name, "digest": held.digest, "release": held.release,
                "stage": held.stage.name(), "at": held.at, "documents": held.documents,
            })
        });
        told.collect()
    };
    let known = migrations::known().map_err(failure)?;
    let most = known.last().map_or(0, |known| known.number);
    let mut all: Vec<Value> = applied
        .into_iter()
        .map(|mut one| {
            if one["number"].as_u64().is_some_and(|number| number > u64::from(most)) {
                one["stage"] = "newer".into();
            }
            one
        })
        .collect();
    for known in known {
        if all.iter().all(|one| one["number"] != known.number) {
            let (name, digest, release) = (known.name, known.digest, known.release);
            let stage = "pending";
            all.push(
                json!({ "number": known.number, "name": name, "digest": digest, "release": release, "stage": stage }),
            );
        }
    }
    let rows: Vec<[String; 6]> = all.iter().map(row).collect();
    let header = [
        "cli.migrate.number",
        "cli.migrate.name",
        "cli.migrate.stage",
        "cli.migrate.release",
        "cli.migrate.at",
        "cli.migrate.documents",
    ];
    let document = json!({ "known": most, "migrations": all });
    context.answer(&document, || output::table(header.map(|key| text(context.language, key)), &rows))
}

fn row(one: &Value) -> [String; 6] {
    let number = format!("{:04}", one["number"].as_u64().unwrap_or_default());
    let [name, stage, release, at, documents] =
        ["name", "stage", "release", "at", "documents"].map(|name| word(&one[name]));
    [number, name, stage, release, at, documents]
}

async fn plan(context: &Context, to: Option<u32>) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let way = way(context, &config, to).await?;
    let plan = copied(context, &config, async |copy| migrations::plan(&config, copy, way).await.map_err(failure));
    told(context, &plan.await?)
}

/// To a number below what is applied leads down.
async fn way(context: &Context, config: &Config, to: Option<u32>) -> Result<(Direction, Option<u32>), Failure> {
    let Some(number) = to else { return Ok((Direction::Up, None)) };
    let newest = if is_served(config) {
        let mut client = Client::open(context, config.clone()).await?;
        let answer = client.get("/admin/migrations").await?;
        client.close().await?;
        let numbers = answer.data.as_array().into_iter().flatten().filter_map(|one| one["number"].as_u64());
        numbers.max().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
    } else {
        let held = migrations::held(config).await.map_err(failure)?;
        held.last().map_or(0, |held| held.number)
    };
    Ok((if number < newest { Direction::Down } else { Direction::Up }, to))
}

/// With a copy the service makes of what it serves, removed whatever comes of it; with none where nobody serves.
async fn copied<T>(
    context: &Context,
    config: &Config,
    with: impl AsyncFnOnce(Option<&Path>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if !is_served(config) {
        return with(None).await;
    }
    let mut client = Client::open(context, config.clone()).await?;
    let answer = client.post("/admin/migrations/copies", Value::Null).await?;
    let (id, folder) = (word(&answer.data["id"]), PathBuf::from(word(&answer.data["folder"])));
    let done = with(Some(&folder)).await;
    let removed = client.call(Method::DELETE, &format!("/admin/migrations/copies/{id}"), None).await;
    client.close().await?;
    let done = done?;
    removed?;
    Ok(done)
}

fn told(context: &Context, plan: &Plan) -> Result<(), Failure> {
    let parts = plan.migrations.iter().flat_map(|planned| planned.parts.iter().map(move |part| (planned, part)));
    let rows: Vec<[String; 6]> = parts
        .map(|(planned, (collection, part))| {
            let name = format!("{:04}-{}", planned.number, planned.name);
            let count = |count: u64| count.to_string();
            [name, collection.clone(), count(part.documents), count(part.changed), count(part.left), count(part.losing)]
        })
        .collect();
    let header = [
        "cli.migrate.name",
        "cli.migrate.collection",
        "cli.migrate.documents",
        "cli.migrate.changed",
        "cli.migrate.left",
        "cli.migrate.losing",
    ];
    let migrations: Vec<Value> = plan
        .migrations
        .iter()
        .map(|planned| {
            let parts = planned.parts.iter().map(|(name, part)| (name.clone(), described(part)));
            let parts: serde_json::Map<_, _> = parts.collect();
            json!({ "number": planned.number, "name": planned.name, "collections": parts })
        })
        .collect();
    let document = json!({
        "direction": plan.direction.name(),
        "migrations": migrations,
        "bytes": plan.needs(),
        "seconds": plan.seconds(),
    });
    if plan.migrations.is_empty() {
        return context.done(&document, &Fault::new("cli.migrate.nothing"));
    }
    let sum = Fault::new("cli.migrate.planned").with("direction", plan.direction.name());
    let sum =
        sum.with("changed", plan.changed()).with("size", output::bytes(plan.needs())).with("seconds", plan.seconds());
    context.answer(&document, || {
        let table = output::table(header.map(|key| text(context.language, key)), &rows);
        format!("{table}\n{}", context.words(&sum))
    })
}

fn described(part: &Part) -> Value {
    json!({
        "documents": part.documents, "changed": part.changed, "bytes": part.bytes, "left": part.left,
        "losing": part.losing, "irreversible": part.irreversible,
    })
}

async fn down(context: &Context, to: u32, yes: bool) -> Result<(), Failure> {
    let config = stopped(context)?;
    let plan = migrations::plan(&config, None, (Direction::Down, Some(to))).await.map_err(failure)?;
    if plan.migrations.is_empty() {
        return context.done(&json!({ "migrations": [] }), &Fault::new("cli.migrate.nothing"));
    }
    let name = config.server.hostnames.first().cloned().unwrap_or_else(|| "localhost".to_owned());
    let question = Fault::new("cli.migrate.confirm").with("to", to).with("changed", plan.changed());
    context.confirm(&question.with("losing", plan.losing()).with("name", &name), &name, yes)?;
    moved(context, &config, (Direction::Down, Some(to))).await
}

async fn moved(context: &Context, config: &Config, way: (Direction, Option<u32>)) -> Result<(), Failure> {
    let done = migrations::migrate(config, way, &progress(context)).await.map_err(failure)?;
    let described = |done: &Done| {
        let Done { number, name, direction, documents } = done;
        json!({ "number": number, "name": name, "direction": direction.name(), "documents": documents })
    };
    let document = json!({ "migrations": done.iter().map(described).collect::<Vec<_>>() });
    let Some(last) = done.last() else { return context.done(&document, &Fault::new("cli.migrate.nothing")) };
    let sum = Fault::new("cli.migrate.moved").with("direction", last.direction.name()).with("count", done.len());
    context.done(&document, &sum.with("documents", done.iter().map(|done| done.documents).sum::<u64>()))
}

fn progress(context: &Context) -> impl Fn(Step) + Send + Sync + use<> {
    let bar = Mutex::new(Progress::new(context, Some(0), "cli.progress.documents"));
    move |step: Step| bar.lock().unwrap_or_else(PoisonError::into_inner).of(step.done, step.total)
}

async fn rehearsed(context: &Context, validate: Validate) -> Result<(), Failure> {
    let Validate { identity, from, environment, signer, any_signer, scratch } = validate;
    let flags = environment.map(|environment| ("instance.environment", "--environment", environment));
    let config = context.config(flags.into_iter().collect())?;
    let rehearsed = match identity {
        None => {
            let tell = progress(context);
            let rehearse =
                async |copy: Option<&Path>| migrations::rehearse(&config, copy, &tell).await.map_err(failure);
            copied(context, &config, rehearse).await?
        }
        Some(path) => {
            let identity = identity_file(&path, &signer)?;
            let believed = identity.signers().to_vec();
            let backup = FromBackup {
                from: from.unwrap_or_else(|| drill::latest(&config)),
                identity,
                environment: config.instance.environment.unwrap_or(Environment::Production),
                any_signer,
                scratch: scratch.unwrap_or_else(|| beside(&config.instance.data_dir)),
            };
            let rehearsed = migrations::rehearse_backup(&config, backup, &progress(context)).await;
            rehearsed.map_err(|problem| untrusted(problem, &believed))?
        }
    };
    judged(context, &rehearsed)
}

fn beside(data: &Path) -> PathBuf {
    let mut path = data.as_os_str().to_owned();
    path.push(".rehearsal");
    path.into()
}

fn judged(context: &Context, rehearsed: &Rehearsed) -> Result<(), Failure> {
    let differences: Vec<Value> = rehearsed
        .differences
        .iter()
        .map(|one| json!({ "direction": one.direction, "collection": one.collection, "id": one.id }))
        .collect();
    let document = json!({
        "from": rehearsed.from, "to": rehearsed.to, "documents": rehearsed.documents, "changed": rehearsed.changed,
        "upMillis": rehearsed.up_millis, "downMillis": rehearsed.down_millis,
        "sound": rehearsed.sound(), "differences": differences, "more": rehearsed.more,
    });
    let key = if rehearsed.sound() { "cli.migrate.rehearsed" } else { "cli.migrate.differs" };
    let sum = Fault::new(key).with("from", rehearsed.from).with("to", rehearsed.to);
    let sum = sum.with("documents", rehearsed.documents).with("changed", rehearsed.changed);
    let sum = sum.with("up", rehearsed.up_millis).with("down", rehearsed.down_millis);
    let sum = sum.with("differences", rehearsed.differences.len() as u64 + rehearsed.more);
    let first: Vec<String> =
        rehearsed.differences.iter().map(|one| format!("{}: {} {}", one.direction, one.collection, one.id)).collect();
    context.answer(&document, || format!("{}\n{}", context.words(&sum), first.join("\n")).trim_end().to_owned())?;
    if rehearsed.sound() { Ok(()) } else { Err(Failure::silent(Code::Integrity)) }
}
