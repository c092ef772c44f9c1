//! Where backups are taken from: a folder is read where it lies, what is far away is brought here first.

use super::fetched::Fetched;
use crate::{
    base::{clock::SharedClock, config::Config},
    ports::objects::Objects,
    server::{problem::Problem, targets},
    services::backups::SUBJECTS,
};
use std::{path::Path, sync::Arc};

/// The backups of the documents, and those of the subjects' keys beside them.
pub struct Source {
    pub documents: Arc<dyn Objects>,
    pub subjects: Arc<dyn Objects>,
}

/// The place as operators write it.
pub fn open(place: &str, config: &Config, clock: &SharedClock) -> Result<Source, Problem> {
    let documents = targets::open(place, config, clock)?.objects;
    let subjects = documents.beneath(SUBJECTS);
    Ok(Source { documents, subjects })
}

/// Whether every byte of it comes over a network.
pub fn is_remote(place: &str) -> bool {
    place.contains("://")
}

/// What is remote is kept in a folder on the way, so that nothing is fetched twice.
pub fn near(place: &str, source: Arc<dyn Objects>, folder: &Path) -> Arc<dyn Objects> {
    if is_remote(place) { Arc::new(Fetched::new(source, folder)) } else { source }
}
