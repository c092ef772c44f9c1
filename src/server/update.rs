//! Updates put together: where releases come from, what this machine is, the folder of what was seen and brought. Root does
//! this, so whatever decides here what root will run must be out of others' reach.

use super::problem::{Kind as Trouble, Problem};
use crate::{
    backends::{
        appliance::{Control, Service, Socket},
        installation,
        releases::{self, Folder, Place, Server, Tuf},
    },
    base::{
        clock::{SharedClock, SystemClock},
        config::{Config, Origin},
        fault::Fault,
        files, random, release, trust,
    },
    domain::release::{Choice, Kind, Pin, Release, Wish, choose},
    ports::{self, installation::Installation, releases::Releases},
    services,
};
use rustix::fs::FlockOperation;
use semver::Version;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Faults that a person could have put right are refusals; these are of what was given.
const DAMAGED: [&str; 8] = [
    "updates.file_differs",
    "updates.file_short",
    "updates.malformed",
    "updates.missing",
    "updates.mixed",
    "updates.root_unfit",
    "updates.too_long",
    "updates.unsigned",
];

/// The folder of updates, held: one run at a time.
pub struct Updates {
    config: Config,
    clock: SharedClock,
    _lock: File,
}

/// What a proven repository has for this machine.
pub struct Checked {
    pub source: String,
    pub current: Version,
    pub channel: String,
    pub pin: Option<Pin>,
    pub choice: Choice,
    listed: Vec<Release>,
    kind: Kind,
    releases: Tuf,
}

/// A file that is here and verified.
pub struct Downloaded {
    pub file: PathBuf,
    /// It was here before.
    pub already: bool,
}

impl Checked {
    /// A release by its name, for this kind of machine.
    pub fn listed(&self, version: &Version) -> Option<Release> {
        let same = |release: &&Release| release.kind == self.kind && release.architecture == std::env::consts::ARCH;
        self.listed.iter().filter(same).find(|release| release.version == *version).cloned()
    }
}

/// The folder of what is known of updates.
pub fn folder(config: &Config) -> services::updates::Folder {
    services::updates::Folder::new(config.update.directory.clone())
}

/// How this program was installed, and what a start would run. `flags` are given to other releases that are asked.
pub async fn installed(config: &Config, flags: Vec<String>) -> Result<(Kind, Version), Problem> {
    let (kind, installation) = installation(config, flags)?;
    Ok((kind, installation.current().await?))
}

/// What changes a release for another.
pub fn change(
    config: &Config,
    flags: Vec<String>,
    language: &'static str,
) -> Result<services::updates::Updates, Problem> {
    let (_, installation) = installation(config, flags)?;
    let update = &config.update;
    let control = match &update.control {
        Some(program) => Control::Program(program.clone()),
        None => Control::Systemd(update.unit.clone()),
    };
    Ok(services::updates::Updates {
        folder: folder(config),
        installation,
        appliance: Arc::new(Service { socket: Socket { path: config.control_socket(), language }, control }),
        clock: Arc::new(SystemClock),
        settings: services::updates::Settings {
            ready_seconds: update.ready_seconds,
            watch_seconds: update.watch_minutes * 60,
        },
    })
}

fn installation(config: &Config, flags: Vec<String>) -> Result<(Kind, Arc<dyn Installation>), Problem> {
    let program = program(config);
    let kind = kind_of(&program, Path::new("/"));
    Ok((kind, installation::open(kind, &program, &config.update.directory, flags)?))
}

impl Updates {
    pub fn open(config: &Config, clock: SharedClock) -> Result<Self, Problem> {
        out_of_reach_of_others(config)?;
        let folder = &config.update.directory;
        for folder in [folder, &folder.join("metadata"), &folder.join("downloads")] {
            made(folder)?;
        }
        let lock = folder.join("lock");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(files::UNLINKED);
        let file = options.open(&lock).map_err(|error| denied(&lock, error))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Problem::new(Trouble::Unavailable, at("updates.busy", &lock)));
        }
        Ok(Self { config: config.clone(), clock, _lock: file })
    }

    /// Proves what the source lists and finds what this machine should take. `from`: another than the configured one.
    pub async fn check(&self, from: Option<&str>) -> Result<Checked, Problem> {
        let config = &self.config.update;
        let source = from.or(config.source.as_deref());
        let source = source.ok_or_else(|| Problem::new(Trouble::Refused, Fault::new("updates.no_source")))?;
        let wish = self.wish()?;
        let trusted = fs::read(&config.root)
            .map_err(|error| Problem::new(Trouble::Refused, at("updates.no_root", &config.root).with("why", error)))?;
        let seen = config.directory.join("metadata");
        let releases = Tuf::new(self.place(source)?, trusted, seen.clone(), self.clock.clone());
        let listed = releases.list().await.map_err(|error| problem(error, &seen))?;
        let choice = choose(&listed, &wish);
        let Wish { current, channel, pin, kind, .. } = wish;
        Ok(Checked { source: source.to_owned(), current, channel, pin, choice, listed, kind, releases })
    }

    /// Brings a release that was just found. One that is here already is verified again.
    pub async fn download(
        &self,
        checked: &Checked,
        release: &Release,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Downloaded, Problem> {
        let folder = self.config.update.directory.join("downloads");
        let file = folder.join(&release.file);
        let failed = |error| Problem::file(file.display(), error);
        if file.try_exists().map_err(failed)? {
            let (listed, here) = (release.clone(), file.clone());
            let same = tokio::task::spawn_blocking(move || releases::is(&listed, &here)).await;
            if same.map_err(|error| Problem::file(file.display(), error))?.map_err(failed)? {
                return Ok(Downloaded { file, already: true });
            }
            fs::remove_file(&file).map_err(failed)?;
        }
        // Earlier ones would only fill the disk; they can be brought again.
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path != releases::partial(&file) {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        let fetched = checked.releases.fetch(release, &file, progress).await;
        fetched.map_err(|error| problem(error, &folder))?;
        Ok(Downloaded { file, already: false })
    }

    fn wish(&self) -> Result<Wish, Problem> {
        let config = &self.config.update;
        let pin = config.pin.as_ref().map(|text| {
            let fault = Fault::new("updates.setting").with("name", "update.pin").with("value", text);
            text.parse().map_err(|()| Problem::new(Trouble::Refused, fault.with("example", "0.4")))
        });
        Ok(Wish {
            current: Version::parse(release::version()).expect("cargo takes no other version"),
            channel: config.channel.clone(),
            pin: pin.transpose()?,
            kind: kind_of(&program(&self.config), Path::new("/")),
            architecture: std::env::consts::ARCH.to_owned(),
            seed: self.seed()?,
        })
    }

    /// The machine's own random word, drawn once.
    fn seed(&self) -> Result<String, Problem> {
        let path = self.config.update.directory.join("seed");
        let failed = |error| Problem::file(path.display(), error);
        match fs::read_to_string(&path) {
            Ok(seed) if seed.len() == 32 => return Ok(seed),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let seed = hex::encode(random::array::<16>());
        files::replace(&path, seed.as_bytes()).map_err(failed)?;
        Ok(seed)
    }

    fn place(&self, source: &str) -> Result<Arc<dyn Place>, Problem> {
        if !source.contains("://") {
            return Ok(Arc::new(Folder::new(source.into())));
        }
        let trusted = trust::certificates(self.config.tls.trusted.as_deref());
        let trusted = trusted.map_err(|error| Problem::file("tls.trusted", error))?;
        let roots: Vec<Vec<u8>> = trusted.iter().map(|root| root.to_vec()).collect();
        Ok(Arc::new(Server::new(source, &roots).map_err(|error| problem(error, Path::new(source)))?))
    }
}

/// Where a package has its program.
const PACKAGED: &str = "/usr/bin/debrouille-appliance";

/// Itself, links followed. One that was kept of a package stands for it: what an update began with settles it.
fn program(config: &Config) -> PathBuf {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let kept = config.update.directory.canonicalize().is_ok_and(|folder| own.starts_with(folder.join("packages")));
    if kept { PACKAGED.into() } else { own }
}

/// How a program came onto the machine: by the system's packages, or unpacked.
fn kind_of(program: &Path, system: &Path) -> Kind {
    if program != Path::new(PACKAGED) {
        return Kind::Archive;
    }
    let there = |path: &str| system.join(path).exists();
    match () {
        () if there("var/lib/dpkg/info/debrouille-appliance.list") => Kind::Deb,
        () if there("usr/lib/sysimage/rpm") || there("var/lib/rpm") => Kind::Rpm,
        () => Kind::Archive,
    }
}

/// What says where releases come from and whom to believe is written by the administrator alone: the service's own user must
/// not make root install anything.
fn out_of_reach_of_others(config: &Config) -> Result<(), Problem> {
    let origins = config.entries.iter().filter(|entry| entry.setting.key.starts_with("update."));
    let files = origins.filter_map(|entry| match &entry.origin {
        Origin::File { path, .. } | Origin::DotEnv { path, .. } => Some(path.as_path()),
        _ => None,
    });
    let files = files.chain([config.update.root.as_path()]).chain(config.update.control.as_deref());
    files.filter(|path| path.exists()).try_for_each(guarded)
}

/// That, and every folder on the way to it: by its name, and to where links lead.
fn guarded(path: &Path) -> Result<(), Problem> {
    let failed = |error| Problem::file(path.display(), error);
    let named = std::path::absolute(path).map_err(failed)?;
    let real = fs::canonicalize(path).map_err(failed)?;
    named.ancestors().chain(real.ancestors()).try_for_each(ours)
}

fn ours(path: &Path) -> Result<(), Problem> {
    let found = fs::metadata(path).map_err(|error| Problem::file(path.display(), error))?;
    let own = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    // In a folder like /tmp others write, and cannot replace what is not theirs.
    let shared = found.mode() & 0o022 != 0 && !(found.is_dir() && found.mode() & 0o1000 != 0);
    match own && !shared {
        true => Ok(()),
        false => Err(Problem::new(Trouble::Refused, at("updates.exposed", path))),
    }
}

fn made(folder: &Path) -> Result<(), Problem> {
    let made = match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => guarded(folder),
        Err(error) => Err(denied(folder, error)),
    }
}

fn denied(path: &Path, error: io::Error) -> Problem {
    match error.kind() {
        ErrorKind::PermissionDenied => Problem::new(Trouble::Refused, at("updates.not_root", path)),
        _ => Problem::file(path.display(), error),
    }
}

fn at(key: &'static str, path: &Path) -> Fault {
    Fault::new(key).at(path.display().to_string())
}

fn problem(error: ports::Error, folder: &Path) -> Problem {
    match error {
        ports::Error::Full(_) => Problem::new(Trouble::Unavailable, at("updates.full", folder)),
        ports::Error::Rejected(fault) if DAMAGED.contains(&fault.key) => Problem::new(Trouble::Integrity, fault),
        ports::Error::Backend(error) => Problem::file(folder.display(), error),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_from_what_was_unpacked() {
        let system = tempfile::tempdir().unwrap();
        let of = |program: &str| kind_of(Path::new(program), system.path());
        assert_eq!(of("/usr/bin/debrouille-appliance"), Kind::Archive);
        fs::create_dir_all(system.path().join("usr/lib/sysimage/rpm")).unwrap();
        assert_eq!(of("/usr/bin/debrouille-appliance"), Kind::Rpm);
        let list = system.path().join("var/lib/dpkg/info/debrouille-appliance.list");
        fs::create_dir_all(list.parent().unwrap()).unwrap();
        fs::write(list, "").unwrap();
        assert_eq!(of("/usr/bin/debrouille-appliance"), Kind::Deb);
        assert_eq!(of("/opt/debrouille-appliance/versions/0.2.0/debrouille-appliance"), Kind::Archive);
    }
}
