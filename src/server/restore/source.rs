//! Where backups are taken from: a folder is read where it lies, what is far away is brought here first.

use super::fetched::Fetched;
use crate::{
    backends::objects::folder::Folder,
    base::config::Config,
    ports::objects::Objects,
    server::{open::SUBJECTS_FOLDER, problem::Problem},
};
use std::{path::Path, sync::Arc};

/// The place as operators write it.
pub fn open(place: &str, _config: &Config) -> Result<Arc<dyn Objects>, Problem> {
    Ok(Arc::new(Folder::open(place)?))
}

/// Whether every byte of it comes over a network.
pub fn is_remote(place: &str) -> bool {
    place.contains("://")
}

/// Beside the backups of the documents, those of the subjects' keys.
pub fn subjects(place: &str) -> String {
    format!("{}/{SUBJECTS_FOLDER}", place.trim_end_matches('/'))
}

/// As [`open`]; what is remote is kept in a folder on the way, so that nothing is fetched twice.
pub fn near(place: &str, config: &Config, folder: &Path) -> Result<Arc<dyn Objects>, Problem> {
    let source = open(place, config)?;
    Ok(if is_remote(place) { Arc::new(Fetched::new(source, folder)) } else { source })
}
