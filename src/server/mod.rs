//! Composition: configuration, backends, services, listeners and jobs; start-up and two-stage drain.

pub mod alerts;
pub mod authority;
mod certificates;
mod collector;
pub mod drill;
pub mod init;
mod keys;
pub mod listener;
mod offline;
pub mod open;
mod outgoing;
mod preconditions;
pub mod problem;
pub mod restore;
pub mod rewrap;
pub mod running;
mod safekeeping;
mod serve;
mod supervisor;
pub mod targets;
pub mod update;
mod vault;
mod verify;

pub use offline::{Offline, offline};
pub use rewrap::{Rewrapped, rewrap};
pub use serve::{serve, start};
pub use verify::verify;

use crate::{
    base::{
        clock::{Clock, SystemClock},
        config::Config,
    },
    services::health::Finding,
};

/// Every precondition of an instance that does not run.
pub async fn preconditions(config: &Config) -> Vec<Finding> {
    preconditions::all(config, SystemClock.now()).await
}
