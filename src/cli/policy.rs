//! `policy`: list, show, set, remove, and test before they apply.

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    failure::{Code, Failure, unreadable},
    output,
};
use crate::base::{fault::Fault, messages::text};
use hyper::Method;
use serde_json::{Value, json};
use std::{io::Read, path::PathBuf};

#[derive(clap::Subcommand)]
pub enum Command {
    List,
    Show {
        name: String,
    },
    Set {
        name: String,
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    Remove {
        name: String,
        #[arg(long)]
        dry_run: bool,
        #[arg(long, short)]
        yes: bool,
    },
    Test {
        #[command(flatten)]
        question: Question,
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
        #[arg(long, value_name = "FILE")]
        before: Option<PathBuf>,
        #[arg(long, value_name = "NAME=FILE")]
        policy: Vec<String>,
        #[arg(long, value_name = "NAME")]
        without: Vec<String>,
    },
}

/// Who does what to which: what `policy test` and `access explain` ask alike.
#[derive(clap::Args)]
#[group(skip)]
pub struct Question {
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    #[arg(long = "as", value_name = "JSON", conflicts_with = "who")]
    supposed: Option<String>,
    #[arg(long, value_name = "ACTION")]
    action: String,
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    #[arg(long, value_name = "NAME", conflicts_with = "collection")]
    module: Option<String>,
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

impl Question {
    pub fn json(&self) -> Result<Value, Failure> {
        let mut question = json!({ "action": self.action.to_uppercase() });
        let words =
            [("identity", &self.who), ("collection", &self.collection), ("module", &self.module), ("id", &self.id)];
        for (name, value) in words {
            if let Some(value) = value {
                question[name] = value.as_str().into();
            }
        }
        if let Some(supposed) = &self.supposed {
            question["as"] = super::query::parse("as", supposed)?;
        }
        Ok(question)
    }
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    // What is read from a file is read before a lock is held.
    let data = match &command {
        Command::Set { file, .. } => read(file)?,
        Command::Test { question, document, before, policy, without } => {
            let mut data = question.json()?;
            for (name, file) in [("document", document), ("before", before)] {
                if let Some(file) = file {
                    data[name] = read(file)?;
                }
            }
            data["policies"] = policy.iter().map(|given| supposed(given)).collect::<Result<Vec<_>, _>>()?.into();
            data["without"] = without.as_slice().into();
            data
        }
        _ => Value::Null,
    };
    if let Command::Remove { name, dry_run, yes } = &command {
        return remove(context, name, *dry_run, *yes).await;
    }
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let done = match &command {
        Command::Show { name } => {
            let answer = client.get(&path(name)).await?;
            context.answer(&answer.data, || format!("{:#}", answer.data))
        }
        Command::Set { name, .. } => {
            let answer = client.call(Method::PUT, &path(name), Some(data)).await?;
            context.done(&answer.data, &Fault::new("cli.policy.set").with("name", name))
        }
        Command::Test { .. } => {
            let answer = client.post("/policies/test", data).await?;
            decision(context, &answer.data)
        }
        _ => list(context, &mut client).await,
    };
    client.close().await?;
    done
}

async fn list(context: &Context, client: &mut Client) -> Result<(), Failure> {
    let answer = client.get("/policies").await?;
    let joined = |value: &Value| match value {
        Value::Array(words) => words.iter().map(word).collect::<Vec<_>>().join(" "),
        other => word(other),
    };
    let row = |policy: &Value| {
        let target = match &policy["module"] {
            Value::String(module) => format!("({module})"),
            _ => word(&policy["collection"]),
        };
        let scope = policy.get("where").map_or_else(|| "–".to_owned(), ToString::to_string);
        [word(&policy["_id"]), target, joined(&policy["action"]), joined(&policy["roles"]), scope]
    };
    let rows: Vec<_> = answer.data.as_array().into_iter().flatten().map(row).collect();
    let header = ["cli.policy.name", "cli.policy.target", "cli.policy.action", "cli.policy.roles", "cli.policy.where"];
    let header = header.map(|key| text(context.language, key));
    context.answer(&answer.data, || output::table(header, &rows))
}

async fn remove(context: &Context, name: &str, dry_run: bool, yes: bool) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let mut client = Client::open(context, config.clone()).await?;
    let policy = client.get(&path(name)).await?.data;
    client.close().await?;
    let fault = |key| Fault::new(key).with("name", name);
    if dry_run {
        return context.done(&json!({ "policy": policy, "removed": false }), &fault("cli.policy.would_remove"));
    }
    context.confirm(&fault("cli.policy.confirm_remove"), name, yes)?;
    let mut client = Client::open(context, config).await?;
    client.call(Method::DELETE, &path(name), None).await?;
    client.close().await?;
    context.done(&json!({ "policy": policy, "removed": true }), &fault("cli.policy.removed"))
}

/// The decision and every policy's say. What is not allowed ends with the code of a refusal, for scripts.
pub fn decision(context: &Context, told: &Value) -> Result<(), Failure> {
    let allowed = told["allowed"] == true;
    let verdict = if allowed { "cli.policy.allowed" } else { "cli.policy.denied" };
    let verdict = Fault::new(verdict).with("identity", word(&told["identity"])).with("trust", word(&told["trust"]));
    let rows = told["policies"].as_array().into_iter().flatten().map(|said| {
        let mark = if said["allows"] == true { "+" } else { "-" };
        [mark.to_owned(), word(&said["policy"]), said["reason"].as_str().unwrap_or_default().to_owned()]
    });
    let rows: Vec<_> = rows.collect();
    let header = ["", "cli.policy.name", "cli.policy.reason"];
    let header = header.map(|key| if key.is_empty() { String::new() } else { text(context.language, key) });
    context.answer(told, || {
        let barred = told["barred"].as_str().map(|field| Fault::new("cli.policy.barred").with("field", field));
        let barred = barred.map(|fault| context.words(&fault) + "\n").unwrap_or_default();
        format!("{}\n{barred}{}", context.words(&verdict), output::table(header, &rows))
    })?;
    match allowed {
        true => Ok(()),
        false => Err(Failure::new(Code::Refused, verdict)),
    }
}

/// `NAME=FILE`, for a policy that is only supposed.
fn supposed(given: &str) -> Result<Value, Failure> {
    let wrong = || Failure::new(Code::Usage, Fault::new("cli.policy.supposed").with("given", given));
    let (name, file) = given.split_once('=').ok_or_else(wrong)?;
    let mut policy = read(&PathBuf::from(file))?;
    if !policy.is_object() {
        return Err(wrong());
    }
    policy["name"] = name.into();
    Ok(policy)
}

/// A file of JSON; `-` is the standard input.
fn read(file: &PathBuf) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|found| text = found),
    };
    read.map_err(|error| unreadable(file.display(), error))?;
    serde_json::from_str(&text).map_err(|error| unreadable(file.display(), error))
}

fn path(name: &str) -> String {
    format!("/policies/{}", segment(name))
}
