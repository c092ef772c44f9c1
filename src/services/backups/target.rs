//! A place backups go to, by the name people give it.

use crate::{base::clock::Timestamp, ports::objects::Objects};
use std::sync::Arc;

#[derive(Clone)]
pub struct Target {
    /// Letters, digits and dashes; each target its own.
    pub name: String,
    pub objects: Arc<dyn Objects>,
}

impl Target {
    /// Whether full backups may be sent at this hour.
    pub fn open_at(&self, _time: Timestamp) -> bool {
        true
    }
}
