//! The witness: the newest checkpoint left on another disk, where who changes the log cannot reach it too. Once a
//! minute at most; where it fails, the log goes on and health says so.

use super::Audit;
use crate::{
    base::{clock::Timestamp, fault::Fault, files},
    services::{Error, Result},
};
use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
};

const SECONDS: i64 = 60;

/// What the witness last got.
#[derive(Debug, Clone, Default)]
pub struct Witnessed {
    tried: Timestamp,
    done: Option<Timestamp>,
    size: u64,
    fault: Option<Fault>,
}

impl Audit {
    /// Leaves the newest checkpoint where it is due, or at once. Answers when that last succeeded, and what fails.
    pub async fn witness(&self, at_once: bool) -> Result<(Option<Timestamp>, Option<Fault>)> {
        let now = self.clock.now();
        let held = || self.witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        let Witnessed { tried, done, size: witnessed, fault } = held().clone();
        let due = at_once || tried.plus_seconds(SECONDS) <= now;
        let (size, note) = match &*self.state.lock().await {
            Some(state) if due && !self.settings.witness.is_empty() => (state.edge.size(), state.note.clone()),
            _ => return Ok((done, fault)),
        };
        let fault = if size == witnessed { None } else { self.leave(note).await? };
        let done = if fault.is_none() { Some(now) } else { done };
        let size = if fault.is_none() { size } else { witnessed };
        *held() = Witnessed { tried: now, done, size, fault: fault.clone() };
        Ok((done, fault))
    }

    async fn leave(&self, note: String) -> Result<Option<Fault>> {
        let paths = self.settings.witness.iter().map(|path| self.file(path)).collect::<Vec<_>>();
        let written = tokio::task::spawn_blocking(move || {
            let mut failed = None;
            // Each gets it, whether or not another does.
            for path in paths {
                if let Err(error) = files::replace(&path, note.as_bytes()) {
                    failed = Some(Fault::new("audit.witness").at(path.display().to_string()).with("cause", error));
                }
            }
            failed
        });
        written.await.map_err(|error| Error::Internal(Box::new(error)))
    }

    /// In a folder, a file of the instance's own name.
    fn file(&self, path: &Path) -> PathBuf {
        if path.is_dir() { path.join(format!("{}.checkpoint", self.stamp.id)) } else { path.to_owned() }
    }
}
