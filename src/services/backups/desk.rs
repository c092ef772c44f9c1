//! Where backups are asked for: permission first, the work off the request's thread.

use super::{
    Created, Kind, Listed, Recipient, Signer, Target, Trust, Verified, lane::Lane, list, locate, retention::Rules,
    ship::Wanted, signers, state::States, verify,
};
use crate::{
    base::{clock::SharedClock, config::Secret, fault::Fault, process, random, telemetry::scope, zone::Zone},
    domain::schedule::Schedule,
    ports::documents::Documents,
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
    pub days: u32,
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
                    tracing::warn!(backup_target = lane.target.name, "stopped without a last segment");
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
    let scope = scope::carried();
    tokio::task::spawn_blocking(move || scope.enter(work)).await.map_err(|error| Error::Internal(Box::new(error)))?
}

/// As [`blocking`], for what may take hours: requests come first.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| Error::Internal(error);
    let done = process::aside("backup", work).map_err(|error| internal(Box::new(error)))?;
    done.await.map_err(|error| internal(Box::new(error)))?
}
