//! What must hold before the instance serves; the same checks for start-up and for `doctor`.

use super::{
    alerts, authority, collector, drill, keys,
    listener::{clients, network},
    migrations, open, outgoing,
    problem::{Kind, Problem},
    safekeeping, vault,
};
use crate::{
    base::{
        clock::{SharedClock, SystemClock, Timestamp},
        config::{Config, Listener, Source},
        environment::Environment,
        fault::Fault,
        process, telemetry,
    },
    ports::certificates::Certificates,
    services::{
        certificates,
        health::{self, Finding, Level},
        instance::{Likeness, Stamp},
        keyring::Keyring,
    },
};
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// Fewer open files than this cannot serve many.
const FEW_FILES: u64 = 1024;
/// How far ahead of the clock a file's date may be before the clock is not believed.
const CLOCK_SLACK_SECONDS: i64 = 3600;
/// How long a name may take to be found.
const LOOKUP: Duration = Duration::from_secs(5);

/// What was found, and why it must not serve, if so.
#[derive(Default)]
pub struct Judged {
    pub findings: Vec<Finding>,
    pub refusal: Option<Problem>,
}

impl Judged {
    fn add(&mut self, finding: Finding) {
        match (finding.level, &finding.fault) {
            (Level::Failure, Some(fault)) => self.fail(finding.check, Problem::new(Kind::Refused, fault.clone())),
            _ => self.findings.push(finding),
        }
    }

    /// The first failure gives the kind of the refusal, the others are told along.
    fn fail(&mut self, check: impl Into<Cow<'static, str>>, problem: Problem) {
        self.findings.push(Finding::failure(check, problem.fault.clone()));
        match &mut self.refusal {
            Some(refusal) => refusal.more.push(problem.fault),
            None => self.refusal = Some(problem),
        }
    }
}

/// Everything, the addresses included: what `doctor` shows of an instance that does not run.
pub async fn all(config: &Config, now: Timestamp) -> Vec<Finding> {
    let brought = vault::resolved(config).await;
    let (config, missing) = match &brought {
        Ok(config) => (config, Vec::new()),
        Err(problem) => (config, problem.faults().cloned().collect()),
    };
    let missing = missing.into_iter().map(|fault| Finding::failure("vault", fault));
    let mut findings: Vec<_> = instance(config, now).await.findings.into_iter().map(safekeeping::sterner).collect();
    findings.extend(missing);
    findings.extend(store(config).await);
    findings.extend(migrations::finding(config).await);
    findings.extend(drill::due(config, now).await);
    if let Ok(stamp) = Stamp::read(&config.instance.data_dir, config.instance.environment) {
        let clock: SharedClock = Arc::new(SystemClock);
        findings.push(alerts::reach(config, &stamp, &clock));
    }
    findings.push(addresses(config).await);
    findings.push(host_names(&config.server.hostnames).await);
    findings
}

/// Read to its last page, if nobody serves it and its keys are there.
async fn store(config: &Config) -> Option<Finding> {
    let stamp = Stamp::read(&config.instance.data_dir, config.instance.environment).ok()?;
    let keyring = keyring(config, &stamp).await.ok()?;
    match open::inspect(config, &stamp, &keyring).await? {
        Ok(()) => Some(Finding::ok(health::STORE)),
        Err(problem) => Some(Finding::failure(health::STORE, problem.fault)),
    }
}

/// All but the addresses and the store, which start-up takes for good right away.
pub async fn instance(config: &Config, now: Timestamp) -> Judged {
    let data = &config.instance.data_dir;
    let mut judged = Judged::default();
    let stamp = match Stamp::read(data, config.instance.environment) {
        Ok(stamp) => stamp,
        // Nothing further can be judged.
        Err(error) => {
            judged.fail("instance", error.into());
            return judged;
        }
    };
    if let Some(copy) = &stamp.copy {
        let key = match copy {
            Likeness::Drill => "instance.copy_drill",
            Likeness::Partial => "instance.copy_partial",
        };
        judged.add(Finding::failure("instance", Fault::new(key).at(data.display().to_string())));
        return judged;
    }
    judged.add(Finding::ok("instance"));
    judged.add(directory(data));
    judged.add(clock(config, &stamp, now));
    judged.add(health::disk(data, config.storage.reserve_mib << 20, None));
    judged.add(open_files());
    match open::requests(config).and_then(|_| open::rules(config)) {
        Ok(_) => judged.add(Finding::ok("limits")),
        Err(problem) => judged.fail("limits", problem),
    }
    match open::backup_settings(config) {
        Ok(_) => judged.add(Finding::ok("backup_schedule")),
        Err(problem) => judged.fail("backup_schedule", problem),
    }
    judged.add(client_authority(config));
    match outgoing::directory(config, &stamp) {
        Ok(_) => judged.add(Finding::ok("directory")),
        Err(problem) => judged.fail("directory", problem),
    }
    if let Err(fault) = telemetry::check(&config.log, config.tls.trusted.as_deref()) {
        judged.add(Finding::failure("log", fault));
    }
    if let Err(fault) = collector::check(config) {
        judged.add(Finding::failure("collector", fault));
    }
    let time: SharedClock = Arc::new(SystemClock);
    if let Err(problem) = alerts::check(config, &stamp, &time) {
        judged.fail(alerts::CHECK, problem);
    }
    match keys::keyring(config, &stamp).await {
        Ok((keyring, root)) => {
            judged.add(Finding::ok("keys"));
            if let Some(fault) = keys::unmoved(config, &*root).or_else(|| keys::left(config)) {
                judged.add(Finding::warning("root_key_place", fault));
            }
            judged.add(certificate(config, &stamp, &keyring, now).await);
            judged.add(source(config));
        }
        Err(problem) => judged.fail("keys", problem),
    }
    for finding in safekeeping::findings(config, stamp.environment) {
        judged.add(finding);
    }
    judged
}

/// Ours, and closed to others.
fn directory(data: &Path) -> Finding {
    const CHECK: &str = "data_directory";
    let fault = |key| Fault::new(key).at(data.display().to_string());
    let metadata = match std::fs::metadata(data) {
        Ok(metadata) => metadata,
        Err(error) => return Finding::failure(CHECK, fault("preconditions.no_directory").with("cause", error)),
    };
    let (own, mode) = (rustix::process::geteuid().as_raw(), metadata.mode() & 0o777);
    let mode_text = format!("{mode:03o}");
    if !metadata.is_dir() {
        Finding::failure(CHECK, fault("preconditions.no_directory").with("cause", "not a directory"))
    } else if own != 0 && metadata.uid() != own {
        Finding::failure(CHECK, fault("preconditions.not_owner").with("owner", metadata.uid()).with("own", own))
    } else if mode & 0o022 != 0 {
        Finding::failure(CHECK, fault("preconditions.writable").with("mode", mode_text))
    } else if mode & 0o055 != 0 {
        Finding::warning(CHECK, fault("preconditions.readable").with("mode", mode_text))
    } else {
        Finding::ok(CHECK)
    }
}

/// A clock behind what was already written would issue tokens and certificates of the past.
fn clock(config: &Config, stamp: &Stamp, now: Timestamp) -> Finding {
    const CHECK: &str = "clock";
    let written = std::fs::metadata(open::database(config)).map(|known| known.mtime()).unwrap_or_default();
    let newest = stamp.created_at.seconds().max(written);
    if now.seconds() + CLOCK_SLACK_SECONDS < newest {
        let known = Timestamp(newest.saturating_mul(1000));
        let behind = Fault::new("preconditions.clock_behind").with("now", now.rfc3339()).with("known", known.rfc3339());
        return Finding::failure(CHECK, behind);
    }
    Finding::ok(CHECK)
}

fn open_files() -> Finding {
    const CHECK: &str = "open_files";
    match process::open_files_limit() {
        limit if limit < FEW_FILES => {
            let few = Fault::new("preconditions.few_files").with("limit", limit).with("wanted", FEW_FILES);
            Finding::warning(CHECK, few)
        }
        _ => Finding::ok(CHECK),
    }
}

/// Without it, who is to be believed would be nobody.
fn client_authority(config: &Config) -> Finding {
    const CHECK: &str = "client_authority";
    match config.server.client_ca.as_deref().map(clients::verifier) {
        Some(Err(fault)) => Finding::failure(CHECK, fault),
        Some(Ok(_)) | None => Finding::ok(CHECK),
    }
}

async fn keyring(config: &Config, stamp: &Stamp) -> Result<Keyring, Problem> {
    Ok(keys::keyring(config, stamp).await?.0)
}

async fn certificate(config: &Config, stamp: &Stamp, keyring: &Keyring, now: Timestamp) -> Finding {
    let issued = async {
        let issuer = authority::internal(keyring, config.tls.certificate_days, now)?;
        issuer.issue(&names(config, stamp), now).await.map_err(Problem::from)
    };
    match issued.await {
        Ok(_) => Finding::ok(certificates::CHECK),
        // Where others certify the names, ours only stands in.
        Err(problem) if config.tls.mode != Source::Internal => Finding::warning(certificates::CHECK, problem.fault),
        Err(problem) => Finding::failure(certificates::CHECK, problem.fault),
    }
}

/// Whether the configuration says all that is needed of those who certify the host names.
fn source(config: &Config) -> Finding {
    const CHECK: &str = "certificate_source";
    let clock: SharedClock = Arc::new(SystemClock);
    match super::certificates::mode(config, &Arc::default(), &clock) {
        Ok(_) => Finding::ok(CHECK),
        Err(problem) => Finding::failure(CHECK, problem.fault),
    }
}

/// What certificates are for: the configured names, and this machine's own while developing.
pub fn names(config: &Config, stamp: &Stamp) -> Vec<String> {
    let mut names = config.server.hostnames.clone();
    if stamp.environment == Environment::Development {
        for own in ["localhost", "127.0.0.1", "::1"] {
            if !names.iter().any(|name| name == own) {
                names.push(own.to_owned());
            }
        }
    }
    names
}

/// Every configured listener with its address.
pub fn listeners(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let server = &config.server;
    let mut listeners = vec![("https", server.https)];
    for (name, listener) in [("http", server.http), ("ops", server.ops)] {
        if let Listener::On(address) = listener {
            listeners.push((name, address));
        }
    }
    listeners
}

async fn addresses(config: &Config) -> Finding {
    const CHECK: &str = "addresses";
    for (name, address) in listeners(config) {
        match network::bind(name, address) {
            Err(fault) if fault.key == "server.port_in_use" && is_of_unit(name).await => {
                let fault = Fault::new("server.port_of_unit").with("listener", name).with("address", address);
                return Finding::warning(CHECK, fault);
            }
            Err(fault) => return Finding::failure(CHECK, fault),
            Ok(_) => {}
        }
    }
    Finding::ok(CHECK)
}

/// Whether systemd listens for this service, by the unit its package brings, or for an environment beside it.
async fn is_of_unit(listener: &str) -> bool {
    let unit = format!("debrouille-appliance-{listener}*.socket");
    process::run(Path::new("systemctl"), &["is-active", "--quiet", &unit], "", LOOKUP).await.is_ok()
}

/// What root made while it served, the log and the socket for commands, would be closed to whom the data belong.
pub fn not_for_others(data: &Path) -> Result<(), Problem> {
    let owner = std::fs::metadata(data).map_or(0, |data| data.uid());
    if owner == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let fault = Fault::new("preconditions.served_by_root").at(data.display().to_string());
    Err(Problem::new(Kind::Refused, fault.with("owner", owner)))
}

/// Whether this machine finds its own names. Clients elsewhere may all the same, so this never fails.
async fn host_names(names: &[String]) -> Finding {
    const CHECK: &str = "host_names";
    for name in names.iter().filter(|name| name.parse::<IpAddr>().is_err() && !name.starts_with("*.")) {
        let unknown = |cause: &dyn std::fmt::Display| {
            Finding::warning(CHECK, Fault::new("preconditions.host_name").with("name", name).with("cause", cause))
        };
        match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name.as_str(), 443))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return unknown(&error),
            Err(late) => return unknown(&late),
        }
    }
    Finding::ok(CHECK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(data: &Path, mode: u32) {
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_directory_must_be_there_and_closed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let judged = || (directory(data).level, directory(data).fault.map(|fault| fault.key));
        mode(data, 0o700);
        assert_eq!(judged(), (Level::Ok, None));
        mode(data, 0o750);
        assert_eq!(judged(), (Level::Warning, Some("preconditions.readable")));
        mode(data, 0o770);
        assert_eq!(judged(), (Level::Failure, Some("preconditions.writable")));
        assert_eq!(directory(&data.join("absent")).level, Level::Failure);
    }

    #[tokio::test]
    async fn a_name_nobody_knows_is_a_warning() {
        let level = async |name: &str| host_names(&["127.0.0.1".to_owned(), name.to_owned()]).await.level;
        assert_eq!(level("localhost").await, Level::Ok);
        assert_eq!(level("nowhere.invalid").await, Level::Warning);
    }

    #[test]
    fn a_clock_behind_the_data_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let stamp = Stamp::new(Environment::Staging, Timestamp(1_000_000_000_000));
        let config = Config::of(&[("instance.data_dir", data.to_str().unwrap())]).unwrap();
        let level = |seconds: i64| clock(&config, &stamp, Timestamp(seconds * 1000)).level;
        assert_eq!(level(1_000_000_000), Level::Ok);
        assert_eq!(level(1_000_000_000 - CLOCK_SLACK_SECONDS - 1), Level::Failure);
        std::fs::write(open::database(&config), b"").unwrap();
        assert_eq!(level(1_000_000_000), Level::Failure, "older than the database");
    }

    #[tokio::test]
    async fn an_absent_instance_is_one_failure_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap().to_owned();
        let config = Config::of(&[("instance.data_dir", &data)]).unwrap();
        let judged = instance(&config, Timestamp(0)).await;
        let refusal = judged.refusal.unwrap();
        assert_eq!((refusal.kind, refusal.fault.key), (Kind::NotFound, "instance.absent"));
        assert_eq!(judged.findings.len(), 1);
    }
}
