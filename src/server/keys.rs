//! The root key, from where the configuration says: its file, the systemd credential, else the data directory. And the
//! keyring it opens.

use super::problem::Problem;
use crate::{
    backends::keys::local::{LocalKeeper, LocalRootKey},
    base::config::Config,
    services::{
        instance::Stamp,
        keyring::{Keyring, KeyringError},
    },
};
use std::path::PathBuf;

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

/// The file it is in; a credential is systemd's to keep.
pub fn file(config: &Config) -> Option<PathBuf> {
    match place(config) {
        Place::File(path) => Some(path),
        Place::Credential(_) => None,
    }
}

/// The root key of an instance that exists.
pub fn open(config: &Config) -> Result<LocalRootKey, Problem> {
    Ok(match place(config) {
        Place::Credential(folder) => LocalRootKey::from_credential(&folder)?,
        Place::File(path) => LocalRootKey::from_file(&path)?,
    })
}

/// The keyring, and the root key that opened it.
pub async fn keyring(config: &Config, stamp: &Stamp) -> Result<(Keyring, LocalRootKey), Problem> {
    let (root, data) = (open(config)?, &config.instance.data_dir);
    let wrong = match Keyring::open(data, stamp, &root).await {
        Ok(keyring) => return Ok((keyring, root)),
        Err(wrong) => wrong,
    };
    // Where a change of root keys was cut short, its successor opens it and still waits beside it.
    if let (KeyringError::WrongRoot { .. }, Some(path)) = (&wrong, file(config))
        && let Ok(next) = LocalRootKey::from_file(&LocalKeeper::successor(&path.canonicalize().unwrap_or(path)))
        && let Ok(keyring) = Keyring::open(data, stamp, &next).await
    {
        return Ok((keyring, next));
    }
    Err(wrong.into())
}

/// The root key of an instance being made: a new file, unless the operator provides one already.
pub fn provide(config: &Config) -> Result<LocalRootKey, Problem> {
    match place(config) {
        Place::File(path) if !path.exists() => Ok(LocalRootKey::create(&path)?),
        _ => open(config),
    }
}
