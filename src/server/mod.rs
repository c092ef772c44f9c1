//! Composition: configuration, backends, services, listeners and jobs; start-up and two-stage drain.

pub mod init;
mod keys;
pub mod listener;
pub mod open;
pub mod problem;
pub mod restore;
