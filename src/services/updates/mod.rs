//! Updates: another release laid beside the one that runs, started, watched, and taken back by itself when it does not do
//! what it must. Run by root beside the service, which has no such rights.
//!
//! ```text
//! preflight ─► Switching: what a start runs, restart ─► Watching: ready, counted, well ─► applied
//!                                                           └─► Returning: data, what a start runs, restart ─► taken back
//! ```
//! Each arrow is on disk before it is gone: what was cut short is gone on with.

mod note;
mod preflight;
mod state;
mod watch;

pub use note::Notes;
pub use preflight::Preflight;
pub use state::{Before, Event, Folder, Outcome, Phase, State, UnderWay};

use super::{Error, Result, drills::Words};
use crate::{
    base::{
        clock::{SharedClock, pause},
        fault::Fault,
    },
    ports::{appliance::Appliance, installation::Installation},
};
use semver::Version;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use watch::{Verdict, Watch};

/// Between two looks, until it is ready and after.
const SOON: Duration = Duration::from_millis(200);
const THEN: Duration = Duration::from_secs(2);

/// What was cut short longer ago is not counted any more.
const COUNTED_SECONDS: i64 = 3 * 3600;

pub struct Updates {
    pub folder: Folder,
    pub installation: Arc<dyn Installation>,
    pub appliance: Arc<dyn Appliance>,
    pub clock: SharedClock,
    pub settings: Settings,
}

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A release that is not ready by then has failed.
    pub ready_seconds: u64,
    /// For so long after it is watched.
    pub watch_seconds: u64,
}

/// What is being done, for who looks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Backup,
    Rehearsal,
    Switch,
    Watch,
    Return,
}

pub type Told<'a> = &'a (dyn Fn(Step) + Send + Sync);

impl Updates {
    /// Changes to a release that was laid and passed its preflight.
    pub async fn apply(&self, to: &Version, before: Before, by: &str, told: Told<'_>) -> Result<Event> {
        let from = self.installation.current().await?;
        let began = self.clock.now();
        let by = by.to_owned();
        self.folder.mark(&self.installation.program(&from))?;
        let under_way = UnderWay { from, to: to.clone(), phase: Phase::Switching, began, by, before, why: None };
        self.save(&under_way)?;
        self.go_on(under_way, told).await
    }

    /// Goes back to the release before, as a person asks.
    pub async fn roll_back(&self, by: &str, told: Told<'_>) -> Result<Event> {
        let to = self.installation.current().await?;
        let from = self.way_back()?;
        let before = self.compared(&to, &from).await?;
        if before.for_good {
            return Err(for_good(&from));
        }
        let (phase, began, by) = (Phase::Returning, self.clock.now(), by.to_owned());
        self.folder.mark(&self.installation.program(&to))?;
        let under_way = UnderWay { from, to, phase, began, by, before, why: None };
        self.save(&under_way)?;
        self.go_on(under_way, told).await
    }

    /// Where `roll_back` goes.
    pub fn way_back(&self) -> Result<Version> {
        let previous = self.folder.state()?.previous;
        let previous = previous.ok_or_else(|| Error::NotFound(Fault::new("updates.no_previous")))?;
        match self.installation.holds(&previous) {
            true => Ok(previous),
            false => Err(Error::NotFound(Fault::new("updates.previous_gone").with("version", previous))),
        }
    }

    /// Finishes what was cut short, if anything was. Where somebody put a third release in place since, there is nothing to
    /// finish.
    pub async fn settle(&self, told: Told<'_>) -> Result<Option<Event>> {
        let Some(under_way) = self.folder.state()?.under_way else {
            self.folder.unmark()?;
            return Ok(None);
        };
        let current = self.installation.current().await?;
        if ![&under_way.from, &under_way.to].contains(&&current) {
            let UnderWay { from, to, .. } = &under_way;
            let fault = Fault::new("updates.foreign").with("from", from).with("to", to).with("current", current);
            tracing::warn!("{fault}");
            self.abandon()?;
            return Ok(None);
        }
        self.go_on(under_way, told).await.map(Some)
    }

    /// Goes back from what was cut short, rather than on with it.
    pub async fn turn_back(&self, told: Told<'_>) -> Result<Option<Event>> {
        let Some(mut under_way) = self.folder.state()?.under_way else { return Ok(None) };
        if under_way.before.for_good {
            return Err(for_good(&under_way.from));
        }
        under_way.phase = Phase::Returning;
        self.save(&under_way)?;
        self.go_on(under_way, told).await.map(Some)
    }

    /// Forgets what was cut short, as a person decides: what is in place stays.
    pub fn abandon(&self) -> Result<()> {
        let state = self.folder.state()?;
        self.folder.write(&State { under_way: None, ..state })
    }

    async fn go_on(&self, mut under_way: UnderWay, told: Told<'_>) -> Result<Event> {
        let mut past = None;
        if under_way.phase == Phase::Switching {
            told(Step::Switch);
            match self.switch(&under_way.to, false).await {
                Ok(process) => (past, under_way.phase) = (process, Phase::Watching),
                Err(error) => turn(&mut under_way, &fault_of(&error)),
            }
            self.save(&under_way)?;
        }
        if under_way.phase == Phase::Watching {
            told(Step::Watch);
            if let Err(fault) = self.watched(&under_way, past).await {
                turn(&mut under_way, &fault);
                if under_way.before.for_good {
                    return self.stayed(under_way).await;
                }
                // On a full disk too: cut short now, it would be watched again and fail again.
                if let Err(error) = self.save(&under_way) {
                    tracing::error!(%error, "that the update goes back is not noted");
                }
            }
        }
        match under_way.phase {
            Phase::Returning => {
                told(Step::Return);
                self.go_back(under_way).await
            }
            _ => self.applied(under_way).await,
        }
    }

    /// The process that was asked to end, where one answered: it goes on to for a moment, and after a cut it may well be the
    /// same release.
    async fn switch(&self, version: &Version, hurry: bool) -> Result<Option<String>> {
        let switched = self.installation.switch(version).await;
        let past = if hurry { None } else { self.appliance.look().await.ok().map(|seen| seen.started) };
        // Whatever became of it, something must serve.
        self.appliance.restart(hurry).await?;
        switched?;
        Ok(past)
    }

    /// Ready, with all it held, and well for as long as is asked.
    async fn watched(&self, under_way: &UnderWay, past: Option<String>) -> std::result::Result<(), Fault> {
        let Before { requests, failures, .. } = under_way.before;
        let now = self.clock.now();
        // Migrating, it does not answer yet: on the living data it may take longer than on a copy.
        let migrating = 3 * under_way.before.migrating_millis / 1000;
        let ready_by = now.plus_seconds((self.settings.ready_seconds + migrating).cast_signed());
        let until = now.plus_seconds((self.settings.watch_seconds + migrating).cast_signed());
        let mut watch = Watch::new(under_way.to.to_string(), past, (requests, failures), ready_by, Some(until));
        self.look_on(&mut watch, Some(under_way)).await
    }

    async fn look_on(&self, watch: &mut Watch, counted: Option<&UnderWay>) -> std::result::Result<(), Fault> {
        let mut every = SOON;
        loop {
            let seen = self.appliance.look().await.map_err(|error| error.to_string());
            match watch.judge(self.clock.now(), seen.as_ref().map_err(String::as_str)) {
                Verdict::Wait => {}
                Verdict::Ready => {
                    if let Some(under_way) = counted {
                        self.counted(under_way).await?;
                    }
                    every = THEN;
                    // The next look may say that this was all.
                    continue;
                }
                Verdict::Sound => return Ok(()),
                Verdict::Broken(fault) => return Err(fault),
            }
            pause(every).await;
        }
    }

    /// Whether all is there that was.
    async fn counted(&self, under_way: &UnderWay) -> std::result::Result<(), Fault> {
        let Some(before) = &under_way.before.holdings else { return Ok(()) };
        // Days later the journal need not reach back, and a restore may have come in between.
        if self.clock.now() > under_way.began.plus_seconds(COUNTED_SECONDS) {
            return Ok(());
        }
        let uncounted = |why: String| Fault::new("updates.uncounted").with("why", why);
        let now = self.appliance.holdings(Some(before.sequence)).await.map_err(|error| uncounted(error.to_string()))?;
        match now.mismatch(before) {
            None => Ok(()),
            Some(lost) => Err(Fault::new("updates.lost")
                .with("collection", lost.collection)
                .with("expected", lost.expected)
                .with("found", lost.found)),
        }
    }

    async fn applied(&self, under_way: UnderWay) -> Result<Event> {
        let event = self.event(&under_way, Outcome::Applied);
        self.folder.remember(&event)?;
        let mut state = self.folder.state()?;
        state.failed.retain(|version| *version != event.to);
        state.previous = Some(event.from.clone());
        self.end(state, &event).await?;
        Ok(event)
    }

    /// It failed, and there is no way back but a backup.
    async fn stayed(&self, under_way: UnderWay) -> Result<Event> {
        let event = self.event(&under_way, Outcome::Stays);
        self.folder.remember(&event)?;
        let mut state = self.folder.state()?;
        state.fail(&event.to);
        state.previous = Some(event.from.clone());
        self.end(state, &event).await?;
        Ok(event)
    }

    /// The first release again, with every write that was acknowledged since.
    async fn go_back(&self, under_way: UnderWay) -> Result<Event> {
        let UnderWay { from, to, before, why, .. } = &under_way;
        // Before anything is stopped: an archive's first release may be gone, a package never have been kept.
        if !self.installation.holds(from) {
            let gone = Fault::new("updates.previous_gone").with("version", from);
            return Err(stuck("updates.stuck", &under_way, &gone));
        }
        if before.migrates {
            self.appliance.halt().await?;
            let newest = before.migrations.to_string();
            let arguments = ["migrate", "down", "--to", &newest, "--yes", "--json"];
            if let Err(error) = self.installation.ask(to, &arguments).await {
                // The first one could not open the data: better this one than none.
                self.appliance.restart(true).await?;
                return Err(stuck("updates.data_stay", &under_way, &fault_of(&error)));
            }
        }
        // What does not answer would not end in order either.
        let switched = self.switch(from, why.is_some()).await;
        let past = switched.map_err(|error| stuck("updates.stuck", &under_way, &fault_of(&error)))?;
        let ready_by = self.clock.now().plus_seconds(self.settings.ready_seconds.cast_signed());
        let mut watch = Watch::new(from.to_string(), past, (u64::MAX, u64::MAX), ready_by, None);
        let back = self.look_on(&mut watch, None).await;
        back.map_err(|fault| stuck("updates.stuck", &under_way, &fault))?;
        let taken = why.is_some();
        // Whatever it is, the first one runs: what the other one lost is for a backup to bring back.
        let missing = self.counted(&under_way).await.err().map(|fault| Words::of(&fault));
        let event = self.event(&under_way, if taken { Outcome::TakenBack } else { Outcome::RolledBack });
        let event = Event { missing, ..event };
        self.folder.remember(&event)?;
        let mut state = self.folder.state()?;
        match taken {
            true => state.fail(&event.to),
            false => state.previous = None,
        }
        self.end(state, &event).await?;
        Ok(event)
    }

    fn event(&self, under_way: &UnderWay, outcome: Outcome) -> Event {
        let UnderWay { from, to, began, by, why, .. } = under_way.clone();
        let seconds = self.clock.now().seconds() - began.seconds();
        Event { at: began, from, to, outcome, by, seconds, why, missing: None }
    }

    /// Nothing is under way any more; the instance notes it, where it can.
    async fn end(&self, state: State, event: &Event) -> Result<()> {
        let mut kept: Vec<_> = state.previous.iter().cloned().collect();
        kept.extend([event.from.clone(), event.to.clone()]);
        self.folder.write(&State { under_way: None, ..state })?;
        let note = serde_json::to_value(event).map_err(|error| Error::Internal(Box::new(error)))?;
        if let Err(error) = self.appliance.note(&note).await {
            tracing::warn!(%error, "the instance did not note the update");
        }
        if let Err(error) = self.installation.keep(&kept).await {
            tracing::warn!(%error, "older releases are still there");
        }
        Ok(())
    }

    fn save(&self, under_way: &UnderWay) -> Result<()> {
        let state = self.folder.state()?;
        self.folder.write(&State { under_way: Some(under_way.clone()), ..state })
    }

    /// How two releases differ, as each says of itself, and what is held now.
    async fn compared(&self, newer: &Version, older: &Version) -> Result<Before> {
        let newest = self.formats(newer).await?;
        let known = self.formats(older).await?;
        let migrations = number(&known, "migrations");
        let holdings = self.appliance.holdings(None).await.ok();
        let for_good = preflight::FORMATS.iter().any(|format| number(&newest, format) > number(&known, format));
        let migrates = number(&newest, "migrations") > migrations;
        Ok(Before { holdings, migrations, migrates, for_good, ..Before::default() })
    }

    async fn formats(&self, version: &Version) -> Result<Value> {
        let answer = self.installation.ask(version, &["version", "--json"]).await?;
        match answer["version"].as_str() == Some(&version.to_string()) {
            true => Ok(answer["formats"].clone()),
            false => {
                let fault = Fault::new("updates.other_version").with("expected", version);
                Err(Error::Refused(fault.with("found", answer["version"].as_str().unwrap_or("–"))))
            }
        }
    }
}

/// A release from before it told counts as none.
fn number(formats: &Value, name: &str) -> u64 {
    formats[name].as_u64().unwrap_or_default()
}

fn for_good(from: &Version) -> Error {
    Error::Refused(Fault::new("updates.older_format").with("version", from).with("format", "documents"))
}

fn turn(under_way: &mut UnderWay, fault: &Fault) {
    under_way.phase = Phase::Returning;
    under_way.why = Some(Words::of(fault));
}

/// Why the first release does not run again. What is under way stays so: the next command tries again.
fn stuck(key: &'static str, under_way: &UnderWay, why: &Fault) -> Error {
    let fault = Fault::new(key).with("from", &under_way.from).with("to", &under_way.to).with("why", why);
    Error::OutOfReach(fault)
}

fn fault_of(error: &impl std::fmt::Display) -> Fault {
    Fault::new("updates.switch").with("why", error)
}
