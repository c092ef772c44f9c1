//! The root key, from where the configuration says: the vault, its file, the systemd credential, else the data directory.
//! And the keyring it opens.

use super::{problem::Problem, vault};
use crate::{
    backends::keys::{
        local::{LocalKeeper, LocalRootKey},
        vault::TransitKeeper,
    },
    base::{config::Config, fault::Fault},
    ports::keys::{RootKeeper, RootKey},
    services::{
        instance::Stamp,
        keyring::{Keyring, KeyringError},
    },
};
use std::{path::PathBuf, sync::Arc};

/// Beside the data: fit for development; elsewhere `doctor` asks for a credential or another disk.
pub const FILE: &str = "root.key";

enum Place {
    Credential(PathBuf),
    File(PathBuf),
}

fn place(config: &Config) -> Place {
    let instance = &config.instance;
    if let Some(path) = &instance.root_key_file {
        return Place::File(path.clone());
    }
    match &instance.credentials_dir {
        Some(folder) if folder.join("root-key").exists() => Place::Credential(folder.clone()),
        _ => Place::File(instance.data_dir.join(FILE)),
    }
}

fn path(config: &Config) -> PathBuf {
    match place(config) {
        Place::Credential(folder) => folder.join("root-key"),
        Place::File(path) => path,
    }
}

/// The file it is in; a credential is systemd's to keep, and what is in a vault the vault's.
pub fn file(config: &Config) -> Option<PathBuf> {
    match place(config) {
        _ if config.vault.transit_key.is_some() => None,
        Place::File(path) => Some(path),
        Place::Credential(_) => None,
    }
}

/// Who can give it a successor.
pub fn keeper(config: &Config) -> Result<Arc<dyn RootKeeper>, Problem> {
    Ok(match vault::transit(config)? {
        Some(transit) => Arc::new(TransitKeeper(transit)),
        None => Arc::new(LocalKeeper::of(file(config))),
    })
}

/// The root key on this machine, of an instance that exists.
fn open(config: &Config) -> Result<LocalRootKey, Problem> {
    Ok(match place(config) {
        Place::Credential(folder) => LocalRootKey::from_credential(&folder)?,
        Place::File(path) => LocalRootKey::from_file(&path)?,
    })
}

/// The keyring, and the root key that opened it.
pub async fn keyring(config: &Config, stamp: &Stamp) -> Result<(Keyring, Arc<dyn RootKey>), Problem> {
    let Some(transit) = vault::transit(config)? else { return near(config, stamp).await };
    match Keyring::open(&config.instance.data_dir, stamp, &*transit).await {
        Ok(keyring) => Ok((keyring, transit)),
        // Until it is moved to the vault, the key is where it was.
        Err(wrong @ KeyringError::WrongRoot { .. }) => near(config, stamp).await.map_err(|local| {
            let mut problem = Problem::from(wrong);
            // Where there is none on this machine, none was tried.
            problem.more.extend(Some(local.fault).filter(|_| path(config).exists()));
            problem
        }),
        Err(error) => Err(error.into()),
    }
}

/// Said while the vault is to keep the root key, and another one still wraps the keyring.
pub fn unmoved(config: &Config, root: &dyn RootKey) -> Option<Fault> {
    let transit = vault::transit(config).ok()??;
    let fault = Fault::new("preconditions.root_key_unmoved").with("source", root.source());
    (transit.source() != root.source()).then(|| fault.with("vault", transit.source()))
}

/// Said of one that stayed on this machine while the vault's wraps the keyring: an older keyring opens by it.
pub fn left(config: &Config) -> Option<Fault> {
    config.vault.transit_key.as_ref()?;
    let data = &config.instance.data_dir;
    let places = [path(config), data.join(FILE)].map(|path| path.canonicalize().unwrap_or(path));
    let mut all = places.into_iter().flat_map(|path| [LocalKeeper::successor(&path), path]);
    let found = all.find(|path| path.exists())?;
    Some(Fault::new("preconditions.root_key_left").at(found.display().to_string()))
}

/// The keyring by a root key on this machine.
async fn near(config: &Config, stamp: &Stamp) -> Result<(Keyring, Arc<dyn RootKey>), Problem> {
    let (root, data) = (open(config)?, &config.instance.data_dir);
    let wrong = match Keyring::open(data, stamp, &root).await {
        Ok(keyring) => return Ok((keyring, Arc::new(root))),
        Err(wrong) => wrong,
    };
    // Where a change of root keys was cut short, its successor opens it and still waits beside it.
    if let (KeyringError::WrongRoot { .. }, Place::File(path)) = (&wrong, place(config))
        && let Ok(next) = LocalRootKey::from_file(&LocalKeeper::successor(&path.canonicalize().unwrap_or(path)))
        && let Ok(keyring) = Keyring::open(data, stamp, &next).await
    {
        return Ok((keyring, Arc::new(next)));
    }
    Err(wrong.into())
}

/// The root key of an instance being made: the vault's, or a new file, unless the operator provides one already.
pub async fn provide(config: &Config) -> Result<Arc<dyn RootKey>, Problem> {
    if let Some(transit) = vault::transit(config)? {
        transit.check().await?;
        return Ok(transit);
    }
    Ok(match place(config) {
        Place::File(path) if !path.exists() => Arc::new(LocalRootKey::create(&path)?),
        _ => Arc::new(open(config)?),
    })
}
