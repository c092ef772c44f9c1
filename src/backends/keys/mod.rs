//! Where a root key can live.

pub mod local;
pub mod vault;
