//! Where backups go: the words of `backup.targets`, read and opened.

use super::problem::{Kind, Problem};
use crate::{
    backends::objects::{
        folder::Folder,
        pace::{Pace, Paced},
        s3::{Credential, Lock, Patience, S3, Settings},
    },
    base::{clock::SharedClock, config::Config, fault::Fault, files, trust},
    domain::window::Window,
    ports::{objects::Objects, web::is_safe},
    services::backups::Target,
};
use rustls::pki_types::CertificateDer;
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// The name of the one in the data directory, where no other is configured.
const LOCAL: &str = "local";
/// Its folder there.
pub const LOCAL_FOLDER: &str = "backups";
/// An upload begun so many seconds ago is left behind: over the slowest lines one takes days.
const ABANDONED: i64 = 7 * 86_400;
const FOLDER: &[&str] = &["bandwidth_kib", "segments", "window"];
const BUCKET: &[&str] =
    &["bandwidth_kib", "ca", "credentials", "endpoint", "lock", "path_style", "region", "segments", "window"];

/// Every target that is configured, in their order; one at least.
pub fn all(config: &Config, clock: &SharedClock) -> Result<Vec<Target>, Problem> {
    if config.backup.targets.is_empty() {
        let objects = Arc::new(Folder::at(local(config)));
        return Ok(vec![Target { name: LOCAL.to_owned(), objects, window: None, segments_wait: false }]);
    }
    let (mut targets, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for text in &config.backup.targets {
        match open(text, config, clock) {
            Ok(target) if !names.insert(target.name.clone()) => {
                faults.push(Fault::new("targets.twice").at(text).with("name", target.name));
            }
            Ok(target) => targets.push(target),
            Err(problem) => faults.extend(problem.faults().cloned()),
        }
    }
    if faults.is_empty() { Ok(targets) } else { Err(Problem::all(Kind::Refused, faults)) }
}

/// The first of them: where backups go for now.
pub fn first(config: &Config, clock: &SharedClock) -> Result<Target, Problem> {
    let none = || Problem::new(Kind::Refused, Fault::new("targets.place"));
    all(config, clock)?.into_iter().next().ok_or_else(none)
}

/// The place that a text names, `[NAME=]PLACE`.
pub fn open(text: &str, config: &Config, clock: &SharedClock) -> Result<Target, Problem> {
    opened(text, config, clock).map_err(|fault| Problem::new(Kind::Refused, fault.at(text)))
}

fn opened(text: &str, config: &Config, clock: &SharedClock) -> Result<Target, Fault> {
    let words = Words::read(text)?;
    let window = words.option("window").map(|word| word.parse::<Window>().map_err(|()| wrong("window", word)));
    let segments_wait = match words.option("segments") {
        None | Some("always") => false,
        Some("window") => true,
        Some(word) => return Err(wrong("segments", word)),
    };
    let pace = words.option("bandwidth_kib").map(|word| match word.parse() {
        Ok(kib @ 8..=1_048_576) => Ok(Pace::new(kib * 1024)),
        Ok::<u64, _>(_) | Err(_) => Err(wrong("bandwidth_kib", word)),
    });
    let (window, pace) = (window.transpose()?, pace.transpose()?);
    let objects: Arc<dyn Objects> = match words.place {
        Place::Folder(path) => {
            let folder = Arc::new(Folder::at(path));
            match pace {
                Some(pace) => Arc::new(Paced::new(folder, pace)),
                None => folder,
            }
        }
        Place::Bucket { bucket, prefix } => {
            let settings = bucket_settings(&words, (bucket, prefix), pace, config)?;
            let endpoint = settings.endpoint.clone();
            let bucket = S3::new(settings, clock.clone());
            Arc::new(bucket.map_err(|_| wrong("endpoint", &endpoint))?)
        }
    };
    Ok(Target { name: words.name.clone(), objects, window, segments_wait })
}

/// The folders among the targets, for what looks at disks.
pub fn folders(config: &Config) -> Vec<PathBuf> {
    let words = config.backup.targets.iter().filter_map(|text| Words::read(text).ok());
    words.filter_map(|words| if let Place::Folder(path) = words.place { Some(path.to_owned()) } else { None }).collect()
}

/// The folder in the data directory.
pub fn local(config: &Config) -> PathBuf {
    config.instance.data_dir.join(LOCAL_FOLDER)
}

#[derive(Clone, Copy)]
enum Place<'a> {
    Folder(&'a Path),
    Bucket { bucket: &'a str, prefix: &'a str },
}

struct Words<'a> {
    name: String,
    place: Place<'a>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn read(text: &'a str) -> Result<Self, Fault> {
        let (name, rest) = match text.split_once('=') {
            Some((name, rest)) if !name.contains(['/', ':', '?']) => (Some(name), rest),
            _ => (None, text),
        };
        let (place, query, known) = match rest.split_once(':') {
            Some(("s3", rest)) => {
                let rest = rest.strip_prefix("//").ok_or_else(|| Fault::new("targets.place"))?;
                let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                (Place::Bucket { bucket, prefix: prefix.trim_matches('/') }, query, BUCKET)
            }
            Some(("folder", rest)) => {
                let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
                (Place::Folder(Path::new(path)), query, FOLDER)
            }
            Some((_, path)) if path.starts_with("//") => return Err(Fault::new("targets.place")),
            _ => (Place::Folder(Path::new(rest)), "", FOLDER),
        };
        let named = match place {
            Place::Folder(path) if path == Path::new("") => return Err(Fault::new("targets.place")),
            Place::Folder(path) => path.file_name().map_or("folder".into(), |name| name.to_string_lossy()),
            Place::Bucket { bucket: "", .. } => return Err(Fault::new("targets.place")),
            Place::Bucket { bucket, .. } => bucket.into(),
        };
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = match name {
            Some(name) if name.is_empty() || !name.chars().all(fit) => {
                return Err(Fault::new("targets.name").with("name", name));
            }
            Some(name) => name.to_owned(),
            None => named.chars().map(|c| if fit(c) { c } else { '-' }).collect(),
        };
        let mut options: Vec<(&str, &str)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (option, value) = part.split_once('=').unwrap_or((part, ""));
            if !known.contains(&option) || options.iter().any(|(earlier, _)| *earlier == option) {
                let fault = Fault::new("targets.option").with("option", option);
                return Err(fault.with("known", known.join(", ")));
            }
            options.push((option, value));
        }
        Ok(Self { name, place, options })
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.options.iter().find(|(option, _)| *option == name).map(|(_, value)| *value)
    }
}

fn wrong(option: &str, value: &str) -> Fault {
    Fault::new("targets.value").with("option", option).with("value", value)
}

fn bucket_settings(
    words: &Words<'_>,
    (bucket, prefix): (&str, &str),
    pace: Option<Arc<Pace>>,
    config: &Config,
) -> Result<Settings, Fault> {
    let endpoint = words.option("endpoint").ok_or_else(|| Fault::new("targets.endpoint"))?;
    if !is_safe(endpoint) {
        return Err(Fault::new("targets.cleartext").with("endpoint", endpoint));
    }
    let path_style = match words.option("path_style") {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(wrong("path_style", other)),
    };
    Ok(Settings {
        endpoint: endpoint.to_owned(),
        region: words.option("region").unwrap_or("us-east-1").to_owned(),
        path_style,
        bucket: bucket.to_owned(),
        prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
        credential: credential(words, config)?,
        roots: roots(words, config)?,
        lock: words.option("lock").map(lock).transpose()?,
        pace,
        patience: Patience::default(),
        abandoned: ABANDONED,
    })
}

/// `compliance:30`.
fn lock(word: &str) -> Result<Lock, Fault> {
    let read = || {
        let (mode, days) = word.split_once(':')?;
        let compliance = match mode {
            "compliance" => true,
            "governance" => false,
            _ => return None,
        };
        let days = days.parse().ok().filter(|days| (1..=36_500).contains(days))?;
        Some(Lock { compliance, days })
    };
    read().ok_or_else(|| wrong("lock", word))
}

/// Of the target's own file, or the configuration's.
fn credential(words: &Words<'_>, config: &Config) -> Result<Credential, Fault> {
    if let Some(path) = words.option("credentials") {
        let unfit = |why: &dyn std::fmt::Display| Fault::new("targets.credentials").with("file", path).with("why", why);
        let text = files::secret(Path::new(path)).map_err(|error| unfit(&error))?;
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        return match (lines.next(), lines.next(), lines.next()) {
            (Some(key), Some(secret), None) => {
                Ok(Credential { key: key.to_owned(), secret: Zeroizing::new(secret.to_owned()) })
            }
            _ => Err(unfit(&io::Error::other("two lines are wanted: access key, secret key"))),
        };
    }
    match (&config.backup.access_key, &config.backup.secret_key) {
        (Some(key), Some(secret)) => {
            Ok(Credential { key: key.expose().to_owned(), secret: Zeroizing::new(secret.expose().to_owned()) })
        }
        _ => Err(Fault::new("targets.no_credentials")),
    }
}

/// Of the target's own authority alone where it names one.
fn roots(words: &Words<'_>, config: &Config) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let unfit = |what: &str, error: io::Error| Fault::new("targets.ca").with("setting", what).with("why", error);
    match words.option("ca") {
        Some(path) => trust::listed(Path::new(path)).map_err(|error| unfit("ca", error)),
        None => trust::certificates(config.tls.trusted.as_deref()).map_err(|error| unfit("tls.trusted", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    fn targets(words: &[(&'static str, &str)]) -> Result<Vec<Target>, Vec<&'static str>> {
        let config = Config::of(words).unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        all(&config, &clock).map_err(|problem| problem.faults().map(|fault| fault.key).collect())
    }

    fn one(text: &str) -> Result<(String, String), &'static str> {
        let keys = [("backup.access_key", "AKIA7Q"), ("backup.secret_key", "b5U0x2kQmT7v")];
        let targets = targets(&[&[("backup.targets", text)][..], &keys].concat());
        targets.map(|all| (all[0].name.clone(), all[0].objects.place())).map_err(|faults| faults[0])
    }

    fn said(name: &str, place: &str) -> Result<(String, String), &'static str> {
        Ok((name.to_owned(), place.to_owned()))
    }

    #[test]
    fn places_are_named_by_themselves_or_by_the_operator() {
        let local = targets(&[("instance.data_dir", "/data")]).unwrap();
        assert_eq!((local[0].name.as_str(), local[0].objects.place().as_str()), ("local", "/data/backups"));
        assert_eq!(one("/mnt/usb.disk"), said("usb-disk", "/mnt/usb.disk"));
        assert_eq!(one("stick=/mnt/usb"), said("stick", "/mnt/usb"));
        assert_eq!(one("backups"), said("backups", "backups"));
        assert_eq!(one("nfs=folder:/mnt/nfs?bandwidth_kib=512&window=22:00-06:00+01:00"), said("nfs", "/mnt/nfs"));
        let bucket = "s3://ministry/prod/main?endpoint=https://s3.example.cd:9000&region=cd-1";
        assert_eq!(one(bucket), said("ministry", "s3://s3.example.cd:9000/ministry/prod/main"));
        let away = format!("away={bucket}&path_style=false&lock=governance:30&bandwidth_kib=64&window=22:00-06:00");
        assert_eq!(one(&away), said("away", "s3://ministry.s3.example.cd:9000/ministry/prod/main"));
        let beneath = one("s3://m?endpoint=http://127.0.0.1:1").unwrap();
        assert_eq!(beneath.1, "s3://127.0.0.1:1/m");
    }

    #[test]
    fn what_is_wrong_is_said_of_every_target_at_once() {
        let endpoint = "endpoint=https://s3.example.cd";
        for (text, expected) in [
            ("folder:", "targets.place"),
            ("gcs://bucket", "targets.place"),
            ("s3:bucket", "targets.place"),
            (&format!("s3://?{endpoint}"), "targets.place"),
            ("a_b=/mnt/usb", "targets.name"),
            ("=/mnt/usb", "targets.name"),
            ("folder:/mnt?speed=1", "targets.option"),
            ("folder:/mnt?lock=compliance:1", "targets.option"),
            (&format!("s3://b?{endpoint}&{endpoint}"), "targets.option"),
            ("folder:/mnt?window=22-6", "targets.value"),
            ("folder:/mnt?bandwidth_kib=0", "targets.value"),
            ("folder:/mnt?segments=never", "targets.value"),
            (&format!("s3://b?{endpoint}&lock=forever"), "targets.value"),
            (&format!("s3://b?{endpoint}&lock=compliance:0"), "targets.value"),
            (&format!("s3://b?{endpoint}&path_style=1"), "targets.value"),
            ("s3://b?region=cd-1", "targets.endpoint"),
            ("s3://b?endpoint=http://s3.example.cd", "targets.cleartext"),
            (&format!("s3://b?{endpoint}&ca=/absent"), "targets.ca"),
            (&format!("s3://b?{endpoint}&credentials=/absent"), "targets.credentials"),
        ] {
            assert_eq!(one(text), Err(expected), "{text}");
        }
        let both = format!("/a/x,x=/b,s3://b?{endpoint},c=folder:/c?window=1");
        let faults = targets(&[("backup.targets", &both)]).map(|all| all.len());
        assert_eq!(faults, Err(vec!["targets.twice", "targets.no_credentials", "targets.value"]));
    }

    #[test]
    fn a_credential_has_two_lines_that_nobody_else_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let open = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let place = format!("s3://b?endpoint=https://s3.example.cd&credentials={}", path.display());
            targets(&[("backup.targets", &place)]).map(drop)
        };
        assert_eq!(open("key\nsecret\n", 0o600), Ok(()));
        for (text, mode) in [("key\nsecret\n", 0o640), ("key\n", 0o600), ("key\nsecret\nmore\n", 0o600)] {
            assert_eq!(open(text, mode), Err(vec!["targets.credentials"]), "{text:?} {mode:o}");
        }
    }
}
