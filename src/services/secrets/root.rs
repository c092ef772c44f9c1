//! The root key's side: the keyring's file, and a successor for the key that wraps it.

use super::{MODULE, Secrets};
use crate::{
    base::{clock::Timestamp, fault::Fault, files, random},
    ports::keys::{RootKeeper, RootKey},
    services::{
        Error, Result,
        access::{Action, Caller, Subject},
        audit::Event,
        instance::Stamp,
        keyring::{Key, Keyring, Purpose},
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

pub struct Vault {
    pub data: PathBuf,
    pub stamp: Stamp,
    pub root: Arc<dyn RootKey>,
    pub keeper: Arc<dyn RootKeeper>,
    /// What clients are given to trust.
    pub authority: PathBuf,
}

impl Vault {
    /// For those who change it, one at a time.
    pub fn shared(self) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(self))
    }

    /// Adds what was agreed with others, secret and public part, to the keyring, once it is on disk. Of certificates' keys the
    /// one that is named stays beside it; of accounts one with each authority.
    pub async fn keep(
        &self,
        keyring: &Keyring,
        purpose: Purpose,
        now: Timestamp,
        (material, public): (Zeroizing<Vec<u8>>, &[u8]),
        named: Option<u32>,
    ) -> Result<u32> {
        let next = keyring.clone();
        let version = next.add(purpose, now, (material, public.to_vec()));
        let replaced = |key: &Arc<Key>| match purpose {
            Purpose::Acme => key.version < version && key.public == public,
            _ => key.version < version && named != Some(key.version),
        };
        let replaced: Vec<u32> = next.versions(purpose).filter(replaced).map(|key| key.version).collect();
        next.retain(purpose, |version| !replaced.contains(&version));
        self.save(&next).await?;
        keyring.adopt(&next);
        Ok(version)
    }

    pub fn source(&self) -> String {
        self.root.source()
    }

    /// Whether the root key wraps at this moment: asked before anything that could not be taken back if it does not.
    pub async fn prove(&self) -> Result<()> {
        self.root.wrap(b"proof", &random::array::<32>()).await?;
        Ok(())
    }

    pub async fn save(&self, keyring: &Keyring) -> Result<()> {
        Ok(keyring.save(&self.data, &self.stamp, &*self.root).await?)
    }

    /// Leaves the authorities where clients are given them from.
    pub fn publish(&self, pem: &str) -> Result<()> {
        if std::fs::read_to_string(&self.authority).is_ok_and(|published| published == pem) {
            return Ok(());
        }
        let written = match self.authority.exists() {
            true => files::rewrite(&self.authority, pem.as_bytes()),
            false => files::create(&self.authority, pem.as_bytes(), 0o644),
        };
        written.map_err(|error| crate::ports::Error::from(error).into())
    }
}

impl Secrets {
    /// Ends what was cut short: of root keys, the one in use is the one that opened the keyring; authorities are given to
    /// clients.
    pub async fn settle(&self) {
        let mut vault = self.vault.lock().await;
        match vault.keeper.settle(&*vault.root).await {
            Ok(Some(root)) => vault.root = root,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the root key's successor does not take its place"),
        }
        if let Err(error) = vault.publish(&self.authorities().pem()) {
            tracing::warn!(%error, "what clients are to trust is not written");
        }
    }

    /// Wraps the keyring under a new root key, which takes the place of the one in use; with `file`, it is left there,
    /// and where it is to be found from the next start on is for the configuration to say. Answers where it comes from.
    pub async fn rewrap(&self, caller: &Caller, file: Option<&Path>) -> Result<String> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        // It is this machine's, and so are the files.
        if !matches!(caller.subject, Subject::Local { .. } | Subject::System) {
            return Err(Error::Refused(Fault::new("secrets.root_local")));
        }
        if let Some(file) = file.filter(|file| !file.is_absolute()) {
            return Err(Error::Invalid(Fault::new("secrets.root_relative").at(file.display().to_string())));
        }
        let mut vault = self.vault.lock().await;
        // Of the one that is to come, not of the one in use: out of a vault that is gone there must be a way.
        vault.keeper.prove(file).await?;
        let event = Event::new("secrets.rewrap").with("from", vault.source());
        let event = file.into_iter().fold(event, |event, file| event.with("to", file.display().to_string()));
        self.audit.record(caller, event).await?;
        // A successor that is in use already is not made again over itself.
        if let Some(root) = vault.keeper.settle(&*vault.root).await? {
            vault.root = root;
        }
        let root = vault.keeper.prepare(file).await?;
        self.keyring.save(&vault.data, &vault.stamp, &*root).await?;
        let before = std::mem::replace(&mut vault.root, root);
        if file.is_none() {
            match vault.keeper.replace().await {
                Ok(root) => vault.root = root,
                // It cannot take the place: the one in use stays so.
                Err(error) => {
                    self.keyring.save(&vault.data, &vault.stamp, &*before).await?;
                    vault.root = before;
                    return Err(error.into());
                }
            }
        }
        Ok(vault.source())
    }
}
