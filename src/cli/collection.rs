//! `collection`: list, describe, create, drop.

use super::{
    client::{Client, segment},
    context::Context,
    failure::{Code, Failure, unreadable},
    output,
};
use crate::base::{config::Config, fault::Fault, messages::text};
use hyper::Method;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum Command {
    List,
    Describe {
        name: String,
    },
    Create {
        name: String,
        #[arg(long, value_name = "FILE")]
        schema: Option<PathBuf>,
        #[arg(long, value_name = "FIELDS")]
        index: Vec<String>,
        #[arg(long, value_name = "FIELDS")]
        unique: Vec<String>,
        #[arg(long, value_name = "FIELD=CLASS")]
        class: Vec<String>,
        #[arg(long, value_name = "FIELD")]
        subject: Option<String>,
        #[arg(long, value_name = "on|off", value_parser = ["on", "off"])]
        audit_reads: Option<String>,
    },
    Drop {
        name: String,
        #[arg(long)]
        dry_run: bool,
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let definition = match &command {
        Command::Create { name, schema, index, unique, class, subject, audit_reads } => {
            let mut definition = definition(name, schema.as_ref(), index, unique)?;
            classes(&mut definition, class, subject.as_deref())?;
            if let Some(reads) = audit_reads {
                definition["audit"] = json!({ "reads": reads == "on" });
            }
            Some(definition)
        }
        _ => None,
    };
    let config = context.config(Vec::new())?;
    if let Command::Drop { name, dry_run, yes } = &command {
        return drop(context, &config, name, *dry_run, *yes).await;
    }
    let mut client = Client::open(context, config).await?;
    match (command, definition) {
        (Command::Describe { name }, _) => describe(context, &mut client, &name).await?,
        (Command::Create { name, .. }, definition) => {
            let answer = client.post("/collections", definition.unwrap_or_default()).await?;
            context.done(&answer.data, &Fault::new("cli.collection.created").with("name", name))?;
        }
        _ => list(context, &mut client).await?,
    }
    client.close().await
}

async fn list(context: &Context, client: &mut Client) -> Result<(), Failure> {
    let answer = client.get("/collections").await?;
    let rows: Vec<[String; 3]> = answer
        .data
        .as_array()
        .into_iter()
        .flatten()
        .map(|collection| {
            let indexes = collection["indexes"].as_array().map_or(0, Vec::len);
            [word(&collection["name"]), word(&collection["documents"]), indexes.to_string()]
        })
        .collect();
    let header = ["cli.collection.name", "cli.collection.documents", "cli.collection.indexes"];
    context.answer(&answer.data, || output::table(header.map(|key| text(context.language, key)), &rows))
}

async fn describe(context: &Context, client: &mut Client, name: &str) -> Result<(), Failure> {
    let answer = client.get(&format!("/collections/{}", segment(name))).await?;
    context.answer(&answer.data, || format!("{:#}", answer.data))
}

async fn drop(context: &Context, config: &Config, name: &str, dry_run: bool, yes: bool) -> Result<(), Failure> {
    let path = format!("/collections/{}", segment(name));
    let mut client = Client::open(context, config.clone()).await?;
    let documents = client.get(&path).await?.data["documents"].take();
    // A person thinking must hold no lock.
    client.close().await?;
    let fault = |key| Fault::new(key).with("name", name).with("documents", word(&documents));
    if dry_run {
        return context.done(
            &json!({ "name": name, "documents": documents, "dropped": false }),
            &fault("cli.collection.would_drop"),
        );
    }
    context.confirm(&fault("cli.collection.confirm_drop"), name, yes)?;
    let mut client = Client::open(context, config.clone()).await?;
    client.call(Method::DELETE, &path, None).await?;
    client.close().await?;
    context.done(&json!({ "name": name, "documents": documents, "dropped": true }), &fault("cli.collection.dropped"))
}

fn definition(name: &str, schema: Option<&PathBuf>, index: &[String], unique: &[String]) -> Result<Value, Failure> {
    let mut definition = json!({ "name": name });
    if let Some(path) = schema {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path.display(), error))?;
        definition["schema"] = serde_json::from_str(&text).map_err(|error| unreadable(path.display(), error))?;
    }
    let mut indexes = Vec::new();
    for (fields, unique) in index.iter().map(|fields| (fields, false)).chain(unique.iter().map(|fields| (fields, true)))
    {
        indexes.push(json!({ "keys": keys(fields)?, "unique": unique }));
    }
    if !indexes.is_empty() {
        definition["indexes"] = indexes.into();
    }
    Ok(definition)
}

/// `phone=confidential`, and the field that names whose a document is.
fn classes(definition: &mut Value, classes: &[String], subject: Option<&str>) -> Result<(), Failure> {
    for given in classes {
        let wrong = || Failure::new(Code::Usage, Fault::new("cli.collection.class").with("given", given));
        let (field, class) = given.split_once('=').ok_or_else(wrong)?;
        definition["classes"][field] = class.into();
    }
    if let Some(subject) = subject {
        definition["subject"] = subject.into();
    }
    Ok(())
}

/// `country,-population` is `{"country": 1, "population": -1}`.
fn keys(fields: &str) -> Result<Value, Failure> {
    let mut keys = Map::new();
    for field in fields.split(',').map(str::trim) {
        let (name, direction) = field.strip_prefix('-').map_or((field, 1), |name| (name, -1));
        if name.is_empty() || keys.insert(name.to_owned(), direction.into()).is_some() {
            return Err(Failure::new(Code::Usage, Fault::new("cli.collection.fields").with("fields", fields)));
        }
    }
    Ok(keys.into())
}

/// A JSON value as people read it.
pub fn word(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(word) => word.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_index_keys_in_their_order() {
        assert_eq!(keys("country,-population").unwrap().to_string(), r#"{"country":1,"population":-1}"#);
        for fields in ["", "a,,b", "a,-a", "-"] {
            assert_eq!(keys(fields).unwrap_err().code, Code::Usage, "{fields}");
        }
    }
}
