//! An instance opened: its stamp, keys and store, and the services over them. For serving, and for commands alone.

use super::{
    keys,
    problem::{Kind, Problem},
};
use crate::{
    backends::{
        documents::embedded::{
            self, Embedded, Options, Place,
            sealed::{DataKeys, KEY},
        },
        keys::local::LocalRootKey,
        objects::folder::Folder,
    },
    base::{clock::SharedClock, config::Config, fault::Fault, files},
    ports::{self, documents::Documents},
    services::{
        self,
        access::Access,
        backups::Backups,
        identities::Identities,
        instance::{self, Stamp},
        keyring::{Key, Keyring, Purpose},
        policies::Policies,
        sealing::Seals,
        sessions::Sessions,
        subjects::{Periods, Subjects},
    },
};
use std::{path::PathBuf, sync::Arc};

/// Beneath the backups' target: those of the subjects' keys.
pub const SUBJECTS_FOLDER: &str = "subjects";
/// Bytes of its pages kept in memory: keys in use are held beside it.
const SUBJECTS_CACHE: usize = 4 << 20;

pub struct Opened {
    pub stamp: Stamp,
    pub keyring: Arc<Keyring>,
    pub documents: Arc<dyn Documents>,
    pub seals: Arc<Seals>,
    pub sessions: Arc<Sessions>,
    pub identities: Arc<Identities>,
    pub backups: Arc<Backups>,
    pub access: Arc<Access>,
    pub policies: Arc<Policies>,
    pub subjects: Arc<Subjects>,
    pub clock: SharedClock,
}

/// Opens the instance of the configured data directory, whose lock it holds until it is closed.
pub async fn open(config: &Config, clock: SharedClock) -> Result<Opened, Problem> {
    let data = &config.instance.data_dir;
    let stamp = Stamp::read(data, config.instance.environment)?;
    let root = keys::open(config)?;
    let mut keyring = Keyring::open(data, &stamp, &root).await?;
    let path = database(config);
    // A lost database is never replaced by an empty one.
    if !path.exists() {
        let fault = Fault::new("instance.database_lost").at(path.display().to_string());
        return Err(Problem::new(Kind::Integrity, fault));
    }
    let store = store(config, &stamp, &keyring, &clock).await?;
    let subjects = subjects(config, &stamp, &mut keyring, &root, &clock).await?;
    let opened = assemble(config, stamp, keyring, (store, subjects), clock).await?;
    instance::furnish(&*opened.documents, opened.clock.now()).await?;
    opened.policies.load().await?;
    opened.sessions.recall().await?;
    // A full disk must not keep the instance down; a job tries again.
    if let Err(error) = opened.subjects.resume().await {
        tracing::error!(%error, "an erasure that was cut short is not finished");
    }
    Ok(opened)
}

/// Reads both stores whole of an instance nobody serves, changing nothing. `None`: somebody holds it.
pub async fn inspect(config: &Config, stamp: &Stamp, keyring: &Keyring) -> Option<Result<(), Problem>> {
    let both = [Purpose::Data, Purpose::Subjects].into_iter().filter(|purpose| keyring.has(*purpose));
    let places: Vec<_> = both.map(|purpose| place(config, stamp, keyring, purpose)).collect();
    if let Some(place) = places.iter().find(|place| !place.path.exists()) {
        let fault = Fault::new("instance.database_lost").at(place.path.display().to_string());
        return Some(Err(Problem::new(Kind::Integrity, fault)));
    }
    let read = tokio::task::spawn_blocking(move || places.into_iter().try_for_each(embedded::inspect)).await;
    match read {
        Ok(Err(ports::Error::Rejected(fault))) if fault.key == "sealed.locked" => None,
        Ok(read) => Some(read.map_err(Problem::from)),
        Err(error) => Some(Err(Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))),
    }
}

/// The store of the data directory, made when it is not there.
pub async fn store(
    config: &Config,
    stamp: &Stamp,
    keyring: &Keyring,
    clock: &SharedClock,
) -> Result<Arc<dyn Documents>, Problem> {
    opened(place(config, stamp, keyring, Purpose::Data), options(config), clock).await
}

/// The store of subjects' keys, made when it is not there.
pub async fn subjects_store(
    config: &Config,
    stamp: &Stamp,
    keyring: &Keyring,
    clock: &SharedClock,
) -> Result<Arc<dyn Documents>, Problem> {
    let options = Options { cache: SUBJECTS_CACHE, ..options(config) };
    opened(place(config, stamp, keyring, Purpose::Subjects), options, clock).await
}

/// The store of subjects' keys of an instance that exists; one of an earlier release gets its first.
async fn subjects(
    config: &Config,
    stamp: &Stamp,
    keyring: &mut Keyring,
    root: &LocalRootKey,
    clock: &SharedClock,
) -> Result<Arc<dyn Documents>, Problem> {
    let path = file(config, Purpose::Subjects);
    if keyring.has(Purpose::Subjects) {
        if !path.exists() {
            let fault = Fault::new("instance.database_lost").at(path.display().to_string());
            return Err(Problem::new(Kind::Integrity, fault));
        }
        return subjects_store(config, stamp, keyring, clock).await;
    }
    // Left by a start that was cut short before its key was kept: nobody can open it any more.
    if path.exists() {
        std::fs::remove_file(&path).map_err(|error| Problem::file(path.display(), error))?;
    }
    keyring.rotate(Purpose::Subjects, clock.now());
    let store = subjects_store(config, stamp, keyring, clock).await?;
    keyring.save(&config.instance.data_dir, stamp, root).await?;
    Ok(store)
}

async fn opened(place: Place, options: Options, clock: &SharedClock) -> Result<Arc<dyn Documents>, Problem> {
    let clock = clock.clone();
    let opened = tokio::task::spawn_blocking(move || Embedded::open(place, options, clock)).await;
    let opened = opened.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?;
    Ok(Arc::new(opened?))
}

/// The services over the documents and the subjects' keys.
pub async fn assemble(
    config: &Config,
    stamp: Stamp,
    keyring: Keyring,
    (documents, subjects): (Arc<dyn Documents>, Arc<dyn Documents>),
    clock: SharedClock,
) -> Result<Opened, Problem> {
    let keyring = Arc::new(keyring);
    let seals = Arc::new(Seals::open(subjects, clock.clone()).await?);
    let access = Arc::new(Access::new(stamp.environment, clock.clone()));
    let (store, time) = (documents.clone(), clock.clone());
    let policies = Arc::new(Policies::new(store, time, stamp.environment, access.clone(), seals.clone()));
    let sessions = Arc::new(Sessions::new(documents.clone(), clock.clone(), &stamp, &keyring));
    let identities = Arc::new(Identities::new(documents.clone(), clock.clone(), sessions.clone(), access.clone()));
    let folder = backup_folder(config);
    // Ours to make; one the operator named is not: where its disk is not mounted, what lies beneath would be filled.
    if config.backup.target.is_none() {
        files::private_folder(&folder).map_err(|error| Problem::file(folder.display(), error))?;
    }
    // Its absence fails backups, not the service.
    let beneath = Arc::new(Folder::beneath(&folder, SUBJECTS_FOLDER));
    let target = Arc::new(Folder::at(folder));
    let recipients = config.backup.recipients.iter().map(|text| text.parse()).collect::<services::Result<_>>()?;
    let (store, keys, time) = (documents.clone(), keyring.clone(), clock.clone());
    let backups = Backups::new(store, target, stamp.clone(), keys, recipients, time, access.clone());
    let backups = Arc::new(backups.beside(seals.clone(), beneath, config.backup.subject_days));
    let subjects = Subjects {
        documents: documents.clone(),
        clock: clock.clone(),
        access: access.clone(),
        identities: identities.clone(),
        seals: seals.clone(),
        backups: backups.clone(),
        keyring: keyring.clone(),
        stamp: stamp.clone(),
        periods: Periods { subjects: config.backup.subject_days, journal: config.storage.journal_days },
        erasing: tokio::sync::Mutex::default(),
    };
    let subjects = Arc::new(subjects);
    Ok(Opened { stamp, keyring, documents, seals, sessions, identities, backups, access, policies, subjects, clock })
}

/// Where backups go.
pub fn backup_folder(config: &Config) -> PathBuf {
    config.backup.target.clone().unwrap_or_else(|| config.instance.data_dir.join("backups"))
}

/// The database's file in the data directory.
pub fn database(config: &Config) -> PathBuf {
    file(config, Purpose::Data)
}

fn file(config: &Config, purpose: Purpose) -> PathBuf {
    let name = if purpose == Purpose::Subjects { "subjects.sealed" } else { "documents.sealed" };
    config.instance.data_dir.join(name)
}

fn place(config: &Config, stamp: &Stamp, keyring: &Keyring, purpose: Purpose) -> Place {
    let material = |key: &Key| -> [u8; KEY] {
        key.material.as_slice().try_into().expect("the keyring checks the length of every key")
    };
    let current = keyring.current(purpose);
    let keys = keyring
        .versions(purpose)
        .fold(DataKeys::new(current.version, material(current)), |keys, key| keys.with(key.version, material(key)));
    Place { path: file(config, purpose), keys, stamp: format!("{} {}", stamp.id, stamp.environment).into_bytes() }
}

fn options(config: &Config) -> Options {
    let bytes = |mib: u64| usize::try_from(mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    Options {
        cache: bytes(config.storage.cache_mib),
        max_document: bytes(config.server.document_mib),
        reserve: config.storage.reserve_mib << 20,
    }
}
