//! Backups put into an empty directory: same instance, next lineage, new root key. Never over live data unasked.

mod ahead;
mod check;
mod claim;
mod fetched;
mod live;
mod source;
mod swap;

pub use check::{Checked, check};
pub use claim::MARKER;
pub use live::{Live, live};
pub use swap::{Swapped, settle, swap};

use super::{
    authority, keys, migrations, open,
    problem::{Kind, Problem},
    vault,
};
use crate::{
    base::{
        clock::{SharedClock, Stopwatch},
        config::Config,
        environment::Environment,
        fault::Fault,
        files,
    },
    ports::{self, documents::Load, objects::Objects},
    services::{
        Error,
        backups::{
            Identity, Progress, Restore, SUBJECTS,
            restore::{Asked, NEWER_UNREADABLE, Plan, SET_ASIDE, SYSTEM, Tally, Wanted},
        },
        instance::{self, Likeness, Stamp},
        keyring::{Keyring, Purpose},
    },
};
use ahead::Ahead;
use claim::Claim;
use serde_json::{Value, json};
use source::Source;
use std::path::{Path, PathBuf};
use tokio::runtime::Handle;

/// The configuration file that came along, beside the data: read, and put in its place by hand.
pub const CONFIGURATION: &str = "appliance.toml.restored";

/// What the operator decides. The directory to fill is the configuration's data directory.
pub struct Restoring {
    /// The place that holds the backups.
    pub from: String,
    pub wanted: Wanted,
    pub identity: Identity,
    /// A backup of another environment is refused.
    pub environment: Environment,
    /// Restore also what nobody vouches for.
    pub any_signer: bool,
    /// Of these alone the documents come back, beside the appliance's own; empty: of all.
    pub collections: Vec<String>,
    /// Go on where something newer is known.
    pub allow_older: bool,
    /// What is known of the living instance.
    pub live: Option<Live>,
    /// What the copy is for, where it is not to serve.
    pub likeness: Option<Likeness>,
}

/// What came back, or would.
pub struct Restored {
    pub stamp: Stamp,
    pub plan: Plan,
    pub tally: Tally,
    /// Nobody vouched for the signature: the identity file names no signer.
    pub unvouched: bool,
    /// The backups of the subjects' keys that came with it; `None`: there are none that can be used.
    pub subjects: Option<Subjects>,
    /// Why, where there are some.
    pub keys_unusable: Option<Fault>,
    /// The configuration file's text came along.
    pub configuration: bool,
    pub times: Times,
}

/// The subjects' keys, always as of the newest there are.
pub struct Subjects {
    pub name: String,
    pub keys: u64,
    /// Why they are not the newest there are.
    pub older: Option<Fault>,
    pub notes: Vec<Fault>,
}

/// What became of the subjects' keys.
enum Keys {
    None,
    Unusable(Fault),
    Back(Subjects),
}

/// Milliseconds, for who plans.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Reading every byte and checking it against its signature.
    pub proving: u64,
    /// Of a dry run: opening and reading all of it; else loading it too.
    pub loading: u64,
}

impl Restoring {
    fn asked<'a>(&'a self, instance: Option<&'a str>) -> Asked<'a> {
        let anchor = self.live.as_ref().and_then(|live| live.anchor.as_ref());
        let (wanted, identity, environment) = (&self.wanted, &self.identity, self.environment);
        Asked { wanted, identity, trust: self.identity.trust(), environment, instance, anchor }
    }

    /// What makes it the same command when it is started again.
    fn told(&self) -> Value {
        json!({
            "from": self.from,
            "wanted": format!("{:?}", self.wanted),
            "collections": self.collections,
            "environment": self.environment.name(),
            "copy": self.likeness,
        })
    }

    /// Whoever knows the public keys could have made it.
    pub fn vouched(&self) -> Result<(), Problem> {
        if self.identity.signers().is_empty() && !self.any_signer {
            return Err(Problem::new(Kind::Refused, Fault::new("backups.unvouched")));
        }
        Ok(())
    }

    /// Beyond every lineage that is known: two histories never share a number.
    fn stamp(&self, restore: &Restore<'_>) -> Result<Stamp, Problem> {
        let meta = restore.meta();
        let live = self.live.as_ref().filter(|live| live.stamp.id == meta.instance);
        let newest = restore.plan().newest_lineage.max(meta.lineage).max(live.map_or(0, |live| live.stamp.lineage));
        let partial = (!self.collections.is_empty()).then_some(Likeness::Partial);
        let forged = Fault::new("backups.lineage").with("lineage", newest).with("name", &restore.plan().newest_name);
        let forged = || Problem::new(Kind::Refused, forged);
        Ok(Stamp {
            format: instance::FORMAT,
            id: meta.instance.clone(),
            environment: meta.environment,
            lineage: newest.checked_add(1).ok_or_else(forged)?,
            created_at: meta.instance_created,
            copy: self.likeness.clone().or(partial),
        })
    }

    /// A name that is mistyped brings nothing back.
    fn all_there(&self, tally: &Tally) -> Result<(), Problem> {
        let there = |name: &String| tally.defined.contains(name) || name.starts_with(SYSTEM);
        let Some(absent) = self.collections.iter().find(|name| !there(name)) else { return Ok(()) };
        let known: Vec<_> = tally.defined.iter().map(String::as_str).filter(|name| !name.starts_with(SYSTEM)).collect();
        let fault = Fault::new("restore.no_collection").with("collection", absent).with("known", known.join(", "));
        Err(Problem::new(Kind::NotFound, fault))
    }

    /// What a later release migrated is for that one, and told before it takes anybody's place.
    fn known(&self, tally: &Tally) -> Result<(), Problem> {
        let held: Vec<_> = tally.migrations.values().cloned().collect();
        match crate::services::migrations::newer(&held, &migrations::known()?) {
            Some(fault) => Err(Problem::new(Kind::Refused, fault)),
            None => Ok(()),
        }
    }

    fn consent(&self, plan: &Plan) -> Result<(), Problem> {
        match plan.older.clone().filter(|_| !self.allow_older) {
            Some(fault) => Err(Problem::new(Kind::Refused, fault)),
            None => Ok(()),
        }
    }
}

/// Reads the backups twice: once to prove them whole, before anything is written; once to fill the directory.
pub async fn restore(
    config: &Config,
    clock: SharedClock,
    restoring: Restoring,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Restored, Problem> {
    let config = &vault::prepared(config).await?;
    let (restored, claim, _) = fill(config, clock, restoring, progress, false).await?;
    claim.finish()?;
    Ok(restored)
}

/// The directory, whole and still marked. `waiting`: it takes another's place later.
async fn fill<P: FnMut(Progress) + Send + 'static>(
    config: &Config,
    clock: SharedClock,
    restoring: Restoring,
    mut progress: P,
    waiting: bool,
) -> Result<(Restored, Claim, P), Problem> {
    restoring.vouched()?;
    let claim = Claim::take(&config.instance.data_dir, &restoring.told(), waiting)?;
    let (config, handle, folder) = (config.clone(), Handle::current(), claim.folder());
    let filled = blocking(move || {
        let remote = source::is_remote(&restoring.from);
        let filling = Filling { config: &config, clock: &clock, restoring: &restoring, handle: &handle };
        let filled = filling.all(&folder, &mut progress).map_err(|problem| (problem, remote));
        Ok((filled, progress))
    });
    match filled.await {
        Ok((Ok(restored), progress)) => Ok((restored, claim, progress)),
        Ok((Err((problem, remote)), _)) => {
            // The line may come back, or consent be given: what was fetched is not fetched again.
            claim.give_up(remote && matches!(problem.kind, Kind::Unavailable | Kind::Refused));
            Err(problem)
        }
        Err(problem) => Err(problem),
    }
}

/// Reads and checks everything, writes nothing.
pub async fn dry_run(
    config: &Config,
    clock: SharedClock,
    restoring: Restoring,
    mut progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Restored, Problem> {
    let config = vault::resolved(config).await?;
    blocking(move || {
        let watch = Stopwatch::start();
        let Source { documents: source, subjects: beside } = source::open(&restoring.from, &config, &clock)?;
        let restore = Restore::begin(&*source, restoring.asked(None), &mut |step| told(&mut progress, step))?;
        let proving = watch.millis();
        let mut tally = Tally::default();
        let mut count = |part: Load| {
            tally.part(&part);
            Ok(())
        };
        restore.load(&restoring.collections, &mut count, &mut |step| told(&mut progress, step))?;
        restoring.all_there(&tally)?;
        restoring.known(&tally)?;
        let times = Times { proving, loading: watch.millis() - proving };
        let stamp = restoring.stamp(&restore)?;
        let subjects = newest_keys(&*beside, &restoring, &stamp, &mut |_| Ok(()))?;
        Ok(restored(&restoring, &restore, stamp, (tally, subjects), times))
    })
    .await
}

fn told(progress: &mut impl FnMut(Progress), step: Progress) -> crate::services::Result<()> {
    progress(step);
    Ok(())
}

fn restored(
    restoring: &Restoring,
    restore: &Restore<'_>,
    stamp: Stamp,
    (tally, keys): (Tally, Keys),
    times: Times,
) -> Restored {
    let (subjects, keys_unusable) = match keys {
        Keys::None => (None, None),
        Keys::Unusable(fault) => (None, Some(fault)),
        Keys::Back(subjects) => (Some(subjects), None),
    };
    Restored {
        stamp,
        plan: restore.plan().clone(),
        tally,
        unvouched: restoring.identity.signers().is_empty(),
        subjects,
        keys_unusable,
        configuration: restore.configuration().is_some(),
        times,
    }
}

struct Filling<'f> {
    config: &'f Config,
    clock: &'f SharedClock,
    restoring: &'f Restoring,
    handle: &'f Handle,
}

impl Filling<'_> {
    fn all(&self, folder: &Path, progress: &mut impl FnMut(Progress)) -> Result<Restored, Problem> {
        let (restoring, watch) = (self.restoring, Stopwatch::start());
        let Source { documents, subjects } = source::open(&restoring.from, self.config, self.clock)?;
        let source = source::near(&restoring.from, documents, folder);
        let begin = |progress: &mut dyn FnMut(Progress)| {
            Restore::begin(&*source, restoring.asked(None), &mut |step| {
                progress(step);
                Ok(())
            })
        };
        let doubts = |note: &Fault| [SET_ASIDE, NEWER_UNREADABLE].contains(&note.key);
        let kept = fetched(folder);
        let mut begun = begin(progress);
        // What an earlier try left of a file may have been torn by a crash: it is fetched anew before it is judged.
        let doubtful = match &begun {
            Ok(restore) => restore.plan().notes.iter().chain(&restore.plan().older).any(doubts),
            Err(error) => matches!(error, Error::Damaged(_) | Error::Refused(_) | Error::NotFound(_)),
        };
        if doubtful && !kept.is_empty() {
            kept.iter().try_for_each(std::fs::remove_file).map_err(|error| Problem::file(folder.display(), error))?;
            begun = begin(progress);
        }
        let restore = begun?;
        restoring.consent(restore.plan())?;
        let proving = watch.millis();
        let stamp = restoring.stamp(&restore)?;
        let keyring = self.keys(&restore, &stamp)?;
        // Small, and never judged by what an earlier try left.
        let near = folder.join(SUBJECTS);
        fetched(&near)
            .iter()
            .try_for_each(std::fs::remove_file)
            .map_err(|error| Problem::file(near.display(), error))?;
        let beside = source::near(&restoring.from, subjects, &near);
        let subjects = self.subjects(&*beside, &stamp, &keyring)?;
        let documents = self.handle.block_on(open::store(self.config, &stamp, &keyring, self.clock))?;
        let mut tally = Tally::default();
        let mut ahead = Ahead::new(documents.clone(), self.handle);
        let mut put = |part: Load| {
            tally.part(&part);
            ahead.put(part)
        };
        restore.load(&restoring.collections, &mut put, &mut |step| told(progress, step))?;
        ahead.settle()?;
        restoring.all_there(&tally)?;
        restoring.known(&tally)?;
        self.handle.block_on(documents.close())?;
        if let Some(text) = restore.configuration() {
            let path = self.data().join(CONFIGURATION);
            files::create(&path, text.as_bytes(), 0o600).map_err(|error| Problem::file(path.display(), error))?;
        }
        stamp.write(self.data())?;
        let times = Times { proving, loading: watch.millis() - proving };
        Ok(restored(restoring, &restore, stamp, (tally, subjects), times))
    }

    fn data(&self) -> &PathBuf {
        &self.config.instance.data_dir
    }

    /// The keyring under the new root key, and the authority's certificate.
    fn keys(&self, restore: &Restore<'_>, stamp: &Stamp) -> Result<Keyring, Problem> {
        let keyring = Keyring::from_keys(restore.keys().to_vec())?;
        if !keyring.has(Purpose::Subjects) {
            keyring.rotate(Purpose::Subjects, self.clock.now());
        }
        let root = self.handle.block_on(keys::provide(self.config))?;
        self.handle.block_on(keyring.save(self.data(), stamp, &*root))?;
        let path = self.data().join(authority::FILE);
        files::create(&path, authority::pem(&keyring, self.clock.now()).as_bytes(), 0o644)
            .map_err(|error| Problem::file(path.display(), error))?;
        Ok(keyring)
    }

    fn subjects(&self, source: &dyn Objects, stamp: &Stamp, keyring: &Keyring) -> Result<Keys, Problem> {
        let store = self.handle.block_on(open::subjects_store(self.config, stamp, keyring, self.clock))?;
        let mut ahead = Ahead::new(store.clone(), self.handle);
        let found = newest_keys(source, self.restoring, stamp, &mut |part| ahead.put(part))?;
        ahead.settle()?;
        self.handle.block_on(store.close())?;
        Ok(found)
    }
}

/// Puts the newest usable backups of the subjects' keys in, to their end whatever the documents' point is: whoever was
/// forgotten since stays forgotten. Where none can be used, what is sealed stays unreadable; a place that cannot be read
/// is an error.
fn newest_keys(
    source: &dyn Objects,
    restoring: &Restoring,
    stamp: &Stamp,
    put: &mut dyn FnMut(Load) -> ports::Result<()>,
) -> Result<Keys, Problem> {
    let asked = Asked { wanted: &Wanted::Latest, anchor: None, ..restoring.asked(Some(&stamp.id)) };
    let restore = match Restore::begin(source, asked, &mut |_| Ok(())) {
        Ok(restore) => restore,
        Err(Error::NotFound(_)) => return Ok(Keys::None),
        Err(Error::Damaged(fault) | Error::Refused(fault)) => {
            tracing::warn!(%fault, "no backup of the subjects' keys can be used");
            return Ok(Keys::Unusable(fault));
        }
        Err(error) => return Err(error.into()),
    };
    let mut tally = Tally::default();
    let mut counted = |part: Load| {
        tally.part(&part);
        put(part)
    };
    restore.load(&[], &mut counted, &mut |_| Ok(()))?;
    let keys = tally.collections.get(crate::services::sealing::SUBJECTS).copied().unwrap_or_default();
    let plan = restore.plan();
    let notes = plan.notes.iter().chain(&plan.older).cloned().collect();
    let (name, older) = (plan.last().name.clone(), plan.older.clone());
    Ok(Keys::Back(Subjects { name, keys, older, notes }))
}

/// Of an earlier try.
fn fetched(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "backup")).collect()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}
