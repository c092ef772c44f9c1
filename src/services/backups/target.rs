//! A place backups go to, by the name people give it.

use crate::{domain::window::Window, ports::objects::Objects};
use std::sync::Arc;

#[derive(Clone)]
pub struct Target {
    /// Letters, digits and dashes; each target its own.
    pub name: String,
    pub objects: Arc<dyn Objects>,
    /// When backups may be sent; always, where there is none.
    pub window: Option<Window>,
}
