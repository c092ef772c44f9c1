//! Mail: one letter to one person, sent or not.

use super::Result;
use crate::base::{
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
