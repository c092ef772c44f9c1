//! A fault of what was given: which rule, where, with which figures. Its words come from the catalogue.

use std::fmt;

/// What is wrong with an input. `key` names a message of [`super::messages`]; `path` is the field or line
/// (dotted, empty for the whole); `params` fill the message and travel as machine-readable details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    pub path: String,
    pub params: Vec<(&'static str, String)>,
}

impl Fault {
    pub fn new(key: &'static str) -> Self {
        Self { key, path: String::new(), params: Vec::new() }
    }

    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.params.push((name, value.to_string()));
        self
    }
}

impl fmt::Display for Fault {
    /// English, for logs; people get their own language through the catalogue.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::messages::render(super::messages::Language::English, self))
    }
}

impl std::error::Error for Fault {}
