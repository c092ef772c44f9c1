//! Backups of a folder given other recipients: here and now, since no server ever holds a private key.

use super::{
    problem::{Kind, Problem},
    targets,
};
use crate::{
    backends::objects::folder::Folder,
    base::{config::Config, fault::Fault},
    ports::{self, objects::Objects},
    services::backups::{self, Identity, Recipient, SUBJECTS},
};
use std::path::PathBuf;

/// The folder that is meant when none is named: the first that is configured; `None`: backups go to buckets alone.
pub fn folder(config: &Config) -> Option<PathBuf> {
    match config.backup.targets.is_empty() {
        true => Some(targets::local(config)),
        false => targets::folders(config).into_iter().next(),
    }
}

/// What became of one backup.
pub struct Rewrapped {
    pub name: String,
    /// Whether its slots were made anew, or why it is as it was.
    pub done: Result<bool, Problem>,
}

/// The documents' backups and, beside them, those of the subjects' keys: both are sealed to the same people. `told`
/// hears of the bytes gone through, and of how many there are.
pub async fn rewrap(
    folder: PathBuf,
    identity: Identity,
    recipients: Vec<Recipient>,
    dry: bool,
    mut told: impl FnMut(u64, u64) + Send + 'static,
) -> Result<Vec<Rewrapped>, Problem> {
    let rewrapped = tokio::task::spawn_blocking(move || {
        let mut targets = vec![(String::new(), Folder::open(&folder)?)];
        match Folder::open(folder.join(SUBJECTS)) {
            Ok(beside) => targets.push((format!("{SUBJECTS}/"), beside)),
            // Where no key of a person was ever made. One that is there and cannot be opened is a failure.
            Err(ports::Error::Rejected(fault)) if fault.key == "objects.no_folder" => {}
            Err(error) => return Err(error.into()),
        }
        let mut total = 0;
        for (_, target) in &targets {
            total += target.list()?.iter().map(|object| object.bytes).sum::<u64>();
        }
        let (mut all, mut gone) = (Vec::new(), 0);
        for (prefix, target) in &targets {
            let done = backups::rewrap(target, &identity, &recipients, dry, &mut |bytes| {
                gone += bytes;
                told(gone, total);
            })?;
            let under = |one: backups::Rewrapped| Rewrapped {
                name: format!("{prefix}{}", one.name),
                done: one.done.map_err(Problem::from),
            };
            all.extend(done.into_iter().map(under));
        }
        Ok::<_, Problem>(all)
    });
    rewrapped.await.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}
