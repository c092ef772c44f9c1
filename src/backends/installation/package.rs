//! A package's installation: the system's own manager puts releases in place, and takes them back. The packages of both are
//! kept, so that going back needs nobody.

use super::{PROGRAM, ask, begin, finish, is_from, keep, unpack};
use crate::{
    base::{fault::Fault, process},
    domain::release::Kind,
    ports::{Error, Result, installation::Installation},
};
use semver::Version;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const TO_ARCHIVE: &str = r#"rpm2archive - <"$1" >"$1.tgz""#;

/// A slow disk, other managers at work.
const PATIENCE: Duration = Duration::from_secs(900);

/// For the package's scripts: the service is ours to start anew, lest one that hangs hold the manager. And for needrestart,
/// which would do so after them.
const APART: [(&str, &str); 2] = [("DEBROUILLE_APPLIANCE_UPDATE", "1"), ("NEEDRESTART_SUSPEND", "1")];

pub struct Package {
    pub kind: Kind,
    pub program: PathBuf,
    pub folder: PathBuf,
    pub flags: Vec<String>,
}

impl Package {
    fn package(&self, version: &Version) -> PathBuf {
        self.folder.join(version.to_string()).join(match self.kind {
            Kind::Rpm => "package.rpm",
            _ => "package.deb",
        })
    }

    /// Without a network too, where dnf's repositories are out of reach.
    async fn by_dnf(&self, package: &str, version: &Version) -> std::result::Result<(), String> {
        let held = managed("rpm", &["--query", "--queryformat=%{VERSION}\n", PROGRAM]).await?;
        let current = self.current().await.ok();
        // After a power cut rpm may hold two of it, or another than what lies there, and dnf would find nothing to do.
        if current.as_ref().map(Version::to_string) != Some(held.trim().replace('~', "-")) {
            return managed("rpm", &["--upgrade", "--oldpackage", "--replacepkgs", package]).await.map(drop);
        }
        let verb = if current.is_some_and(|current| *version < current) { "downgrade" } else { "install" };
        managed("dnf", &["--setopt=*.skip_if_unavailable=1", verb, "--assumeyes", package]).await.map(drop)
    }
}

/// A package manager at work on the package.
async fn managed(program: &str, arguments: &[&str]) -> std::result::Result<String, String> {
    process::ask(program, arguments, &APART, PATIENCE).await
}

/// Whatever a power cut left of it. What is impossible before apt is asked, it says itself.
async fn by_apt(package: &str) -> std::result::Result<(), String> {
    let _ = managed("dpkg", &["--configure", "--pending", "--force-confold"]).await;
    // Half unpacked (dpkg-query(1), `db:Status-Eflag`) it is for dpkg: apt asks a repository for the version it was.
    let flag = managed("dpkg-query", &["--show", "--showformat=${db:Status-Eflag}", PROGRAM]).await;
    if flag.is_ok_and(|flag| flag.trim() == "reinstreq") {
        let _ = managed("dpkg", &["--install", "--force-confold", package]).await;
    }
    let (old, wait) = ("--option=Dpkg::Options::=--force-confold", "--option=DPkg::Lock::Timeout=300");
    managed("apt-get", &["install", "--yes", "--allow-downgrades", "--reinstall", old, wait, package]).await.map(drop)
}

/// Where a package has its program.
fn program() -> PathBuf {
    Path::new("usr/bin").join(PROGRAM)
}

#[async_trait::async_trait]
impl Installation for Package {
    async fn current(&self) -> Result<Version> {
        let answer = ask(&self.program, &[], &["version", "--json"]).await?;
        let found = answer["version"].as_str().unwrap_or_default();
        let unknown = |_| Fault::new("updates.current").at(self.program.display().to_string()).with("found", found);
        found.parse().map_err(|error| Error::Rejected(unknown(error)))
    }

    fn holds(&self, version: &Version) -> bool {
        self.package(version).is_file()
    }

    fn holds_file(&self, version: &Version, sha256: &str) -> bool {
        self.holds(version) && is_from(&self.folder.join(version.to_string()), sha256)
    }

    async fn lay(&self, version: &Version, file: &Path, sha256: &str) -> Result<()> {
        let sha256 = sha256.to_owned();
        let place = self.folder.join(version.to_string());
        let beside = begin(&place)?;
        let package = beside.join(self.package(version).file_name().unwrap_or_default());
        let (from, to) = (file.to_owned(), package.clone());
        super::blocking(move || Ok(std::fs::copy(&from, &to).map(drop)?)).await?;
        // Its program is tried before it is put in place.
        let (named, into) = (package.display().to_string(), beside.display().to_string());
        let opened = match self.kind {
            // From a file rpm 4.20 writes to the output, rpm 4.18 beside the file; from the input all write to the output.
            Kind::Rpm => process::ask("sh", &["-c", TO_ARCHIVE, "sh", &named], &[], PATIENCE).await,
            _ => process::ask("dpkg-deb", &["--extract", &named, &into], &[], PATIENCE).await,
        };
        let unread = |why: String| {
            Error::Rejected(Fault::new("updates.package").at(file.display().to_string()).with("why", why))
        };
        opened.map_err(unread)?;
        let rpm = self.kind == Kind::Rpm;
        super::blocking(move || {
            if rpm {
                let archive = PathBuf::from(format!("{named}.tgz"));
                let program = |path: &Path| path.ends_with(program()).then(program);
                unpack(&archive, &beside, program)?;
                std::fs::remove_file(&archive)?;
            }
            Ok(finish(&beside, &place, &sha256)?)
        })
        .await
    }

    async fn switch(&self, version: &Version) -> Result<()> {
        let package = self.package(version).display().to_string();
        let done = match self.kind {
            Kind::Rpm => self.by_dnf(&package, version).await,
            _ => by_apt(&package).await,
        };
        let failed = |why: String| Error::OutOfReach(Fault::new("updates.manager").at(&package).with("why", why));
        done.map_err(failed)
    }

    fn program(&self, version: &Version) -> PathBuf {
        let laid = self.folder.join(version.to_string()).join(program());
        // What was installed before the first update was never laid.
        if laid.is_file() { laid } else { self.program.clone() }
    }

    async fn ask(&self, version: &Version, arguments: &[&str]) -> Result<Value> {
        ask(&self.program(version), &self.flags, arguments).await
    }

    async fn keep(&self, versions: &[Version]) -> Result<()> {
        let names: Vec<_> = versions.iter().map(Version::to_string).collect();
        Ok(keep(&self.folder, &names)?)
    }

    fn place(&self) -> PathBuf {
        self.folder.clone()
    }
}
