//! Where backups are asked for: permission first, one made at a time, the work off the request's thread.

use super::{
    Created, Listed, Recipient, Request, Signer, Trust, Verified, create, list, locate, newest, outlived, signers,
    verify,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
    },
    ports::{
        documents::{Documents, Snapshot},
        objects::Objects,
    },
    services::{
        Error, Result,
        access::{Access, Action, Caller, Resource},
        audit::{Audit, Event},
        instance::Stamp,
        keyring::Keyring,
        sealing::Seals,
    },
};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

const DAY: i64 = 86_400;

pub struct Backups {
    documents: Arc<dyn Documents>,
    target: Arc<dyn Objects>,
    stamp: Stamp,
    keyring: Arc<Keyring>,
    recipients: Vec<Recipient>,
    clock: SharedClock,
    access: Arc<Access>,
    audit: Arc<Audit>,
    running: Arc<tokio::sync::Mutex<()>>,
    beside: Option<Beside>,
}

/// The subjects' keys, backed up apart from what they open and kept for a few days only.
struct Beside {
    seals: Arc<Seals>,
    target: Arc<dyn Objects>,
    days: u32,
}

impl Backups {
    /// `to`: where backups go, and who can open them.
    pub fn new(
        documents: Arc<dyn Documents>,
        to: (Arc<dyn Objects>, Vec<Recipient>),
        stamp: Stamp,
        keyring: Arc<Keyring>,
        clock: SharedClock,
        access: Arc<Access>,
        audit: Arc<Audit>,
    ) -> Self {
        let ((target, recipients), beside) = (to, None);
        Self { documents, target, stamp, keyring, recipients, clock, access, audit, running: Arc::default(), beside }
    }

    /// With each backup one of the subjects' keys, at a target of its own.
    pub fn beside(self, seals: Arc<Seals>, target: Arc<dyn Objects>, days: u32) -> Self {
        Self { beside: Some(Beside { seals, target, days }), ..self }
    }

    /// A full backup of this moment, read back and checked before it bears its name. The subjects' keys come after:
    /// every key that something in it needs is among them, unless its subject was forgotten meanwhile.
    pub async fn create(&self, caller: &Caller) -> Result<Created> {
        self.access.decide(caller, Action::Create, Resource::Module("backups"))?;
        let Ok(running) = self.running.clone().try_lock_owned() else {
            return Err(Error::Conflict(Fault::new("backups.running")));
        };
        let running = Arc::new(running);
        self.audit.record(caller, Event::new("backups.create").with("target", self.target.place())).await?;
        // What was done up to here is under a checkpoint that travels with it.
        self.audit.seal().await?;
        let made = self.write(self.documents.snapshot().await?, self.target.clone(), &running).await;
        let told = match &made {
            // Anchors the newest: an older backup cannot pass for it.
            Ok(Created { name, header, manifest, reread }) => Event::new("backups.created")
                .object(format!("backups/{}", header.id()))
                .with("name", name.as_str())
                .with("reread", *reread)
                .with("sequence", header.upto.0)
                .with("manifest", hex::encode(manifest.hash())),
            Err(error) => Event::new("backups.created").failed(error.to_string()),
        };
        self.audit.record(caller, told).await?;
        let created = made?;
        if let Some(beside) = &self.beside {
            self.write(beside.seals.snapshot().await?, beside.target.clone(), &running).await?;
            self.let_go(beside).await?;
        }
        Ok(created)
    }

    /// Makes the newest backup of the subjects' keys one of after this moment, where there are such backups, and lets
    /// go of those that are too old.
    pub async fn renew_subjects(&self, since: Option<Timestamp>) -> Result<()> {
        let Some(beside) = self.beside.as_ref().filter(|_| !self.recipients.is_empty()) else { return Ok(()) };
        let running = Arc::new(self.running.clone().lock_owned().await);
        let (target, instance, keyring) = (beside.target.clone(), self.stamp.id.clone(), self.keyring.clone());
        let newest = blocking(move || newest(&*target, &instance, Trust::Signers(&signers(&keyring)))).await?;
        if newest.is_some_and(|(header, _)| since.is_some_and(|since| header.created <= since)) {
            self.write(beside.seals.snapshot().await?, beside.target.clone(), &running).await?;
        }
        self.let_go(beside).await
    }

    /// Holds `running` to its end, whoever gave up waiting for it.
    async fn write(
        &self,
        snapshot: Arc<dyn Snapshot>,
        target: Arc<dyn Objects>,
        running: &Arc<OwnedMutexGuard<()>>,
    ) -> Result<Created> {
        let (stamp, keyring, running) = (self.stamp.clone(), self.keyring.clone(), running.clone());
        let (recipients, now) = (self.recipients.clone(), self.clock.now());
        blocking(move || {
            let _running = running;
            let request = Request { stamp: &stamp, keyring: &keyring, recipients: &recipients, now };
            create(&request, &*snapshot, &*target, &mut |_| Ok(()))
        })
        .await
    }

    async fn let_go(&self, beside: &Beside) -> Result<()> {
        let (target, until) = (beside.target.clone(), self.clock.now().plus_seconds(-i64::from(beside.days) * DAY));
        blocking(move || {
            for name in outlived(&list(&*target)?, until) {
                target.delete(&name)?;
                tracing::info!(name, "an old backup of the subjects' keys is gone");
            }
            Ok(())
        })
        .await
    }

    /// Whom backups are sealed to, and the keys that sign them.
    pub fn keys(&self, caller: &Caller) -> Result<(Vec<Recipient>, Vec<Signer>)> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        Ok((self.recipients.clone(), signers(&self.keyring)))
    }

    /// Every backup at the target, oldest first.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Listed>> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        let target = self.target.clone();
        blocking(move || list(&*target)).await
    }

    /// Checks every byte of a backup, the newest by default, against this instance's own signature.
    pub async fn verify(&self, caller: &Caller, wanted: Option<String>) -> Result<Verified> {
        self.access.decide(caller, Action::View, Resource::Module("backups"))?;
        let (target, keyring) = (self.target.clone(), self.keyring.clone());
        let found = blocking(move || {
            let name = locate(&*target, wanted.as_deref())?;
            verify(&*target, &name, Trust::Signers(&signers(&keyring)))
        })
        .await;
        let told = match &found {
            Ok(sound) => Event::new("backups.verify").object(format!("backups/{}", sound.header.id())),
            Err(error) => Event::new("backups.verify").failed(error.to_string()),
        };
        self.audit.record(caller, told).await?;
        found
    }

    /// When the newest sound backup of this instance was made: what the journal may let go of, and what alerts go by.
    pub async fn newest(&self) -> Result<Option<Timestamp>> {
        let (target, instance, keyring) = (self.target.clone(), self.stamp.id.clone(), self.keyring.clone());
        let found = blocking(move || newest(&*target, &instance, Trust::Signers(&signers(&keyring)))).await?;
        Ok(found.map(|(header, _)| header.created))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(Box::new(error)))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backends::{
            documents::embedded::{Embedded, Options},
            objects::folder::Folder,
        },
        base::{clock::Clock, environment::Environment},
        services::{backups::Identity, bench::Bench},
    };
    use std::sync::atomic::Ordering;

    #[tokio::test]
    async fn backups_of_keys_are_kept_for_days_and_never_older_than_an_erasure() {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::of(Environment::Development).await;
        let clock = bench.clock;
        let store = || -> Arc<dyn Documents> {
            let backend = redb::backends::InMemoryBackend::new();
            Arc::new(Embedded::open_over(backend, Options::default(), clock.clone()).unwrap())
        };
        let (stamp, keyring) = (bench.stamp, Arc::new(bench.keyring));
        let seals = Arc::new(Seals::open(store(), clock.clone()).await.unwrap());
        let (documents, access, audit) = (bench.documents, bench.access, bench.audit);
        let target: Arc<dyn Objects> = Arc::new(Folder::at(folder.path()));
        let beneath = target.beneath("subjects");
        let recipients = vec![Identity::generate(Vec::new()).recipient().clone()];
        let backups = Backups::new(documents, (target, recipients), stamp, keyring, clock.clone(), access, audit);
        let backups = backups.beside(seals, beneath.clone(), 30);
        let names = || list(&*beneath).unwrap().into_iter().map(|listed| listed.name).collect::<Vec<_>>();
        let later = |days: i64| clock.0.fetch_add(days * DAY * 1000, Ordering::Relaxed);

        // Where no backup was ever made there is nothing to renew.
        backups.renew_subjects(Some(clock.now())).await.unwrap();
        assert!(names().is_empty());
        backups.create(&Caller::system()).await.unwrap();
        let first = names();
        assert_eq!((first.len(), backups.list(&Caller::system()).await.unwrap().len()), (1, 1));
        std::fs::write(folder.path().join("subjects/20200101T000000Z-full-x.backup"), "damaged").unwrap();
        later(31);
        // The newest stays, however old, until an erasure comes after it.
        backups.renew_subjects(None).await.unwrap();
        assert_eq!(names(), first);
        later(1);
        backups.renew_subjects(Some(clock.now())).await.unwrap();
        let second = names();
        assert!(second.len() == 1 && second != first, "{second:?}");
        // Of within the days all are kept.
        later(29);
        backups.create(&Caller::system()).await.unwrap();
        assert_eq!(names().len(), 2);
        later(2);
        backups.renew_subjects(None).await.unwrap();
        assert!(names().len() == 1 && names() != second, "{:?}", names());
        assert_eq!(backups.list(&Caller::system()).await.unwrap().len(), 2, "the documents' own stay");
        // What lies under another disk that is not mounted is not made up.
        let away = Folder::at(folder.path().join("absent")).beneath("subjects");
        assert!(away.list().is_err() && !folder.path().join("absent").exists());
    }
}
