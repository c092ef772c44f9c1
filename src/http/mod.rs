//! Poem routes, one file per resource; the gates, the envelope and the errors.

pub mod activity;
mod address;
mod alerts;
mod audit;
mod auth;
mod backups;
mod body;
mod certificates;
mod collections;
mod conditions;
mod documents;
mod drills;
mod envelope;
mod error;
mod exchange;
mod gates;
mod identities;
mod invitations;
mod keys;
mod lines;
mod logs;
mod machines;
mod memberships;
mod meta;
mod mfa;
mod migrations;
mod oidc;
pub mod ops;
mod organizations;
mod pages;
mod passkeys;
pub mod peer;
mod policies;
mod proof;
mod recovery;
pub mod redirect;
mod search;
mod secrets;
pub mod serve;
mod spec;
mod status;
mod subjects;
mod trust;
mod updates;
mod verification;

pub use body::Room;
pub use spec::openapi;

use crate::{
    base::{clock::SharedClock, environment::Environment, telemetry::traces::Traces},
    services::{
        access::Access, audit::Audit, backups::Backups, collections::Collections, documents::Documents, drills::Drills,
        health::Health, identities::Identities, invitations::Invitations, keys::Keys, limits::Limiter, logs::Logs,
        machines::Machines, mfa::Mfa, migrations::Snapshots, oidc::Oidc, organizations::Organizations,
        policies::Policies, recovery::Recoveries, secrets::Secrets, sessions::Sessions, status::Status,
        subjects::Subjects, throttle::Throttle, trust::Trust, updates::Notes, verification::Verifications,
    },
};
use poem::{Endpoint, Response};
use std::{sync::Arc, time::Duration};
use tokio_util::task::TaskTracker;

/// Everything the routes stand on.
pub struct State {
    pub documents: Documents,
    pub collections: Collections,
    pub identities: Arc<Identities>,
    pub organizations: Organizations,
    pub invitations: Invitations,
    pub sessions: Arc<Sessions>,
    pub mfa: Arc<Mfa>,
    pub keys: Arc<Keys>,
    pub machines: Arc<Machines>,
    pub recoveries: Arc<Recoveries>,
    pub verifications: Arc<Verifications>,
    pub oidc: Arc<Oidc>,
    pub backups: Arc<Backups>,
    pub drills: Arc<Drills>,
    pub access: Arc<Access>,
    pub policies: Arc<Policies>,
    pub trust: Arc<Trust>,
    pub throttle: Arc<Throttle>,
    pub limiter: Arc<Limiter>,
    /// Whose word on where a request comes from is taken.
    pub proxies: Vec<ipnet::IpNet>,
    pub audit: Arc<Audit>,
    pub subjects: Arc<Subjects>,
    pub secrets: Arc<Secrets>,
    pub snapshots: Arc<Snapshots>,
    pub health: Arc<Health>,
    pub status: Status,
    pub updates: Notes,
    pub logs: Arc<Logs>,
    /// Absent: none are kept.
    pub traces: Option<Arc<Traces>>,
    pub clock: SharedClock,
    pub environment: Environment,
    pub limits: Limits,
    /// Streams that outlive their handler; the drain waits for them.
    pub tasks: TaskTracker,
    pub bodies: Room,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of a batch's body.
    pub batch: usize,
    /// Bytes of one line of an import.
    pub line: usize,
    /// From a request's head to its answer's; streams and backups are bound by silence instead.
    pub request: Duration,
    /// The longest an export waits for its reader, an import for its next bytes.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 2 << 20,
            batch: 16 << 20,
            line: 2 << 20,
            request: Duration::from_secs(30),
            silence: Duration::from_secs(60),
        }
    }
}

/// Every public route behind every gate: the HTTPS listener's, the control socket's and the CLI's without a server.
pub fn router(state: State) -> impl Endpoint<Output = Response> + 'static {
    gates::Gates::new(Arc::new(state))
}
