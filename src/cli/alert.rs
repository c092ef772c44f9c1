//! `alert`: what is wrong or was of late, and a trial of the ways it is told by.

use super::{
    client::Client,
    collection::word,
    context::Context,
    failure::{Code, Failure},
    output,
};
use crate::base::{fault::Fault, messages::text};
use serde_json::{Value, json};

#[derive(clap::Subcommand)]
pub enum Command {
    List,
    Test,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let data = match command {
        Command::List => client.get("/admin/alerts").await,
        Command::Test => client.post("/admin/alerts/test", json!({})).await,
    };
    let data = data?.data;
    client.close().await?;
    match command {
        Command::List => list(context, &data),
        Command::Test => tested(context, &data),
    }
}

fn list(context: &Context, data: &Value) -> Result<(), Failure> {
    let rows: Vec<_> = data.as_array().into_iter().flatten().map(|alert| row(context, alert)).collect();
    let header = ["cli.alert.severity", "cli.alert.name", "cli.alert.of", "cli.alert.since", "cli.alert.ended"];
    context.answer(data, || match rows.is_empty() {
        true => text(context.language, "cli.alert.none"),
        false => output::table(header.map(|key| text(context.language, key)), &rows),
    })
}

fn row(context: &Context, alert: &Value) -> [String; 5] {
    [severity(context, alert), word(&alert["name"]), place(alert), minute(&alert["since"]), minute(&alert["ended"])]
}

pub fn severity(context: &Context, alert: &Value) -> String {
    let key = if alert["severity"] == "critical" { "cli.alert.critical" } else { "cli.alert.warning" };
    text(context.language, key)
}

/// Which of several it is.
pub fn place(alert: &Value) -> String {
    let labels = alert["labels"].as_object().into_iter().flatten();
    labels.map(|(name, value)| format!("{name}={}", word(value))).collect::<Vec<_>>().join(" ")
}

/// `2026-11-22 10:15`, in UTC.
pub fn minute(time: &Value) -> String {
    time.as_str().map(|time| time.chars().take(16).collect::<String>().replace('T', " ")).unwrap_or_default()
}

fn tested(context: &Context, data: &Value) -> Result<(), Failure> {
    let all: Vec<_> = data.as_array().into_iter().flatten().collect();
    let told = |channel: &&Value| {
        let name = word(&channel["channel"]);
        context.words(&match channel["error"].as_str() {
            None => Fault::new("cli.alert.sent").with("channel", name),
            Some(cause) => Fault::new("cli.alert.unsent").with("channel", name).with("cause", cause),
        })
    };
    context.answer(data, || match all.is_empty() {
        true => text(context.language, "cli.alert.nobody"),
        false => all.iter().map(told).collect::<Vec<_>>().join("\n"),
    })?;
    match all.iter().all(|channel| channel["sent"] == true) {
        true => Ok(()),
        false => Err(Failure::silent(Code::Failed)),
    }
}
