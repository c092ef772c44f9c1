//! What is known of updates, kept on disk before and after each step: one that was cut short is gone on with, and what became
//! of each can be told.

use super::super::{Error, Result, drills::Words};
use crate::{
    base::{clock::Timestamp, fault::Fault, files},
    domain::holdings::Holdings,
};
use semver::Version;
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

const STATE: &str = "state.json";
/// There for as long as something is under way: the boot looks for it (debrouille-appliance-settle.service), and runs the
/// program that it names.
const MARK: &str = "under-way";
const HISTORY: &str = "history.ndjson";
const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<UnderWay>,
    /// What ran before what runs: where `rollback` goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Version>,
    /// They failed once: never taken again but by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Version>,
}

/// A change of releases that has begun.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnderWay {
    pub from: Version,
    pub to: Version,
    pub phase: Phase,
    pub began: Timestamp,
    /// Asked for by a person, rather than by a timer or by a failure.
    pub by: String,
    pub before: Before,
    /// Why it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Words>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// The other release is, or is about to be, what a start runs.
    Switching,
    /// It was started, and is watched.
    Watching,
    /// The first one is being put back.
    Returning,
}

/// How it was before, against which what comes after is held.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    pub requests: u64,
    pub failures: u64,
    /// `None`: it did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdings: Option<Holdings>,
    /// The newest migration of the data that the first release knows.
    #[serde(default)]
    pub migrations: u64,
    /// Whether the other one knows more, so that going back undoes them first.
    #[serde(default)]
    pub migrates: bool,
    /// How long they took on a copy.
    #[serde(default)]
    pub migrating_millis: u64,
    /// The other one changes the format of the database itself: the first one would not open it any more.
    #[serde(default)]
    pub for_good: bool,
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub at: Timestamp,
    pub from: Version,
    pub to: Version,
    pub outcome: Outcome,
    pub by: String,
    /// From the first step until it was whole, or the first release answered again.
    pub seconds: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Words>,
    /// What is not there any more, though the first release runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Words>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Applied,
    /// It failed, and the first release runs again.
    TakenBack,
    /// A person went back.
    RolledBack,
    /// It failed, and stays: the first release could not open the data any more.
    Stays,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::TakenBack => "takenBack",
            Self::RolledBack => "rolledBack",
            Self::Stays => "stays",
        }
    }
}

/// The folder of updates. Root's: what is in it decides what root does.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Nothing was ever done where there is no file.
    pub fn state(&self) -> Result<State> {
        let path = self.0.join(STATE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(unusable(&path, error)),
        };
        let state: State = serde_json::from_slice(&bytes).map_err(|error| unusable(&path, error))?;
        match state.format > FORMAT {
            true => Err(unusable(&path, format_args!("format {} > {FORMAT}", state.format))),
            false => Ok(state),
        }
    }

    /// On return it is on disk.
    pub fn write(&self, state: &State) -> Result<()> {
        let path = self.0.join(STATE);
        let bytes = serde_json::to_vec_pretty(state).map_err(|error| Error::Internal(Box::new(error)))?;
        files::replace(&path, &bytes).map_err(|error| unusable(&path, error))?;
        if state.under_way.is_none() { self.unmark() } else { Ok(()) }
    }

    /// Before anything is noted as under way: by which program the boot would settle it. The one that begins is known to
    /// run here; the other may be what fails.
    pub fn mark(&self, program: &Path) -> Result<()> {
        let path = self.0.join(MARK);
        files::replace(&path, program.as_os_str().as_encoded_bytes()).map_err(|error| unusable(&path, error))
    }

    /// Nothing is under way any more; where a kill left it behind, too.
    pub fn unmark(&self) -> Result<()> {
        let path = self.0.join(MARK);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&path, error)),
            _ => Ok(()),
        }
    }

    /// Oldest first. A last line that was cut short is no event.
    pub fn history(&self) -> Result<Vec<Event>> {
        let path = self.0.join(HISTORY);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(unusable(&path, error)),
        }
    }

    /// On return it is on disk. The same one twice, where a kill came in between, is told once.
    pub fn remember(&self, event: &Event) -> Result<()> {
        let known = self.history()?;
        let what = |event: &Event| (event.from.clone(), event.to.clone(), event.at, event.outcome);
        if known.last().is_some_and(|last| what(last) == what(event)) {
            return Ok(());
        }
        let path = self.0.join(HISTORY);
        let line = serde_json::to_string(event).map_err(|error| Error::Internal(Box::new(error)))?;
        let mut options = OpenOptions::new();
        let written = || {
            let mut file = options.create(true).append(true).mode(0o600).custom_flags(files::UNLINKED).open(&path)?;
            // Whatever a cut line left is ended first.
            file.write_all(format!("\n{line}\n").as_bytes())?;
            file.sync_all()?;
            files::sync_folder(&path)
        };
        let mut written = written;
        written().map_err(|error| unusable(&path, error))
    }
}

impl State {
    pub fn fail(&mut self, version: &Version) {
        if !self.failed.contains(version) {
            self.failed.push(version.clone());
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self { format: FORMAT, under_way: None, previous: None, failed: Vec::new() }
    }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::OutOfReach(Fault::new("updates.folder").at(path.display().to_string()).with("why", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: i64) -> Event {
        Event {
            at: Timestamp(at),
            from: Version::new(0, 1, 0),
            to: Version::new(0, 2, 0),
            outcome: Outcome::Applied,
            by: "root".to_owned(),
            seconds: 3,
            why: None,
            missing: None,
        }
    }

    #[test]
    fn what_was_done_is_told_once_and_a_cut_line_hides_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        assert!(folder.history().unwrap().is_empty());
        folder.remember(&event(1)).unwrap();
        folder.remember(&event(1)).unwrap();
        let cut = OpenOptions::new().append(true).open(place.path().join(HISTORY));
        cut.unwrap().write_all(b"{\"at\":").unwrap();
        folder.remember(&event(2)).unwrap();
        assert_eq!(folder.history().unwrap(), [event(1), event(2)]);
    }

    #[test]
    fn the_boot_is_told_for_as_long_as_something_is_under_way() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        let told = || place.path().join(MARK).exists();
        let under_way = UnderWay {
            from: Version::new(0, 1, 0),
            to: Version::new(0, 2, 0),
            phase: Phase::Switching,
            began: Timestamp(1),
            by: "root".to_owned(),
            before: Before::default(),
            why: None,
        };
        let begun = State { under_way: Some(under_way), ..State::default() };
        folder.mark(Path::new("/opt/first")).unwrap();
        folder.write(&begun).unwrap();
        assert_eq!(std::fs::read_to_string(place.path().join(MARK)).unwrap(), "/opt/first");
        // What cannot be noted is not said to be over.
        std::fs::create_dir(place.path().join("state.new")).unwrap();
        assert!(folder.write(&State::default()).is_err() && told());
        std::fs::remove_dir(place.path().join("state.new")).unwrap();
        folder.write(&State::default()).unwrap();
        assert!(!told());
        folder.unmark().unwrap();
    }

    #[test]
    fn a_later_release_s_state_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().to_owned());
        let state = State { previous: Some(Version::new(0, 1, 0)), ..State::default() };
        folder.write(&state).unwrap();
        assert_eq!(folder.state().unwrap(), state);
        std::fs::write(place.path().join(STATE), br#"{"format":2}"#).unwrap();
        assert!(folder.state().is_err());
    }
}
