//! `restore`: a backup into a new data directory.

use super::{backup::identity_file, context::Context, failure::Failure, output::Progress};
use crate::{
    base::{clock::SystemClock, environment::Environment, fault::Fault},
    server::restore::{Restoring, restore},
};
use serde_json::json;
use std::{path::PathBuf, sync::Arc};

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    #[arg(long, value_name = "ID")]
    backup: Option<String>,
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    #[arg(long, value_name = "ENV", value_parser = ["development", "staging", "production"])]
    environment: Option<String>,
    #[arg(long, value_name = "SIGNER", conflicts_with = "any_signer")]
    signer: Vec<String>,
    #[arg(long)]
    any_signer: bool,
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut flags = vec![("instance.data_dir", "--into", arguments.into.display().to_string())];
    if let Some(environment) = arguments.environment {
        flags.push(("instance.environment", "--environment", environment));
    }
    let config = context.config(flags)?;
    let restoring = Restoring {
        from: arguments.from,
        backup: arguments.backup,
        identity: identity_file(&arguments.identity, &arguments.signer)?,
        environment: config.instance.environment.unwrap_or(Environment::Production),
        any_signer: arguments.any_signer,
        dry_run: arguments.dry_run,
    };
    let mut bar = Progress::new(context, Some(0), "cli.progress.documents");
    let progress = move |step: crate::services::backups::Progress| bar.of(step.done, step.total);
    let restored = restore(&config, Arc::new(SystemClock), restoring, progress).await;
    let restored = restored.map_err(super::serve::failure)?;
    if restored.unvouched {
        context.say(&Fault::new("cli.restore.unvouched").with("signer", restored.manifest.signer()));
    }
    context.say(&match &restored.subjects {
        Some(name) => Fault::new("cli.restore.subjects").with("name", name),
        None => Fault::new("cli.restore.no_subjects"),
    });
    let key = if arguments.dry_run { "cli.restore.would" } else { "cli.restore.done" };
    let done = Fault::new(key)
        .at(arguments.into.display().to_string())
        .with("name", &restored.name)
        .with("documents", restored.manifest.documents)
        .with("lineage", restored.stamp.lineage);
    let document = json!({
        "backup": restored.manifest.backup,
        "name": restored.name,
        "instance": restored.stamp.id,
        "lineage": restored.stamp.lineage,
        "documents": restored.manifest.documents,
        "signer": restored.manifest.signer(),
        "signerVouched": !restored.unvouched,
        "subjects": restored.subjects,
        "into": arguments.into,
        "restored": !arguments.dry_run,
    });
    context.done(&document, &done)
}
