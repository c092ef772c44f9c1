//! An instance that serves: its listeners and jobs, and their end in two stages.

use super::{
    certificates,
    collector::Kept,
    listener::{
        Limits, clients,
        control::Control,
        network::{self, Network},
        tls::{self, Shown},
    },
    preconditions,
    problem::{Kind, Problem},
    serve::digest,
    vault,
};
use crate::{
    base::{
        clock::{SharedClock, Stopwatch},
        config::{Config, Origin},
        fault::Fault,
        metrics::Metrics,
        sockets::Sockets,
        stop::{Stop, Stopper},
        telemetry::Levels,
    },
    http::{self, serve::App},
    jobs::{self, Scheduler, backups::AWAY},
    ports::documents::Documents,
    services::{
        access::Caller,
        alerts::Alerts,
        audit::{Audit, Event},
        backups::Backups,
        certificates::Certificates,
        collector::Collector,
        drills::Drills,
        health::{Health, Observer, Phase},
        journal::Journal,
        keys::Keys,
        logs::Logs,
        machines::Machines,
        recovery::Recoveries,
        sealing::Seals,
        secrets::Secrets,
        sessions::Sessions,
        subjects::Subjects,
        trust::Trust,
        verification::Verifications,
    },
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// What every part reports to.
#[derive(Clone)]
pub struct Senses {
    pub clock: SharedClock,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    /// Absent where nothing is logged.
    pub levels: Option<Arc<Levels>>,
    pub kept: Kept,
}

/// The configured addresses, taken before anything else is touched, and those the supervisor holds. Clients may already queue.
pub struct Doors(Vec<(&'static str, TcpListener)>);

impl Doors {
    /// Answers every address that cannot be had, not the first alone. What the supervisor hands over is served in the place of
    /// a default, never of an address that somebody chose: it might be open to others than they meant.
    pub fn take(config: &Config, mut handed: Sockets) -> Result<Self, Problem> {
        let mut faults = Vec::new();
        let mut doors = Vec::new();
        for (name, address) in preconditions::listeners(config) {
            let taken = match handed.take(name) {
                Some(socket) => network::handed(name, socket).and_then(|door| meant(config, name, address, door)),
                None => network::bind(name, address),
            };
            match taken {
                Ok(listener) => doors.push((name, listener)),
                Err(fault) => faults.push(fault),
            }
        }
        // Who connects to it would wait for ever.
        faults.extend(handed.names().map(|name| Fault::new("server.socket_unserved").with("listener", name)));
        // Another try does not change what was handed over.
        let kind = match faults.iter().any(|fault| fault.key.starts_with("server.socket")) {
            true => Kind::Refused,
            false => Kind::Unavailable,
        };
        if faults.is_empty() { Ok(Self(doors)) } else { Err(Problem::all(kind, faults)) }
    }

    fn open(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// As taken: the real port where 0 was asked for.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.0.iter().find(|(known, _)| *known == name)?.1.local_addr().ok()
    }
}

fn meant(config: &Config, name: &str, address: SocketAddr, door: TcpListener) -> Result<TcpListener, Fault> {
    let failed = |error| Fault::new("server.socket").with("listener", name).with("cause", error);
    let served = door.local_addr().map_err(failed)?;
    let same = served.ip() == address.ip() || served.ip().is_unspecified() && address.ip().is_unspecified();
    let key = format!("server.{name}");
    let chosen = config.entries.iter().any(|entry| entry.setting.key == key && entry.origin != Origin::Default);
    if !chosen || same && [0, served.port()].contains(&address.port()) {
        return Ok(door);
    }
    let fault = Fault::new("server.socket_elsewhere").with("listener", name);
    Err(fault.with("served", served).with("address", address))
}

/// For which what was cut is waited for.
const CUT: Duration = Duration::from_secs(10);

/// For which a collector is waited for.
const COLLECTED: Duration = Duration::from_secs(3);

/// What an opened instance brings along.
pub struct Parts {
    pub documents: Arc<dyn Documents>,
    pub alerts: Arc<Alerts>,
    pub collector: Option<Arc<Collector>>,
    pub logs: Arc<Logs>,
    pub audit: Arc<Audit>,
    pub seals: Arc<Seals>,
    pub subjects: Arc<Subjects>,
    pub backups: Arc<Backups>,
    pub drills: Arc<Drills>,
    pub sessions: Arc<Sessions>,
    pub trust: Arc<Trust>,
    pub keys: Arc<Keys>,
    pub machines: Arc<Machines>,
    pub recoveries: Arc<Recoveries>,
    pub verifications: Arc<Verifications>,
    pub secrets: Arc<Secrets>,
    pub certificates: Arc<Certificates>,
    /// What they are shown by.
    pub shown: Arc<Shown>,
    pub app: App,
}

pub struct Running {
    pub https: SocketAddr,
    pub http: Option<SocketAddr>,
    pub ops: Option<SocketAddr>,
    pub certificates: Arc<Certificates>,
    shown: Arc<Shown>,
    pub senses: Senses,
    documents: Arc<dyn Documents>,
    alerts: Arc<Alerts>,
    collector: Option<Arc<Collector>>,
    trust: Arc<Trust>,
    audit: Arc<Audit>,
    seals: Arc<Seals>,
    backups: Arc<Backups>,
    stopper: Stopper,
    /// Ops answers until the very end, so that the drain can be watched.
    ops_stopper: Stopper,
}

/// The listener for operators' tools, which says `starting` until the instance serves.
pub fn start_ops(doors: &mut Doors, senses: &Senses) -> Stopper {
    let stopper = Stopper::default();
    if let Some(listener) = doors.open("ops") {
        let router = http::ops::router(senses.health.clone(), senses.metrics.clone());
        let app = App::new(router, senses.metrics.clone()).uncounted();
        let limits = Limits { connections: 64, per_address: 64, ..Limits::default() };
        let network =
            Network { name: "ops", listener, tls: None, machines: None, app, limits, metrics: senses.metrics.clone() };
        serve(&stopper.stop(), network);
    }
    stopper
}

impl Running {
    /// Opens the doors. On return requests are answered.
    pub async fn start(
        config: &Config,
        mut doors: Doors,
        ops: (Option<SocketAddr>, Stopper),
        stopper: Stopper,
        parts: Parts,
        senses: Senses,
    ) -> Result<Self, Problem> {
        let Parts {
            documents,
            alerts,
            collector,
            logs,
            audit,
            seals,
            subjects,
            backups,
            drills,
            sessions,
            keys,
            machines,
            recoveries,
            verifications,
            secrets,
            trust,
            certificates,
            shown,
            app,
        } = parts;
        let letters = (jobs::recovery::Delivery(recoveries), jobs::verification::Delivery(verifications));
        let told = config.server.client_ca.as_ref().map(|_| machines.clone());
        let proofs = (
            jobs::keys::Sweeping { keys, machines },
            letters,
            jobs::secrets::Rotation { secrets: secrets.clone(), metrics: senses.metrics.clone() },
        );
        let missing = || Problem::new(Kind::Failed, Fault::new("server.port_failed").with("listener", "https"));
        let (https, http) = (doors.address("https").ok_or_else(missing)?, doors.address("http"));
        certificates.begin().await?;
        let _ = secrets.certificates.set(certificates.clone());
        let clients = config.server.client_ca.as_deref().map(clients::verifier).transpose();
        let clients = clients.map_err(|fault| Problem::new(Kind::Refused, fault))?;
        let (names, challenges) = (certificates.names.clone(), shown.challenges.clone());
        let tls = tls::config(shown.clone(), clients)
            .map_err(|error| Problem::new(Kind::Failed, Fault::new("server.tls_failed").with("cause", error)))?;

        let limits = limits(config);
        let stop = stopper.stop();
        let control = Control::bind(&config.instance.data_dir, app.clone(), limits.clone(), senses.metrics.clone())
            .map_err(|fault| Problem::new(Kind::Failed, fault))?;
        stop.spawn(control.run(stop.clone()));
        if let Some(listener) = doors.open("http") {
            let redirect = App::new(http::redirect::router(names, https.port(), challenges), senses.metrics.clone());
            let (limits, metrics) = (limits.clone(), senses.metrics.clone());
            serve(&stop, Network { name: "http", listener, tls: None, machines: None, app: redirect, limits, metrics });
        }
        if let Some(listener) = doors.open("https") {
            let (tls, metrics) = (Some(tls), senses.metrics.clone());
            serve(&stop, Network { name: "https", listener, tls, machines: told, app, limits, metrics });
        }
        let (ops, ops_stopper) = ops;
        let running = Self {
            https,
            http,
            ops,
            certificates,
            shown,
            senses,
            documents,
            alerts,
            collector,
            audit,
            trust,
            seals,
            backups,
            stopper,
            ops_stopper,
        };
        running.start_jobs(config, drills, sessions, subjects, proofs, logs);
        running.senses.health.enter(Phase::Serving);
        Ok(running)
    }

    fn start_jobs(
        &self,
        config: &Config,
        drills: Arc<Drills>,
        sessions: Arc<Sessions>,
        subjects: Arc<Subjects>,
        (keys, (recoveries, verifications), rotation): (
            jobs::keys::Sweeping,
            (jobs::recovery::Delivery, jobs::verification::Delivery),
            jobs::secrets::Rotation,
        ),
        logs: Arc<Logs>,
    ) {
        let Senses { clock, metrics, health, .. } = self.senses.clone();
        let observer = Observer {
            documents: self.documents.clone(),
            data: config.instance.data_dir.clone(),
            reserve: config.storage.reserve_mib << 20,
            metrics: metrics.clone(),
            health: health.clone(),
        };
        let journal = Journal {
            documents: self.documents.clone(),
            backups: self.backups.clone(),
            audit: self.audit.clone(),
            days: config.storage.journal_days,
            most_bytes: config.storage.journal_mib << 20,
            data: config.instance.data_dir.clone(),
            reserve: config.storage.reserve_mib << 20,
            clock: clock.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            let_go: 0.into(),
        };
        let (days, health_too) = (config.backup.drill_days, health.clone());
        let lease = vault::lease(config);
        let renewal = lease.map(|lease| jobs::vault::Renewal { lease, health: health.clone() });
        let drills = jobs::drills::Age { drills, days, metrics: metrics.clone(), health: health_too };
        let sealing =
            jobs::audit::Sealing { audit: self.audit.clone(), metrics: metrics.clone(), health: health.clone() };
        let watching = jobs::backups::Watching {
            backups: self.backups.clone(),
            metrics: metrics.clone(),
            health: health.clone(),
            clock: clock.clone(),
        };
        let witnessing = jobs::audit::Witnessing {
            started: clock.now(),
            audit: self.audit.clone(),
            metrics: metrics.clone(),
            health,
        };
        let scheduler =
            Scheduler { clock, metrics, traces: self.senses.kept.traces.clone(), stop: self.stopper.stop() };
        scheduler.start(jobs::health::Observation(observer));
        let (folder, keep) = (config.log_dir(), config.log.keep_files);
        scheduler.start(jobs::logs::Archiving { folder, keep, clock: scheduler.clock.clone() });
        scheduler.start(jobs::logs::Settling(logs));
        if let Some(collector) = &self.collector {
            scheduler.start(jobs::collector::Sending(collector.clone()));
        }
        scheduler.start(watching);
        scheduler.start(jobs::alerts::Watching(self.alerts.clone()));
        for way in 0..self.alerts.channels.len() {
            scheduler.start(jobs::alerts::Telling { alerts: self.alerts.clone(), way, stop: self.stopper.stop() });
        }
        for target in self.backups.targets().filter(|_| self.backups.are_configured()) {
            let (backups, target) = (self.backups.clone(), target.to_owned());
            let stop = self.stopper.stop();
            scheduler.start(jobs::backups::Rereading {
                backups: backups.clone(),
                target: target.clone(),
                stop: stop.clone(),
            });
            scheduler.start(jobs::backups::Shipping { backups, target, stop });
        }
        scheduler.start(drills);
        scheduler.start(sealing);
        scheduler.start(witnessing);
        scheduler.start(jobs::audit::Pruning(self.audit.clone()));
        scheduler.start(jobs::journal::Trimming(journal));
        scheduler.start(jobs::sessions::Sweeping(sessions));
        scheduler.start(jobs::trust::Writing(self.trust.clone()));
        scheduler.start(keys);
        scheduler.start(recoveries);
        scheduler.start(verifications);
        scheduler.start(rotation);
        if let Some(renewal) = renewal {
            scheduler.start(renewal);
        }
        scheduler.start(jobs::subjects::Forgetting(subjects));
        scheduler.start(jobs::scrub::Scrubbing { documents: self.documents.clone(), next: 0.into() });
        scheduler.start(jobs::certificates::Renewal(self.certificates.clone()));
    }

    /// Takes from a configuration that was read again who certifies the host names; what else changed waits for a restart.
    pub async fn follow(&self, before: &Config, again: &Config) {
        const FOLLOWED: [&str; 4] = ["tls.mode", "tls.certificate", "tls.key", "tls.trusted"];
        // Names and listeners stay, and are what it is held against.
        let next = Config { server: before.server.clone(), ..again.clone() };
        let told = async {
            let mode = certificates::mode(&next, &self.shown.challenges, &self.senses.clock)?;
            let event = Event::new("server.reload").with("configuration", digest(again));
            self.audit.record(&Caller::system(), event).await?;
            Ok::<_, Problem>(mode)
        };
        match told.await {
            Ok(mode) => {
                if let Err(error) = self.certificates.switch(mode).await {
                    tracing::warn!(%error, "no certificate from where the configuration says, so far");
                }
            }
            Err(problem) => {
                tracing::error!(fault = %problem.fault, "the source of certificates stays as it was");
                return;
            }
        }
        let followed = |key: &str| key.starts_with("acme.") || FOLLOWED.contains(&key);
        let pairs = before.entries.iter().zip(&again.entries);
        let waiting = pairs.filter(|(old, new)| old.value != new.value && !followed(old.setting.key));
        let waiting: Vec<_> = waiting.map(|(old, _)| old.setting.key).collect();
        match waiting.is_empty() {
            true => tracing::info!("configuration read again"),
            false => tracing::warn!(settings = waiting.join(" "), "configuration read again: these wait for a restart"),
        }
    }

    /// Finishes what is in flight within `grace`, or until `hurry`; cuts the rest; closes the store.
    pub async fn stop(self, grace: Duration, hurry: impl Future<Output = ()>) -> Result<(), Problem> {
        self.senses.health.enter(Phase::Draining);
        // Told to end: whatever becomes of it now, it did not fall.
        self.alerts.finish().await;
        let (began, mut hurried) = (Stopwatch::start(), false);
        tokio::pin!(hurry);
        let drained = tokio::select! {
            drained = self.stopper.drain(grace) => drained,
            () = &mut hurry => {
                hurried = true;
                false
            }
        };
        if !drained {
            tracing::warn!("requests still in flight are cut");
            if !self.stopper.abort(CUT).await {
                tracing::warn!("what could not be cut ends with the process");
            }
        }
        if let Err(error) = self.trust.flush().await {
            tracing::warn!(%error, "the last of what was noted of trust is lost");
        }
        // What the journal tells meanwhile stays in it; the next start seals it.
        if let Err(error) = self.audit.finish().await {
            tracing::error!(%error, "the audit log was not sealed at the stop");
        }
        // A planned stop loses nothing, whatever becomes of the machine.
        if !hurried {
            let left = grace.saturating_sub(began.elapsed()).max(AWAY);
            tokio::select! {
                () = self.backups.ship_last(AWAY) => {}
                () = tokio::time::sleep(left) => tracing::warn!("stopped before the last segments were sent"),
                () = &mut hurry => {}
            }
        }
        let closed = self.documents.close().await;
        let keys_closed = self.seals.close().await;
        if let Some(collector) = &self.collector
            && !hurried
        {
            collector.finish(COLLECTED).await;
        }
        self.ops_stopper.abort(CUT).await;
        closed?;
        Ok(keys_closed?)
    }
}

/// One address may hold a quarter: whole towns share one behind their operator.
fn limits(config: &Config) -> Limits {
    let server = &config.server;
    Limits {
        connections: server.connections,
        per_address: (server.connections / 4).max(16),
        handshake: Duration::from_secs(server.handshake_seconds),
        head: Duration::from_secs(server.header_seconds),
        idle: Duration::from_secs(server.idle_seconds),
        ..Limits::default()
    }
}

fn serve(stop: &Stop, network: Network) {
    stop.spawn(network.run(stop.clone()));
}
