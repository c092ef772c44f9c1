//! A vault, OpenBao or HashiCorp's: it keeps the root key in its transit engine, and secrets of the configuration.

mod lease;
mod secrets;
mod session;
mod transit;

pub use session::{Login, Settings, Vault};
pub use transit::{Transit, TransitKeeper};
