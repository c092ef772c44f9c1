//! How a command fails: an exit code and, for each fault, what failed, why, and what to do next.

use crate::base::{
    fault::Fault,
    messages::{Language, text},
};
use std::io::{Error, ErrorKind};

/// How a private key, and a share of one, begin.
const SECRETS: [&str; 2] = ["debrouille-identity-1-", "debrouille-share-1-"];

/// The exit codes of the command line; 0 is done. `docs/cli.md` and `--help` document them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Refused for safety, by a policy, by the environment.
    Refused = 3,
    NotFound = 4,
    /// What is stored fails its own checks.
    Integrity = 5,
    /// Not now: starting, stopping, locked, a dependency is down.
    Unavailable = 6,
}

#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    words: Vec<Words>,
}

#[derive(Debug)]
enum Words {
    Fault(Fault),
    /// Already in the reader's language: the server's own answer.
    Said(String),
}

impl Failure {
    pub fn new(code: Code, fault: Fault) -> Self {
        Self { code, words: vec![Words::Fault(fault)] }
    }

    pub fn all(code: Code, faults: Vec<Fault>) -> Self {
        Self { code, words: faults.into_iter().map(Words::Fault).collect() }
    }

    pub fn said(code: Code, words: String) -> Self {
        Self { code, words: vec![Words::Said(words)] }
    }

    /// Nothing more to say: the report itself said it.
    pub fn silent(code: Code) -> Self {
        Self { code, words: Vec::new() }
    }

    /// What was pasted where a public key belongs is not said back: screens and logs are read by others.
    pub fn messages(&self, language: Language) -> Vec<String> {
        let said = self.words.iter().map(|words| match words {
            Words::Fault(fault) => crate::base::messages::render(language, fault),
            Words::Said(words) => words.clone(),
        });
        let mut said: Vec<String> = said.collect();
        let hidden: Vec<_> = said.iter().map(|words| without_secrets(words)).collect();
        if hidden != said {
            said = hidden;
            said.push(text(language, "cli.secret_given"));
        }
        said
    }
}

/// Private keys and shares of them left out, but for how they begin.
pub fn without_secrets(words: &str) -> String {
    let of_key = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let shown = |word: &str| {
        let lower = word.to_ascii_lowercase();
        let begun = SECRETS.iter().find_map(|begin| lower.find(begin).map(|at| at + begin.len()));
        match begun.and_then(|end| word.split_at_checked(end)) {
            Some((begin, secret)) if secret.starts_with(of_key) => {
                format!("{begin}…{}", secret.trim_start_matches(of_key))
            }
            _ => word.to_owned(),
        }
    };
    words.split_inclusive(|letter| !of_key(letter)).map(shown).collect()
}

/// A file of the operator's that cannot be read.
pub fn unreadable(path: impl std::fmt::Display, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, Fault::new("cli.unreadable").at(path.to_string()).with("why", why))
}

/// A file that must not be there yet.
pub fn uncreated(path: impl std::fmt::Display, error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(Code::Failed, Fault::new("cli.exists").at(path.to_string())),
        _ => unwritable(path, error),
    }
}

/// Where backups should lie there is nothing: a disk that is not mounted, a share that is away. By a fault's key.
pub fn is_absent(rule: &str) -> bool {
    rule == "objects.no_folder"
}

/// A file of the operator's that cannot be written.
pub fn unwritable(path: impl std::fmt::Display, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, Fault::new("cli.unwritable").at(path.to_string()).with("why", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_never_said_back() {
        for secret in ["debrouille-identity-1-00ff", "DEBROUILLE-SHARE-1-00FF"] {
            let failure = Failure::all(
                Code::Refused,
                vec![Fault::new("cli.backup.recipient_unknown").with("recipient", format!("{secret},{secret}"))],
            );
            let messages = failure.messages(Language::English);
            assert!(messages.len() == 2 && messages[0].contains("-1-…,"), "{messages:?}");
            assert!(!messages.concat().to_lowercase().contains("00ff"), "{messages:?}");
        }
        for plain in ["debrouille-recipient-1-00ff", "é (debrouille-identity-1-…) ", ""] {
            assert_eq!(without_secrets(plain), plain);
        }
    }
}
