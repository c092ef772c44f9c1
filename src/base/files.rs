//! Files written whole or not at all, readable by the service alone.

use super::random;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Replaces `path` with `bytes` in one step; on return both the file and its name are on disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
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

/// What root makes for the service belongs to the owner of the folder it lies in, or of what it is to replace: the service
/// could not read it else.
pub fn adopt(file: &File, like: &Path) -> io::Result<()> {
    let owner = fs::metadata(like)?;
    if rustix::process::geteuid().is_root() && owner.uid() != file.metadata()?.uid() {
        std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Gives all that root made in a folder to whom the folder belongs.
pub fn give(folder: &Path) -> io::Result<()> {
    let owner = fs::metadata(folder)?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            std::os::unix::fs::lchown(entry.path(), Some(owner.uid()), Some(owner.gid()))?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Opens a file for what its owner alone should read, emptied or to be gone on with; never through a link that somebody
/// may have laid under its name.
pub fn private(path: &Path, append: bool) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append).mode(0o600).custom_flags(flags).open(path)
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
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
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
    use std::os::unix::fs::PermissionsExt;

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
