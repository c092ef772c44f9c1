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
            Ok(Created { name, header, manifest }) => Event::new("backups.created")
                .object(format!("backups/{}", header.id()))
                .with("name", name.as_str())
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
        let Some(beside) = self.beside.as_ref() else { return Ok(()) };
        let running = Arc::new(self.running.clone().lock_owned().await);
        let newest = self.newest_at(beside.target.clone()).await?;
        let outdated = newest.is_some_and(|newest| since.is_some_and(|since| newest <= since));
        if outdated && self.recipients.is_empty() {
            tracing::warn!(
                "backup.recipients is empty: the newest backup of the subjects' keys is from before an erasure"
            );
        } else if outdated {
            self.write(beside.seals.snapshot().await?, beside.target.clone(), &running).await?;
        }
        self.let_go(beside).await
    }

    /// Whether a backup of the subjects' keys from before a moment is there, or may be, and stays: nothing can take its
    /// place.
    pub async fn keeps_subjects(&self, since: Timestamp) -> bool {
        match &self.beside {
            Some(beside) if self.recipients.is_empty() => match self.newest_at(beside.target.clone()).await {
                Ok(newest) => newest.is_some_and(|newest| newest <= since),
                Err(_) => true,
            },
            _ => false,
        }
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
        let (target, instance, keyring) = (beside.target.clone(), self.stamp.id.clone(), self.keyring.clone());
        let until = self.clock.now().plus_seconds(-i64::from(beside.days) * DAY);
        blocking(move || {
            for name in outlived(&*target, &instance, Trust::Signers(&signers(&keyring)), until)? {
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
        self.newest_at(self.target.clone()).await
    }

    async fn newest_at(&self, target: Arc<dyn Objects>) -> Result<Option<Timestamp>> {
        let (instance, keyring) = (self.stamp.id.clone(), self.keyring.clone());
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
        base::{
            clock::{Clock, FixedClock},
            environment::Environment,
        },
        services::{backups::Identity, bench::Bench},
    };
    use std::{path::Path, sync::atomic::Ordering};

    const SUBJECTS: &str = "subjects";

    /// Of an instance of its own; the backups of its subjects' keys are kept for 30 days beneath a folder of many.
    async fn desk(folder: &Path, recipients: Vec<Recipient>) -> (Backups, Arc<FixedClock>) {
        let Bench { clock, documents, stamp, keyring, access, audit, .. } = Bench::of(Environment::Development).await;
        let apart = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
        let seals = Arc::new(Seals::open(Arc::new(apart.unwrap()), clock.clone()).await.unwrap());
        let to = (Arc::new(Folder::at(folder)) as Arc<dyn Objects>, recipients);
        let backups = Backups::new(documents, to, stamp, Arc::new(keyring), clock.clone(), access, audit);
        (backups.beside(seals, Arc::new(Folder::beneath(folder, SUBJECTS)), 30), clock)
    }

    fn recipients() -> Vec<Recipient> {
        vec![Identity::generate(Vec::new()).recipient().clone()]
    }

    fn names(folder: &Path) -> Vec<String> {
        list(&Folder::beneath(folder, SUBJECTS)).unwrap().into_iter().map(|listed| listed.name).collect()
    }

    fn later(clock: &FixedClock, days: i64) {
        clock.0.fetch_add(days * DAY * 1000, Ordering::Relaxed);
    }

    #[tokio::test]
    async fn backups_of_keys_are_kept_for_days_and_never_older_than_an_erasure() {
        let folder = tempfile::tempdir().unwrap();
        let (backups, clock) = desk(folder.path(), recipients()).await;
        let names = || names(folder.path());

        // Where no backup was ever made there is nothing to renew.
        backups.renew_subjects(Some(clock.now())).await.unwrap();
        assert!(names().is_empty());
        backups.create(&Caller::system()).await.unwrap();
        let first = names();
        assert_eq!((first.len(), backups.list(&Caller::system()).await.unwrap().len()), (1, 1));
        later(&clock, 31);
        // The newest stays, however old, until an erasure comes after it.
        backups.renew_subjects(None).await.unwrap();
        assert_eq!(names(), first);
        later(&clock, 1);
        backups.renew_subjects(Some(clock.now())).await.unwrap();
        let second = names();
        assert!(second.len() == 1 && second != first, "{second:?}");
        // Of within the days all are kept.
        later(&clock, 29);
        backups.create(&Caller::system()).await.unwrap();
        assert_eq!(names().len(), 2);
        later(&clock, 2);
        backups.renew_subjects(None).await.unwrap();
        assert!(names().len() == 1 && names() != second, "{:?}", names());
        assert_eq!(backups.list(&Caller::system()).await.unwrap().len(), 2, "the documents' own stay");
        // What lies under another disk that is not mounted is not made up.
        let away = Folder::beneath(&folder.path().join("absent"), SUBJECTS);
        assert!(away.list().is_err() && !folder.path().join("absent").exists());
    }

    #[tokio::test]
    async fn what_is_old_goes_and_the_last_stays_once_nobody_can_open_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (backups, clock) = desk(folder.path(), recipients()).await;
        assert!(!backups.keeps_subjects(clock.now()).await);
        for _ in 0..2 {
            backups.create(&Caller::system()).await.unwrap();
            later(&clock, 1);
        }
        let both = names(folder.path());
        let backups = Backups { recipients: Vec::new(), ..backups };
        later(&clock, 40);
        backups.renew_subjects(Some(clock.now())).await.unwrap();
        assert_eq!(names(folder.path()), both[1..]);
        assert!(backups.keeps_subjects(clock.now()).await);
        assert!(!backups.keeps_subjects(clock.now().plus_seconds(-50 * DAY)).await, "it is of after that");
        // Where there is none, or that cannot be known.
        std::fs::remove_dir_all(folder.path().join(SUBJECTS)).unwrap();
        assert!(!backups.keeps_subjects(clock.now()).await);
        std::fs::remove_dir(folder.path().join(SUBJECTS)).unwrap();
        std::fs::write(folder.path().join(SUBJECTS), "no folder").unwrap();
        assert!(backups.keeps_subjects(clock.now()).await);
    }

    #[tokio::test]
    async fn another_instances_backups_of_keys_neither_go_nor_stand_for_the_own() {
        let folder = tempfile::tempdir().unwrap();
        let ((one, time), (other, others)) =
            (desk(folder.path(), recipients()).await, desk(folder.path(), recipients()).await);
        one.create(&Caller::system()).await.unwrap();
        let own = names(folder.path());
        later(&others, 20);
        other.create(&Caller::system()).await.unwrap();
        std::fs::write(folder.path().join("subjects/20200101T000000Z-full-x.backup"), "nobody can say whose").unwrap();
        let all = names(folder.path());
        assert_eq!(all.len(), 3);
        // Old, and older than the other's: the only one all the same.
        later(&time, 60);
        one.renew_subjects(None).await.unwrap();
        assert_eq!(names(folder.path()), all);
        // The next takes its place, and nobody else's.
        one.create(&Caller::system()).await.unwrap();
        let left = names(folder.path());
        assert!(!left.contains(&own[0]), "{left:?}");
        assert!(all.iter().filter(|name| **name != own[0]).all(|name| left.contains(name)), "{left:?}");
    }

    #[tokio::test]
    async fn a_backup_of_keys_that_broke_off_stands_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let (backups, clock) = desk(folder.path(), recipients()).await;
        backups.create(&Caller::system()).await.unwrap();
        let sound = names(folder.path());
        later(&clock, 10);
        backups.create(&Caller::system()).await.unwrap();
        let both = names(folder.path());
        let newer = folder.path().join(SUBJECTS).join(both.iter().find(|name| **name != sound[0]).unwrap());
        let whole = std::fs::read(&newer).unwrap();
        std::fs::write(&newer, &whole[..whole.len() - 1]).unwrap();
        later(&clock, 60);
        backups.renew_subjects(None).await.unwrap();
        assert_eq!(names(folder.path()), both);
    }
}
