//! Composition: configuration, backends, services, listeners and jobs; start-up and two-stage drain.
pub mod listener;
