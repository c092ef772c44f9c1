//! Composition: configuration, backends, services, listeners and jobs; start-up and two-stage drain.

pub mod alerts;
pub mod authority;
mod certificates;
mod collector;
pub mod drill;
pub mod init;
mod keys;
pub mod listener;
pub mod migrations;
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

/// The newest formats this binary writes: one that is told another's can say whether the way back is the binary alone.
pub struct Formats {
    pub instance: u32,
    pub documents: u64,
    pub backup: u16,
    pub migrations: u32,
}

pub fn formats() -> Result<Formats, problem::Problem> {
    Ok(Formats {
        instance: crate::services::instance::FORMAT,
        documents: crate::backends::documents::embedded::FORMAT,
        backup: crate::services::backups::FORMAT,
        migrations: migrations::known()?.last().map_or(0, |known| known.number),
    })
}

/// Every precondition of an instance that does not run.
pub async fn preconditions(config: &Config) -> Vec<Finding> {
    preconditions::all(config, SystemClock.now()).await
}
