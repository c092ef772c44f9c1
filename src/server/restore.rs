//! A backup put into an empty directory: same instance, next lineage, new root key. Never over live data.

use super::{
    init::AUTHORITY,
    keys,
    open::{self, SUBJECTS_FOLDER},
    problem::{Kind, Problem},
};
use crate::{
    backends::{certificates::internal::Authority, objects::folder::Folder},
    base::{clock::SharedClock, config::Config, environment::Environment, fault::Fault, files},
    ports::{self, documents::Load},
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
    /// The backup of the subjects' keys that came with it; `None`: there is none that can be used.
    pub subjects: Option<String>,
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
    let subjects = newest_keys(restoring, &stamp, &mut |_| Ok(()))?;
    Ok(Restored { name, stamp, manifest, unvouched: restoring.identity.signers().is_empty(), subjects })
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
    let mut keyring = Keyring::from_keys(restore.keys().to_vec())?;
    if !keyring.has(Purpose::Subjects) {
        keyring.rotate(Purpose::Subjects, clock.now());
    }
    let root = keys::provide(config)?;
    handle.block_on(keyring.save(data, &stamp, &root))?;
    let ca = keyring.current(Purpose::Ca);
    let authority = Authority { certificate: ca.public.clone(), key: ca.material.clone() };
    let path = data.join(AUTHORITY);
    files::create(&path, authority.pem().as_bytes(), 0o644).map_err(|error| Problem::file(path.display(), error))?;

    let subjects = handle.block_on(open::subjects_store(config, &stamp, &keyring, clock))?;
    let found = newest_keys(restoring, &stamp, &mut |part| handle.block_on(subjects.load(part)))?;
    handle.block_on(subjects.close())?;

    let documents = handle.block_on(open::store(config, &stamp, &keyring, clock))?;
    let mut put = |part: Load| handle.block_on(documents.load(part));
    let manifest = restore.load(&mut put, &mut |step| {
        progress(step);
        Ok(())
    })?;
    handle.block_on(documents.close())?;
    stamp.write(data)?;
    Ok(Restored { name, stamp, manifest, unvouched: restoring.identity.signers().is_empty(), subjects: found })
}

/// Puts the newest usable backup of the subjects' keys in: whoever was forgotten since the documents' own backup stays
/// forgotten. Answers its name; `None`: what is sealed stays unreadable.
fn newest_keys(
    restoring: &Restoring,
    stamp: &Stamp,
    put: &mut dyn FnMut(Load) -> ports::Result<()>,
) -> Result<Option<String>, Problem> {
    let target = match Folder::open(restoring.from.join(SUBJECTS_FOLDER)) {
        Err(ports::Error::Rejected(fault)) if fault.key == "objects.no_folder" => return Ok(None),
        opened => opened?,
    };
    let trust = restoring.identity.trust();
    for listed in backups::list(&target)?.into_iter().rev() {
        if !listed.header.is_ok_and(|(header, _)| header.instance == stamp.id) {
            continue;
        }
        let begun = Restore::begin(&target, &listed.name, &restoring.identity, trust, restoring.environment);
        let restore = match begun {
            Ok(restore) => restore,
            Err(error) => {
                tracing::warn!(name = listed.name, %error, "a backup of the subjects' keys cannot be used");
                continue;
            }
        };
        if !restoring.dry_run {
            restore.load(put, &mut |_| Ok(()))?;
        }
        return Ok(Some(listed.name));
    }
    Ok(None)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))?
}
