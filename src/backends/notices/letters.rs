//! Notices as letters, one to each address.

use crate::ports::{
    Error, Result,
    mail::{Letter, Mailer},
    notices::{Channel, Notice},
};
use std::sync::{Arc, Mutex, PoisonError};

pub struct Letters {
    mailer: Arc<dyn Mailer>,
    to: Vec<String>,
    /// Who has the notice that others did not get yet: nobody is written to twice.
    had: Mutex<(String, Vec<String>)>,
}

impl Letters {
    pub fn new(mailer: Arc<dyn Mailer>, to: Vec<String>) -> Self {
        Self { mailer, to, had: Mutex::default() }
    }

    fn has(&self, id: &str, to: &str) -> bool {
        let had = self.had.lock().unwrap_or_else(PoisonError::into_inner);
        had.0 == id && had.1.iter().any(|known| known == to)
    }

    fn note(&self, id: &str, to: &str) {
        let mut had = self.had.lock().unwrap_or_else(PoisonError::into_inner);
        if had.0 != id {
            *had = (id.to_owned(), Vec::new());
        }
        had.1.push(to.to_owned());
    }
}

#[async_trait::async_trait]
impl Channel for Letters {
    fn name(&self) -> &'static str {
        "mail"
    }

    async fn send(&self, notice: &Notice) -> Result<()> {
        let mut outcome = Ok(());
        for to in self.to.iter().filter(|to| !self.has(&notice.id, to)) {
            let (subject, text) = (notice.subject.clone(), notice.text.clone());
            match self.mailer.send(&Letter { to: to.clone(), subject, text }).await {
                Ok(()) => self.note(&notice.id, to),
                // No use trying again, nor a reason to keep it from the others.
                Err(error @ Error::Rejected(_)) => {
                    tracing::error!(%error, "an address of alerts.mail is refused for good");
                    self.note(&notice.id, to);
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{clock::Timestamp, fault::Fault};

    /// Takes letters to everyone but one.
    struct Post(Mutex<Vec<String>>, Mutex<&'static str>);

    #[async_trait::async_trait]
    impl Mailer for Post {
        async fn send(&self, letter: &Letter) -> Result<()> {
            if letter.to == "never@x" {
                self.0.lock().unwrap().push("never@x".to_owned());
                return Err(Error::Rejected(Fault::new("mail.letter")));
            }
            if letter.to == *self.1.lock().unwrap() {
                return Err(Error::Unavailable("away".to_owned()));
            }
            self.0.lock().unwrap().push(format!("{} {}", letter.to, letter.subject));
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_address_that_fails_floods_no_other() {
        let post = Arc::new(Post(Mutex::default(), Mutex::new("a@x")));
        let letters = Letters::new(post.clone(), ["a@x", "never@x", "b@x"].map(str::to_owned).to_vec());
        let notice = |id: &str| Notice {
            id: id.to_owned(),
            time: Timestamp(1),
            urgent: true,
            subject: id.to_owned(),
            text: String::new(),
            short: String::new(),
            data: serde_json::Value::Null,
        };
        for _ in 0..3 {
            assert!(letters.send(&notice("1")).await.is_err());
        }
        *post.1.lock().unwrap() = "";
        letters.send(&notice("1")).await.unwrap();
        letters.send(&notice("2")).await.unwrap();
        assert_eq!(*post.0.lock().unwrap(), ["never@x", "b@x 1", "a@x 1", "a@x 2", "never@x", "b@x 2"]);
    }
}
