//! A restore tried for good: into a scratch directory that never serves, checked to the last entry, timed, told in a
//! signed report.

use super::{
    keys, open,
    problem::{Kind, Problem},
    restore::{self, Checked, Live, Restored, Restoring, Subjects},
    targets, vault,
};
use crate::{
    backends::keys::local::LocalRootKey,
    base::{
        clock::{SharedClock, Timestamp},
        config::Config,
        environment::Environment,
        fault::Fault,
        random, release,
    },
    ports::documents::{RECEIPTS, Snapshot},
    services::{
        backups::{
            Identity, Link, Manifest, Progress, Signer, Stage,
            restore::{Tally, Wanted},
        },
        drills::{self, Check, Compared, File, MOST_SAMPLES, Outcome, Point, Report, Rpo, Rto, Sample, Signed, Words},
        health::{Finding, Level},
        instance::{Likeness, Stamp, StampError, UNFINISHED},
        keyring::{Key, Keyring, Purpose},
    },
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Refusals of the command rather than of what it found.
const MISTAKEN: [&str; 2] = ["backups.environment", "backups.several_instances"];
/// Documents of a collection that are held against the living instance.
const SAMPLES: usize = 200;

/// What the operator decides.
pub struct Drilling {
    pub from: String,
    pub identity: Identity,
    pub environment: Environment,
    pub any_signer: bool,
    /// Made for the drill; [`Drilled::clear`] removes it.
    pub scratch: PathBuf,
    pub live: Option<Live>,
}

/// A drill under way: what came back, and what was found so far.
pub struct Drilled {
    started: Timestamp,
    place: String,
    vouched: bool,
    environment: Environment,
    /// The living instance whose target it is, where one is known: it is told when nothing came back.
    instance: Option<String>,
    /// `None`: why is the first check.
    back: Option<Back>,
    checks: Vec<Check>,
    /// What ended it, if that was no fault of the backups.
    pub unavailable: Option<Problem>,
}

struct Back {
    restored: Restored,
    samples: Vec<Sample>,
    opening: u64,
    key: Arc<Key>,
}

/// Restores the latest and checks it. What is wrong with the backups is told in the report, not as an error.
pub async fn drill(
    config: &Config,
    clock: SharedClock,
    drilling: Drilling,
    progress: impl FnMut(Progress) + Send + 'static,
) -> Result<Drilled, Problem> {
    let config = &vault::resolved(config).await?;
    let Drilling { from, identity, environment, any_signer, scratch, live } = drilling;
    make_room(&scratch)?;
    let vouched = !identity.signers().is_empty();
    let (started, place) = (clock.now(), from.clone());
    let instance = live.as_ref().filter(|_| is_target(config, &clock, &from)).map(|live| live.stamp.id.clone());
    let mut drilled =
        Drilled { started, place, vouched, environment, instance, back: None, checks: Vec::new(), unavailable: None };
    let restoring = Restoring {
        from,
        wanted: Wanted::Latest,
        identity,
        environment,
        any_signer,
        collections: Vec::new(),
        // What is older than it should be is a finding, not a refusal.
        allow_older: true,
        live,
        likeness: Some(Likeness::Drill),
    };
    restoring.vouched()?;
    let (config, _key) = apart(config, &scratch)?;
    let progress = Arc::new(Mutex::new(progress));
    let tell = |progress: &Arc<Mutex<_>>| {
        let progress = progress.clone();
        move |step| tell(&progress, step)
    };
    match restore::restore(&config, clock.clone(), restoring, tell(&progress)).await {
        Ok(restored) => {
            let step = tell(&progress);
            let step = move |done, total| step(Progress { stage: Stage::Examining, done, total });
            if let Err(problem) = drilled.examine(&config, clock, restored, step).await {
                drilled.found("documents", &problem);
            }
        }
        // What was asked for wrongly says nothing of the backups.
        Err(problem) if MISTAKEN.contains(&problem.fault.key) => {
            sweep(&scratch)?;
            return Err(problem);
        }
        Err(problem) => drilled.found("files", &problem),
    }
    Ok(drilled)
}

fn tell(progress: &Mutex<impl FnMut(Progress)>, step: Progress) {
    (progress.lock().unwrap_or_else(PoisonError::into_inner))(step);
}

/// Where a drill takes its backups from when nobody says: the first target.
pub fn latest(config: &Config) -> String {
    config.backup.targets.first().cloned().unwrap_or_else(|| targets::local(config).display().to_string())
}

/// Whether a place is one the instance sends its backups to.
fn is_target(config: &Config, clock: &SharedClock, place: &str) -> bool {
    let Ok(meant) = targets::open(place, config, clock) else { return false };
    let targets = targets::all(config, clock).unwrap_or_default();
    targets.iter().any(|target| target.objects.place() == meant.objects.place())
}

/// The configuration of the copy: its own root key, in memory alone while the file is open, and nothing of it reaches a
/// target or a witness.
pub(super) fn apart(config: &Config, scratch: &Path) -> Result<(Config, std::fs::File), Problem> {
    let (key, path) = LocalRootKey::unnamed().map_err(|error| Problem::file("root key", error))?;
    let mut config = config.clone();
    config.instance.data_dir = scratch.to_owned();
    config.instance.root_key_file = Some(path);
    config.vault.transit_key = None;
    config.backup.targets = vec![scratch.join("nowhere").display().to_string()];
    config.audit.witness = Vec::new();
    Ok((config, key))
}

impl Drilled {
    fn found(&mut self, check: &str, problem: &Problem) {
        let faults: Vec<Fault> = problem.faults().cloned().collect();
        self.checks.push(Check::of(check, 0, &faults));
        let absent = problem.faults().any(|fault| fault.key.starts_with("objects."));
        if problem.kind == Kind::Unavailable || absent {
            self.unavailable = Some(Problem::new(Kind::Unavailable, problem.fault.clone()));
        }
    }

    async fn examine(
        &mut self,
        config: &Config,
        clock: SharedClock,
        restored: Restored,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<(), Problem> {
        let plan = &restored.plan;
        let mut files = Check::of("files", 1 + plan.segments.len() as u64, plan.older.as_slice());
        files.words.extend(plan.notes.iter().map(Words::of));
        self.checks.push(files);
        let (stamp, keyring) = keyring(config).await?;
        let (own, tally) = (config.clone(), restored.tally.clone());
        let key = keyring.current(Purpose::BackupSigning);
        let samples = tokio::task::spawn_blocking(move || {
            let store = open::look(&own, &stamp, &keyring, Purpose::Data)?;
            samples(&store, &tally)
        });
        let samples = samples
            .await
            .map_err(|error| Problem::new(Kind::Failed, Fault::new("instance.store").with("why", error)))??;
        let checked = restore::check(config, clock, &restored.tally, progress).await?;
        self.checks.extend(checks(&checked, &restored));
        self.back = Some(Back { restored, samples, opening: checked.opening_millis, key });
        Ok(())
    }

    /// Where the copy ends and what is asked of the living instance; `None`: nothing came back.
    pub fn copied(&self) -> Option<drills::Copied> {
        let Back { restored, samples, .. } = self.back.as_ref()?;
        let point = restored.plan.point;
        Some(drills::Copied { lineage: point.lineage, sequence: point.sequence, samples: samples.clone() })
    }

    /// What the living instance says; `before`: where it stood when the drill began.
    pub fn compare(&mut self, compared: Option<&Compared>) {
        let Some(back) = &self.back else { return };
        self.checks.push(match compared.map(|compared| compared.held.as_ref()) {
            None => Check::skipped("live", &Fault::new("drills.no_live")),
            Some(None) => Check::skipped("live", &Fault::new("drills.not_comparable")),
            Some(Some(held)) => {
                let tally = &back.restored.tally.collections;
                let counts = held.counts.iter().filter_map(|(name, expected)| {
                    let found = tally.get(name).copied().unwrap_or_default();
                    let fault = Fault::new("drills.count").with("collection", name).with("found", found);
                    (found != *expected).then(|| fault.with("expected", expected))
                });
                let different = held.different.iter().map(|(collection, id)| {
                    Fault::new("drills.different").with("collection", collection).with("id", id)
                });
                let wrong: Vec<Fault> = counts.chain(different).take(50).collect();
                Check::of("live", held.equal + held.counts.len() as u64, &wrong)
            }
        });
    }

    /// The report, signed by the key that came back, and whose that is. `before`: where the living instance stood when
    /// the drill began.
    pub fn report(&self, now: Timestamp, before: Option<&Compared>) -> Result<(Report, Signed, String), Problem> {
        let passed = self.back.is_some() && self.checks.iter().all(|check| check.outcome != Outcome::Failed);
        let mut report = Report {
            format: drills::FORMAT,
            id: random::id(now),
            instance: self.instance.clone().unwrap_or_default(),
            environment: self.environment.name().to_owned(),
            release: release::version().to_owned(),
            started: self.started.rfc3339(),
            ended: now.rfc3339(),
            place: self.place.clone(),
            outcome: if passed { Outcome::Passed } else { Outcome::Failed },
            point: None,
            files: Vec::new(),
            documents: 0,
            collections: Default::default(),
            checks: self.checks.clone(),
            rto: None,
            rpo: None,
            signer_vouched: self.vouched,
        };
        let key = self.back.as_ref().map(|back| back.fill(&mut report, before, self.started));
        let signed = Signed::new(&report, key)?;
        let signer = key.and_then(|key| Signer::new(&key.public));
        Ok((report, signed, signer.map_or_else(String::new, |signer| signer.to_string())))
    }

    /// The instance whose backups they are, where any came back.
    pub fn stamp(&self) -> Option<&Stamp> {
        self.back.as_ref().map(|back| &back.restored.stamp)
    }

    /// Removes a copy.
    pub fn clear(scratch: &Path) -> Result<(), Problem> {
        sweep(scratch)
    }
}

impl Back {
    fn fill<'b>(&'b self, report: &mut Report, before: Option<&Compared>, started: Timestamp) -> &'b Key {
        let Restored { stamp, plan, tally, times, .. } = &self.restored;
        let point = plan.point;
        report.instance = stamp.id.clone();
        report.point = Some(Point { lineage: point.lineage, sequence: point.sequence.0, time: point.time.rfc3339() });
        let file = |(link, manifest): (&Link, &Manifest)| File {
            name: link.name.clone(),
            bytes: link.bytes,
            manifest: hex::encode(manifest.hash()),
        };
        report.files = plan.files().zip(&plan.manifests).map(file).collect();
        (report.documents, report.collections) = (tally.documents(), tally.collections.clone());
        let millis = times.proving + times.loading + self.opening;
        report.rto = Some(Rto { millis, proving: times.proving, loading: times.loading, opening: self.opening });
        let seconds = |late: Timestamp, early: Timestamp| u64::try_from(late.seconds() - early.seconds()).unwrap_or(0);
        report.rpo = Some(match before.filter(|live| live.lineage == point.lineage) {
            Some(live) => {
                let changes = live.sequence.0.saturating_sub(point.sequence.0);
                let newest = live.time.unwrap_or(started);
                let seconds = if changes == 0 { 0 } else { seconds(newest, point.time) };
                Rpo { seconds, changes: Some(changes), against: "live".to_owned() }
            }
            None => {
                let seconds = seconds(started, plan.last().header.created);
                Rpo { seconds, changes: None, against: "clock".to_owned() }
            }
        });
        &self.key
    }
}

async fn keyring(config: &Config) -> Result<(Stamp, Keyring), Problem> {
    let stamp = Stamp::read(&config.instance.data_dir, None)?;
    let (keyring, _) = keys::keyring(config, &stamp).await?;
    Ok((stamp, keyring))
}

fn checks(checked: &Checked, restored: &Restored) -> Vec<Check> {
    let Checked { documents, subjects, audit, .. } = checked;
    let counts: Vec<Fault> = checked.miscounted.clone();
    let audit_wrong: Vec<Fault> = audit.wrong.iter().map(|wrong| wrong.fault()).collect();
    let mut keys = Check::of("subjects", subjects.documents, &subjects.wrong);
    match (&restored.subjects, &restored.keys_unusable) {
        (Some(Subjects { older: Some(older), .. }), _) | (None, Some(older)) => {
            keys.outcome = Outcome::Failed;
            keys.words.push(Words::of(older));
        }
        (Some(found), _) => keys.words.extend(found.notes.iter().map(Words::of)),
        (None, None) if keys.outcome == Outcome::Passed => {
            keys = Check::skipped("subjects", &Fault::new("drills.sealed_fields"));
        }
        (None, None) => {}
    }
    vec![
        Check::of("counts", restored.tally.collections.len() as u64, &counts),
        Check::of("documents", documents.documents + documents.entries + documents.records, &documents.wrong),
        keys,
        Check::of("audit", audit.entries, &audit_wrong),
    ]
}

/// Documents from all over each collection.
fn samples(store: &dyn Snapshot, tally: &Tally) -> Result<Vec<Sample>, Problem> {
    let mut samples = Vec::new();
    let names: Vec<_> = tally.collections.keys().filter(|name| *name != RECEIPTS).collect();
    let each = (MOST_SAMPLES / names.len().max(1)).clamp(1, SAMPLES);
    for name in names {
        let count = usize::try_from(store.count(name)?).unwrap_or(usize::MAX);
        let step = count.div_ceil(each).max(1);
        let offset = usize::from(random::array::<1>()[0]) % step;
        let (mut after, mut at) = (None::<String>, 0);
        loop {
            let documents = store.documents(name, after.as_deref(), 500)?;
            let Some(last) = documents.last() else { break };
            after = last.get_str("_id").ok().map(str::to_owned);
            for document in &documents {
                if at % step == offset && samples.len() < MOST_SAMPLES {
                    samples.push(Sample::of(name, document));
                }
                at += 1;
            }
        }
    }
    Ok(samples)
}

/// What an earlier drill left is removed; anything else is not a drill's to touch.
pub(super) fn make_room(scratch: &Path) -> Result<(), Problem> {
    let empty = std::fs::read_dir(scratch).map_or(true, |mut entries| entries.next().is_none());
    let killed = || {
        let told = std::fs::read(scratch.join(UNFINISHED).join(restore::MARKER)).ok()?;
        let told: serde_json::Value = serde_json::from_slice(&told).ok()?;
        (told["copy"] == "drill").then_some(())
    };
    let left = || Stamp::read(scratch, None).is_ok_and(|stamp| stamp.copy == Some(Likeness::Drill));
    if empty {
        return Ok(());
    }
    if left() || killed().is_some() {
        return sweep(scratch);
    }
    Err(StampError::Occupied(scratch.to_owned()).into())
}

pub(super) fn sweep(scratch: &Path) -> Result<(), Problem> {
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Problem::file(scratch.display(), error)),
        _ => Ok(()),
    }
}

/// Whether a drill is due, of an instance nobody serves; in production that is a failure. `None`: somebody holds it.
pub async fn due(config: &Config, now: Timestamp) -> Option<Finding> {
    let (stamp, keyring) = keyring(config).await.ok()?;
    let (environment, since, days) = (stamp.environment, stamp.created_at, config.backup.drill_days);
    let config = config.clone();
    let newest = tokio::task::spawn_blocking(move || {
        let store = open::look(&config, &stamp, &keyring, Purpose::Data).ok()?;
        drills::newest(&store).ok()
    });
    let newest = newest.await.ok()??;
    Some(judged(environment, drills::finding(environment, days, newest.as_ref(), since, now)))
}

/// In production, doctor fails on what elsewhere is a warning.
pub fn judged(environment: Environment, finding: Finding) -> Finding {
    match environment {
        Environment::Production if finding.level == Level::Warning => Finding { level: Level::Failure, ..finding },
        _ => finding,
    }
}
