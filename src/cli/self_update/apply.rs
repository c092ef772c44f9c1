//! `self-update apply|rollback`: another release in the place of the one that runs, and back.

use super::{
    super::{
        context::Context,
        failure::{Code, Failure},
        serve::failure,
    },
    bring, document, download, found,
};
use crate::{
    base::{
        clock::{Clock, SystemClock, pause},
        config::{Automatic, Config, Switch},
        fault::Fault,
        messages::Language,
        random,
    },
    domain::{
        release::{Choice, Kind, Release},
        window::Window,
    },
    server::{
        problem::Problem,
        update::{self, Checked, Updates},
    },
    services::{
        drills::Words,
        updates::{self, Event, Outcome, Preflight, Step},
    },
};
use semver::Version;
use serde_json::json;
use std::{path::Path, sync::Arc, time::Duration};

#[derive(clap::Args)]
pub struct Apply {
    #[arg(value_name = "VERSION")]
    version: Option<Version>,
    #[arg(long, value_name = "DIR|URL")]
    from: Option<String>,
    #[arg(long)]
    anyway: bool,
    #[arg(long)]
    dry_run: bool,
    #[arg(long, conflicts_with_all = ["version", "anyway", "dry_run"])]
    scheduled: bool,
    #[arg(long, conflicts_with_all = ["version", "from", "anyway", "dry_run", "scheduled"])]
    unfinished: bool,
}

#[derive(clap::Args)]
pub struct Rollback {
    #[arg(long)]
    dry_run: bool,
}

pub async fn apply(context: &Context, asked: Apply) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    outlive_the_terminal()?;
    let change = update::change(&config, context.flags(), context.language.tag()).map_err(failure)?;
    let told = |step| tell(context, &config, step);
    if asked.scheduled || asked.unfinished {
        // What was cut short waits for no hour.
        let held = Updates::open(&config, Arc::new(SystemClock)).map_err(failure)?;
        if let Some(event) = change.settle(&told).await.map_err(services)? {
            return conclude(context, &event);
        }
        drop(held);
        if asked.unfinished {
            return context.done(&json!({}), &Fault::new("cli.self_update.nothing_unfinished"));
        }
        if !due(context, &config).await? {
            return Ok(());
        }
    }
    let desk = Updates::open(&config, Arc::new(SystemClock)).map_err(failure)?;
    // What cannot be finished must not keep its mending away.
    let insisted = asked.anyway && asked.version.is_some();
    if !insisted
        && !asked.dry_run
        && let Some(event) = change.settle(&told).await.map_err(services)?
        && !(event.outcome == Outcome::Applied && asked.version.as_ref().is_some_and(|asked| *asked != event.to))
    {
        return conclude(context, &event);
    }
    let checked = desk.check(asked.from.as_deref()).await.map_err(failure)?;
    let Some(release) = wanted(&checked, &asked)? else {
        return context.answer(&document(&checked), || found(context, &checked, asked.from.as_deref()));
    };
    let current = change.installation.current().await.map_err(|error| services(error.into()))?;
    if release.version == current {
        if insisted && !asked.dry_run {
            change.abandon().map_err(services)?;
        }
        return context.done(&document(&checked), &Fault::new("cli.self_update.runs_already").with("version", current));
    }
    if release.version < current {
        let fault = Fault::new("updates.older_release").with("version", &release.version).with("current", current);
        return Err(Failure::new(Code::Refused, fault));
    }
    if asked.scheduled && change.folder.state().map_err(services)?.failed.contains(&release.version) {
        let fault = Fault::new("cli.self_update.failed_before").with("version", &release.version);
        return context.done(&document(&checked), &fault);
    }
    change.room(release.bytes).map_err(services)?;
    if asked.scheduled && config.update.automatic < Automatic::Download {
        return context.answer(&document(&checked), || found(context, &checked, None));
    }
    if asked.scheduled && config.update.automatic < Automatic::Apply {
        return download(context, &desk, &checked, &release).await;
    }
    let file = bring(context, &desk, &checked, &release).await?.file;
    allowed(&config, &release, &file)?;
    let preflight = change.preflight(&release.version, &file, &release.sha256, &told).await.map_err(services)?;
    let Preflight { before, mut warnings } = preflight;
    warnings.extend(way_back(context, (&desk, &checked), &change).await?);
    accepted(context, &warnings, &asked)?;
    if asked.dry_run {
        let fault = Fault::new("cli.self_update.would").with("version", &release.version);
        return context.done(&document(&checked), &fault);
    }
    let by = if asked.scheduled { "timer".to_owned() } else { context.person() };
    let event = change.apply(&release.version, before, &by, &told).await.map_err(services)?;
    conclude(context, &event)
}

pub async fn rollback(context: &Context, asked: Rollback) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    outlive_the_terminal()?;
    let _desk = Updates::open(&config, Arc::new(SystemClock)).map_err(failure)?;
    let change = update::change(&config, context.flags(), context.language.tag()).map_err(failure)?;
    let told = |step| tell(context, &config, step);
    if asked.dry_run {
        let back = change.way_back().map_err(services)?;
        let fault = Fault::new("cli.self_update.would").with("version", &back);
        return context.done(&json!({ "version": back.to_string() }), &fault);
    }
    if let Some(event) = change.turn_back(&told).await.map_err(services)? {
        return conclude(context, &event);
    }
    let event = change.roll_back(&context.person(), &told).await.map_err(services)?;
    conclude(context, &event)
}

/// Whether a scheduled run is to do anything now: within the window, after a random wait.
async fn due(context: &Context, config: &Config) -> Result<bool, Failure> {
    let update = &config.update;
    let window = update.window.as_deref().map(|text| {
        let fault = Fault::new("updates.setting").with("name", "update.window").with("value", text);
        text.parse::<Window>().map_err(|()| Failure::new(Code::Usage, fault.with("example", "22:00-06:00")))
    });
    let window = window.transpose()?;
    let open = || window.is_none_or(|window| window.open_at(SystemClock.now()));
    if update.automatic == Automatic::Off || !open() {
        context.say(&Fault::new("cli.self_update.not_due"));
        return Ok(false);
    }
    let most = update.delay_minutes * 60_000;
    let delay = u64::from_le_bytes(random::array()).checked_rem(most).unwrap_or_default();
    pause(Duration::from_millis(delay)).await;
    Ok(open())
}

/// A connection that breaks must not leave an update half watched.
fn outlive_the_terminal() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let kept = signal(SignalKind::hangup());
    // Its handler stays for as long as the process does.
    kept.map(drop).map_err(|error| super::super::failure::unreadable("SIGHUP", error))
}

/// The one that was named, or the newest that fits. A person need not wait for the stages.
fn wanted(checked: &Checked, asked: &Apply) -> Result<Option<Release>, Failure> {
    if let Some(version) = &asked.version {
        let fault = Fault::new("cli.self_update.not_listed").with("version", version).with("source", &checked.source);
        return checked.listed(version).map(Some).ok_or_else(|| Failure::new(Code::NotFound, fault));
    }
    Ok(match &checked.choice {
        Choice::Newest(release) => Some(release.clone()),
        Choice::Waiting(release) if !asked.scheduled => Some(release.clone()),
        _ => None,
    })
}

/// Packages are the system manager's: only with leave are they put in place from here.
fn allowed(config: &Config, release: &Release, file: &Path) -> Result<(), Failure> {
    let command = match release.kind {
        Kind::Archive => return Ok(()),
        _ if config.update.packages == Switch::On => return Ok(()),
        Kind::Deb => format!("apt-get install '{}'", file.display()),
        Kind::Rpm => format!("dnf install '{}'", file.display()),
    };
    Err(Failure::new(Code::Refused, Fault::new("cli.self_update.package").with("command", command)))
}

/// A package's way back is the package of what runs.
async fn way_back(
    context: &Context,
    (desk, checked): (&Updates, &Checked),
    change: &updates::Updates,
) -> Result<Option<Fault>, Failure> {
    let current = change.installation.current().await.map_err(|error| services(error.into()))?;
    if change.installation.holds(&current) {
        return Ok(None);
    }
    let Some(release) = checked.listed(&current) else {
        return Ok(Some(Fault::new("updates.no_package_back").with("version", current)));
    };
    let file = bring(context, desk, checked, &release).await?.file;
    change.installation.lay(&current, &file, &release.sha256).await.map_err(|error| services(error.into()))?;
    Ok(None)
}

fn accepted(context: &Context, warnings: &[Fault], asked: &Apply) -> Result<(), Failure> {
    if asked.anyway || asked.dry_run || warnings.is_empty() {
        warnings.iter().for_each(|warning| context.say(warning));
        return Ok(());
    }
    let mut faults = warnings.to_vec();
    faults.push(Fault::new("cli.self_update.anyway"));
    Err(Failure::all(Code::Refused, faults))
}

fn tell(context: &Context, config: &Config, step: Step) {
    let key = match step {
        Step::Backup => "cli.self_update.step_backup",
        Step::Rehearsal => "cli.self_update.step_rehearsal",
        Step::Switch => "cli.self_update.step_switch",
        Step::Watch => "cli.self_update.step_watch",
        Step::Return => "cli.self_update.step_return",
    };
    context.say(&Fault::new(key).with("minutes", config.update.watch_minutes));
}

/// What became of it. A release that failed is a failure of the command.
fn conclude(context: &Context, event: &Event) -> Result<(), Failure> {
    let key = match event.outcome {
        Outcome::Applied => "cli.self_update.applied",
        Outcome::TakenBack => "cli.self_update.taken_back",
        Outcome::RolledBack => "cli.self_update.rolled_back",
        Outcome::Stays => "cli.self_update.stays",
    };
    let said = |words: &Option<Words>| {
        words
            .as_ref()
            .map(|Words { fr, en }| if context.language == Language::French { fr.clone() } else { en.clone() })
    };
    let fault = Fault::new(key).with("from", &event.from).with("to", &event.to).with("seconds", event.seconds);
    let fault = fault.with("why", said(&event.why).unwrap_or_default());
    let document = serde_json::to_value(event).unwrap_or_default();
    let failed = matches!(event.outcome, Outcome::TakenBack | Outcome::Stays);
    let mut faults = if failed { vec![fault.clone()] } else { Vec::new() };
    faults.extend(said(&event.missing).map(|what| Fault::new("cli.self_update.missing").with("what", what)));
    if !faults.is_empty() {
        context.answer(&document, String::new)?;
        let code = if event.missing.is_some() { Code::Integrity } else { Code::Failed };
        context.complain(&Failure::all(code, faults));
        return Err(Failure::silent(code));
    }
    context.done(&document, &fault)
}

fn services(error: crate::services::Error) -> Failure {
    failure(Problem::from(error))
}
