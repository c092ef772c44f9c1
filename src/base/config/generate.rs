//! What is generated from the table of settings: the commented example, its JSON Schema, `.env.example`.

use super::settings::{Kind, SETTINGS, Setting, sections};
use crate::base::messages::{Language, lookup};
use serde_json::{Map, Value, json};
use std::fmt::Write;

const LANGUAGES: [Language; 2] = [Language::French, Language::English];

/// `config/appliance.example.toml`: every setting with its default, commented out, French first.
pub fn example() -> String {
    let mut text = String::new();
    comment(&mut text, "setting");
    for section in sections() {
        text.push('\n');
        comment(&mut text, &format!("setting.{section}"));
        let _ = writeln!(text, "[{section}]");
        for setting in SETTINGS.iter().filter(|setting| setting.parts().0 == section) {
            text.push('\n');
            comment(&mut text, &setting.message());
            let names: Vec<String> = setting.environment().collect();
            let _ = writeln!(text, "# env: {}", names.join(", "));
            let _ = writeln!(text, "#{} = {}", setting.parts().1, sample(setting));
        }
    }
    text
}

/// `.env.example`: the names in the environment, French first.
pub fn dotenv() -> String {
    let mut text = String::new();
    comment(&mut text, "setting.dotenv");
    for setting in SETTINGS.iter().filter(|setting| setting.key != "instance.credentials_dir") {
        text.push('\n');
        comment(&mut text, &setting.message());
        let names: Vec<String> = setting.environment().collect();
        if names.len() > 1 {
            let _ = writeln!(text, "# = {}", names[..names.len() - 1].join(", "));
        }
        let name = names.last().expect("a setting has a name");
        let default = match setting.default.rsplit_once(':') {
            Some((_, port)) if name.ends_with("_PORT") => port,
            _ => setting.default,
        };
        let _ = writeln!(text, "#{name}={default}");
        if setting.secret() {
            let _ = writeln!(text, "#{name}_FILE=");
        }
    }
    text
}

/// `config/appliance.schema.json`, JSON Schema 2020-12.
pub fn schema() -> Value {
    let mut properties = Map::new();
    for section in sections() {
        let mut inside = Map::new();
        for setting in SETTINGS.iter().filter(|setting| setting.parts().0 == section) {
            inside.insert(setting.parts().1.to_owned(), property(setting));
        }
        let described = lookup(Language::English, &format!("setting.{section}")).unwrap_or_default();
        properties.insert(
            section.to_owned(),
            json!({ "type": "object", "description": described, "properties": inside, "additionalProperties": false }),
        );
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Débrouille Appliance",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// The schema as the file holds it.
pub fn schema_text() -> String {
    format!("{:#}\n", schema())
}

fn property(setting: &Setting) -> Value {
    let mut property = match setting.kind {
        Kind::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Hosts | Kind::List | Kind::Networks | Kind::Pairs => {
            json!({ "type": "array", "items": { "type": "string" } })
        }
        Kind::Choice(choices) => {
            let unset = setting.default.is_empty().then_some(&"");
            json!({ "type": "string", "enum": choices.iter().chain(unset).collect::<Vec<_>>() })
        }
        Kind::Secret(bytes) => {
            json!({ "type": "string", "pattern": format!("^$|^vault:|^[\\s\\S]{{{bytes},}}$"), "writeOnly": true })
        }
        Kind::Place(served, _) => {
            json!({ "type": "string", "enum": served.iter().map(|scheme| format!("{scheme}:")).collect::<Vec<_>>() })
        }
        Kind::Text | Kind::Path | Kind::Address { .. } | Kind::LogFilter => json!({ "type": "string" }),
    };
    property["description"] = lookup(Language::English, &setting.message()).unwrap_or_default().into();
    if !setting.default.is_empty() {
        property["default"] = match setting.kind {
            Kind::Integer(..) => json!(setting.default.parse::<i64>().ok()),
            Kind::Flag => json!(setting.default == "true"),
            Kind::Hosts | Kind::List | Kind::Networks | Kind::Pairs => json!(words(setting.default)),
            _ => setting.default.into(),
        };
    }
    property
}

/// Of a list.
fn words(default: &str) -> Vec<&str> {
    default.split(',').collect()
}

/// The default as TOML writes it.
fn sample(setting: &Setting) -> String {
    match setting.kind {
        Kind::Integer(..) | Kind::Flag => setting.default.to_owned(),
        Kind::Hosts | Kind::List | Kind::Networks | Kind::Pairs if setting.default.is_empty() => "[]".to_owned(),
        Kind::Hosts | Kind::List | Kind::Networks | Kind::Pairs => {
            let words: Vec<_> = words(setting.default).iter().map(|word| format!("{word:?}")).collect();
            format!("[{}]", words.join(", "))
        }
        _ => format!("{:?}", setting.default),
    }
}

fn comment(text: &mut String, key: &str) {
    for language in LANGUAGES {
        for line in lookup(language, key).unwrap_or_default().lines() {
            let _ = writeln!(text, "# {line}");
        }
    }
}
