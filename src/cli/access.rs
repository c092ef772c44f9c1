//! `access explain`: what is decided of a request, and why. `access who`: everyone who may see a document.

use super::{
    client::Client,
    collection::word,
    context::Context,
    failure::Failure,
    output,
    policy::{self, Question},
};
use crate::base::{fault::Fault, messages::text};
use serde_json::{Value, json};

/// People asked for at once.
const PAGE: usize = 500;

#[derive(clap::Subcommand)]
pub enum Command {
    Explain {
        #[command(flatten)]
        question: Question,
    },
    Who {
        collection: String,
        id: String,
        #[arg(long, value_name = "ACTION", default_value = "VIEW", ignore_case = true, value_parser = ["VIEW", "UPDATE", "DELETE"])]
        action: String,
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Explain { question } => {
            let data = question.json()?;
            let mut client = Client::open(context, context.config(Vec::new())?).await?;
            let answer = client.post("/access/explain", data).await?;
            client.close().await?;
            policy::decision(context, &answer.data)
        }
        Command::Who { collection, id, action, at, limit } => {
            let asked = json!({ "collection": collection, "id": id, "action": action.to_uppercase(), "at": at });
            who(context, asked, limit.unwrap_or(usize::MAX)).await
        }
    }
}

async fn who(context: &Context, asked: Value, limit: usize) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let (mut people, mut next): (Vec<Value>, Option<String>) = (Vec::new(), None);
    loop {
        let mut asked = asked.clone();
        asked["limit"] = (limit - people.len()).min(PAGE).into();
        asked["cursor"] = next.into();
        let answer = client.post("/access/who", asked).await?;
        people.extend(answer.data.as_array().into_iter().flatten().cloned());
        next = answer.next;
        if next.is_none() || people.len() >= limit {
            break;
        }
    }
    client.close().await?;
    let joined = |list: &Value, of: &dyn Fn(&Value) -> String| match list.as_array() {
        Some(list) if !list.is_empty() => list.iter().map(of).collect::<Vec<_>>().join(" "),
        _ => "–".to_owned(),
    };
    let row = |found: &Value| {
        let name = found.get("name").unwrap_or(&found["identity"]);
        let policies = joined(&found["policies"], &|policy| word(&policy["policy"]));
        [word(name), word(&found["kind"]), word(&found["trust"]), policies, joined(&found["masked"], &word)]
    };
    let rows: Vec<_> = people.iter().map(row).collect();
    let header = ["cli.access.name", "cli.access.kind", "cli.access.trust", "cli.policy.name", "cli.access.masked"];
    context.answer(&json!(people), || output::table(header.map(|key| text(context.language, key)), &rows))?;
    // The machine's own root is under no policy, and in no list.
    context.say(&Fault::new("cli.access.beside").with("people", people.len()));
    Ok(())
}
