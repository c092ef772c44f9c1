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
            match self.installation.ask(to, &["migrate", "validate", "--json"]).await {
                Ok(answer) => before.migrating_millis = number(&answer, "upMillis"),
                Err(ports::Error::Rejected(why)) => {
                    return Err(Error::Refused(Fault::new("updates.rehearsal").with("version", to).with("why", why)));
                }
                Err(why) => warnings.push(Fault::new("updates.unrehearsed").with("version", to).with("why", why)),
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
