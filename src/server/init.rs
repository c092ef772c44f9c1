//! A new instance: root key, keyring, authority, store, first administrator. Whole, or not there at all.

use super::{
    authority, keys,
    open::{self, Opened},
    problem::{Kind, Problem},
    vault,
};
use crate::{
    base::{clock::SharedClock, config::Config, environment::Environment, fault::Fault, files, random},
    ports::certificates::Authority,
    services::{
        access::{Caller, Role},
        backups,
        certificates::Bundle,
        instance::{self, Stamp},
        keyring::Keyring,
    },
};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What the operator decides.
pub struct Init {
    pub environment: Environment,
    /// Host names and addresses the certificates carry.
    pub hostnames: Vec<String>,
    pub email: String,
    /// Made and told once when absent.
    pub password: Option<Zeroizing<String>>,
}

/// What the operator must know.
pub struct Initialised {
    pub stamp: Stamp,
    /// Present when it was made here: kept nowhere else.
    pub password: Option<Zeroizing<String>>,
    /// The certificate clients must trust.
    pub authority: PathBuf,
    /// Who will sign the backups.
    pub signer: String,
}

pub async fn init(config: &Config, clock: SharedClock, init: Init) -> Result<Initialised, Problem> {
    let data = &config.instance.data_dir;
    if init.hostnames.is_empty() {
        return Err(Problem::new(Kind::Refused, Fault::new("instance.no_hostname")));
    }
    let config = &vault::prepared(config).await?;
    instance::claim(data)?;
    let made = furnish(config, clock, init).await;
    if made.is_err() {
        clear(data);
    }
    made
}

async fn furnish(config: &Config, clock: SharedClock, init: Init) -> Result<Initialised, Problem> {
    let data = &config.instance.data_dir;
    let now = clock.now();
    let stamp = Stamp::new(init.environment, now);
    let root = keys::provide(config).await?;
    let authority = Authority::create(&init.hostnames, now)?;
    let (path, pem) = (data.join(authority::FILE), Bundle(vec![authority.certificate.clone()]).pem());
    files::create(&path, pem.as_bytes(), 0o644).map_err(|error| Problem::file(path.display(), error))?;
    let keyring = Keyring::generate((authority.key, authority.certificate), now);
    keyring.save(data, &stamp, &*root).await?;

    let store = open::store(config, &stamp, &keyring, &clock).await?;
    let subjects = open::subjects_store(config, &stamp, &keyring, &clock).await?;
    let opened = open::assemble(config, stamp.clone(), (keyring, root), (store, subjects), clock).await?;
    let Opened { documents, identities, keyring, seals, migrations, .. } = opened;
    instance::ground(&*documents, now).await?;
    migrations.up(&Caller::system(), None, &|_| {}).await?;
    instance::furnish(&*documents, now).await?;
    let made = init.password.is_none();
    let password = init.password.unwrap_or_else(random::password);
    identities.add(&Caller::system(), &init.email, password.clone(), vec![Role::Admin]).await?;
    documents.close().await?;
    seals.close().await?;
    if rustix::process::geteuid().is_root() {
        // The directory may be a link; what is in it is not followed.
        let given = std::fs::canonicalize(data).and_then(|data| files::give(&data, &std::fs::metadata(&data)?));
        given.map_err(|error| Problem::file(data.display(), error))?;
    }
    stamp.write(data)?;
    let signer = backups::signers(&keyring).first().map(ToString::to_string).unwrap_or_default();
    Ok(Initialised { signer, stamp, password: made.then_some(password), authority: path })
}

/// Takes back what a failed init left in a directory that was empty before it.
pub(super) fn clear(data: &Path) {
    let Ok(entries) = std::fs::read_dir(data) else { return };
    for entry in entries.flatten().filter(|entry| !instance::is_of_the_disk(entry)) {
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "left behind by a failed init");
        }
    }
}
