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
        objects::folder::Folder,
    },
    base::{
        clock::SharedClock,
        config::{Config, Switch},
        fault::Fault,
        files,
    },
    ports::{self, documents::Documents},
    services::{
        self,
        access::Access,
        backups::Backups,
        identities::{Identities, Settings},
        instance::{self, Stamp},
        invitations::Invitations,
        keyring::{Key, Keyring, Purpose},
        organizations::Organizations,
        sessions::Sessions,
    },
};
use std::{path::PathBuf, sync::Arc};

pub struct Opened {
    pub stamp: Stamp,
    pub keyring: Arc<Keyring>,
    pub documents: Arc<dyn Documents>,
    pub sessions: Arc<Sessions>,
    pub identities: Arc<Identities>,
    pub backups: Arc<Backups>,
    pub access: Arc<Access>,
    pub clock: SharedClock,
}

impl Opened {
    pub fn organizations(&self) -> Organizations {
        let (store, memberships) = (self.documents.clone(), self.identities.memberships().clone());
        Organizations::new(store, self.clock.clone(), self.access.clone(), memberships)
    }

    pub fn invitations(&self) -> Invitations {
        let (store, identities) = (self.documents.clone(), self.identities.clone());
        Invitations::new(store, self.clock.clone(), self.access.clone(), identities)
    }
}

/// Opens the instance of the configured data directory, whose lock it holds until it is closed.
pub async fn open(config: &Config, clock: SharedClock) -> Result<Opened, Problem> {
    let data = &config.instance.data_dir;
    let stamp = Stamp::read(data, config.instance.environment)?;
    let root = keys::open(config)?;
    let keyring = Keyring::open(data, &stamp, &root).await?;
    let path = database(config);
    // A lost database is never replaced by an empty one.
    if !path.exists() {
        let fault = Fault::new("instance.database_lost").at(path.display().to_string());
        return Err(Problem::new(Kind::Integrity, fault));
    }
    let store = store(config, &stamp, &keyring, &clock).await?;
    let opened = assemble(config, stamp, keyring, store, clock)?;
    instance::furnish(&*opened.documents, opened.clock.now()).await?;
    opened.sessions.recall().await?;
    Ok(opened)
}

/// Reads the whole store of an instance nobody serves, changing nothing. `None`: somebody holds it.
pub async fn inspect(config: &Config, stamp: &Stamp, keyring: &Keyring) -> Option<Result<(), Problem>> {
    let path = database(config);
    if !path.exists() {
        let fault = Fault::new("instance.database_lost").at(path.display().to_string());
        return Some(Err(Problem::new(Kind::Integrity, fault)));
    }
    let place = place(config, stamp, keyring);
    let read = tokio::task::spawn_blocking(move || embedded::inspect(place)).await;
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
) -> Result<Arc<Embedded>, Problem> {
    let (place, options, clock) = (place(config, stamp, keyring), options(config), clock.clone());
    let opened = tokio::task::spawn_blocking(move || Embedded::open(place, options, clock)).await;
    let opened = opened.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?;
    Ok(Arc::new(opened?))
}

pub fn assemble(
    config: &Config,
    stamp: Stamp,
    keyring: Keyring,
    store: Arc<Embedded>,
    clock: SharedClock,
) -> Result<Opened, Problem> {
    let documents: Arc<dyn Documents> = store;
    let keyring = Arc::new(keyring);
    let access = Arc::new(Access::new(stamp.environment));
    let sessions = Arc::new(Sessions::new(documents.clone(), clock.clone(), &stamp, &keyring));
    let settings = Settings {
        registration: config.identity.registration == Switch::On,
        calling_code: Some(config.identity.calling_code).filter(|code| *code > 0),
    };
    let identities = Identities::new(documents.clone(), clock.clone(), sessions.clone(), access.clone()).with(settings);
    let identities = Arc::new(identities);
    let folder = backup_folder(config);
    // Ours to make; one the operator named is not: where its disk is not mounted, what lies beneath would be filled.
    if config.backup.target.is_none() {
        files::private_folder(&folder).map_err(|error| Problem::file(folder.display(), error))?;
    }
    // Its absence fails backups, not the service.
    let target = Arc::new(Folder::at(folder));
    let recipients = config.backup.recipients.iter().map(|text| text.parse()).collect::<services::Result<_>>()?;
    let (store, keys, time) = (documents.clone(), keyring.clone(), clock.clone());
    let backups = Backups::new(store, target, stamp.clone(), keys, recipients, time, access.clone());
    Ok(Opened { stamp, keyring, documents, sessions, identities, backups: Arc::new(backups), access, clock })
}

/// Where backups go.
pub fn backup_folder(config: &Config) -> PathBuf {
    config.backup.target.clone().unwrap_or_else(|| config.instance.data_dir.join("backups"))
}

/// The database's file in the data directory.
pub fn database(config: &Config) -> PathBuf {
    config.instance.data_dir.join("documents.sealed")
}

fn place(config: &Config, stamp: &Stamp, keyring: &Keyring) -> Place {
    let material = |key: &Key| -> [u8; KEY] {
        key.material.as_slice().try_into().expect("the keyring checks the length of every key")
    };
    let current = keyring.current(Purpose::Data);
    let keys = keyring
        .versions(Purpose::Data)
        .fold(DataKeys::new(current.version, material(current)), |keys, key| keys.with(key.version, material(key)));
    Place { path: database(config), keys, stamp: format!("{} {}", stamp.id, stamp.environment).into_bytes() }
}

fn options(config: &Config) -> Options {
    let bytes = |mib: u64| usize::try_from(mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    Options {
        cache: bytes(config.storage.cache_mib),
        max_document: bytes(config.server.document_mib),
        reserve: config.storage.reserve_mib << 20,
    }
}
