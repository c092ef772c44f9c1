//! A backup put into an empty directory: same instance, next lineage, new root key. Never over live data.

use super::{
    init::AUTHORITY,
    keys, open,
    problem::{Kind, Problem},
};
use crate::{
    backends::{certificates::internal::Authority, objects::folder::Folder},
    base::{clock::SharedClock, config::Config, environment::Environment, fault::Fault, files},
    ports::documents::Load,
    services::{
        backups::{self, Identity, Manifest, Progress, Restore},
        instance::{self, Stamp},
        keyring::{Keyring, Purpose},
    },
};
use std::path::PathBuf;
use tokio::runtime::Handle;

/// What the operator decides. The directory to fill is the configuration's data directory.
pub struct Restoring {
    /// The folder that holds the backups.
    pub from: PathBuf,
    /// Id or name; the newest when absent.
    pub backup: Option<String>,
    pub identity: Identity,
    /// A backup of another environment is refused.
    pub environment: Environment,
    /// Restore also what nobody vouches for.
    pub any_signer: bool,
    /// Read and check everything, write nothing.
    pub dry_run: bool,
}

/// What came back, or would.
pub struct Restored {
    pub name: String,
    pub stamp: Stamp,
    pub manifest: Manifest,
    /// Nobody vouched for the signature: the identity file names no signer.
    pub unvouched: bool,
}

/// Reads the backup twice: once to prove it whole, before anything is written; once to fill the directory.
pub async fn restore(
    config: &Config,
    clock: SharedClock,
    restoring: Restoring,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Restored, Problem> {
    let data = config.instance.data_dir.clone();
    if restoring.dry_run {
        return blocking(move || dry_run(&restoring)).await;
    }
    // Whoever knows the public keys could have made it.
    if restoring.identity.signers().is_empty() && !restoring.any_signer {
        return Err(Problem::new(Kind::Refused, Fault::new("backups.unvouched")));
    }
    instance::claim(&data)?;
    let config = config.clone();
    let handle = Handle::current();
    let filled = blocking(move || fill(&config, &clock, &restoring, progress, &handle)).await;
    if filled.is_err() {
        super::init::clear(&data);
    }
    filled
}

fn next_stamp(restore: &Restore<'_>) -> Stamp {
    let meta = restore.meta();
    Stamp {
        format: instance::FORMAT,
        id: meta.instance.clone(),
        environment: meta.environment,
        lineage: meta.lineage + 1,
        created_at: meta.instance_created,
    }
}

fn dry_run(restoring: &Restoring) -> Result<Restored, Problem> {
    let target = Folder::open(&restoring.from)?;
    let name = backups::locate(&target, restoring.backup.as_deref())?;
    let trust = restoring.identity.trust();
    let restore = Restore::begin(&target, &name, &restoring.identity, trust, restoring.environment)?;
    let stamp = next_stamp(&restore);
    let manifest = backups::verify_open(&target, &name, &restoring.identity, trust)?.manifest;
    Ok(Restored { name, stamp, manifest, unvouched: restoring.identity.signers().is_empty() })
}

fn fill(
    config: &Config,
    clock: &SharedClock,
    restoring: &Restoring,
    mut progress: impl FnMut(Progress),
    handle: &Handle,
) -> Result<Restored, Problem> {
    let data = &config.instance.data_dir;
    let target = Folder::open(&restoring.from)?;
    let name = backups::locate(&target, restoring.backup.as_deref())?;
    let trust = restoring.identity.trust();
    let restore = Restore::begin(&target, &name, &restoring.identity, trust, restoring.environment)?;
    let stamp = next_stamp(&restore);
    let keyring = Keyring::from_keys(restore.keys().to_vec())?;
    let root = keys::provide(config)?;
    handle.block_on(keyring.save(data, &stamp, &root))?;
    let ca = keyring.current(Purpose::Ca);
    let authority = Authority { certificate: ca.public.clone(), key: ca.material.clone() };
    let path = data.join(AUTHORITY);
    files::create(&path, authority.pem().as_bytes(), 0o644).map_err(|error| Problem::file(path.display(), error))?;

    let store = handle.block_on(open::store(config, &stamp, &keyring, clock))?;
    let documents = open::assemble(config, stamp.clone(), keyring, store, clock.clone())?.documents;
    let mut put = |part: Load| handle.block_on(documents.load(part));
    let manifest = restore.load(&mut put, &mut |step| {
        progress(step);
        Ok(())
    })?;
    handle.block_on(documents.close())?;
    stamp.write(data)?;
    Ok(Restored { name, stamp, manifest, unvouched: restoring.identity.signers().is_empty() })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}
