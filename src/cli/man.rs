//! `man [DIR]`: the manual. Without a folder the main page, else every page in both languages, laid out as man(1)
//! looks for them (`man1` in English, `fr/man1` in French).

use super::{
    context::Context,
    failure::{Failure, unwritable},
    output, words,
};
use crate::base::{
    fault::Fault,
    messages::{Language, lookup},
};
use clap::Command;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Some(folder) = arguments.folder else {
        let mut command = words::command(context.language);
        command.build();
        return output::write(page(command, context.language).1.as_bytes());
    };
    let mut count = 0;
    for (language, below) in [(Language::English, "man1"), (Language::French, "fr/man1")] {
        let folder = folder.join(below);
        std::fs::create_dir_all(&folder).map_err(|error| unwritable(folder.display(), error))?;
        let mut command = words::command(language);
        command.build();
        for (name, text) in pages(&command, language) {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| unwritable(path.display(), error))?;
            count += 1;
        }
    }
    let done = Fault::new("cli.man_written").at(folder.display().to_string()).with("count", count);
    context.done(&json!({ "folder": folder, "pages": count }), &done)
}

/// A page for the command and for each of those under it.
fn pages(command: &Command, language: Language) -> Vec<(String, String)> {
    let mut all = vec![page(command.clone(), language)];
    for inner in command.get_subcommands() {
        all.extend(pages(inner, language));
    }
    all
}

/// File name and text. The headings clap writes in English are put in the page's language.
fn page(command: Command, language: Language) -> (String, String) {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut bytes = Vec::new();
    let manual = clap_mangen::Man::new(command).title(name.clone()).manual("Débrouille Appliance");
    // Writing to memory does not fail.
    let _ = manual.render(&mut bytes);
    let text: Vec<String> = String::from_utf8_lossy(&bytes)
        .lines()
        .map(|line| match line.strip_prefix(".SH ") {
            Some(heading) => {
                let key = format!("cli.value.man.{}", heading.trim_matches('"').to_lowercase());
                lookup(language, &key).map_or(line.to_owned(), |heading| format!(".SH \"{heading}\""))
            }
            None => line.to_owned(),
        })
        .collect();
    (format!("{name}.1"), text.join("\n") + "\n")
}
