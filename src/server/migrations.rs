//! Migrations from outside: applied before anything is served, told to who waits; looked at, undone and rehearsed by
//! commands. Rehearsals are made on copies, which go again.

use super::{
    drill, keys,
    open::{self, Opened},
    problem::{Kind, Problem},
    restore::{self, Restoring},
    running::Senses,
    supervisor, vault,
};
use crate::{
    backends::documents::embedded::{Embedded, Options, Place, Still},
    base::{
        clock::{SharedClock, Stopwatch, SystemClock},
        config::Config,
        environment::Environment,
        fault::Fault,
        files, random,
    },
    domain::migration::{self, Direction, Migration},
    ports::{self, documents::Documents},
    services::{
        self,
        access::{Caller, Subject},
        backups::{Identity, restore::Wanted},
        health::{Finding, Phase},
        instance::{Likeness, Stamp},
        keyring::{Keyring, Purpose},
        migrations::{self as service, Done, Held, Migrations, Plan, Progress, Rehearsed, Stores, Tell},
    },
};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::runtime::Handle;

/// Beneath the data directory: copies of it that a rehearsal works on.
pub const COPIES: &str = "rehearsals";
/// Of the check of health.
const CHECK: &str = "migrations";
/// How often a supervisor is told that a migration goes on.
const BEAT: Duration = Duration::from_secs(10);

/// Those this binary knows.
pub fn known() -> Result<Vec<Migration>, Problem> {
    let malformed = |error| Problem::new(Kind::Failed, Fault::new("migrations.malformed").with("why", error));
    #[cfg_attr(not(feature = "testing"), expect(unused_mut, reason = "tests bring more"))]
    let mut all = migration::declared().map_err(malformed)?;
    #[cfg(feature = "testing")]
    for (name, text) in crate::base::undeclared::migrations() {
        all.push(Migration::read(&name, &text).map_err(malformed)?);
    }
    Ok(all)
}

/// Opens to serve: health and the supervisor see that it migrates, and how far it is.
pub async fn opened(config: &Config, senses: &Senses) -> Result<Opened, Problem> {
    let begun = OnceLock::new();
    let tell = |progress: Progress| {
        if begun.set(Stopwatch::start()).is_ok() {
            senses.health.enter(Phase::Migrating);
        }
        let Progress { number, name, done, total, .. } = progress;
        let fault = Fault::new("migrations.under_way").with("number", format!("{number:04}")).with("name", name);
        let fault = fault.with("done", done).with("total", total);
        supervisor::status(&fault.to_string());
        senses.health.report(Finding::warning(CHECK, fault));
    };
    let beat = async {
        loop {
            if begun.get().is_some() {
                supervisor::longer();
            }
            tokio::time::sleep(BEAT).await;
        }
    };
    let opened = tokio::select! {
        opened = open::telling(config, senses.clock.clone(), &tell) => opened?,
        () = beat => return Err(Problem::new(Kind::Failed, Fault::new("instance.store"))),
    };
    let newest = opened.migrations.held().await?.last().map_or(0, |newest| newest.number);
    senses.metrics.sample(|sample| {
        sample.migration = Some(newest.into());
        sample.migration_seconds = begun.get().map(|watch| watch.elapsed().as_secs_f64().ceil() as u64);
    });
    if begun.get().is_some() {
        senses.health.report(Finding::ok(CHECK));
        senses.health.enter(Phase::Starting);
    }
    Ok(opened)
}

/// A store of an instance nobody serves, and the keys to it. Read, never written.
struct Closed {
    config: Config,
    stamp: Stamp,
    keyring: Keyring,
}

impl Closed {
    async fn of(config: &Config) -> Result<Self, Problem> {
        let config = vault::resolved(config).await?;
        let stamp = Stamp::read(&config.instance.data_dir, config.instance.environment)?;
        let keyring = keys::keyring(&config, &stamp).await.map(|(keyring, _)| keyring);
        let keyring = keyring.map_err(|problem| match problem.kind {
            // Under its unit the service may have it from elsewhere.
            Kind::Unavailable | Kind::Integrity => {
                let more = problem.more.into_iter().chain([Fault::new("migrations.root_key")]).collect();
                Problem { more, ..problem }
            }
            _ => problem,
        })?;
        Ok(Self { config, stamp, keyring })
    }

    fn place(&self, folder: Option<&Path>) -> Place {
        let place = open::place(&self.config, &self.stamp, &self.keyring, Purpose::Data);
        match folder {
            Some(folder) => Place { path: folder.join(FILE), ..place },
            None => place,
        }
    }

    /// Of a copy, or of the instance itself.
    async fn look<T: Send + 'static>(
        &self,
        folder: Option<&Path>,
        look: impl FnOnce(Still) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = self.place(folder);
        blocking(move || look(Still::open(place)?)).await
    }
}

/// The name of a copy's file.
const FILE: &str = "documents.sealed";

/// What an instance nobody serves has been through; also where this binary is too old for it.
pub async fn held(config: &Config) -> Result<Vec<Held>, Problem> {
    Closed::of(config).await?.look(None, |still| Ok(service::held(&still)?)).await
}

/// For `doctor`: whether this program is the one for an instance nobody serves. `None`: somebody does, or it cannot be
/// opened, which other checks tell.
pub async fn finding(config: &Config) -> Option<Finding> {
    let (held, known) = (held(config).await.ok()?, known().ok()?);
    let fault = service::newer(&held, &known).or_else(|| service::half_done(&held));
    Some(fault.map_or_else(|| Finding::ok(CHECK), |fault| Finding::warning(CHECK, fault)))
}

/// The same of one that is served, by what the server tells: it serves nothing half done, but may be newer.
pub fn of_served(newest: Option<(u32, &str, &str)>) -> Option<Finding> {
    let most = known().ok()?.last().map_or(0, |known| known.number);
    let newer = newest.filter(|newest| newest.0 > most).map(|newest| service::newer_than(most, newest));
    Some(newer.map_or_else(|| Finding::ok(CHECK), |fault| Finding::warning(CHECK, fault)))
}

/// What a migration would change; `copy`: of a served instance, a copy it made.
pub async fn plan(
    config: &Config,
    copy: Option<&Path>,
    (direction, to): (Direction, Option<u32>),
) -> Result<Plan, Problem> {
    let known = known()?;
    let closed = Closed::of(config).await?;
    closed.look(copy, move |still| Ok(service::plan(&still, known, direction, to)?)).await
}

/// Migrates an instance nobody serves.
pub async fn migrate(
    config: &Config,
    (direction, to): (Direction, Option<u32>),
    tell: Tell<'_>,
) -> Result<Vec<Done>, Problem> {
    let clock: SharedClock = Arc::new(SystemClock);
    let config = vault::resolved(config).await?;
    let opened = open::as_it_is(&config, clock).await?;
    let name = format!("uid {}", rustix::process::geteuid().as_raw());
    let caller = Caller { subject: Subject::Local { name }, ..Caller::system() };
    let done = match direction {
        Direction::Up => opened.migrations.up(&caller, to, tell).await,
        Direction::Down => opened.migrations.down(&caller, to.unwrap_or_default(), tell).await,
    };
    // Where that fails, what was done is done: the journal keeps it for the next seal.
    if let Err(error) = opened.audit.finish().await {
        tracing::error!(%error, "the audit log was not sealed");
    }
    let done = match done {
        Ok(done) => Ok(done),
        Err(error) => Err(unended(&opened.migrations, error).await),
    };
    opened.documents.close().await?;
    opened.seals.close().await?;
    done
}

/// Why a migration did not end; where it is half done, the way back along with it.
pub async fn unended(migrations: &Migrations, error: services::Error) -> Problem {
    let mut problem = Problem::from(error);
    if let Ok(held) = migrations.held().await {
        problem.more.extend(service::half_done(&held));
    }
    problem
}

/// Migrates a copy up and down again. `copy`: one that a served instance made; else it is made here, and goes.
pub async fn rehearse(config: &Config, copy: Option<&Path>, tell: Tell<'_>) -> Result<Rehearsed, Problem> {
    let closed = Closed::of(config).await?;
    if let Some(folder) = copy {
        return rehearsed(closed.place(Some(folder)), tell).await;
    }
    let (data, database) = (&closed.config.instance.data_dir, open::database(&closed.config));
    let stored = std::fs::metadata(&database).map_err(|error| Problem::file(database.display(), error))?.blocks() * 512;
    let volume = files::volume(data).map_err(|error| Problem::file(data.display(), error))?;
    service::room(stored, volume.free)?;
    let all = data.join(COPIES);
    let folder = all.join(random::id(crate::base::clock::Clock::now(&SystemClock)));
    let rehearsed = async {
        for folder in [&all, &folder] {
            files::private_folder(folder).map_err(|error| Problem::file(folder.display(), error))?;
        }
        let place = closed.place(Some(&folder));
        let to = create(place.clone()).await?;
        let (filled, handle) = (to.clone(), Handle::current());
        let copied = closed.look(None, move |still| Ok(service::copy(&still, &filled, &handle)?)).await;
        to.close().await?;
        drop(to);
        copied?;
        rehearsed(place, tell).await
    };
    let rehearsed = rehearsed.await;
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Problem::file(folder.display(), error)),
        _ => rehearsed,
    }
}

/// A backup to rehearse on, and who opens it.
pub struct FromBackup {
    pub from: String,
    pub identity: Identity,
    pub environment: Environment,
    pub any_signer: bool,
    /// Made for it, and removed.
    pub scratch: PathBuf,
}

/// Migrates what a backup brings back.
pub async fn rehearse_backup(config: &Config, backup: FromBackup, tell: Tell<'_>) -> Result<Rehearsed, Problem> {
    let config = &vault::resolved(config).await?;
    let FromBackup { from, identity, environment, any_signer, scratch } = backup;
    drill::make_room(&scratch)?;
    let restoring = Restoring {
        from,
        wanted: Wanted::Latest,
        identity,
        environment,
        any_signer,
        collections: Vec::new(),
        // What is older says as much of a migration.
        allow_older: true,
        live: None,
        likeness: Some(Likeness::Drill),
    };
    let (own, _key) = drill::apart(config, &scratch)?;
    let rehearsed = async {
        restore::restore(&own, Arc::new(SystemClock), restoring, |_| {}).await?;
        rehearsed(Closed::of(&own).await?.place(None), tell).await
    };
    let rehearsed = rehearsed.await;
    drill::sweep(&scratch)?;
    rehearsed
}

async fn rehearsed(place: Place, tell: Tell<'_>) -> Result<Rehearsed, Problem> {
    if !place.path.exists() {
        let fault = Fault::new("migrations.no_copy").with("id", place.path.display());
        return Err(Problem::new(Kind::NotFound, fault));
    }
    let store = create(place).await?;
    let rehearsed = Migrations::new(store.clone(), Arc::new(SystemClock), known()?).alone().rehearse(tell).await;
    store.close().await?;
    Ok(rehearsed?)
}

async fn create(place: Place) -> Result<Arc<dyn Documents>, Problem> {
    let store = blocking(move || Ok(Embedded::open(place, Options::default(), Arc::new(SystemClock))?)).await?;
    Ok(Arc::new(store))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}

/// Copies of the data, sealed as it is.
struct Beside {
    place: Box<dyn Fn(PathBuf) -> Place + Send + Sync>,
    clock: SharedClock,
}

/// The keys are those in use when the copy is made.
pub fn stores(config: &Config, stamp: &Stamp, keyring: &Arc<Keyring>, clock: &SharedClock) -> Arc<dyn Stores> {
    let (config, stamp, keyring) = (config.clone(), stamp.clone(), keyring.clone());
    let place = move |folder: PathBuf| Place {
        path: folder.join(FILE),
        ..open::place(&config, &stamp, &keyring, Purpose::Data)
    };
    Arc::new(Beside { place: Box::new(place), clock: clock.clone() })
}

#[async_trait::async_trait]
impl Stores for Beside {
    async fn create(&self, folder: &Path) -> ports::Result<Arc<dyn Documents>> {
        let (place, clock) = ((self.place)(folder.to_owned()), self.clock.clone());
        let opened = tokio::task::spawn_blocking(move || Embedded::open(place, Options::default(), clock)).await;
        Ok(Arc::new(opened.map_err(|error| ports::Error::Backend(Box::new(error)))??))
    }
}
