//! `config`: what holds and where it was set, whether it is right, and how to write it.

use super::{
    context::Context,
    failure::{Code, Failure, without_secrets},
    output,
};
use crate::base::{
    config::{Entry, Origin, generate},
    fault::Fault,
    messages::text,
};
use serde_json::{Value, json};

#[derive(clap::Subcommand)]
pub enum Command {
    Show,
    Check,
    Example,
    Schema,
}

pub fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Show => show(context),
        Command::Check => check(context),
        Command::Example => output::write(generate::example().as_bytes()),
        Command::Schema => output::write(generate::schema_text().as_bytes()),
    }
}

fn show(context: &Context) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let document: Vec<Value> = config
        .entries
        .iter()
        .map(|entry| json!({ "key": entry.setting.key, "value": harmless(&entry.value), "origin": entry.origin.to_string() }))
        .collect();
    let rows: Vec<[String; 3]> = config
        .entries
        .iter()
        .map(|entry| [entry.setting.key.to_owned(), shown(entry), origin(context, &entry.origin)])
        .collect();
    let header = ["cli.config.key", "cli.config.value", "cli.config.origin"].map(|key| text(context.language, key));
    context.answer(&json!({ "settings": document }), || output::table(header, &rows))
}

fn shown(entry: &Entry) -> String {
    match harmless(&entry.value) {
        Value::Null => "–".to_owned(),
        Value::String(word) => word,
        Value::Array(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A private key that was set for a public one is not shown.
fn harmless(value: &Value) -> Value {
    match value {
        Value::String(word) => without_secrets(word).into(),
        Value::Array(words) => words.iter().map(harmless).collect(),
        other => other.clone(),
    }
}

fn origin(context: &Context, origin: &Origin) -> String {
    match origin {
        Origin::Default => text(context.language, "cli.config.default"),
        other => other.to_string(),
    }
}

fn check(context: &Context) -> Result<(), Failure> {
    match context.load(Vec::new(), context.file_named) {
        Ok(config) => {
            let count = config.entries.iter().filter(|entry| entry.origin != Origin::Default).count();
            context.done(&json!({ "ok": true, "faults": [] }), &Fault::new("cli.config.good").with("count", count))
        }
        Err(faults) if context.json => {
            let faults: Vec<Value> = faults
                .iter()
                .map(|fault| json!({ "place": fault.path, "rule": fault.key, "message": without_secrets(&context.words(fault)) }))
                .collect();
            context.answer(&json!({ "ok": false, "faults": faults }), String::new)?;
            Err(Failure::silent(Code::Usage))
        }
        Err(faults) => Err(Failure::all(Code::Usage, faults)),
    }
}
