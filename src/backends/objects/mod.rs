//! Where objects live.

pub mod folder;
