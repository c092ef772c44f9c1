//! Wrong usage, said in the reader's language from what clap found.

use super::{
    failure::{Code, without_secrets},
    output,
};
use crate::base::{
    fault::Fault,
    messages::{Language, render, text},
};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::process::ExitCode;

/// Prints the help asked for, or the fault and how to be helped; with `json` a document too.
pub fn report(language: Language, json: bool, error: &clap::Error) -> ExitCode {
    let words = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has seen enough is no fault.
            return match output::write(error.render().to_string().as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => ExitCode::from(failure.code as u8),
            };
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.render().to_string(),
        _ => words(language, error),
    };
    let words = without_secrets(&words);
    eprintln!("{}", words.trim_end());
    if json {
        output::failure(Code::Usage, &[words]);
    }
    ExitCode::from(Code::Usage as u8)
}

fn words(language: Language, error: &clap::Error) -> String {
    let mut lines = vec![render(language, &fault(error))];
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue] {
        if let Some(words) = shown(error, kind) {
            lines.push(render(language, &Fault::new("cli.usage.suggested").with("words", words)));
        }
    }
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        // clap's own heading stands before the line itself.
        let usage = usage.to_string();
        let line = usage.strip_prefix("Usage:").unwrap_or(&usage).trim();
        lines.push(render(language, &Fault::new("cli.usage.line").with("usage", line)));
    }
    lines.push(text(language, "cli.usage.help"));
    lines.join("\n")
}

fn fault(error: &clap::Error) -> Fault {
    let argument = shown(error, ContextKind::InvalidArg).unwrap_or_default();
    let value = shown(error, ContextKind::InvalidValue).unwrap_or_default();
    let fault = match error.kind() {
        ErrorKind::UnknownArgument => Fault::new("cli.usage.unknown_argument"),
        ErrorKind::InvalidSubcommand => {
            let name = shown(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            return Fault::new("cli.usage.unknown_command").with("name", name);
        }
        ErrorKind::MissingSubcommand => {
            let known = shown(error, ContextKind::ValidSubcommand).unwrap_or_default();
            return Fault::new("cli.usage.missing_command").with("known", known);
        }
        ErrorKind::InvalidValue if value.is_empty() => Fault::new("cli.usage.missing_value"),
        ErrorKind::InvalidValue => {
            let known = shown(error, ContextKind::ValidValue).unwrap_or_default();
            Fault::new("cli.usage.invalid_choice").with("value", value).with("known", known)
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            Fault::new("cli.usage.invalid_value").with("value", value).with("why", why)
        }
        ErrorKind::ArgumentConflict => {
            let prior = shown(error, ContextKind::PriorArg).unwrap_or_default();
            Fault::new("cli.usage.conflict").with("prior", prior)
        }
        ErrorKind::MissingRequiredArgument => Fault::new("cli.usage.missing_argument"),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => Fault::new("cli.usage.missing_value"),
        ErrorKind::TooManyValues => Fault::new("cli.usage.surplus").with("value", value),
        _ => return Fault::new("cli.usage.unreadable"),
    };
    fault.with("argument", argument)
}

fn shown(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(word) => Some(word.clone()),
        ContextValue::Strings(words) => Some(words.join(", ")),
        ContextValue::StyledStr(words) => Some(words.to_string()),
        ContextValue::StyledStrs(words) => Some(words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        _ => None,
    }
}
