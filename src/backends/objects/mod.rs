//! Where objects live.

pub mod folder;
pub mod pace;
pub mod s3;
