//! What the appliance finds wrong with itself, by the table of alerts that Prometheus has too, and who is told.
//!
//! ```text
//! metrics ─► history ─► judge: pending ─► firing ─► ended      each 15 s
//!                          └─► notices, by each channel on its own: grouped, once, tried again
//! ```
//!
//! It stands in a file of its own, not in the store: an alert that the store refuses writes must be told all the same.

mod deliver;
mod history;
mod judge;
#[cfg(test)]
mod tests;
mod words;

pub use history::{CPU, FAILURES, History, MINUTES, REQUESTS};
pub use judge::Known;
pub use words::meaning;

use super::{
    Result,
    access::{Access, Action, Caller, Resource},
    audit::{Audit, Event},
    health::{Finding, Health, Phase},
};
use crate::{
    base::{
        clock::{SharedClock, Timestamp},
        fault::Fault,
        files,
        metrics::{
            Metrics,
            alerts::{Alert, P95_SECONDS, Severity, budget},
            series,
        },
    },
    domain::tally::LONGEST,
    ports::notices::Channel,
};
use deliver::Attempts;
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

const MODULE: Resource<'static> = Resource::Module("alerts");
/// The name of its check.
const NOTED: &str = "alerts:file";
/// In the data directory.
pub const FILE: &str = "alerts.json";
/// Seconds after which the history is written though nothing happened: so much of it a power cut takes.
const WRITTEN: i64 = 60;

/// As the file keeps it.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct State {
    pub alerts: Vec<Known>,
    pub history: History,
    /// When it was last written.
    pub seen: Timestamp,
    /// It was told to stop after that.
    pub stopped: bool,
    /// Starts after an end that was not in order, within an hour.
    pub fallen: Vec<Timestamp>,
    /// The ways there were.
    pub ways: Vec<String>,
}

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Head {
    pub host: String,
    pub environment: &'static str,
}

pub struct Alerts {
    pub clock: SharedClock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub access: Arc<Access>,
    pub audit: Arc<Audit>,
    pub file: PathBuf,
    pub head: Head,
    pub channels: Vec<Arc<dyn Channel>>,
    state: Mutex<State>,
    /// By the channel's place in the list.
    attempts: Vec<Mutex<Attempts>>,
    /// Whether this process has noted that it began.
    noted: AtomicBool,
    /// One writer of the file at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// How the objectives stand.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Objectives {
    /// In thirty days.
    pub requests: f64,
    pub failures: f64,
    /// Of the errors allowed in thirty days, the part left; under 0: more were made.
    pub budget_left: f64,
    /// How many times too fast the budget is used up, over an hour, six hours, three days.
    pub burns: [f64; 3],
    /// Seconds until an answer in the last five minutes; `None`: there was none.
    pub mean: Option<f64>,
    pub p95: Option<f64>,
    /// Of this process, in the last hour; of them, those that took longer than the objective's seconds.
    pub answers: f64,
    pub slow: f64,
}

/// All that is known, for `status`.
pub struct Seen {
    pub now: Timestamp,
    pub alerts: Vec<Known>,
    pub objectives: Objectives,
    pub history: History,
}

impl Alerts {
    pub fn new(
        (clock, metrics, health): (SharedClock, Arc<Metrics>, Arc<Health>),
        (access, audit): (Arc<Access>, Arc<Audit>),
        file: PathBuf,
        head: Head,
        channels: Vec<Arc<dyn Channel>>,
    ) -> Self {
        let attempts = channels.iter().map(|_| Mutex::default()).collect();
        let (state, noted, turn) = (Mutex::default(), AtomicBool::default(), Arc::default());
        Self { clock, metrics, health, access, audit, file, head, channels, state, attempts, noted, turn }
    }

    /// How they stood when last noted.
    pub fn recall(&self) {
        *self.state() = read(&self.file).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %self.file.display(), "how alerts stood is not known");
            State::default()
        });
    }

    /// Goes on from where the last process was. One that had no time to stop was down until now.
    /// It is noted with the first look: a start that comes to nothing changes nothing.
    pub fn begin(&self) {
        self.recall();
        let (mut state, now) = (self.state(), self.clock.now());
        let down = Alert::named("DebrouilleDown").filter(|_| !state.stopped && state.seen.0 > 0);
        if let Some(alert) = down.filter(|alert| state.seen.plus_seconds(alert.wait + WRITTEN) <= now) {
            let mut known = Known::new(alert, String::new(), state.seen, Some(state.seen));
            known.ended = Some(now);
            tracing::error!(since = state.seen.rfc3339(), "it was not stopped in order, and was down until now");
            state.alerts.push(known);
        }
        if !state.stopped && state.seen.0 > 0 {
            state.fallen.push(now);
        }
        state.stopped = false;
        // What is over is no news to a way that is new.
        let ways: Vec<_> = self.channels.iter().map(|channel| channel.name().to_owned()).collect();
        for way in ways.iter().filter(|way| !state.ways.contains(way)).cloned().collect::<Vec<_>>() {
            for alert in state.alerts.iter_mut().filter(|alert| alert.ended.is_some_and(|ended| ended < now)) {
                alert.told.insert(way.clone(), true);
            }
        }
        state.ways = ways;
    }

    /// Looks at the metrics, and says what fires or ended.
    pub async fn watch(&self) {
        let now = self.clock.now();
        self.look(now);
        let points = series::read(&self.metrics.render());
        let (due, told) = {
            let mut state = self.state();
            state.history.observe(&points, now.seconds());
            let wrong = judge::wrong(&points, &state.history, now);
            let before = state.alerts.clone();
            let changed = judge::step(&mut state.alerts, wrong, &points, &self.channels, now);
            let first = !self.noted.swap(true, Ordering::Relaxed);
            let due = first || changed || state.seen.plus_seconds(WRITTEN) <= now || state.seen > now;
            (due, news(&before, &state.alerts))
        };
        for alert in told {
            log(&alert);
        }
        self.sample(now);
        if due {
            self.write().await;
        }
    }

    /// Ended in order: nobody is told of it.
    pub async fn finish(&self) {
        self.state().stopped = true;
        self.write().await;
    }

    pub fn seen(&self, caller: &Caller) -> Result<Seen> {
        self.access.decide(caller, Action::View, MODULE)?;
        let (state, now) = (self.state().clone(), self.clock.now());
        let objectives = objectives(&state.history, now.seconds());
        Ok(Seen { now, alerts: shown(state.alerts), objectives, history: state.history })
    }

    /// Alerts that fire, then those that ended of late; the newest first.
    pub fn list(&self, caller: &Caller) -> Result<Vec<Known>> {
        self.access.decide(caller, Action::View, MODULE)?;
        Ok(shown(self.state().alerts.clone()))
    }

    /// Tries every channel; answers each by its name, with what went wrong.
    pub async fn test(&self, caller: &Caller) -> Result<Vec<(&'static str, Option<String>)>> {
        self.access.decide(caller, Action::Manage, MODULE)?;
        self.audit.record(caller, Event::new("alerts.test")).await?;
        let notice = words::trial(&self.head, self.clock.now());
        let tried = self.channels.iter().map(|channel| channel.send(&notice));
        let tried = futures_util::future::join_all(tried).await;
        let told = self.channels.iter().zip(tried);
        Ok(told.map(|(channel, sent)| (channel.name(), sent.err().map(|error| error.to_string()))).collect())
    }

    /// What no other job samples.
    fn look(&self, now: Timestamp) {
        let fallen = {
            let mut state = self.state();
            state.fallen.retain(|start| *start <= now && start.plus_seconds(3600) > now);
            state.fallen.len() as u64
        };
        // While it starts or drains it is unready, and that is as it should be.
        let ready = (self.health.phase() == Phase::Serving).then(|| self.health.ready());
        self.metrics.sample(|sample| {
            sample.unclean_starts = Some(fallen);
            sample.ready = ready;
        });
    }

    fn sample(&self, now: Timestamp) {
        let (counts, left) = {
            let state = self.state();
            let count = |severity| {
                let firing = state.alerts.iter().filter(|alert| alert.fires() && alert.severity == severity);
                (severity, firing.count() as u64)
            };
            let left = objectives(&state.history, now.seconds()).budget_left;
            (vec![count(Severity::Critical), count(Severity::Warning)], left)
        };
        self.metrics.sample(|sample| {
            sample.alerts = counts;
            sample.budget_left = Some(left);
        });
    }

    /// What cannot be written is lost with the process, and no reason to stay silent meanwhile.
    async fn write(&self) {
        let turn = self.turn.clone().lock_owned().await;
        let bytes = {
            let mut state = self.state();
            state.seen = self.clock.now();
            serde_json::to_vec(&*state)
        };
        let file = self.file.clone();
        let written = async {
            let bytes = bytes.map_err(std::io::Error::other)?;
            // Whoever waits for it may be cut; the next writer waits for its end.
            let written = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                files::replace(&file, &bytes)
            });
            written.await.map_err(std::io::Error::other)?
        };
        self.health.report(match written.await {
            Ok(()) => Finding::ok(NOTED),
            Err(error) => {
                tracing::warn!(%error, file = %self.file.display(), "how alerts stand is not noted");
                Finding::warning(NOTED, Fault::new("alerts.unnoted").with("cause", error))
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As an instance left it, whether or not it runs; nothing where there is none.
pub fn read(file: &std::path::Path) -> std::io::Result<State> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error),
    }
}

/// How often the budget of errors is asked for, in seconds.
const WINDOWS: [i64; 3] = [3600, 6 * 3600, 3 * 24 * 3600];

fn objectives(history: &History, now: i64) -> Objectives {
    let (requests, failures) = (history.within(REQUESTS, now, LONGEST), history.within(FAILURES, now, LONGEST));
    let allowed = requests * budget();
    let (slow, answers) = history.slower(P95_SECONDS, now, 3600);
    Objectives {
        requests,
        failures,
        budget_left: if allowed > 0.0 { 1.0 - failures / allowed } else { 1.0 },
        burns: WINDOWS.map(|window| history.failing(now, window).unwrap_or_default() / budget()),
        mean: history.mean(now, 300),
        p95: history.p95(now, 300),
        answers,
        slow,
    }
}

fn shown(mut alerts: Vec<Known>) -> Vec<Known> {
    alerts.retain(|alert| alert.fired.is_some());
    alerts.sort_by_key(|alert| {
        (alert.ended.is_some(), std::cmp::Reverse(alert.severity), std::cmp::Reverse(alert.fired))
    });
    alerts
}

/// What fired or ended between two looks.
fn news(before: &[Known], after: &[Known]) -> Vec<Known> {
    let known = |alert: &Known| before.iter().find(|old| old.is(alert)).map(|old| (old.fires(), old.ended.is_some()));
    let new = |alert: &&Known| {
        alert.fired.is_some() && known(alert).unwrap_or_default() != (alert.fires(), alert.ended.is_some())
    };
    after.iter().filter(new).cloned().collect()
}

fn log(alert: &Known) {
    let Known { name, place, .. } = alert;
    match (alert.ended.is_some(), alert.severity) {
        (true, _) => tracing::info!(alert = name, place, "an alert ended"),
        (false, Severity::Critical) => tracing::error!(alert = name, place, "an alert fires"),
        (false, Severity::Warning) => tracing::warn!(alert = name, place, "an alert fires"),
    }
}
