//! Notices: words for who looks after the instance, by a way they chose.

use super::Result;
use crate::base::clock::Timestamp;

/// The same for every way; each takes what it can carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The same for another attempt at the same.
    pub id: String,
    pub time: Timestamp,
    /// Somebody must look at once.
    pub urgent: bool,
    pub subject: String,
    /// Plain text, in French and in English.
    pub text: String,
    /// For a telephone: within 160 letters.
    pub short: String,
    /// For programs.
    pub data: serde_json::Value,
}

#[async_trait::async_trait]
pub trait Channel: Send + Sync {
    /// `mail`, `webhook`, `push`, `sms`.
    fn name(&self) -> &'static str;
    /// Whether it is for such ones at all.
    fn carries(&self, _critical: bool) -> bool {
        true
    }
    /// Hands the notice over. Any failure is tried again.
    async fn send(&self, notice: &Notice) -> Result<()>;
}
