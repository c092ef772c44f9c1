//! Where backups are taken from: a folder is read where it lies, what is far away is brought here first.

use super::fetched::Fetched;
use crate::{
    base::{clock::SharedClock, config::Config},
    ports::objects::Objects,
    server::{open::SUBJECTS_FOLDER, problem::Problem, targets},
};
use std::{path::Path, sync::Arc};

/// The place as operators write it, and beside the backups of the documents those of the subjects' keys.
pub fn open(
    place: &str,
    config: &Config,
    clock: &SharedClock,
) -> Result<(Arc<dyn Objects>, Arc<dyn Objects>), Problem> {
    let documents = targets::open(&absolute(place), config, clock)?.objects;
    let subjects = documents.beneath(SUBJECTS_FOLDER);
    Ok((documents, subjects))
}

/// Whether every byte of it comes over a network.
pub fn is_remote(place: &str) -> bool {
    place.contains("://")
}

/// What is remote is kept in a folder on the way, so that nothing is fetched twice.
pub fn near(place: &str, source: Arc<dyn Objects>, folder: &Path) -> Arc<dyn Objects> {
    if is_remote(place) { Arc::new(Fetched::new(source, folder)) } else { source }
}

/// A folder written as people write one.
fn absolute(place: &str) -> String {
    if place.contains(':') {
        return place.to_owned();
    }
    std::path::absolute(place).map_or_else(|_| place.to_owned(), |path| path.display().to_string())
}
