//! Releases in a repository of The Update Framework: its metadata proven by `tough`, from an https server or a folder.

mod bridge;
mod faults;
mod fetch;
mod place;
mod seen;

pub use fetch::{is, partial};
pub use place::{Folder, Place, Server};

use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    domain::release::{Kind, Notes, Release},
    ports::{Error, Result, releases::Releases},
};
use bridge::{BASE, Bridge, LONGEST};
use seen::Seen;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader, TargetName, schema::Target};

/// A machine's clock may lag by so much behind the last publication.
const LAG_SECONDS: i64 = 86_400;

pub struct Tuf {
    place: Arc<dyn Place>,
    trusted: Vec<u8>,
    seen: Seen,
    clock: SharedClock,
}

impl Tuf {
    /// `trusted`: the `root.json` that trust starts from; `seen`: the folder of the newest metadata seen, which is there.
    pub fn new(place: Arc<dyn Place>, trusted: Vec<u8>, seen: PathBuf, clock: SharedClock) -> Self {
        Self { place, trusted, seen: Seen::new(seen), clock }
    }

    async fn proven(&self, work: PathBuf, root: &[u8]) -> Result<Repository> {
        let bridge = Bridge::new(self.place.clone());
        let limits = Limits {
            max_root_size: LONGEST,
            max_targets_size: LONGEST,
            max_timestamp_size: 1 << 20,
            max_snapshot_size: 1 << 20,
            max_root_updates: 1024,
        };
        let base = |folder: &str| format!("{BASE}{folder}/").parse().expect("the base is a URL");
        let loader = RepositoryLoader::new(&root, base("metadata"), base("targets"))
            .transport(bridge.clone())
            .limits(limits)
            .datastore(work)
            .expiration_enforcement(ExpirationEnforcement::Safe);
        let place = self.place.name();
        let repository = loader.load().await.map_err(|refused| {
            let now = self.clock.now().rfc3339();
            bridge.failure().unwrap_or_else(|| faults::told(refused, &place, &now))
        })?;
        self.on_time(&repository)?;
        Ok(repository)
    }

    /// Against the newest time that was signed: a clock that is behind it would find nothing expired.
    fn on_time(&self, repository: &Repository) -> Result<()> {
        let published = repository.timestamp().signed._extra.get("published").and_then(Value::as_str);
        let Some(published) = published else { return Ok(()) };
        let time = published.parse::<jiff::Timestamp>().map(|time| Timestamp(time.as_millisecond()));
        let now = self.clock.now();
        match time {
            Ok(time) if time <= now.plus_seconds(LAG_SECONDS) => Ok(()),
            Ok(_) => {
                let fault = Fault::new("updates.clock_behind").with("published", published);
                Err(Error::Rejected(fault.with("now", now.rfc3339())))
            }
            Err(why) => {
                let fault = Fault::new("updates.malformed").with("place", self.place.name());
                Err(Error::Rejected(fault.with("why", why)))
            }
        }
    }
}

#[async_trait::async_trait]
impl Releases for Tuf {
    async fn list(&self) -> Result<Vec<Release>> {
        let root = self.seen.root(&self.trusted)?;
        let work = self.seen.prepare()?;
        let proven = self.proven(work, &root).await;
        self.seen.keep(proven.is_ok())?;
        let repository = proven?;
        self.seen.anchor(&self.trusted)?;
        let targets = &repository.targets().signed.targets;
        let mut releases: Vec<Release> = targets.iter().filter_map(|(name, target)| release(name, target)).collect();
        releases.sort_by(|one, other| (&one.version, &one.file).cmp(&(&other.version, &other.file)));
        Ok(releases)
    }

    async fn fetch(&self, release: &Release, file: &Path, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<()> {
        let (place, release, file) = (self.place.clone(), release.clone(), file.to_owned());
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let fetching = tokio::task::spawn_blocking(move || {
            // Nobody looks any more: what is under way ends all the same.
            fetch::fetch(&*place, &release, &file, &|bytes| {
                let _ = tell.send(bytes);
            })
        });
        while let Some(bytes) = told.recv().await {
            progress(bytes);
        }
        fetching.await.map_err(|error| Error::Backend(Box::new(error)))?
    }
}

/// `None`: no release, or one of a kind that this program does not know.
fn release(name: &TargetName, target: &Target) -> Option<Release> {
    let word = |key: &str| target.custom.get(key)?.as_str();
    let kind = [Kind::Archive, Kind::Deb, Kind::Rpm].into_iter().find(|kind| word("kind") == Some(kind.name()))?;
    let staged = match target.custom.get("staged") {
        None => 100,
        Some(staged) => u8::try_from(staged.as_u64()?).ok().filter(|staged| *staged <= 100)?,
    };
    Some(Release {
        file: plain(name.raw())?,
        version: word("version")?.parse().ok()?,
        channel: word("channel")?.to_owned(),
        kind,
        architecture: word("architecture")?.to_owned(),
        bytes: target.length,
        sha256: hex::encode(&target.hashes.sha256),
        staged,
        notes: target.custom.get("notes").and_then(|notes| serde_json::from_value::<Notes>(notes.clone()).ok()),
    })
}

/// A name that is a file's, in whichever folder or URL it is put.
fn plain(name: &str) -> Option<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'~');
    let good = (1..=150).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(known);
    good.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_lead_to_no_other_place() {
        assert!(plain("debrouille-appliance_0.2.0~rc1_amd64.deb").is_some());
        for name in ["", "../a", "a/b", ".hidden", "a b", "a%2fb", "é", &"a".repeat(151)] {
            assert!(plain(name).is_none(), "{name}");
        }
    }
}
