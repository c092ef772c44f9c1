//! The backups of the subjects' keys, apart from what they open: renewed after an erasure, and let go after some days, so
//! that what was erased is nowhere by a date.

use super::{Backups, Kind, Trust, desk::blocking, lane::Lane, newest, outlived, ship::Wanted, signers, state::Sent};
use crate::{
    base::clock::Timestamp,
    ports::objects::FORBIDDEN,
    services::{Error, Result, access::Caller},
};

const DAY: i64 = 86_400;

impl Backups {
    /// Makes the newest backup of the subjects' keys one of after this moment, where there are such backups, and lets
    /// go of those that are too old.
    pub async fn renew_subjects(&self, since: Option<Timestamp>) -> Result<()> {
        if self.beside.is_none() {
            return Ok(());
        }
        let mut failed = None;
        for lane in &self.lanes {
            // The others are no less urgent.
            if let Err(error) = self.renew(lane, since).await {
                tracing::warn!(backup_target = lane.target.name, %error, "old backups of the subjects' keys may still be there");
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whether a backup of the subjects' keys from before a moment is there, or may be, and stays: nothing can take its
    /// place.
    pub async fn keeps_subjects(&self, since: Timestamp) -> bool {
        if self.beside.is_none() || self.are_configured() {
            return false;
        }
        for lane in &self.lanes {
            let (target, instance, keyring) = (lane.keys.clone(), self.stamp.id.clone(), self.keyring.clone());
            let fulls = (Some(Kind::Full), self.clock.now());
            match blocking(move || newest(&*target, &instance, Trust::Signers(&signers(&keyring)), fulls)).await {
                Ok(None) => {}
                Ok(Some((newest, _))) if newest.created > since => {}
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }

    async fn renew(&self, lane: &Lane, since: Option<Timestamp>) -> Result<()> {
        let state = self.state(lane).await?;
        // One from a clock that was ahead may be from before it.
        let now = self.clock.now();
        let old = |full: &Sent| since.is_some_and(|since| full.created <= since || full.created > now);
        if state.keys_full.as_ref().is_some_and(old) {
            match self.are_configured() {
                true => drop(self.run(lane, Wanted::Keys, &Caller::system()).await?),
                false => tracing::warn!(
                    target = lane.target.name,
                    "backup.recipients is empty: the newest backup of the subjects' keys is from before an erasure"
                ),
            }
        }
        self.let_go(lane).await
    }

    /// What a full backup that was made does beside: it is made, whatever becomes of the old ones.
    pub(super) async fn let_go_or_say(&self, lane: &Lane) {
        if let Err(error) = self.let_go(lane).await {
            tracing::warn!(backup_target = lane.target.name, %error, "old backups of the subjects' keys may still be there");
        }
    }

    async fn let_go(&self, lane: &Lane) -> Result<()> {
        let Some(beside) = &self.beside else { return Ok(()) };
        let (target, days) = (lane.keys.clone(), beside.days);
        let now = self.clock.now();
        let until = now.plus_seconds(-i64::from(days) * DAY);
        let (instance, keyring) = (self.stamp.id.clone(), self.keyring.clone());
        blocking(move || {
            let old = match outlived(&*target, &instance, Trust::Signers(&signers(&keyring)), (until, now)) {
                Err(Error::Invalid(fault)) if fault.key == FORBIDDEN => {
                    let place = target.place();
                    tracing::warn!(
                        place,
                        days,
                        "people's keys of before cannot be deleted: let the bucket's own rules do it"
                    );
                    return Ok(());
                }
                old => old?,
            };
            let mut failed = None;
            for name in old {
                match target.delete(&name) {
                    Ok(_) => tracing::info!(name, "an old backup of the subjects' keys is gone"),
                    // One that is held holds up no other.
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            failed.map_or(Ok(()), |error| Err(error.into()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Recipient, SUBJECTS, Target, list},
        *,
    };
    use crate::{
        backends::{
            documents::embedded::{Embedded, Options},
            objects::folder::Folder,
        },
        base::{
            clock::{Clock, FixedClock},
            environment::Environment,
        },
        ports::objects::Objects,
        services::{backups::Identity, bench::Bench, sealing::Seals},
    };
    use std::{
        path::Path,
        sync::{Arc, atomic::Ordering},
    };

    /// Of an instance of its own; the backups of its subjects' keys are kept for 30 days beneath a folder of many.
    async fn desk(folder: &Path, recipients: Vec<Recipient>) -> (Backups, Arc<FixedClock>) {
        let Bench { clock, documents, stamp, keyring, access, audit, .. } = Bench::of(Environment::Development).await;
        let apart = Embedded::open_over(redb::backends::InMemoryBackend::new(), Options::default(), clock.clone());
        let seals = Arc::new(Seals::open(Arc::new(apart.unwrap()), clock.clone()).await.unwrap());
        let objects: Arc<dyn Objects> = Arc::new(Folder::at(folder));
        let to = (vec![Target { name: "local".to_owned(), objects, window: None, segments_wait: false }], recipients);
        let backups = Backups::new(documents, to, stamp, Arc::new(keyring), clock.clone(), access, audit);
        (backups.beside(seals, 30), clock)
    }

    async fn create(backups: &Backups) {
        for (_, made) in backups.create(&Caller::system(), None, Kind::Full).await.unwrap() {
            made.unwrap();
        }
    }

    fn recipients() -> Vec<Recipient> {
        vec![Identity::generate(Vec::new()).recipient().clone()]
    }

    fn names(folder: &Path) -> Vec<String> {
        list(&*Folder::at(folder).beneath(SUBJECTS)).unwrap().into_iter().map(|listed| listed.name).collect()
    }

    fn later(clock: &FixedClock, days: i64) {
        clock.0.fetch_add(days * DAY * 1000, Ordering::Relaxed);
    }

    #[tokio::test]
    async fn backups_of_keys_are_kept_for_days_and_never_older_than_an_erasure() {
        let folder = tempfile::tempdir().unwrap();
        let (backups, clock) = desk(folder.path(), recipients()).await;
        let names = || names(folder.path());
        let system = Caller::system();
        let create = async || create(&backups).await;

        // Where no backup was ever made there is nothing to renew.
        backups.renew_subjects(Some(clock.now())).await.unwrap();
        assert!(names().is_empty());
        create().await;
        let first = names();
        assert_eq!((first.len(), backups.list(&system, None).await.unwrap().remove(0).1.unwrap().len()), (1, 1));
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
        create().await;
        assert_eq!(names().len(), 2);
        later(&clock, 2);
        backups.renew_subjects(None).await.unwrap();
        assert!(names().len() == 1 && names() != second, "{:?}", names());
        assert_eq!(backups.list(&system, None).await.unwrap().remove(0).1.unwrap().len(), 2, "the documents' own stay");
        // What lies under another disk that is not mounted is not made up.
        let away = Folder::at(folder.path().join("absent")).beneath(SUBJECTS);
        assert!(away.list().is_err() && !folder.path().join("absent").exists());
    }

    #[tokio::test]
    async fn what_is_old_goes_and_the_last_stays_once_nobody_can_open_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (backups, clock) = desk(folder.path(), recipients()).await;
        assert!(!backups.keeps_subjects(clock.now()).await);
        for _ in 0..2 {
            create(&backups).await;
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
        std::fs::write(folder.path().join(SUBJECTS), "no folder").unwrap();
        assert!(backups.keeps_subjects(clock.now()).await);
    }

    #[tokio::test]
    async fn another_instances_backups_of_keys_neither_go_nor_stand_for_the_own() {
        let folder = tempfile::tempdir().unwrap();
        let ((one, time), (other, others)) =
            (desk(folder.path(), recipients()).await, desk(folder.path(), recipients()).await);
        create(&one).await;
        let own = names(folder.path());
        later(&others, 20);
        create(&other).await;
        std::fs::write(folder.path().join("subjects/20200101T000000Z-full-x.backup"), "nobody can say whose").unwrap();
        let all = names(folder.path());
        assert_eq!(all.len(), 3);
        // Old, and older than the other's: the only one all the same.
        later(&time, 60);
        one.renew_subjects(None).await.unwrap();
        assert_eq!(names(folder.path()), all);
        // The next takes its place, and nobody else's.
        create(&one).await;
        let left = names(folder.path());
        assert!(!left.contains(&own[0]), "{left:?}");
        assert!(all.iter().filter(|name| **name != own[0]).all(|name| left.contains(name)), "{left:?}");
    }

    #[tokio::test]
    async fn one_from_a_clock_that_was_ahead_goes_with_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let (backups, clock) = desk(folder.path(), recipients()).await;
        later(&clock, 5 * 365);
        create(&backups).await;
        let ahead = names(folder.path());
        later(&clock, -5 * 365);
        backups.renew_subjects(None).await.unwrap();
        assert_eq!(names(folder.path()), ahead, "the only one");
        // Nobody knows whether it is from before.
        backups.renew_subjects(Some(clock.now())).await.unwrap();
        let left = names(folder.path());
        assert!(left.len() == 1 && left != ahead, "{left:?}");
        later(&clock, 1);
        backups.renew_subjects(Some(Timestamp(clock.now().0 - 1000 * DAY - 1))).await.unwrap();
        assert_eq!(names(folder.path()), left, "once");
    }

    #[tokio::test]
    async fn a_backup_of_keys_that_broke_off_stands_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let (backups, clock) = desk(folder.path(), recipients()).await;
        create(&backups).await;
        let sound = names(folder.path());
        later(&clock, 10);
        create(&backups).await;
        let both = names(folder.path());
        let newer = folder.path().join(SUBJECTS).join(both.iter().find(|name| **name != sound[0]).unwrap());
        let whole = std::fs::read(&newer).unwrap();
        std::fs::write(&newer, &whole[..whole.len() - 1]).unwrap();
        later(&clock, 60);
        backups.renew_subjects(None).await.unwrap();
        assert_eq!(names(folder.path()), both);
    }
}
