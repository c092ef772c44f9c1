//! How a command fails: an exit code and, for each fault, what failed, why, and what to do next.

use crate::base::{fault::Fault, messages::Language};

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

    pub fn messages(&self, language: Language) -> Vec<String> {
        self.words
            .iter()
            .map(|words| match words {
                Words::Fault(fault) => crate::base::messages::render(language, fault),
                Words::Said(words) => words.clone(),
            })
            .collect()
    }
}

/// A file of the operator's that cannot be read.
pub fn unreadable(path: impl std::fmt::Display, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, Fault::new("cli.unreadable").at(path.to_string()).with("why", why))
}

/// A file of the operator's that cannot be written.
pub fn unwritable(path: impl std::fmt::Display, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, Fault::new("cli.unwritable").at(path.to_string()).with("why", why))
}
