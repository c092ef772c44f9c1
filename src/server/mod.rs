//! Composition: configuration, backends, services, listeners and jobs; start-up and two-stage drain.

mod keys;
pub mod listener;
mod pending;
pub mod problem;

pub use pending::{Offline, init, offline, preconditions, restore, serve, verify};
