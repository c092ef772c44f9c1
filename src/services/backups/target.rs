//! A place backups go to, by the name people give it.

use crate::{base::clock::Timestamp, domain::window::Window, ports::objects::Objects};
use std::sync::Arc;

#[derive(Clone)]
pub struct Target {
    /// Letters, digits and dashes; each target its own.
    pub name: String,
    pub objects: Arc<dyn Objects>,
    /// When full backups may be sent; always, where there is none.
    pub window: Option<Window>,
    /// Segments wait for it too.
    pub segments_wait: bool,
}

impl Target {
    /// Whether full backups may be sent at this hour.
    pub fn takes_fulls(&self, time: Timestamp) -> bool {
        self.window.is_none_or(|window| window.open_at(time))
    }

    pub fn takes_segments(&self, time: Timestamp) -> bool {
        !self.segments_wait || self.takes_fulls(time)
    }
}
