//! A directory of people kept elsewhere, which knows their passwords.

use super::Result;

/// A person as the directory knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Theirs for good, whatever they are called.
    pub id: String,
    /// As the directory writes them, in no order.
    pub emails: Vec<String>,
}

#[async_trait::async_trait]
pub trait Directory: Send + Sync {
    /// Whose name and password these are; `None`: nobody's, without saying which of them was wrong. A directory that
    /// cannot be asked, or does not answer as one, is `Unavailable`.
    async fn prove(&self, name: &str, password: &str) -> Result<Option<Entry>>;
}
