//! Installed releases: [`Versions`] of an archive beside one another, or a [`Package`] of the system's own manager.

mod package;
mod versions;

pub use package::Package;
pub use versions::Versions;

use crate::{
    base::{fault::Fault, process},
    domain::release::Kind,
    ports::{Error, Result, installation::Installation},
};
use serde_json::Value;
use std::{
    fs::File,
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const PROGRAM: &str = "debrouille-appliance";
/// A rehearsal of a migration reads all data.
const PATIENCE: Duration = Duration::from_secs(3600);
/// The exit code of a program whose checks failed (docs/cli.md).
const DAMAGED: i32 = 5;
/// The exit code of one that lacks what it needs.
const UNAVAILABLE: i32 = 6;
/// Bytes of what an archive may unpack to.
const MOST: u64 = 2 << 30;

/// The installation of that program. `Rejected`: it was put there by hand. `folder` is that of updates; `flags` are given to each program that is asked.
pub fn open(kind: Kind, program: &Path, folder: &Path, flags: Vec<String>) -> Result<Arc<dyn Installation>> {
    match (kind, versions::root(program)) {
        (Kind::Archive, Some(root)) => {
            root.join("versions").ancestors().try_for_each(roots_own)?;
            Ok(Arc::new(Versions { root, flags }))
        }
        (Kind::Archive, None) => Err(Error::Rejected(Fault::new("updates.by_hand").at(program.display().to_string()))),
        (kind, _) => {
            let (program, folder) = (program.to_owned(), folder.join("packages"));
            Ok(Arc::new(Package { kind, program, folder, flags }))
        }
    }
}

/// What root runs must not be another's to change.
fn roots_own(folder: &Path) -> Result<()> {
    let held = std::fs::metadata(folder)?;
    // In a folder like /tmp others write, and cannot replace what is not theirs.
    let theirs = held.uid() != 0 || (held.mode() & 0o022 != 0 && held.mode() & 0o1000 == 0);
    match rustix::process::geteuid().is_root() && theirs {
        true => Err(Error::Rejected(Fault::new("updates.others_may_write").at(folder.display().to_string()))),
        false => Ok(()),
    }
}

async fn ask(program: &Path, flags: &[String], arguments: &[&str]) -> Result<Value> {
    let arguments: Vec<&str> = flags.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    let fault =
        |why: &dyn std::fmt::Display| Fault::new("updates.program").at(program.display().to_string()).with("why", why);
    match process::again(program, &arguments, PATIENCE).await {
        Ok(answer) => serde_json::from_str(&answer).map_err(|error| Error::OutOfReach(fault(&error))),
        Err((Some(DAMAGED), why)) => Err(Error::Rejected(fault(&why))),
        Err((Some(UNAVAILABLE), why)) => Err(Error::Unavailable(fault(&why).to_string())),
        Err((_, why)) => Err(Error::OutOfReach(fault(&why))),
    }
}

/// Unpacks what `wanted` names in an archive: an entry's path there, and where it goes beneath `into`. What is no file is left
/// out: a release has nothing else but folders.
fn unpack(archive: &Path, into: &Path, wanted: impl Fn(&Path) -> Option<PathBuf>) -> io::Result<()> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(archive)?));
    let mut left = MOST;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(path) = wanted(&path).filter(|path| is_within(path) && entry.header().entry_type().is_file()) else {
            continue;
        };
        left = left.checked_sub(entry.size()).ok_or_else(|| io::Error::other("it unpacks to more than 2 GiB"))?;
        let file = into.join(path);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        entry.set_mask(0o022);
        entry.unpack(&file)?;
    }
    Ok(())
}

fn is_within(path: &Path) -> bool {
    use std::path::Component;
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// An empty folder in which what is to be at `place` is made.
fn begin(place: &Path) -> io::Result<PathBuf> {
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = place.with_file_name(format!(".{name}.new"));
    remove(&beside)?;
    std::fs::create_dir_all(&beside)?;
    // The service is another user, whatever root's umask says.
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755))?;
    Ok(beside)
}

/// In what was laid: the hash of the file it came from.
const ORIGIN: &str = ".sha256";

fn is_from(place: &Path, sha256: &str) -> bool {
    std::fs::read_to_string(place.join(ORIGIN)).is_ok_and(|held| held == sha256)
}

/// Puts it there in one step. On return it is on disk.
fn finish(beside: &Path, place: &Path, sha256: &str) -> io::Result<()> {
    std::fs::write(beside.join(ORIGIN), sha256)?;
    rustix::fs::syncfs(File::open(beside)?)?;
    remove(place)?;
    std::fs::rename(beside, place)?;
    File::open(place.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Work on files, which blocks.
async fn blocking(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Backend(Box::new(error)))?
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// All folders in there but those of these names go; what was being laid too.
fn keep(folder: &Path, names: &[String]) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !names.contains(&name) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
