//! `serve`: the start-up list, then the wait, then the end.

use super::{
    alerts, certificates,
    collector::{self, Kept},
    listener::tls::Shown,
    migrations,
    open::Opened,
    preconditions::{self, Judged},
    problem::{Kind, Problem},
    restore,
    running::{Doors, Parts, Running, Senses, start_ops},
    safekeeping,
    supervisor::{self, Signals, Told},
    vault,
};
use crate::{
    base::{
        clock::{SharedClock, Stopwatch, SystemClock},
        config::{Config, Origin},
        fault::Fault,
        metrics::Metrics,
        process, release,
        sockets::Sockets,
        stop::Stopper,
        telemetry::{self, About},
    },
    http::{self, serve::App},
    services::{
        access::Caller,
        alerts::Alerts,
        audit::Event,
        collections::Collections,
        documents::{self, Documents},
        health::Finding,
        instance::Stamp,
        logs::Logs,
        status::Status,
        updates,
    },
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};

/// Reads the configuration once more.
pub type Reread<'a> = &'a (dyn Fn() -> Result<Config, Vec<Fault>> + Sync);

/// Serves until told to stop, on the sockets the supervisor handed over where it did. An instance in an unhealthy state is
/// refused, with every reason at once.
pub async fn serve(config: Config, handed: Sockets, reread: Reread<'_>) -> Result<(), Problem> {
    let watch = Stopwatch::start();
    let clock: SharedClock = Arc::new(SystemClock);
    preconditions::not_for_others(&config.instance.data_dir)?;
    let mut signals = Signals::listen().map_err(|error| Problem::file("signals", error))?;
    let judged = async {
        let config = vault::resolved(&config).await?;
        let judged = preconditions::instance(&config, clock.now()).await;
        Ok::<_, Problem>((config, judged))
    };
    // A vault may let wait for its answer.
    let (config, Judged { findings, refusal }) = tokio::select! {
        judged = judged => judged?,
        signal = signals.end() => return told(signal),
    };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let kept = Kept::of(&config);
    let whose = (about(&config)?, kept.records.clone());
    let trusted = config.tls.trusted.as_deref();
    let log = telemetry::start(&config.log, &config.log_dir(), trusted, whose, clock.clone());
    let (_log, levels) = log.map_err(|fault| Problem::new(Kind::Failed, fault))?;
    let metrics = Metrics::new(clock.clone());
    let senses = Senses { metrics, health: Arc::default(), levels: Some(levels), clock, kept };
    telemetry::watch_panics(senses.metrics.clone());
    let running = tokio::select! {
        running = start(&config, handed, senses, findings) => running,
        signal = signals.end() => return told(signal),
    };
    let running = running.inspect_err(|problem| {
        for fault in problem.faults() {
            tracing::error!(%fault, "cannot start");
        }
    })?;
    announce(&running, watch.millis());

    let signal = tokio::select! {
        signal = attend(&mut signals, &running, &config, reread) => signal,
        () = supervisor::keep_watchdog() => "",
    };
    let grace = Duration::from_secs(config.server.drain_seconds);
    tracing::info!(signal, grace_seconds = grace.as_secs(), "draining");
    supervisor::stopping("draining");
    let hurry = async {
        tokio::select! {
            signal = signals.end() => tracing::warn!(signal, "told again"),
            () = supervisor::keep_watchdog() => {}
        }
    };
    running.stop(grace, hurry).await.inspect_err(|problem| tracing::error!(%problem, "the store did not close"))?;
    tracing::info!("stopped");
    Ok(())
}

/// Whose lines the log has.
fn about(config: &Config) -> Result<About, Problem> {
    let stamp = Stamp::read(&config.instance.data_dir, config.instance.environment)?;
    let host = config.server.hostnames.first().cloned().unwrap_or_else(|| "localhost".to_owned());
    Ok(About { environment: stamp.environment.name().to_owned(), instance: stamp.id, host })
}

/// Follows the configuration as it is told to, until it is told to end.
async fn attend(signals: &mut Signals, running: &Running, config: &Config, reread: Reread<'_>) -> &'static str {
    let again = async || match reread() {
        Ok(again) => vault::resolved(&again).await,
        Err(faults) => Err(Problem::all(Kind::Refused, faults)),
    };
    loop {
        if let Told::End(signal) = signals.next().await {
            return signal;
        }
        let again = loop {
            tokio::select! {
                again = again() => break again,
                // Told once more, what is being read may be old: it is read anew.
                told = signals.next() => if let Told::End(signal) = told {
                    return signal;
                }
            }
        };
        match again {
            Ok(again) => running.follow(config, &again).await,
            Err(problem) => {
                for fault in problem.faults() {
                    tracing::error!(%fault, "the configuration stays as it was");
                }
            }
        }
    }
}

/// From the addresses to the open doors. What opens the store comes after the addresses are ours.
pub async fn start(
    config: &Config,
    handed: Sockets,
    senses: Senses,
    findings: Vec<Finding>,
) -> Result<Running, Problem> {
    let mut doors = Doors::take(config, handed)?;
    let ops_address = doors.address("ops");
    let ops = (ops_address, start_ops(&mut doors, &senses));
    supervisor::status("opening the store");
    for finding in findings {
        if let Some(fault) = &finding.fault {
            match safekeeping::is_grave(&finding) {
                true => tracing::error!(check = %finding.check, %fault, "precondition"),
                false => tracing::warn!(check = %finding.check, %fault, "precondition"),
            }
        }
        senses.health.report(finding);
    }
    match process::raise_open_files_limit() {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
    if let Err(problem) = restore::settle(config, &senses.clock) {
        tracing::warn!(fault = %problem.fault, "what a restore that took this place left is not tidied up");
    }
    let opened = migrations::opened(config, &senses).await?;
    if let Err(error) = opened.snapshots.sweep() {
        tracing::warn!(%error, "copies of rehearsals are not removed");
    }
    opened.audit.record(&Caller::system(), started(config, &opened)).await?;
    let (documents, seals) = (opened.documents.clone(), opened.seals.clone());
    let stopper = Stopper::default();
    let identities = opened.identities.clone();
    // Beside the start, which does not wait for it.
    stopper.stop().spawn(async move {
        if let Err(error) = identities.calibrate().await {
            tracing::warn!(%error, "password hashes stay at the floor");
        }
    });
    let alerts = alerts::alerts(config, &opened, &senses)?;
    alerts.begin();
    let shown = Arc::new(Shown::default());
    let parts = Parts {
        logs: logs(&opened, &senses),
        collector: collector::collector(config, about(config)?, &senses)?,
        certificates: Arc::new(certificates::certificates(config, &opened, shown.clone(), &senses)?),
        shown,
        app: app(config, &opened, &senses, (&stopper, alerts.clone())),
        alerts,
        documents: documents.clone(),
        audit: opened.audit.clone(),
        seals: seals.clone(),
        subjects: opened.subjects.clone(),
        backups: opened.backups.clone(),
        drills: opened.drills.clone(),
        sessions: opened.sessions.clone(),
        trust: opened.trust.clone(),
        keys: opened.keys.clone(),
        machines: opened.machines.clone(),
        recoveries: opened.recoveries.clone(),
        verifications: opened.verifications.clone(),
        secrets: opened.secrets.clone(),
    };
    match Running::start(config, doors, ops, stopper, parts, senses).await {
        Ok(running) => Ok(running),
        Err(problem) => {
            // Whatever was begun ends with the process; the stores alone must be closed.
            documents.close().await?;
            seals.close().await?;
            Err(problem)
        }
    }
}

/// How this start found its configuration: the whole by its digest, and where each value that is no default was set.
fn started(config: &Config, opened: &Opened) -> Event {
    let set = config.entries.iter().filter(|entry| entry.origin != Origin::Default);
    let origins = set.map(|entry| (entry.setting.key.to_owned(), Value::from(entry.origin.to_string())));
    let keys = opened.keyring.keys().into_iter().map(|key| format!("{} {}", key.purpose.name(), key.version));
    Event::new("server.start")
        .with("version", release::version())
        .with("environment", opened.stamp.environment.name())
        .with("lineage", opened.stamp.lineage)
        .with("configuration", digest(config))
        .with("origins", Value::Object(origins.collect()))
        .with("keys", keys.collect::<Vec<_>>())
}

/// Of every value there is, a secret's but whether there is one.
pub fn digest(config: &Config) -> String {
    let values = config.entries.iter().map(|entry| format!("{}={}\n", entry.setting.key, entry.value));
    hex::encode(Sha256::digest(values.collect::<String>()))
}

/// The routes over an opened instance.
pub fn app(config: &Config, opened: &Opened, senses: &Senses, (stopper, alerts): (&Stopper, Arc<Alerts>)) -> App {
    let server = &config.server;
    let mib = |count: u64| usize::try_from(count << 20).unwrap_or(usize::MAX);
    let store = opened.documents.clone();
    let limits = documents::Limits {
        document_bytes: mib(server.document_mib),
        page: server.page_rows,
        ..documents::Limits::default()
    };
    let documents = Documents::new(
        store.clone(),
        senses.clock.clone(),
        limits,
        opened.access.clone(),
        opened.audit.clone(),
        opened.seals.clone(),
    );
    senses.metrics.watch("rules", documents.looks());
    senses.metrics.watch("memberships", opened.identities.memberships().looks());
    let state = http::State {
        documents,
        collections: Collections::new(store, senses.clock.clone(), opened.access.clone(), opened.policies.clone()),
        identities: opened.identities.clone(),
        organizations: opened.organizations(),
        invitations: opened.invitations(),
        sessions: opened.sessions.clone(),
        mfa: opened.mfa.clone(),
        keys: opened.keys.clone(),
        machines: opened.machines.clone(),
        recoveries: opened.recoveries.clone(),
        verifications: opened.verifications.clone(),
        oidc: opened.oidc.clone(),
        backups: opened.backups.clone(),
        drills: opened.drills.clone(),
        audit: opened.audit.clone(),
        access: opened.access.clone(),
        policies: opened.policies.clone(),
        trust: opened.trust.clone(),
        throttle: opened.throttle.clone(),
        limiter: opened.limiter.clone(),
        proxies: server.trusted_proxies.clone(),
        subjects: opened.subjects.clone(),
        secrets: opened.secrets.clone(),
        snapshots: opened.snapshots.clone(),
        health: senses.health.clone(),
        logs: logs(opened, senses),
        traces: senses.kept.traces.clone(),
        status: Status {
            alerts,
            health: senses.health.clone(),
            metrics: senses.metrics.clone(),
            started: senses.clock.now(),
            documents: opened.documents.clone(),
        },
        updates: updates::Notes { access: opened.access.clone(), audit: opened.audit.clone() },
        clock: senses.clock.clone(),
        environment: opened.stamp.environment,
        limits: http::Limits {
            body: mib(server.body_mib),
            batch: mib(server.body_mib),
            line: mib(server.document_mib * 2),
            request: Duration::from_secs(server.request_seconds),
            ..http::Limits::default()
        },
        tasks: stopper.stop().tasks(),
        bodies: http::Room::default(),
    };
    App::new(http::router(state), senses.metrics.clone())
}

/// What commands and jobs alike change.
pub fn logs(opened: &Opened, senses: &Senses) -> Arc<Logs> {
    let (access, audit) = (opened.access.clone(), opened.audit.clone());
    Arc::new(Logs { access, audit, clock: senses.clock.clone(), levels: senses.levels.clone() })
}

fn told(signal: &str) -> Result<(), Problem> {
    tracing::info!(signal, "stopped while starting");
    Ok(())
}

fn announce(running: &Running, millis: u64) {
    let address = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
    tracing::info!(
        https = %running.https,
        http = address(running.http),
        ops = address(running.ops),
        version = release::version(),
        millis,
        "ready"
    );
    supervisor::ready(&format!("serving on {}", running.https));
}
