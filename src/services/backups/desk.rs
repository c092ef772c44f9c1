//! Where backups are asked for: permission first, the work off the request's thread.

use super::{
    Created, Kind, Listed, Recipient, Signer, Target, Trust, Verified,
    lane::Lane,
    list, locate, newest, outlived,
    retention::Rules,
    ship::Wanted,
    signers,
    state::{Sent, States},
    verify,
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        config::Secret,
        fault::Fault,
        process, random,
        zone::Zone,
    },
    domain::schedule::Schedule,
    ports::{documents::Documents, objects::FORBIDDEN},
    services::{
        Error, Result,
        access::{Access, Action, Caller, Resource},
        audit::{Audit, Event},
        instance::Stamp,
        keyring::Keyring,
        sealing::Seals,
    },
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};

const DAY: i64 = 86_400;
const MODULE: Resource<'static> = Resource::Module("backups");

pub struct Backups {
    pub(super) documents: Arc<dyn Documents>,
    pub(super) lanes: Vec<Lane>,
    pub(super) states: States,
    pub(super) stamp: Stamp,
    pub(super) keyring: Arc<Keyring>,
    pub(super) recipients: Vec<Recipient>,
    pub(super) clock: SharedClock,
    pub(super) access: Arc<Access>,
    pub(super) audit: Arc<Audit>,
    pub(super) beside: Option<Beside>,
    pub(super) settings: Settings,
    /// What this process signs its claims with.
    pub(super) holder: String,
}

/// The subjects' keys, backed up apart from what they open and kept for a few days only.
pub(super) struct Beside {
    pub seals: Arc<Seals>,
    days: u32,
}

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of full backups.
    pub schedule: Schedule,
    /// How often the journal is looked at for a segment.
    pub every: Duration,
    pub rules: Rules,
    /// The configuration file's text, which travels inside full backups.
    pub configuration: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        let schedule = Schedule::parse("0 2 * * *", Zone::utc()).expect("two o'clock is a time of the day");
        let rules = Rules { last: 7, daily: 14, weekly: 8, monthly: 12, yearly: 3, within_days: 7 };
        Self { schedule, every: Duration::from_secs(60), rules, configuration: None }
    }
}

/// What became of one target.
pub type At<T> = (String, Result<T>);

impl Backups {
    /// `to`: where backups go, and who can open them.
    pub fn new(
        documents: Arc<dyn Documents>,
        to: (Vec<Target>, Vec<Recipient>),
        stamp: Stamp,
        keyring: Arc<Keyring>,
        clock: SharedClock,
        access: Arc<Access>,
        audit: Arc<Audit>,
    ) -> Self {
        let (targets, recipients) = to;
        Self {
            lanes: targets.into_iter().map(Lane::new).collect(),
            states: States(documents.clone()),
            documents,
            stamp,
            keyring,
            recipients,
            clock,
            access,
            audit,
            beside: None,
            settings: Settings::default(),
            holder: hex::encode(random::array::<8>()),
        }
    }

    pub fn with(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// With each backup one of the subjects' keys, at each target in a place of its own.
    pub fn beside(self, seals: Arc<Seals>, days: u32) -> Self {
        Self { beside: Some(Beside { seals, days }), ..self }
    }

    /// Whether there is anybody to seal backups to: else none are made.
    pub fn are_configured(&self) -> bool {
        !self.recipients.is_empty()
    }

    pub fn every(&self) -> Duration {
        self.settings.every
    }

    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.lanes.iter().map(|lane| lane.target.name.as_str())
    }

    /// At one target, or at each: a backup of this moment, read back and checked before it bears its name. One that
    /// fails holds no other up.
    pub async fn create(&self, caller: &Caller, target: Option<&str>, kind: Kind) -> Result<Vec<At<Created>>> {
        self.access.decide(caller, Action::Create, MODULE)?;
        let lanes = self.wanted(target)?;
        for lane in &lanes {
            let place = lane.target.objects.place();
            let event = Event::new("backups.create").with("target", lane.target.name.as_str()).with("place", place);
            self.audit.record(caller, event.with("kind", kind.name())).await?;
        }
        let made = lanes.iter().map(|lane| async {
            let made = self.run(lane, Wanted::Asked(kind), caller).await;
            (lane.target.name.clone(), made)
        });
        let mut all = Vec::new();
        for (target, made) in join_all(made).await {
            let made = made.and_then(|made| made.ok_or_else(|| Error::Conflict(Fault::new("backups.nothing_new"))));
            self.audit.record(caller, created(&target, &made)).await?;
            if made.is_ok() && kind == Kind::Full {
                self.let_go_or_say(self.lane(&target)?).await;
            }
            all.push((target, made));
        }
        Ok(all)
    }

    /// Sends what is due to a target, by the schedule.
    pub async fn ship(&self, target: &str) -> Result<Option<Created>> {
        let system = Caller::system();
        let lane = self.lane(target)?;
        let made = self.run(lane, Wanted::Due, &system).await?;
        if let Some(full) = made.as_ref().filter(|made| made.header.kind == Kind::Full) {
            self.audit.record(&system, created(target, &Ok(full.clone()))).await?;
            self.let_go_or_say(lane).await;
        }
        Ok(made)
    }

    /// What came since the last segment, to every target, before a stop. A target that is away, or where nothing moves
    /// for this long, is not waited for.
    pub async fn ship_last(&self, patience: Duration) {
        let system = Caller::system();
        let all = self.lanes.iter().map(|lane| async {
            tokio::select! {
                // Said where it failed.
                _ = self.run(lane, Wanted::Last, &system) => {}
                () = stalled(lane, patience) => {
                    tracing::warn!(target = lane.target.name, "stopped without a last segment");
                }
            }
        });
        if self.are_configured() {
            join_all(all).await;
        }
    }

    /// Until nothing moves to a target for this long.
    pub async fn stalled(&self, target: &str, patience: Duration) {
        if let Ok(lane) = self.lane(target) {
            stalled(lane, patience).await;
        }
    }

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
                tracing::warn!(target = lane.target.name, %error, "old backups of the subjects' keys may still be there");
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
            match blocking(move || newest(&*target, &instance, Trust::Signers(&signers(&keyring)), Some(Kind::Full)))
                .await
            {
                Ok(None) => {}
                Ok(Some((newest, _))) if newest.created > since => {}
                Ok(Some(_)) | Err(_) => return true,
            }
        }
        false
    }

    async fn renew(&self, lane: &Lane, since: Option<Timestamp>) -> Result<()> {
        let state = self.state(lane).await?;
        let old = |full: &Sent| since.is_some_and(|since| full.created <= since);
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
    async fn let_go_or_say(&self, lane: &Lane) {
        if let Err(error) = self.let_go(lane).await {
            tracing::warn!(target = lane.target.name, %error, "old backups of the subjects' keys may still be there");
        }
    }

    async fn let_go(&self, lane: &Lane) -> Result<()> {
        let Some(beside) = &self.beside else { return Ok(()) };
        let (target, days) = (lane.keys.clone(), beside.days);
        let until = self.clock.now().plus_seconds(-i64::from(days) * DAY);
        let (instance, keyring) = (self.stamp.id.clone(), self.keyring.clone());
        blocking(move || {
            let old = match outlived(&*target, &instance, Trust::Signers(&signers(&keyring)), until) {
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
            for name in old {
                target.delete(&name)?;
                tracing::info!(name, "an old backup of the subjects' keys is gone");
            }
            Ok(())
        })
        .await
    }

    /// Whom backups are sealed to, and the keys that sign them.
    pub fn keys(&self, caller: &Caller) -> Result<(Vec<Recipient>, Vec<Signer>)> {
        self.access.decide(caller, Action::View, MODULE)?;
        Ok((self.recipients.clone(), signers(&self.keyring)))
    }

    /// Every backup at a target, or at each, oldest first.
    pub async fn list(&self, caller: &Caller, target: Option<&str>) -> Result<Vec<At<Vec<Listed>>>> {
        self.access.decide(caller, Action::View, MODULE)?;
        let all = self.wanted(target)?.into_iter().map(|lane| async {
            let objects = lane.target.objects.clone();
            (lane.target.name.clone(), blocking(move || list(&*objects)).await)
        });
        Ok(join_all(all).await)
    }

    /// Checks every byte of a backup, the newest full one by default, against this instance's own signature: at the target
    /// that is named, else at the first that has it.
    pub async fn verify(&self, caller: &Caller, wanted: Option<String>, target: Option<&str>) -> Result<Verified> {
        self.access.decide(caller, Action::View, MODULE)?;
        let mut found = Err(Error::NotFound(Fault::new("backups.unknown").with("name", "*").with("place", "*")));
        for lane in self.wanted(target)? {
            let (objects, keyring, wanted) = (lane.target.objects.clone(), self.keyring.clone(), wanted.clone());
            found = blocking(move || {
                let name = locate(&*objects, wanted.as_deref())?;
                verify(&*objects, &name, Trust::Signers(&signers(&keyring)))
            })
            .await;
            if !matches!(found, Err(Error::NotFound(_))) {
                break;
            }
        }
        let told = match &found {
            Ok(sound) => Event::new("backups.verify").object(format!("backups/{}", sound.header.id())),
            Err(error) => Event::new("backups.verify").failed(error.to_string()),
        };
        self.audit.record(caller, told).await?;
        found
    }

    pub(super) fn lane(&self, target: &str) -> Result<&Lane> {
        let known = || self.targets().collect::<Vec<_>>().join(", ");
        let unknown = || Error::NotFound(Fault::new("backups.target").with("target", target).with("known", known()));
        self.lanes.iter().find(|lane| lane.target.name == target).ok_or_else(unknown)
    }

    /// The one that is named, or all.
    pub(super) fn wanted(&self, target: Option<&str>) -> Result<Vec<&Lane>> {
        target.map_or_else(|| Ok(self.lanes.iter().collect()), |target| Ok(vec![self.lane(target)?]))
    }
}

async fn stalled(lane: &Lane, patience: Duration) {
    loop {
        let before = lane.moved();
        tokio::time::sleep(patience).await;
        if lane.moved() == before {
            return;
        }
    }
}

/// Anchors the newest: an older backup cannot pass for it.
fn created(target: &str, made: &Result<Created>) -> Event {
    let event = Event::new("backups.created").with("target", target);
    match made {
        Ok(Created { name, header, manifest, reread }) => event
            .object(format!("backups/{}", header.id()))
            .with("name", name.as_str())
            .with("kind", header.kind.name())
            .with("reread", *reread)
            .with("sequence", header.upto.0)
            .with("manifest", hex::encode(manifest.hash())),
        Err(error) => event.failed(error.to_string()),
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(Box::new(error)))?
}

/// As [`blocking`], for what may take hours: requests come first.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| Error::Internal(error);
    let done = process::aside("backup", work).map_err(|error| internal(Box::new(error)))?;
    done.await.map_err(|error| internal(Box::new(error)))?
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
        ports::objects::Objects,
        services::{backups::Identity, bench::Bench},
    };
    use std::{path::Path, sync::atomic::Ordering};

    const SUBJECTS: &str = "subjects";

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
