//! `self-update status|history`: what runs, what is under way, what became of each update.

use super::super::{context::Context, failure::Failure, output, serve::failure};
use crate::{
    base::{
        fault::Fault,
        messages::{Language, text},
    },
    server::{problem::Problem, update},
    services::updates::{Event, Outcome, Phase},
};
use serde_json::json;

pub async fn status(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let folder = update::folder(&config);
    let state = folder.state().map_err(|error| failure(Problem::from(error)))?;
    let installed = update::installed(&config, context.flags()).await;
    let (kind, current) = match &installed {
        Ok((kind, current)) => (kind.name(), current.to_string()),
        // Put there by hand: what answers is what runs.
        Err(_) => ("–", crate::base::release::version().to_owned()),
    };
    let update = &config.update;
    let versions = |all: &[semver::Version]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let document = json!({
        "current": current,
        "kind": kind,
        "source": update.source,
        "channel": update.channel,
        "pin": update.pin,
        "underWay": state.under_way,
        "previous": state.previous,
        "failed": state.failed,
    });
    let mut lines = vec![
        Fault::new("cli.self_update.runs").with("current", current).with("kind", kind),
        Fault::new("cli.self_update.listens")
            .with("source", update.source.as_deref().unwrap_or("–"))
            .with("channel", &update.channel)
            .with("pin", update.pin.as_deref().unwrap_or("–")),
    ];
    if let Some(previous) = &state.previous {
        lines.push(Fault::new("cli.self_update.previous").with("version", previous));
    }
    if !state.failed.is_empty() {
        lines.push(Fault::new("cli.self_update.failed").with("versions", versions(&state.failed)));
    }
    if let Some(under_way) = &state.under_way {
        let key = match under_way.phase {
            Phase::Switching => "cli.self_update.switching",
            Phase::Watching => "cli.self_update.watching",
            Phase::Returning => "cli.self_update.returning",
        };
        let fault = Fault::new(key).with("from", &under_way.from).with("to", &under_way.to);
        lines.push(fault.with("since", under_way.began.rfc3339()));
    }
    context.answer(&document, || lines.iter().map(|line| context.words(line)).collect::<Vec<_>>().join("\n"))?;
    installed.map(drop).map_err(failure)
}

pub fn history(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let events = update::folder(&config).history().map_err(|error| failure(Problem::from(error)))?;
    let header = [
        "cli.self_update.column_at",
        "cli.self_update.column_from",
        "cli.self_update.column_to",
        "cli.self_update.column_outcome",
        "cli.self_update.column_seconds",
        "cli.self_update.column_by",
        "cli.self_update.column_why",
    ];
    let header = header.map(|key| text(context.language, key));
    let rows: Vec<_> = events.iter().map(|event| row(context.language, event)).collect();
    let document = json!(events);
    context.answer(&document, || match rows.is_empty() {
        true => text(context.language, "cli.self_update.no_history"),
        false => output::table(header, &rows),
    })
}

fn row(language: Language, event: &Event) -> [String; 7] {
    let outcome = match event.outcome {
        Outcome::Applied => "cli.self_update.outcome_applied",
        Outcome::TakenBack => "cli.self_update.outcome_taken_back",
        Outcome::RolledBack => "cli.self_update.outcome_rolled_back",
        Outcome::Stays => "cli.self_update.outcome_stays",
    };
    let why = event.why.as_ref().map(|why| match language {
        Language::French => why.fr.clone(),
        Language::English => why.en.clone(),
    });
    [
        event.at.rfc3339(),
        event.from.to_string(),
        event.to.to_string(),
        text(language, outcome),
        format!("{} s", event.seconds),
        event.by.clone(),
        why.unwrap_or_default(),
    ]
}
