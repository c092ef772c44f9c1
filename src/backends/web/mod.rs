//! How other servers are reached.

pub mod https;
