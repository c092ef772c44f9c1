//! The Documents port: the embedded engine.

pub mod embedded;
