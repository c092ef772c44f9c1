//! `restore`: backups into a new data directory, or in place of the live one; and the drill.

pub mod drill;
mod told;

use super::{
    backup::{identity_file, untrusted},
    context::Context,
    failure::{Code, Failure},
    output::{Progress, bytes},
};
use crate::{
    base::{
        clock::{SystemClock, Timestamp},
        config::Config,
        environment::Environment,
        fault::Fault,
        files,
    },
    ports::documents::Sequence,
    server::{
        self,
        problem::Problem,
        restore::{self, Live, Restoring, Swapped},
    },
    services::{
        backups::{
            self, Stage,
            restore::{Anchor, Wanted},
        },
        instance::Stamp,
    },
};
use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[arg(long, value_name = "PLACE", required = true)]
    from: Option<String>,
    #[arg(long, value_name = "FILE", required = true)]
    identity: Option<PathBuf>,
    #[arg(long, value_name = "DIR", required_unless_present = "swap")]
    into: Option<PathBuf>,
    #[command(flatten)]
    point: Point,
    #[arg(long, value_name = "NAME", conflicts_with = "swap")]
    collection: Vec<String>,
    #[arg(long, value_name = "ENV", value_parser = ["development", "staging", "production"])]
    environment: Option<String>,
    #[arg(long, value_name = "SIGNER", conflicts_with = "any_signer")]
    signer: Vec<String>,
    #[arg(long)]
    any_signer: bool,
    #[arg(long)]
    dry_run: bool,
    #[arg(long)]
    allow_older: bool,
    #[arg(long)]
    swap: bool,
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    Drill(drill::Arguments),
}

/// Up to where: one of these, the latest when none is given.
#[derive(clap::Args)]
#[group(multiple = false)]
struct Point {
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    #[arg(long, value_name = "N")]
    sequence: Option<u64>,
    #[arg(long)]
    latest: bool,
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
}

impl Point {
    fn wanted(self) -> Result<Wanted, Failure> {
        let Self { at, sequence, latest: _, backup } = self;
        Ok(match (at, sequence, backup) {
            (Some(at), _, _) => Wanted::At(time(&at)?),
            (_, Some(sequence), _) => Wanted::Sequence(Sequence(sequence)),
            (_, _, Some(backup)) => Wanted::Backup(backup),
            _ => Wanted::Latest,
        })
    }
}

fn time(text: &str) -> Result<Timestamp, Failure> {
    let time = bson::DateTime::parse_rfc3339_str(text.trim());
    let wrong = |_| Failure::new(Code::Usage, Fault::new("cli.restore.time").with("time", text));
    time.map(|time| Timestamp(time.timestamp_millis())).map_err(wrong)
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    if let Some(Command::Drill(arguments)) = arguments.command {
        return drill::run(context, arguments).await;
    }
    let Arguments { from, identity, into, point, collection, environment, signer, any_signer, .. } = arguments;
    let Arguments { dry_run, allow_older, swap, yes, .. } = arguments;
    let own = context.config(Vec::new())?;
    let live = live(context, &own).await;
    let into = into.unwrap_or_else(|| own.instance.data_dir.clone());
    let mut flags = vec![("instance.data_dir", "--into", into.display().to_string())];
    flags.extend(environment.map(|environment| ("instance.environment", "--environment", environment)));
    let config = context.config(flags)?;
    let known = live.as_ref().map(|live| live.stamp.environment);
    // Both are there: only the drill does without.
    let from = from.unwrap_or_default();
    apart(&into, &from, &own)?;
    let restoring = Restoring {
        from,
        wanted: point.wanted()?,
        identity: identity_file(&identity.unwrap_or_default(), &signer)?,
        environment: config.instance.environment.or(known.filter(|_| swap)).unwrap_or(Environment::Production),
        any_signer,
        collections: collection,
        allow_older,
        live,
        likeness: None,
    };
    let said = told::Said {
        into: &into,
        anchor: restoring.live.as_ref().and_then(|live| live.anchor.clone()),
        consented: allow_older,
        dry: dry_run,
    };
    let believed = restoring.identity.signers().to_vec();
    let failed = |problem: Problem| untrusted(measured(problem, &into), &believed);
    let progress = progress(context);
    let clock = Arc::new(SystemClock);
    if dry_run {
        let restored = restore::dry_run(&config, Arc::new(SystemClock), restoring, progress).await.map_err(failed)?;
        return told::dry_run(context, &said, &restored);
    }
    if !swap {
        let restored = restore::restore(&config, clock, restoring, progress).await.map_err(failed)?;
        return told::done(context, &said, &restored, None);
    }
    let name = into.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let question = Fault::new("cli.restore.confirm_swap").at(into.display().to_string()).with("name", &name);
    context.confirm(&question, &name, yes)?;
    let Swapped { restored, before } = restore::swap(&config, clock, restoring, progress).await.map_err(failed)?;
    match &restored {
        Some((restored, _)) => told::done(context, &said, restored, Some(before.as_deref())),
        None => told::settled(context, &into, before.as_deref()),
    }
}

/// A disk that is full: which, and how much there was. What was restored of it is gone again.
fn measured(problem: Problem, into: &Path) -> Problem {
    let volume = whole(into).ancestors().find_map(|path| files::volume(path).ok());
    match volume.filter(|_| problem.fault.key == "instance.full") {
        None => problem,
        Some(volume) => {
            let fault = Fault::new("cli.restore.full").at(into.display().to_string());
            let fault = fault.with("free", bytes(volume.free)).with("size", bytes(volume.size));
            Problem { fault, ..problem }
        }
    }
}

/// Nothing is restored into the backups, nor within an instance that is there.
fn apart(into: &Path, from: &str, own: &Config) -> Result<(), Failure> {
    let inside = |folder: &Path| whole(into).starts_with(whole(folder));
    let refused = |key, folder: &Path| {
        let fault = Fault::new(key).at(into.display().to_string()).with("folder", folder.display());
        Err(Failure::new(Code::Refused, fault))
    };
    let mut place = own.clone();
    place.backup.targets = vec![from.to_owned()];
    if let Some(backups) = server::rewrap::folder(&place).filter(|backups| inside(backups)) {
        return refused("cli.restore.into_backups", &backups);
    }
    let data = &own.instance.data_dir;
    match inside(data) && whole(into) != whole(data) && Stamp::read(data, None).is_ok() {
        true => refused("cli.restore.into_live", data),
        false => Ok(()),
    }
}

/// Through links, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    there.map_or_else(|| path.clone(), |(real, rest)| real.join(rest))
}

/// What is known of the instance of the configuration, served or not. One that cannot be asked says nothing.
async fn live(context: &Context, config: &Config) -> Option<Live> {
    let found = if UnixStream::connect(config.control_socket()).is_ok() {
        asked(context, config).await
    } else {
        restore::live(config).await.map_err(super::serve::failure)
    };
    found.ok()
}

/// Over the socket.
async fn asked(context: &Context, config: &Config) -> Result<Live, Failure> {
    let stamp = Stamp::read(&config.instance.data_dir, None).map_err(|error| super::serve::failure(error.into()))?;
    let compared = drill::asked(context, config, None).await;
    let anchor = compared.and_then(|compared| compared.anchor);
    Ok(Live { anchor: anchor.map(|anchor| Anchor { instance: stamp.id.clone(), ..anchor }), stamp })
}

/// A bar for each stage.
fn progress(context: &Context) -> impl FnMut(backups::Progress) + Send + 'static + use<> {
    let mut bars = [
        (Stage::Proving, Some(Progress::of_bytes(context, Some(0)))),
        (Stage::Restoring, Some(Progress::new(context, Some(0), "cli.progress.documents"))),
        (Stage::Examining, Some(Progress::new(context, Some(0), "cli.progress.checked"))),
    ];
    let mut last = Stage::Proving;
    move |step: backups::Progress| {
        for (stage, bar) in &mut bars {
            if *stage == step.stage {
                if let Some(bar) = bar {
                    bar.of(step.done, step.total);
                }
            } else if *stage == last {
                // Its line is the next one's.
                *bar = None;
            }
        }
        last = step.stage;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_standard() {
        assert_eq!(time("2026-11-22T10:15:00Z").unwrap(), Timestamp(1_795_342_500_000));
        assert_eq!(time("2026-11-22T11:15:00+01:00").unwrap(), Timestamp(1_795_342_500_000));
        assert_eq!(time("yesterday").unwrap_err().code, Code::Usage);
    }
}
