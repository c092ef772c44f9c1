//! What must hold before a release is changed: room, a program that runs, a fresh backup, data that the other one can
//! take and give back.

use super::{
    super::{Error, Result},
    Before, Step, Told, Updates, number,
};
use crate::{
    base::{fault::Fault, files},
    ports,
};
use semver::Version;
use serde_json::Value;
use std::path::Path;

/// Beside three times the file: as it came, unpacked, and some more.
const ROOM: u64 = 64 << 20;
/// A backup is fresh for so long; it is made anew otherwise.
const FRESH_SECONDS: i64 = 3600;
/// What data are kept in: where the other release has another number, going back takes a backup.
pub(super) const FORMATS: [&str; 2] = ["instance", "documents"];

/// What was found. Nothing was changed.
#[derive(Debug)]
pub struct Preflight {
    pub before: Before,
    /// What a person may accept, knowing it.
    pub warnings: Vec<Fault>,
}

/// What a rehearsal took. What may be accepted is only that it could not be tried here (exit code 6: the root key is not at
/// hand, no room, nobody answers): whatever else ended it, a panic or a kill too, would end the migration itself.
fn rehearsed(to: &Version, answer: ports::Result<Value>) -> Result<std::result::Result<u64, Fault>> {
    let fault = |key, why: &dyn std::fmt::Display| Fault::new(key).with("version", to).with("why", why);
    match answer {
        Ok(answer) => Ok(Ok(number(&answer, "upMillis"))),
        Err(ports::Error::Unavailable(why)) => Ok(Err(fault("updates.unrehearsed", &why))),
        Err(ports::Error::OutOfReach(why) | ports::Error::Rejected(why)) => {
            Err(Error::Refused(fault("updates.rehearsal", &why)))
        }
        Err(why) => Err(Error::Refused(fault("updates.rehearsal", &why))),
    }
}

impl Updates {
    /// Whether a file of so many bytes can be laid.
    pub fn room(&self, bytes: u64) -> Result<()> {
        let place = self.installation.place();
        let place = place.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
        let needed = bytes.saturating_mul(3).saturating_add(ROOM);
        let volume = files::volume(place).map_err(|error| Error::Internal(Box::new(error)))?;
        match volume.free >= needed {
            true => Ok(()),
            false => {
                let fault = Fault::new("updates.no_room").at(place.display().to_string());
                Err(Error::OutOfReach(fault.with("free", volume.free >> 20).with("needed", needed >> 20)))
            }
        }
    }

    /// Lays a verified file and tries what can be tried without touching the service.
    pub async fn preflight(&self, to: &Version, file: &Path, sha256: &str, told: Told<'_>) -> Result<Preflight> {
        let from = self.installation.current().await?;
        if !self.installation.holds_file(to, sha256) {
            self.installation.lay(to, file, sha256).await?;
        }
        let (newer, known) = (self.formats(to).await?, self.formats(&from).await?);
        let (mut warnings, mut for_good) = (Vec::new(), false);
        for format in FORMATS {
            let (now, then) = (number(&known, format), number(&newer, format));
            if then < now {
                return Err(Error::Refused(
                    Fault::new("updates.older_format").with("version", to).with("format", format),
                ));
            }
            if then > now {
                for_good = true;
                warnings.push(Fault::new("updates.no_way_back").with("version", to).with("format", format));
            }
        }
        let migrations = number(&known, "migrations");
        let mut before =
            Before { migrations, migrates: number(&newer, "migrations") > migrations, for_good, ..Before::default() };
        match self.appliance.look().await {
            Ok(seen) if seen.ready => {
                (before.requests, before.failures) = (seen.requests, seen.failures);
                warnings.extend(self.backed_up(seen.backed_up, told).await);
            }
            Ok(seen) => warnings.push(Fault::new("updates.unready_before").with("faults", seen.faults)),
            Err(error) => warnings.push(Fault::new("updates.not_running").with("why", error)),
        }
        if before.migrates {
            told(Step::Rehearsal);
            match rehearsed(to, self.installation.ask(to, &["migrate", "validate", "--json"]).await)? {
                Ok(millis) => before.migrating_millis = millis,
                Err(warning) => warnings.push(warning),
            }
        }
        // The last: what comes and goes until then is in the count.
        before.holdings = self.appliance.holdings(None).await.ok();
        Ok(Preflight { before, warnings })
    }

    async fn backed_up(&self, last: Option<crate::base::clock::Timestamp>, told: Told<'_>) -> Option<Fault> {
        let fresh = self.clock.now().plus_seconds(-FRESH_SECONDS);
        if last.is_some_and(|last| last >= fresh) {
            return None;
        }
        told(Step::Backup);
        self.appliance.back_up().await.err().map(|error| Fault::new("updates.no_backup").with("why", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backends::installation, domain::release::Kind};
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// By a program that ends in each way.
    #[tokio::test]
    async fn a_rehearsal_that_ended_otherwise_than_untried_refuses_the_release() {
        let root = tempfile::tempdir().unwrap();
        let to = Version::new(9, 9, 9);
        let program = root.path().join("versions/9.9.9/debrouille-appliance");
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        symlink("versions/9.9.9", root.path().join("current")).unwrap();
        let ended = async |end: &str| {
            let script = format!("#!/bin/sh\necho \"$*\" >&2\n{end}\n");
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
            let installed = installation::open(Kind::Archive, &program, root.path(), Vec::new()).unwrap();
            rehearsed(&to, installed.ask(&to, &["migrate", "validate", "--json"]).await)
        };
        assert_eq!(ended("echo '{\"upMillis\": 7}'").await.unwrap(), Ok(7));
        let warning = ended("exit 6").await.unwrap().unwrap_err();
        assert!(warning.key == "updates.unrehearsed" && warning.to_string().contains("validate"), "{warning}");
        for end in ["exit 5", "exit 3", "exit 1", "exit 2", "exit 4", "exit 101", "kill -9 $$", "kill -6 $$", "echo no"]
        {
            let Err(Error::Refused(fault)) = ended(end).await else { panic!("{end}") };
            assert_eq!(fault.key, "updates.rehearsal", "{end}");
        }
    }
}
