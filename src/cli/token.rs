//! `token`: API keys, and the public keys of machines.

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    failure::{Failure, unreadable},
    output,
};
use crate::base::{clock::Timestamp, fault::Fault, messages::text};
use hyper::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum Command {
    Create {
        #[arg(value_name = "WHO")]
        who: String,
        #[arg(long, value_name = "NAME")]
        name: String,
        #[arg(long, value_name = "N")]
        days: Option<i64>,
        #[arg(long, value_name = "ACTION", ignore_case = true, value_parser = ["VIEW", "CREATE", "UPDATE", "DELETE", "MANAGE"])]
        action: Vec<String>,
        #[arg(long, value_name = "COLLECTION")]
        collection: Vec<String>,
        #[arg(long, value_name = "MODULE")]
        module: Vec<String>,
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
    },
    List {
        #[arg(value_name = "WHO")]
        who: Option<String>,
    },
    Revoke {
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    match command {
        Command::Create { who, name, days, action, collection, module, public_key } => {
            let read =
                |path: PathBuf| std::fs::read_to_string(&path).map_err(|error| unreadable(path.display(), error));
            let public = public_key.map(read).transpose()?;
            let mut data = json!({ "name": name });
            if let Some(days) = days {
                data["expiresInDays"] = days.into();
            }
            if let Some(scopes) = scopes(&action, &collection, &module, public.is_none()) {
                data["scopes"] = scopes;
            }
            if let Some(public) = public {
                data["publicKey"] = public.into();
            }
            let mut client = Client::open(context, config).await?;
            let answer = client.post(&format!("/admin/identities/{}/keys", segment(&who)), data).await?;
            told(context, &answer.data)?;
            client.close().await
        }
        Command::List { who } => {
            let mut client = Client::open(context, config).await?;
            let path = match who {
                Some(who) => format!("/admin/identities/{}/keys", segment(&who)),
                None => "/admin/keys".to_owned(),
            };
            let answer = client.get(&path).await?;
            list(context, &answer.data)?;
            client.close().await
        }
        Command::Revoke { id } => {
            let mut client = Client::open(context, config).await?;
            let answer = client.call(Method::DELETE, &format!("/admin/keys/{}", segment(&id)), None).await?;
            context.done(&answer.data, &Fault::new("cli.token.revoked").with("name", word(&answer.data["name"])))?;
            client.close().await
        }
    }
}

/// Nothing said: the instance's own default. An API key that names a collection reads it, when no action is said.
fn scopes(actions: &[String], collections: &[String], modules: &[String], api_key: bool) -> Option<Value> {
    if actions.is_empty() && collections.is_empty() && modules.is_empty() {
        return None;
    }
    let mut scopes =
        json!({ "actions": actions.iter().map(|name| name.to_uppercase()).collect::<Vec<_>>(), "modules": modules });
    if actions.is_empty() && api_key {
        scopes["actions"] = json!(["VIEW"]);
    }
    if !collections.is_empty() {
        scopes["collections"] = json!(collections);
    }
    Some(scopes)
}

fn told(context: &Context, data: &Value) -> Result<(), Failure> {
    context.answer(data, || {
        let fault = |key| {
            Fault::new(key).with("name", word(&data["name"])).with("id", word(&data["_id"])).with("until", day(data))
        };
        match (data["token"].as_str(), data["audience"].as_str()) {
            (Some(token), _) => format!("{}\n{token}", context.words(&fault("cli.token.created"))),
            (None, audience) => {
                let audience = audience.unwrap_or_default();
                context.words(&fault("cli.token.taken").with("audience", audience))
            }
        }
    })
}

fn list(context: &Context, data: &Value) -> Result<(), Failure> {
    let rows: Vec<[String; 6]> = data
        .as_array()
        .into_iter()
        .flatten()
        .map(|key| {
            let scope = &key["scopes"];
            let names = |value: &Value| value.as_array().into_iter().flatten().map(word).collect::<Vec<_>>().join(",");
            let reach = [names(&scope["actions"]), names(&scope["collections"]), names(&scope["modules"])];
            let reach = reach.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
            [word(&key["_id"]), word(&key["name"]), word(&key["identity"]), reach, day(key), word(&key["status"])]
        })
        .collect();
    let header = [
        "cli.token.id",
        "cli.token.name",
        "cli.token.identity",
        "cli.token.scope",
        "cli.token.expires",
        "cli.token.status",
    ];
    let header = header.map(|key| text(context.language, key));
    context.answer(data, || output::table(header, &rows))
}

/// The day a key ends, as `2026-11-22`.
fn day(key: &Value) -> String {
    let seconds = key["expiresAt"].as_i64().unwrap_or_default();
    Timestamp(seconds.saturating_mul(1000)).rfc3339().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_left_to_the_instance() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(scopes(&[], &[], &[], true), None);
        let asked = scopes(&[], &words(&["patients"]), &[], true).unwrap();
        assert_eq!(asked, json!({ "actions": ["VIEW"], "modules": [], "collections": ["patients"] }));
        let asked = scopes(&words(&["manage"]), &[], &words(&["backups"]), true).unwrap();
        assert_eq!(asked, json!({ "actions": ["MANAGE"], "modules": ["backups"] }));
    }

    #[test]
    fn a_key_ends_on_a_day() {
        assert_eq!(day(&json!({ "expiresAt": 1_800_000_000 })), "2027-01-15");
    }
}
