//! `restore drill`: a restore tried, checked and measured; its report written, verified, or handed to the instance.

use super::{identity_file, live, progress};
use crate::{
    base::{
        clock::{Clock, SystemClock, Timestamp},
        config::Config,
        environment::Environment,
        fault::Fault,
        files,
        messages::text,
    },
    cli::{
        client::Client,
        context::Context,
        failure::{Code, Failure, uncreated, unreadable, unwritable},
        serve::failure,
    },
    ports::documents::Sequence,
    server::drill::{self, Drilled, Drilling},
    services::{
        backups::{Signer, restore::Anchor},
        drills::{Compared, Held, Kept, Outcome, Signed, page},
        instance::Stamp,
    },
};
use serde_json::{Value, json};
use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_name = "FILE", required_unless_present_any = ["verify", "report"])]
    identity: Option<PathBuf>,
    #[arg(long, value_name = "PLACE")]
    from: Option<String>,
    #[arg(long, value_name = "ENV", value_parser = ["development", "staging", "production"])]
    environment: Option<String>,
    #[arg(long, value_name = "SIGNER", conflicts_with = "any_signer")]
    signer: Vec<String>,
    #[arg(long)]
    any_signer: bool,
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[arg(long)]
    keep: bool,
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    #[arg(long, value_name = "FILE", conflicts_with = "report")]
    verify: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match (&arguments.verify, &arguments.report, &arguments.identity) {
        (Some(report), _, identity) => verify(context, report, identity.as_deref(), &arguments.signer),
        (_, Some(report), _) => hand_over(context, report).await,
        (_, _, Some(_)) => tried(context, arguments).await,
        (None, None, None) => Err(Failure::new(Code::Usage, Fault::new("cli.drill.no_signer"))),
    }
}

async fn tried(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { identity, from, environment, signer, any_signer, scratch, keep, output, .. } = arguments;
    let flags = environment.map(|environment| ("instance.environment", "--environment", environment));
    let config = context.config(flags.into_iter().collect())?;
    let identity = identity_file(&identity.unwrap_or_default(), &signer)?;
    let output = output.unwrap_or_else(|| ".".into());
    writable(&output)?;
    let known = live(context, &config).await;
    let environment = known.as_ref().map(|live| live.stamp.environment).or(config.instance.environment);
    let before = asked(context, &config, None).await;
    let drilling = Drilling {
        from: from.unwrap_or_else(|| drill::latest(&config)),
        identity,
        environment: environment.unwrap_or(Environment::Production),
        any_signer,
        scratch: scratch.unwrap_or_else(|| beside(&config.instance.data_dir)),
        live: known,
    };
    let place = drilling.scratch.clone();
    let drilled = drill::drill(&config, Arc::new(SystemClock), drilling, progress(context)).await.map_err(failure)?;
    let done = told(context, &config, drilled, (before, output)).await;
    match keep {
        true => context.say(&Fault::new("cli.drill.kept").at(place.display().to_string())),
        false => Drilled::clear(&place).map_err(failure)?,
    }
    done
}

/// A drill may take hours: whether its report can be written is found out before.
fn writable(folder: &Path) -> Result<(), Failure> {
    let probe = folder.join(format!(".drill-{}", std::process::id()));
    let tried = files::private_folder(folder)
        .and_then(|()| files::create(&probe, b"", 0o600))
        .and_then(|()| std::fs::remove_file(&probe));
    tried.map_err(|error| unwritable(folder.display(), error))
}

/// Beside the data, so that it is as well kept.
fn beside(data: &Path) -> PathBuf {
    let mut path = data.as_os_str().to_owned();
    path.push(".drill");
    path.into()
}

/// Holds it against the living instance, writes the report, hands it over.
async fn told(
    context: &Context,
    config: &Config,
    mut drilled: Drilled,
    (before, output): (Option<Compared>, PathBuf),
) -> Result<(), Failure> {
    let own = drilled.stamp().is_some_and(|stamp| is_of(config, &stamp.id));
    let compared = if own { asked(context, config, Some(&drilled)).await } else { None };
    drilled.compare(compared.as_ref());
    let before = before.filter(|_| own);
    let (report, signed, signer) = drilled.report(SystemClock.now(), before.as_ref()).map_err(failure)?;
    let handed = if is_of(config, &report.instance) { Some(record(context, config, &signed).await) } else { None };
    let text = signed.text().map_err(|error| failure(error.into()))?;
    let pages = [("json", text.as_str()), ("html", &page(&report, &signer, context.language))];
    let shown = match write(&report.ended, pages, &output) {
        Ok(json) => json.display().to_string(),
        Err(failure) => {
            // Not lost: whoever ran it has it on the screen, or in a log.
            eprintln!("{text}");
            return Err(failure);
        }
    };
    let mut document = serde_json::to_value(&report).unwrap_or_default();
    document["file"] = shown.clone().into();
    document["recorded"] = matches!(handed, Some(Ok(_))).into();
    for check in report.checks.iter().filter(|check| check.outcome != Outcome::Passed) {
        check.words.iter().for_each(|words| context.note(words.text(context.language)));
    }
    match handed {
        Some(Ok(_)) => context.say(&Fault::new("cli.drill.recorded").with("id", &report.id)),
        Some(Err(failure)) => {
            context.complain(&failure);
            context.say(&Fault::new("cli.drill.not_taken").at(&shown));
        }
        None if !report.instance.is_empty() => context.say(&Fault::new("cli.drill.unrecorded").at(&shown)),
        // Nothing came back: nobody knows whose report it is, and no instance would take it.
        None => {}
    }
    if report.outcome == Outcome::Passed {
        let rto = report.rto.as_ref().map_or(0, |rto| rto.millis.div_ceil(1000));
        let rpo = report.rpo.as_ref().map_or(0, |rpo| rpo.seconds);
        let done = Fault::new("cli.drill.passed").at(&shown).with("documents", report.documents);
        return context.done(&document, &done.with("rto", rto).with("rpo", rpo));
    }
    context.done(&document, &Fault::new("cli.drill.failed").at(&shown))?;
    let code = if drilled.unavailable.is_some() { Code::Unavailable } else { Code::Integrity };
    Err(Failure::silent(code))
}

fn is_of(config: &Config, instance: &str) -> bool {
    Stamp::read(&config.instance.data_dir, None).is_ok_and(|stamp| stamp.id == instance)
}

fn write(ended: &str, pages: [(&str, &str); 2], folder: &Path) -> Result<PathBuf, Failure> {
    let time: String = ended.chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    // Two within a second have two names.
    let names =
        (1..).map(|n| folder.join(if n == 1 { format!("drill-{time}Z") } else { format!("drill-{time}Z-{n}") }));
    let free = |base: &PathBuf| pages.iter().all(|(end, _)| !base.with_extension(end).exists());
    let base = names.into_iter().find(free).unwrap_or_default();
    for (end, text) in pages {
        let path = base.with_extension(end);
        files::create(&path, text.as_bytes(), 0o600).map_err(|error| uncreated(path.display(), &error))?;
    }
    Ok(base.with_extension("json"))
}

/// What the living instance says of the copy, or, of none, where it stands.
pub async fn asked(context: &Context, config: &Config, drilled: Option<&Drilled>) -> Option<Compared> {
    UnixStream::connect(config.control_socket()).ok()?;
    let copied = match drilled {
        Some(drilled) => drilled.copied()?,
        None => Default::default(),
    };
    let samples: Vec<Value> = copied
        .samples
        .iter()
        .map(|sample| json!({ "collection": sample.collection, "id": sample.id, "digest": sample.digest }))
        .collect();
    let body = json!({ "lineage": copied.lineage, "sequence": copied.sequence.0, "samples": samples });
    let mut client = Client::open(context, config.clone()).await.ok()?;
    let answer = client.post("/admin/backups/drills/compare", body).await.ok()?.data;
    client.close().await.ok()?;
    Some(Compared {
        lineage: u32::try_from(answer["lineage"].as_u64()?).ok()?,
        sequence: Sequence(answer["sequence"].as_u64()?),
        time: answer["time"].as_str().and_then(|time| super::time(time).ok()),
        anchor: anchor(&answer["anchor"]),
        held: held(&answer["held"]),
    })
}

fn anchor(answer: &Value) -> Option<Anchor> {
    let word = |name: &str| answer[name].as_str().map(str::to_owned);
    let sequence = Sequence(answer["sequence"].as_u64()?);
    Some(Anchor { instance: String::new(), backup: word("backup")?, sequence, manifest: word("manifest")? })
}

fn held(answer: &Value) -> Option<Held> {
    let counts = answer["counts"].as_object()?.iter();
    let different = answer["different"].as_array()?.iter();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Held {
        counts: counts.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default())).collect(),
        equal: answer["equal"].as_u64()?,
        changed: answer["changed"].as_u64()?,
        different: different.map(|one| (word(&one["collection"]), word(&one["id"]))).collect(),
    })
}

async fn record(context: &Context, config: &Config, signed: &Signed) -> Result<Value, Failure> {
    let body = serde_json::to_value(signed).unwrap_or_default();
    let mut client = Client::open(context, config.clone()).await?;
    let answer = client.post("/admin/backups/drills", body).await;
    // Closed whatever came of it: it is asked again what it holds.
    client.close().await?;
    Ok(answer?.data)
}

fn read(path: &Path) -> Result<Signed, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path.display(), error))?;
    Signed::parse(&text).map_err(|error| failure(error.into()))
}

/// One made on another machine. Handed over again it is there already.
async fn hand_over(context: &Context, path: &Path) -> Result<(), Failure> {
    let (config, signed) = (context.config(Vec::new())?, read(path)?);
    let id = |drill: &Value| drill["id"].as_str().unwrap_or_default().to_owned();
    let failure = match record(context, &config, &signed).await {
        Ok(drill) => return context.done(&drill, &Fault::new("cli.drill.recorded").with("id", id(&drill))),
        Err(failure) => failure,
    };
    let mut client = Client::open(context, config).await?;
    let all = client.get("/admin/backups/drills").await?.data;
    client.close().await?;
    let same = serde_json::to_value(&signed).unwrap_or_default();
    match all.as_array().into_iter().flatten().find(|drill| drill["report"] == same) {
        Some(drill) => context.done(drill, &Fault::new("cli.drill.already").with("id", id(drill))),
        None => Err(failure),
    }
}

/// Without any instance: against a signer that is known.
fn verify(context: &Context, path: &Path, identity: Option<&Path>, signers: &[String]) -> Result<(), Failure> {
    let known = match identity {
        Some(identity) => identity_file(identity, signers)?.signers().to_vec(),
        None => signers
            .iter()
            .map(|signer| signer.parse::<Signer>())
            .collect::<Result<_, _>>()
            .map_err(|error| failure(error.into()))?,
    };
    if known.is_empty() {
        return Err(Failure::new(Code::Usage, Fault::new("cli.drill.no_signer")));
    }
    let signed = read(path)?;
    let report = signed.verify(&known).map_err(|error| failure(error.into()))?;
    let document = serde_json::to_value(&report).unwrap_or_default();
    let outcome = match report.outcome {
        Outcome::Passed => "drills.outcome.passed",
        Outcome::Failed | Outcome::Skipped => "drills.outcome.failed",
    };
    let done = Fault::new("cli.drill.verified")
        .with("id", &report.id)
        .with("signer", known.first().map(ToString::to_string).unwrap_or_default())
        .with("outcome", text(context.language, outcome))
        .with("time", &report.ended);
    context.done(&document, &done)
}

/// A drill as the server lists it.
pub fn kept(listed: &Value) -> Option<Kept> {
    let ended = bson::DateTime::parse_rfc3339_str(listed["ended"].as_str()?).ok()?;
    Some(Kept {
        id: listed["id"].as_str()?.to_owned(),
        ended: Timestamp(ended.timestamp_millis()),
        passed: listed["passed"].as_bool()?,
        rto_millis: listed["rtoMillis"].as_u64(),
        rpo_seconds: listed["rpoSeconds"].as_u64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reports_within_a_second_have_two_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = || write("2026-11-22T10:15:00.123Z", [("json", "{}"), ("html", "")], folder.path()).unwrap();
        let names = [write(), write(), write()].map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(
            names,
            ["drill-20261122T101500Z.json", "drill-20261122T101500Z-2.json", "drill-20261122T101500Z-3.json"]
        );
    }
}
