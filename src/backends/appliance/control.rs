//! How the service is started and stopped: by systemd, or by a program of the operator's where there is none.

use crate::{
    base::{fault::Fault, process},
    ports::{Error, Result},
};
use std::{path::PathBuf, time::Duration};

/// For a word to systemd.
const SOON: Duration = Duration::from_secs(20);
/// For an end in order, where nobody waits to be answered.
const ORDERLY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub enum Control {
    /// The name of the service's unit.
    Systemd(String),
    /// Called with `restart`, `kill` or `halt`.
    Program(PathBuf),
}

impl Control {
    pub async fn restart(&self, hurry: bool) -> Result<()> {
        match self {
            Self::Systemd(unit) => {
                if hurry {
                    // Nothing to be ended is no failure.
                    let _ = systemctl(&["kill", "--signal=KILL", unit]).await;
                }
                // It may have been started too often: that was the other release.
                let _ = systemctl(&["reset-failed", unit]).await;
                systemctl(&["restart", "--no-block", unit]).await.map(drop)
            }
            Self::Program(_) => {
                if hurry {
                    self.call("kill").await?;
                }
                self.call("restart").await
            }
        }
    }

    /// Its doors first: a caller would start it again.
    pub async fn halt(&self) -> Result<()> {
        let Self::Systemd(unit) = self else { return self.call("halt").await };
        let doors = systemctl(&["show", "--property=TriggeredBy", "--value", unit]).await?;
        let mut all = vec!["stop"];
        all.extend(doors.split_whitespace());
        all.push(unit);
        if process::ask("systemctl", &all, &[], ORDERLY).await.is_err() {
            // It may have ended just now.
            let _ = systemctl(&["kill", "--signal=KILL", unit]).await;
            systemctl(&all).await?;
        }
        Ok(())
    }

    async fn call(&self, word: &str) -> Result<()> {
        let Self::Program(program) = self else { return Ok(()) };
        let called = process::run(program, &[word], "", SOON).await;
        called.map_err(|why| {
            Error::OutOfReach(Fault::new("updates.control").at(program.display().to_string()).with("why", why))
        })
    }
}

async fn systemctl(words: &[&str]) -> Result<String> {
    let failed = |why: String| Error::OutOfReach(Fault::new("updates.control").at("systemctl").with("why", why));
    process::ask("systemctl", words, &[], SOON).await.map_err(failed)
}
