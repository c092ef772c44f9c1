//! One file per capability, through the real router over the real embedded engine; no socket between.

mod access;
mod auth;
mod backups;
mod collections;
mod documents;
mod error;
#[path = "../house/mod.rs"]
mod house;
mod lines;
mod policies;
mod sealing;
mod subjects;
mod visibility;
