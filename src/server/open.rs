//! An instance opened: its stamp, keys and store, and the services over them. For serving, and for commands alone.

use super::{keys, problem::Problem};
use crate::{
    backends::documents::embedded::{
        Embedded, Options,
        sealed::{DataKeys, KEY},
    },
    base::{clock::SharedClock, config::Config},
    ports::documents::Documents,
    services::{
        identities::Identities,
        instance::{self, Stamp},
        keyring::{Keyring, Purpose},
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
    pub clock: SharedClock,
}

/// Opens the instance of the configured data directory, whose lock it holds until it is closed.
pub async fn open(config: &Config, clock: SharedClock) -> Result<Opened, Problem> {
    let data = &config.instance.data_dir;
    let stamp = Stamp::read(data, config.instance.environment)?;
    let root = keys::open(config)?;
    let keyring = Keyring::open(data, &stamp, &root).await?;
    let store = Embedded::open(options(config, &stamp, &keyring))?;
    let opened = assemble(stamp, keyring, store, clock);
    instance::furnish(&*opened.documents, opened.clock.now()).await?;
    opened.sessions.recall().await?;
    Ok(opened)
}

/// A new, empty store.
pub fn create_store(config: &Config, stamp: &Stamp, keyring: &Keyring) -> Result<Arc<Embedded>, Problem> {
    Ok(Embedded::create(options(config, stamp, keyring))?)
}

pub fn assemble(stamp: Stamp, keyring: Keyring, store: Arc<Embedded>, clock: SharedClock) -> Opened {
    let documents: Arc<dyn Documents> = store;
    let sessions = Arc::new(Sessions::new(documents.clone(), clock.clone(), &stamp, &keyring));
    let identities = Arc::new(Identities::new(documents.clone(), clock.clone(), sessions.clone()));
    Opened { stamp, keyring: Arc::new(keyring), documents, sessions, identities, clock }
}

/// The database's file in the data directory.
pub fn database(config: &Config) -> PathBuf {
    config.instance.data_dir.join("documents.sealed")
}

fn options(config: &Config, stamp: &Stamp, keyring: &Keyring) -> Options {
    let storage = &config.storage;
    let material = |key: &crate::services::keyring::Key| -> [u8; KEY] {
        key.material.as_slice().try_into().expect("the keyring checks the length of every key")
    };
    let current = keyring.current(Purpose::Data);
    let keys = keyring
        .versions(Purpose::Data)
        .fold(DataKeys::new(current.version, material(current)), |keys, key| keys.with(key.version, material(key)));
    Options { path: database(config), keys, stamp: format!("{} {}", stamp.id, stamp.environment).into_bytes() }
}
