//! Mail: one letter to one person, sent or not.

use super::{Error, Result};
use crate::base::{
    clock::Timestamp,
    fault::Fault,
    messages::{Language, render, text},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub to: String,
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// Seconds of failures after which a letter is given up.
const GIVEN_UP: i64 = 3600;

/// When a letter asked for at a time is tried again after so many failed attempts; `None`: it is given up.
pub fn again(asked: Timestamp, attempts: u32, now: Timestamp, error: &Error) -> Option<Timestamp> {
    let lost = matches!(error, Error::Rejected(_)) || asked.plus_seconds(GIVEN_UP) <= now;
    (!lost).then(|| now.plus_seconds(10_i64.saturating_mul(1 << attempts.min(6))))
}

impl Letter {
    /// In French, then in English: nobody knows the reader's language.
    pub fn bilingual(to: &str, subject: &'static str, words: &Fault) -> Self {
        let text = format!("{}\n— — —\n\n{}", render(Language::French, words), render(Language::English, words));
        let subject = [Language::French, Language::English].map(|language| self::text(language, subject));
        Self { to: to.to_owned(), subject: subject.join(" / "), text }
    }
}

#[async_trait::async_trait]
pub trait Mailer: Send + Sync {
    /// Hands the letter over. `Rejected`: no use trying again; anything else may pass later.
    async fn send(&self, letter: &Letter) -> Result<()>;
}
