//! Files written whole or not at all, readable by the service alone.

use super::random;
use rustix::{
    fs::{AtFlags, Dir, Gid, MemfdFlags, Mode, OFlags, Uid, chownat, fchown, memfd_create, openat},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Replaces `path` with `bytes` in one step; on return both the file and its name are on disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    // Made anew each time: root must not write through a link that somebody laid under its name.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    file.write_all(bytes)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        adopt(&file, folder)?;
    }
    file.sync_all()?;
    fs::rename(&staged, path)?;
    sync_folder(path)
}

/// Replaces a file of the operator's in one step, for the same owner and readers. A link is followed: what it names is
/// replaced.
pub fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let before = fs::metadata(&path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", hex::encode(random::array::<8>())));
    let staged = Path::new(&name);
    let replaced = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(staged)?;
        file.write_all(bytes)?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(before.permissions())?;
        file.sync_all()?;
        fs::rename(staged, &path)?;
        sync_folder(&path)
    };
    replaced().inspect_err(|_| {
        let _ = fs::remove_file(staged);
    })
}

/// Writes a file in memory, and a path by which this process alone reads it while it is open.
pub fn unnamed(name: &str, bytes: &[u8]) -> io::Result<(File, PathBuf)> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    Ok((file, path))
}

/// Writes a file that must not exist yet.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        adopt(&file, folder)?;
    }
    file.sync_all()?;
    sync_folder(path)
}

/// What root makes for the service belongs to the owner and the group of the folder it lies in, or of what it is to replace:
/// the service could not read it else.
pub fn adopt(file: &File, like: &Path) -> io::Result<()> {
    let (owner, own) = (fs::metadata(like)?, file.metadata()?);
    if rustix::process::geteuid().is_root() && (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
        std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Gives a folder and all in it to somebody, as root alone can; itself last, so that nobody changes names meanwhile, and never
/// what a link in it leads to.
pub fn give(folder: &Path, owner: &fs::Metadata) -> io::Result<()> {
    let to = (Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())));
    let folder = rustix::fs::open(folder, FOLDER, Mode::empty())?;
    give_within(&folder, to)?;
    Ok(fchown(&folder, to.0, to.1)?)
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn give_within(folder: &OwnedFd, to: (Option<Uid>, Option<Gid>)) -> rustix::io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match openat(folder, name, FOLDER, Mode::empty()) {
            Ok(inner) => {
                give_within(&inner, to)?;
                fchown(&inner, to.0, to.1)?;
            }
            Err(Errno::NOTDIR | Errno::LOOP) => chownat(folder, name, to.0, to.1, AtFlags::SYMLINK_NOFOLLOW)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// For [`OpenOptions`]: a link is refused, not followed.
pub const UNLINKED: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// Opens a file for what its owner alone should read, emptied or to be gone on with; never through a link that somebody
/// may have laid under its name.
pub fn private(path: &Path, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append).mode(0o600).custom_flags(UNLINKED).open(path)
}

/// The text of a file that nobody else may read.
pub fn secret(path: &Path) -> io::Result<zeroize::Zeroizing<String>> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("mode {mode:o} lets others read it; chmod 600");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    fs::read_to_string(path).map(zeroize::Zeroizing::new)
}

/// A folder and its parents, closed to everyone else.
pub fn private_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => adopt(&File::open(path)?, parent),
        None => Ok(()),
    }
}

/// Makes the name of `path` durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Room on the volume of a path, in bytes and files.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    pub size: u64,
    /// What an ordinary user may still take.
    pub free: u64,
    /// Files it may hold in all and still; `None`: there is no such bound.
    pub inodes: Option<(u64, u64)>,
}

pub fn volume(path: &Path) -> io::Result<Volume> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let inodes = (stat.f_files > 0).then_some((stat.f_files, stat.f_favail));
    Ok(Volume { size: bytes(stat.f_blocks), free: bytes(stat.f_bavail), inodes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    const SOMEBODY: u32 = 65_534;

    #[test]
    fn what_root_makes_in_a_folder_of_somebodys_is_theirs_and_their_links_lead_nowhere() {
        assert!(rustix::process::geteuid().is_root(), "only root gives away");
        let place = tempfile::tempdir().unwrap();
        let (data, other) = (place.path().join("data"), place.path().join("other"));
        fs::create_dir(&data).unwrap();
        fs::write(&other, "root's").unwrap();
        chown(&data, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        for name in ["keyring.new", "reserve"] {
            symlink(&other, data.join(name)).unwrap();
        }
        replace(&data.join("keyring.json"), b"new").unwrap();
        assert!(private(&data.join("reserve"), false).is_err());
        private_folder(&data.join("backups")).unwrap();
        create(&data.join("backups/one"), b"", 0o600).unwrap();
        fs::write(data.join("backups/two"), "").unwrap();
        symlink("../..", data.join("backups/up")).unwrap();
        let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        let theirs = |names: &[&str]| names.iter().all(|name| owner(&data.join(name)) == SOMEBODY);
        assert!(theirs(&["keyring.json", "backups", "backups/one"]) && !theirs(&["backups/two"]));
        give(&data, &fs::metadata(&data).unwrap()).unwrap();
        assert!(theirs(&["backups/two", "backups/up", "reserve"]));
        assert_eq!((owner(&other), owner(place.path()), fs::read(&other).unwrap()), (0, 0, b"root's".to_vec()));
        assert!(give(&data.join("backups/up"), &fs::metadata(&data).unwrap()).is_err(), "gave away behind a link");
    }

    #[test]
    fn what_is_rewritten_keeps_its_readers_and_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("a"), folder.path().join("b"));
        create(&file, b"old", 0o640).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        rewrite(&link, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(rewrite(&folder.path().join("absent"), b"").is_err());
    }
}
