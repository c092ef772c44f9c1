//! Composition: configuration, backends, services, listeners and jobs; start-up and two-stage drain.

mod keys;
pub mod listener;
pub mod problem;
