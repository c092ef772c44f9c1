//! A restore beside the live directory that takes its place once it is checked. Killed at any moment, either the old
//! directory or the new one is whole; the same command again finishes or begins anew.
//!
//! ```text
//! DIR.restoring: filled, checked ─► DIR and DIR.restoring change places ─► the old one is DIR.before-TIME
//! ```

use super::{Restored, Restoring, blocking, check, check::Checked, claim, fill};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        config::Config,
        fault::Fault,
        files,
    },
    server::{
        keys,
        problem::{Kind, Problem},
        targets::LOCAL_FOLDER,
        vault,
    },
    services::{
        backups::{Progress, Stage},
        instance::{Likeness, Stamp, UNFINISHED},
    },
};
use rustix::fs::{CWD, FlockOperation, RenameFlags};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// In the marker's folder of the new directory: where the old one goes.
const PLAN: &str = "swap.json";

pub struct Swapped {
    /// `None`: an earlier run had restored; only the end was left to do.
    pub restored: Option<(Restored, Checked)>,
    /// The old directory; `None`: there was none.
    pub before: Option<PathBuf>,
}

/// The live directory is the configuration's.
pub async fn swap(
    config: &Config,
    clock: SharedClock,
    restoring: Restoring,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Swapped, Problem> {
    if !restoring.collections.is_empty() || restoring.likeness == Some(Likeness::Drill) {
        return Err(Problem::new(Kind::Refused, Fault::new("restore.swap_partial")));
    }
    let config = &vault::prepared(config).await?;
    let live = whole_path(&config.instance.data_dir)?;
    let place = Places::of(&live, clock.now());
    let mut locks = place.hold()?;
    if let Some(before) = place.begun()? {
        // Another command's is brought to its end, and this one begins.
        // Of one that was being tidied away nothing may be known any more.
        let same = claim::told(&live).is_none_or(|told| told == restoring.told());
        place.settle(config, before.as_deref())?;
        if same {
            return Ok(Swapped { restored: None, before });
        }
        // Of the directory that is there now; a lock of one's own would be in the way.
        drop(locks);
        locks = place.hold()?;
    }
    place.movable()?;
    let beside = beside(config, &live, &place.beside);
    let (restored, claim, mut progress) = fill(&beside, clock.clone(), restoring, progress, true).await?;
    let step = move |done, total| progress(Progress { stage: Stage::Examining, done, total });
    let checked = match check(&beside, clock, &restored.tally, step).await.and_then(Checked::sound) {
        Ok(checked) => checked,
        Err(problem) => {
            claim.give_up(false);
            return Err(problem);
        }
    };
    let own = config.clone();
    let before = blocking(move || {
        let before = place.exchange()?;
        place.settle(&own, before.as_deref())?;
        Ok(before)
    });
    let before = before.await?;
    drop((claim, locks));
    Ok(Swapped { restored: Some((restored, checked)), before })
}

/// Before an instance is served: what a swap that was killed left to do.
pub fn settle(config: &Config, clock: &SharedClock) -> Result<(), Problem> {
    let place = Places::of(&whole_path(&config.instance.data_dir)?, clock.now());
    // Held by a swap that is alive: it does so itself.
    let held = File::open(place.live.join(UNFINISHED)).ok();
    let free = |folder: &File| rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive).is_ok();
    if held.as_ref().is_some_and(|folder| !free(folder)) {
        return Ok(());
    }
    match place.begun()? {
        Some(before) => place.settle(config, before.as_deref()),
        None => Ok(()),
    }
}

/// The configuration as it is for the directory beside: what lies within the live one lies within that.
fn beside(config: &Config, live: &Path, beside: &Path) -> Config {
    let mut config = config.clone();
    let within =
        keys::file(&config).and_then(|path| path.strip_prefix(&config.instance.data_dir).map(Path::to_owned).ok());
    if let Some(within) = within.filter(|_| config.instance.root_key_file.is_some()) {
        config.instance.root_key_file = Some(beside.join(within));
    }
    // Opened to be checked, it makes no folder where the backups are.
    if config.backup.targets.is_empty() {
        config.backup.targets = vec![live.join(LOCAL_FOLDER).display().to_string()];
    }
    config.instance.data_dir = beside.to_owned();
    config
}

/// Through links, so that the directory itself is renamed.
fn whole_path(path: &Path) -> Result<PathBuf, Problem> {
    let failed = |error: io::Error| Problem::file(path.display(), error);
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

struct Places {
    live: PathBuf,
    beside: PathBuf,
    before: PathBuf,
}

impl Places {
    fn of(live: &Path, now: Timestamp) -> Self {
        let with = |end: String| {
            let mut name = live.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        let time: String = now.rfc3339().chars().take(19).filter(char::is_ascii_alphanumeric).collect();
        // Two within a second have two names.
        let before = (1..).map(|n| match n {
            1 => with(format!(".before-{time}Z")),
            n => with(format!(".before-{time}Z-{n}")),
        });
        let before = before.into_iter().find(|path| !path.exists()).unwrap_or_default();
        Self { live: live.to_owned(), beside: with(".restoring".to_owned()), before }
    }

    /// The stores' own locks: nobody serves it, and nobody begins to.
    fn hold(&self) -> Result<Vec<File>, Problem> {
        let mut locks = Vec::new();
        for name in ["documents.sealed", "subjects.sealed"] {
            let path = self.live.join(name);
            let file = match File::options().read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Problem::file(path.display(), error)),
            };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                let fault = Fault::new("restore.served").at(self.live.display().to_string());
                return Err(Problem::new(Kind::Refused, fault));
            }
            locks.push(file);
        }
        Ok(locks)
    }

    /// Where an earlier run got past the change of places: where the old directory goes, if there was one.
    fn begun(&self) -> Result<Option<Option<PathBuf>>, Problem> {
        // Between the two renames of a file system that cannot do both at once.
        if !self.live.exists() && Stamp::read(&self.beside, None).is_ok() && self.planned(&self.beside).is_some() {
            self.rename(&self.beside, &self.live)?;
        }
        Ok(self.planned(&self.live).filter(|_| Stamp::read(&self.live, None).is_ok()))
    }

    fn planned(&self, data: &Path) -> Option<Option<PathBuf>> {
        let text = fs::read(data.join(UNFINISHED).join(PLAN)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// An instance, or what is left of one, under a name of its own: no mount point, no stranger's folder.
    fn movable(&self) -> Result<(), Problem> {
        let parent = self.live.parent().unwrap_or(Path::new("/"));
        let device = |path: &Path| fs::metadata(path).map(|known| known.dev()).ok();
        let refused = |key| Err(Problem::new(Kind::Refused, Fault::new(key).at(self.live.display().to_string())));
        if self.live.exists() && device(&self.live) != device(parent) {
            return refused("restore.mount_point");
        }
        let holds = |name: &str| self.live.join(name).exists();
        let empty = fs::read_dir(&self.live).map_or(true, |mut entries| entries.next().is_none());
        match empty || holds("instance.json") || holds("documents.sealed") {
            true => Ok(()),
            false => refused("restore.no_instance"),
        }
    }

    /// Puts the new directory in place. Answers where the old one goes.
    fn exchange(&self) -> Result<Option<PathBuf>, Problem> {
        let before = self.live.exists().then(|| self.before.clone());
        let failed = |error: io::Error| Problem::file(self.beside.display(), error);
        if before.is_some() {
            adopt(&self.beside, &fs::metadata(&self.live).map_err(failed)?).map_err(failed)?;
        }
        let plan = serde_json::to_vec(&before).map_err(io::Error::other).map_err(failed)?;
        files::replace(&self.beside.join(UNFINISHED).join(PLAN), &plan).map_err(failed)?;
        if before.is_none() {
            self.rename(&self.beside, &self.live)?;
            return Ok(None);
        }
        match rustix::fs::renameat_with(CWD, &self.beside, CWD, &self.live, RenameFlags::EXCHANGE) {
            Ok(()) => files::sync_folder(&self.live).map_err(failed)?,
            // Network file systems that cannot: for a moment there is neither.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                self.rename(&self.live, &self.before)?;
                self.rename(&self.beside, &self.live)?;
            }
            Err(error) => return Err(failed(error.into())),
        }
        Ok(before)
    }

    /// What is left once the new directory is in place. Done again, it does what was not done.
    fn settle(&self, config: &Config, before: Option<&Path>) -> Result<(), Problem> {
        if let Some(before) = before {
            if self.beside.exists() {
                self.rename(&self.beside, before)?;
            }
            // Those that lie with the data go with the name: what is to be backed up next goes on from them.
            let (old, new) = (before.join(LOCAL_FOLDER), self.live.join(LOCAL_FOLDER));
            // An empty one may have been made since.
            let free = || !new.exists() || fs::remove_dir(&new).is_ok();
            if config.backup.targets.is_empty() && old.is_dir() && free() {
                self.rename(&old, &new)?;
            }
        }
        claim::unmark(&self.live)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Problem> {
        let renamed = rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
        let renamed = match renamed {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => fs::rename(from, to),
            other => other.map_err(io::Error::from),
        };
        let durable = renamed.and_then(|()| files::sync_folder(to)).and_then(|()| files::sync_folder(from));
        durable.map_err(|error| Problem::file(from.display(), error))
    }
}

/// As the old one was: its owner, its mode.
fn adopt(data: &Path, live: &fs::Metadata) -> io::Result<()> {
    fs::set_permissions(data, fs::Permissions::from_mode(live.mode() & 0o7777))?;
    if rustix::process::geteuid().is_root() {
        files::give(data, live)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Places {
        Places::of(&folder.join("data"), Timestamp(1_795_000_000_123))
    }

    fn filled(path: &Path, what: &str) {
        fs::create_dir(path).unwrap();
        fs::write(path.join("what"), what).unwrap();
    }

    fn what(path: &Path) -> String {
        fs::read_to_string(path.join("what")).unwrap()
    }

    #[test]
    fn the_new_takes_the_place_of_the_old_which_stays_beside() {
        let folder = tempfile::tempdir().unwrap();
        let place = places(folder.path());
        assert_eq!(place.before, folder.path().join("data.before-20261118T110640Z"));
        filled(&place.live, "old");
        assert_eq!(place.movable().err().map(|problem| problem.fault.key), Some("restore.no_instance"));
        fs::write(place.live.join("documents.sealed"), b"").unwrap();
        filled(&place.beside, "new");
        filled(&place.live.join(LOCAL_FOLDER), "backups");
        fs::create_dir(place.beside.join(UNFINISHED)).unwrap();
        fs::set_permissions(&place.live, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(place.begun().unwrap().is_none());
        place.movable().unwrap();
        let before = place.exchange().unwrap();
        assert_eq!((what(&place.live), what(&place.beside)), ("new".to_owned(), "old".to_owned()));
        assert_eq!(place.planned(&place.live), Some(Some(place.before.clone())));
        let config = Config::of(&[]).unwrap();
        place.settle(&config, before.as_deref()).unwrap();
        assert_eq!((what(&place.live), what(&place.before)), ("new".to_owned(), "old".to_owned()));
        assert_eq!(what(&place.live.join(LOCAL_FOLDER)), "backups");
        assert!(!place.beside.exists() && !place.live.join(UNFINISHED).exists());
        assert_eq!(fs::metadata(&place.live).unwrap().mode() & 0o777, 0o750);
        assert_eq!(places(Path::new("/")).movable().err().map(|problem| problem.fault.key), None);
        let mounted = Places::of(Path::new("/proc"), Timestamp(0));
        assert_eq!(mounted.movable().err().map(|problem| problem.fault.key), Some("restore.mount_point"));
    }

    #[test]
    fn what_lies_within_the_live_directory_lies_within_the_new_one() {
        let live = Path::new("/srv/data");
        let of = |root: &str| {
            let mut words = vec![("instance.data_dir", "/srv/data")];
            words.extend((!root.is_empty()).then_some(("instance.root_key_file", root)));
            beside(&Config::of(&words).unwrap(), live, Path::new("/srv/data.restoring"))
        };
        assert_eq!(keys::file(&of("")).unwrap(), Path::new("/srv/data.restoring/root.key"));
        assert_eq!(keys::file(&of("/srv/data/k/root")).unwrap(), Path::new("/srv/data.restoring/k/root"));
        assert_eq!(keys::file(&of("/etc/root")).unwrap(), Path::new("/etc/root"));
        assert_eq!(of("").backup.targets, ["/srv/data/backups"]);
    }
}
