//! Gives the clap command its words, in one language, from the catalogue: `cli.help.PATH` for a command,
//! `cli.help.PATH:ARGUMENT` for its arguments (`cli.help.any:ARGUMENT` where several share the words).

use super::{Arguments, context::is_set};
use crate::base::{
    messages::{Language, lookup},
    release,
};
use clap::{Arg, ArgAction, Command, CommandFactory};
use std::{collections::BTreeMap, ffi::OsString};

/// The language asked by `--lang`, else by the environment. Read before clap, whose own words depend on it.
pub fn language(arguments: &[OsString], environment: &BTreeMap<String, String>) -> Language {
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--lang") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => continue,
        };
        if let Some(language) = value.and_then(Language::from_tag) {
            return language;
        }
    }
    Language::of_environment(environment)
}

/// Whether a JSON document is asked for, told apart from the rest when the rest cannot be read.
pub fn json(arguments: &[OsString], environment: &BTreeMap<String, String>) -> bool {
    let mut words = arguments.iter().skip(1).take_while(|word| *word != "--");
    words.any(|word| word == "--json") || is_set(environment, "DEBROUILLE_JSON")
}

/// The whole command in a language.
pub fn command(language: Language) -> Command {
    let command = Arguments::command().arg(Arg::new("version").long("version").short('V').action(ArgAction::Version));
    dress(command.version(release::version()).disable_version_flag(true), "", true, language)
}

fn dress(command: Command, path: &str, root: bool, language: Language) -> Command {
    let say = |key: &str| lookup(language, key).unwrap_or_default();
    let key = if root { "cli.help".to_owned() } else { format!("cli.help.{path}") };
    let mut command = command
        .about(say(&key))
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .help_template(say("cli.value.template"))
        .subcommand_value_name(say("cli.value.command"))
        .subcommand_help_heading(say("cli.value.commands"));
    if let Some(after) = lookup(language, &format!("{key}.after")) {
        command = command.after_help(after);
    }
    command = command.arg(Arg::new("help").long("help").short('h').action(ArgAction::Help));
    command = command.mut_args(|argument| dress_argument(argument, &key, language));
    command.mut_subcommands(|inner| {
        let path = if root { inner.get_name().to_owned() } else { format!("{path}.{}", inner.get_name()) };
        dress(inner, &path, false, language)
    })
}

fn dress_argument(argument: Arg, key: &str, language: Language) -> Arg {
    let say = |key: &str| lookup(language, key).unwrap_or_default();
    let help = lookup(language, &format!("{key}:{}", argument.get_id()))
        .or_else(|| lookup(language, &format!("cli.help.any:{}", argument.get_id())))
        .unwrap_or_default();
    let heading = match (argument.is_positional(), argument.is_global_set()) {
        (true, _) => "cli.value.arguments",
        (false, false) => "cli.value.options",
        (false, true) => "cli.value.globals",
    };
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let mut argument = argument.help(help).help_heading(say(heading));
    if takes_value {
        // clap would say them in English; the words of the argument do.
        argument = argument.hide_possible_values(true).hide_default_value(true);
        let name = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let name = name.unwrap_or_else(|| argument.get_id().as_str().to_uppercase());
        argument = match lookup(language, &format!("cli.value.{name}")) {
            Some(word) => argument.value_name(word),
            None => argument.value_name(name),
        };
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn walk(command: &Command, path: &str, used: &mut BTreeSet<String>) {
        let key = if path.is_empty() { "cli.help".to_owned() } else { format!("cli.help.{path}") };
        used.insert(key.clone());
        used.insert(format!("{key}.after"));
        for argument in command.get_arguments() {
            used.insert(format!("{key}:{}", argument.get_id()));
            used.insert(format!("cli.help.any:{}", argument.get_id()));
            assert!(
                !argument.get_help().unwrap_or_default().to_string().is_empty(),
                "{key}:{} has no words",
                argument.get_id()
            );
        }
        assert!(!command.get_about().unwrap_or_default().to_string().is_empty(), "{key} has no words");
        for inner in command.get_subcommands() {
            let name = inner.get_name();
            walk(inner, &if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }, used);
        }
    }

    #[test]
    fn every_command_and_argument_has_words_and_every_word_is_used() {
        let mut used = BTreeSet::new();
        for language in [Language::French, Language::English] {
            let mut command = command(language);
            command.build();
            walk(&command, "", &mut used);
        }
        let file: toml::Table = toml::from_str(include_str!("../base/messages/cli_help.toml")).unwrap();
        for key in file.keys().filter(|key| key.starts_with("cli.help")) {
            assert!(used.contains(key), "{key} is used by no command");
        }
    }

    #[test]
    fn the_command_is_sound() {
        command(Language::French).debug_assert();
    }

    #[test]
    fn the_language_is_read_before_the_rest() {
        let of = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            language(&words, &BTreeMap::from([("LANG".to_owned(), "en_GB".to_owned())]))
        };
        assert_eq!(of(&["x", "doctor"]), Language::English);
        assert_eq!(of(&["x", "doctor", "--lang", "fr"]), Language::French);
        assert_eq!(of(&["x", "--lang=fr"]), Language::French);
        assert_eq!(of(&["x", "--", "--lang=fr"]), Language::English);
    }
}
