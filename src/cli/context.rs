//! What every command is given: its language, its manner of speaking, and the way to the configuration.

use super::{
    Global,
    failure::{Code, Failure},
    output,
};
use crate::base::{
    config::{self, Config, Inputs},
    fault::Fault,
    messages::{Language, render},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::PathBuf,
};

pub struct Context {
    pub language: Language,
    pub json: bool,
    pub quiet: bool,
    /// Where the configuration is, and whether the operator said so.
    pub file: PathBuf,
    pub file_named: bool,
    environment: BTreeMap<String, String>,
    data_dir: Option<PathBuf>,
}

impl Context {
    pub(super) fn new(language: Language, environment: BTreeMap<String, String>, global: Global) -> Self {
        let named = environment.get("DEBROUILLE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = global.config.or(named);
        Self {
            language,
            json: global.json || is_set(&environment, "DEBROUILLE_JSON"),
            quiet: global.quiet || is_set(&environment, "DEBROUILLE_QUIET"),
            file_named: file.is_some(),
            file: file.unwrap_or_else(|| config::DEFAULT_FILE.into()),
            environment,
            data_dir: global.data_dir,
        }
    }

    /// The configuration, with the flags of the command over it.
    pub fn config(&self, flags: Vec<(&'static str, &'static str, String)>) -> Result<Config, Failure> {
        self.load(flags, self.file_named).map_err(|faults| Failure::all(Code::Usage, faults))
    }

    pub fn load(
        &self,
        mut flags: Vec<(&'static str, &'static str, String)>,
        file_named: bool,
    ) -> Result<Config, Vec<Fault>> {
        if let Some(folder) = &self.data_dir {
            // Beneath the command's own: `restore --into` names a directory too.
            flags.insert(0, ("instance.data_dir", "--data-dir", folder.display().to_string()));
        }
        Config::load(&Inputs {
            file: self.file.clone(),
            file_named,
            dotenv: Some(".env".into()),
            environment: self.environment.clone(),
            flags,
        })
    }

    /// The same way to the configuration, and the same language, for another release of this program.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--lang".to_owned(), self.language.tag().to_owned()];
        if self.file_named {
            flags.extend(["--config".to_owned(), self.file.display().to_string()]);
        }
        if let Some(folder) = &self.data_dir {
            flags.extend(["--data-dir".to_owned(), folder.display().to_string()]);
        }
        flags
    }

    /// Who types, behind `sudo` too; for the record alone.
    pub fn person(&self) -> String {
        let named = ["SUDO_USER", "USER"].iter().filter_map(|name| self.environment.get(*name));
        named.into_iter().find(|name| !name.is_empty()).cloned().unwrap_or_else(|| "root".to_owned())
    }

    /// How this instance is spoken to, for people to copy.
    pub fn command(&self) -> String {
        let mut words = "debrouille-appliance".to_owned();
        if self.file_named {
            words.push_str(&format!(" --config {}", self.file.display()));
        }
        if let Some(folder) = &self.data_dir {
            words.push_str(&format!(" --data-dir {}", folder.display()));
        }
        words
    }

    pub fn words(&self, fault: &Fault) -> String {
        render(self.language, fault)
    }

    /// A word to the operator, beside the answer: on stderr.
    pub fn say(&self, fault: &Fault) {
        if !self.quiet {
            told(&self.words(fault));
        }
    }

    /// The same, in words that are in the reader's language already.
    pub fn note(&self, words: &str) {
        if !self.quiet {
            told(words);
        }
    }

    /// The command's answer on stdout: the document with `--json`, else the text.
    pub fn answer(&self, document: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let mut words = if self.json { format!("{document:#}") } else { text() };
        if !words.is_empty() && !words.ends_with('\n') {
            words.push('\n');
        }
        output::write(words.as_bytes())
    }

    /// What a report says when there is something to do: nothing under `--quiet`.
    pub fn done(&self, document: &Value, fault: &Fault) -> Result<(), Failure> {
        self.answer(document, || if self.quiet { String::new() } else { self.words(fault) })
    }

    /// What went wrong, on stderr alone: the answer is given already.
    pub fn complain(&self, failure: &Failure) {
        for message in failure.messages(self.language) {
            told(&message);
        }
    }

    pub(super) fn report(&self, failure: &Failure) {
        self.complain(failure);
        let messages = failure.messages(self.language);
        if self.json && !messages.is_empty() {
            output::failure(failure.code, &messages);
        }
    }

    /// Whether to draw: on a terminal, unless told to be quiet.
    pub fn draws(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// Whether to colour (<https://no-color.org>).
    pub fn colours(&self) -> bool {
        std::io::stdout().is_terminal() && self.environment.get("NO_COLOR").is_none_or(String::is_empty)
    }

    /// Asks for the object's name before it is destroyed; `yes` answers for a script.
    pub fn confirm(&self, question: &Fault, name: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(Code::Refused, Fault::new("cli.confirm_unasked").with("name", name)));
        }
        eprint!("{} ", self.words(question));
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map_err(|error| super::failure::unreadable("stdin", error))?;
        if line.trim() == name {
            return Ok(());
        }
        Err(Failure::new(Code::Refused, Fault::new("cli.confirm_other").with("name", name)))
    }
}

/// To stderr. That nobody reads any more, a terminal that is gone, ends nothing.
fn told(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// Whether a flag is given by its name in the environment.
pub fn is_set(environment: &BTreeMap<String, String>, name: &str) -> bool {
    environment.get(name).is_some_and(|value| !["", "0", "false"].contains(&value.as_str()))
}
