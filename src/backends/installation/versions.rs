//! An archive's installation: `ROOT/versions/X/` for each release, and `ROOT/current`, a link to the one that is run. Only
//! the link is ever changed, in one step.

use super::{PROGRAM, ask, begin, finish, is_from, keep, unpack};
use crate::{
    base::{fault::Fault, files},
    ports::{Error, Result, installation::Installation},
};
use semver::Version;
use serde_json::Value;
use std::{
    io,
    path::{Path, PathBuf},
};

const VERSIONS: &str = "versions";
const CURRENT: &str = "current";

pub struct Versions {
    pub root: PathBuf,
    pub flags: Vec<String>,
}

/// `ROOT` of `ROOT/versions/X/debrouille-appliance`.
pub fn root(program: &Path) -> Option<PathBuf> {
    let versions = program.parent()?.parent()?;
    let root = versions.parent()?;
    let linked = root.join(CURRENT).symlink_metadata().is_ok_and(|link| link.is_symlink());
    (versions.file_name()? == VERSIONS && linked).then(|| root.to_owned())
}

impl Versions {
    fn folder(&self, version: &Version) -> PathBuf {
        self.root.join(VERSIONS).join(version.to_string())
    }
}

#[async_trait::async_trait]
impl Installation for Versions {
    async fn current(&self) -> Result<Version> {
        let link = self.root.join(CURRENT);
        let named = std::fs::read_link(&link)?;
        let name = named.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unknown =
            || Error::Rejected(Fault::new("updates.current").at(link.display().to_string()).with("found", &name));
        name.parse().map_err(|_| unknown())
    }

    fn holds(&self, version: &Version) -> bool {
        self.program(version).is_file()
    }

    fn holds_file(&self, version: &Version, sha256: &str) -> bool {
        self.holds(version) && is_from(&self.folder(version), sha256)
    }

    async fn lay(&self, version: &Version, file: &Path, sha256: &str) -> Result<()> {
        let sha256 = sha256.to_owned();
        let (file, place) = (file.to_owned(), self.folder(version));
        super::blocking(move || {
            let beside = begin(&place)?;
            // `debrouille-appliance-X-x86_64-linux/…`
            let below = |path: &Path| Some(path.strip_prefix(path.components().next()?).ok()?.to_owned());
            unpack(&file, &beside, below)?;
            match beside.join(PROGRAM).is_file() {
                true => Ok(finish(&beside, &place, &sha256)?),
                false => Err(Error::Rejected(Fault::new("updates.no_program").at(file.display().to_string()))),
            }
        })
        .await
    }

    async fn switch(&self, version: &Version) -> Result<()> {
        if !self.holds(version) {
            return Err(Error::Rejected(Fault::new("updates.not_laid").with("version", version)));
        }
        let (link, beside) = (self.root.join(CURRENT), self.root.join(".current.new"));
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::os::unix::fs::symlink(Path::new(VERSIONS).join(version.to_string()), &beside)?;
        std::fs::rename(&beside, &link)?;
        Ok(files::sync_folder(&link)?)
    }

    fn program(&self, version: &Version) -> PathBuf {
        self.folder(version).join(PROGRAM)
    }

    async fn ask(&self, version: &Version, arguments: &[&str]) -> Result<Value> {
        ask(&self.program(version), &self.flags, arguments).await
    }

    async fn keep(&self, versions: &[Version]) -> Result<()> {
        let mut names: Vec<_> = versions.iter().map(Version::to_string).collect();
        names.push(self.current().await?.to_string());
        Ok(keep(&self.root.join(VERSIONS), &names)?)
    }

    fn place(&self) -> PathBuf {
        self.root.clone()
    }
}
