//! Mail: one letter to one person, sent or not.

use super::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub to: String,
    pub subject: String,
    /// Plain text.
    pub text: String,
}

#[async_trait::async_trait]
pub trait Mailer: Send + Sync {
    /// Hands the letter over. `Rejected`: no use trying again; anything else may pass later.
    async fn send(&self, letter: &Letter) -> Result<()>;
}
