//! Débrouille Appliance: a living backend in one binary.
//!
//! The floors, highest first; each imports only floors below it (`tests/tidy.rs` enforces it):
//!
//! ```text
//! cli ─► server ─► http, jobs ─► services ─► ports ─► domain ─► base
//!           └────► backends ─────────────────┘
//! ```
//!
//! A request goes down once and comes back once. `ARCHITECTURE.md` draws the same picture at length.

pub mod backends;
pub mod base;
pub mod cli;
pub mod domain;
pub mod http;
pub mod jobs;
pub mod ports;
pub mod server;
pub mod services;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
