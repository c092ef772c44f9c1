//! Backups: made while writes go on, sealed to keys the server does not hold, checked, listed and restored.

pub mod file;
pub mod recipients;
