//! What every floor stands on: faults, messages, time, randomness, identifiers, cryptography, configuration, telemetry.

#[cfg(feature = "testing")]
mod ahead;
pub mod clock;
pub mod config;
pub mod environment;
pub mod fault;
pub mod files;
pub mod messages;
pub mod metrics;
pub mod nss;
pub mod process;
pub mod random;
pub mod release;
pub mod secret;
pub mod sockets;
pub mod stop;
pub mod telemetry;
pub mod trust;
#[cfg(feature = "testing")]
pub mod undeclared;
pub mod zone;
