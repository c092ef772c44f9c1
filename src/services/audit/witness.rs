//! Witnesses: the newest checkpoint left on another disk or with another server, where who changes the log cannot
//! reach it too. Once a minute at most; where one fails, the log goes on and health says so.

use super::Audit;
use crate::{
    base::{clock::Timestamp, fault::Fault, files},
    ports::web::{Body, Request},
    services::Result,
};
use futures_util::future::join_all;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const SECONDS: i64 = 60;
/// A server that fails is left alone twice as long each time, up to this.
const LONGEST: i64 = 15 * 60;
/// What a stop waits for servers.
const AT_STOP: Duration = Duration::from_secs(3);
/// For which a disk is waited.
const DISK: Duration = Duration::from_secs(10);

/// Where a witness is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, or a folder.
    Disk(PathBuf),
    /// Takes the checkpoint as the body of a POST.
    Server(String),
}

/// What a witness last got.
#[derive(Debug, Clone, Default)]
pub struct Witnessed {
    tried: Timestamp,
    done: Option<Timestamp>,
    size: u64,
    /// Since it last worked.
    failures: u32,
    fault: Option<Fault>,
    /// A disk that does not answer is written to no further until it has.
    writing: Arc<AtomicBool>,
}

impl Witnessed {
    fn is_due(&self, place: &Place, now: Timestamp) -> bool {
        let pause = match place {
            Place::Disk(_) => SECONDS,
            Place::Server(_) => (SECONDS << self.failures.saturating_sub(1).min(10)).min(LONGEST),
        };
        self.tried.plus_seconds(pause) <= now
    }
}

impl Audit {
    /// Whether there are any.
    pub fn is_witnessed(&self) -> bool {
        !self.settings.witness.is_empty()
    }

    /// Leaves the newest checkpoint where it is due. Answers when every witness last had it, and what fails.
    pub async fn witness(&self) -> Result<(Option<Timestamp>, Option<Fault>)> {
        let now = self.clock.now();
        self.leave(|place, held| held.is_due(place, now)).await
    }

    /// As [`Self::witness`], at once, before a stop: a server only if it worked the last time, and not for long.
    pub(super) async fn witness_last(&self) -> Result<Option<Fault>> {
        let disks = self.leave(|place, _| matches!(place, Place::Disk(_))).await?.1;
        let works = |held: &Witnessed| held.done.is_some() && held.failures == 0;
        let servers = self.leave(|place, held| matches!(place, Place::Server(_)) && works(held));
        match tokio::time::timeout(AT_STOP, servers).await {
            Ok(told) => told.map(|(_, fault)| disks.or(fault)),
            Err(_) => Ok(disks.or_else(|| Some(Fault::new("audit.witness_late").with("seconds", AT_STOP.as_secs())))),
        }
    }

    async fn leave(&self, wanted: impl Fn(&Place, &Witnessed) -> bool) -> Result<(Option<Timestamp>, Option<Fault>)> {
        let due: Vec<usize> = {
            let held = self.witnesses();
            let places = self.settings.witness.iter().zip(held.iter()).enumerate();
            places.filter(|(_, (place, held))| wanted(place, held)).map(|(number, _)| number).collect()
        };
        let newest = self.state.lock().await.as_ref().map(|state| (state.edge.size(), state.note.clone()));
        if let (Some((size, note)), false) = (newest, due.is_empty()) {
            join_all(due.into_iter().map(|number| self.leave_one(number, size, &note))).await;
        }
        let held = self.witnesses();
        let done = held.iter().map(|held| held.done).min().flatten();
        Ok((done, held.iter().find_map(|held| held.fault.clone())))
    }

    async fn leave_one(&self, number: usize, size: u64, note: &str) {
        let Some(place) = self.settings.witness.get(number) else { return };
        let before = self.witnesses().get(number).cloned().unwrap_or_default();
        // It is told only what it does not have yet.
        let left = match place {
            _ if before.size == size && before.failures == 0 => Ok(()),
            Place::Disk(path) => self.write(path, note, &before.writing).await,
            Place::Server(url) => self.post(url, note).await,
        };
        let now = self.clock.now();
        let after = match left {
            Ok(()) => Witnessed { tried: now, done: Some(now), size, writing: before.writing, ..Witnessed::default() },
            Err(fault) => {
                tracing::warn!(%fault, "a witness is behind");
                Witnessed { tried: now, failures: before.failures + 1, fault: Some(fault), ..before }
            }
        };
        if let Some(held) = self.witnesses().get_mut(number) {
            *held = after;
        }
    }

    /// What each got, as many as there are.
    fn witnesses(&self) -> MutexGuard<'_, Vec<Witnessed>> {
        let mut held = self.witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        held.resize_with(self.settings.witness.len(), Witnessed::default);
        held
    }

    async fn write(&self, path: &Path, note: &str, writing: &Arc<AtomicBool>) -> std::result::Result<(), Fault> {
        let (place, own, note) = (path.to_owned(), format!("{}.checkpoint", self.stamp.id), note.to_owned());
        let fault = |error| Fault::new("audit.witness").at(path.display().to_string()).with("cause", error);
        if writing.swap(true, Ordering::AcqRel) {
            return Err(fault(std::io::ErrorKind::TimedOut.into()));
        }
        let writing = writing.clone();
        let written = tokio::task::spawn_blocking(move || {
            // In a folder, a file of the instance's own name.
            let file = if place.is_dir() { place.join(own) } else { place };
            let written = files::replace(&file, note.as_bytes());
            writing.store(false, Ordering::Release);
            written
        });
        // A disk of the network that is gone may answer never.
        let written = match tokio::time::timeout(DISK, written).await {
            Ok(written) => written.unwrap_or_else(|error| Err(std::io::Error::other(error))),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        written.map_err(fault)
    }

    /// A server that keeps what it is sent answers with success; what else it says is not read.
    async fn post(&self, url: &str, note: &str) -> std::result::Result<(), Fault> {
        // Without the query, which may say more than a log should hold.
        let shown = url.split('?').next().unwrap_or_default();
        let fault = |cause: String| Fault::new("audit.witness_server").with("url", shown).with("cause", cause);
        let web = self.web.as_ref().ok_or_else(|| fault("no way out".to_owned()))?;
        let authorization = self.settings.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let (url, body) = (url.to_owned(), Some(Body::Text(note.to_owned())));
        let request = Request { url, body, authorization, ..Request::default() };
        match web.fetch(request).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(fault(format!("HTTP {}", answer.status))),
            Err(error) => Err(fault(error.to_string())),
        }
    }
}
