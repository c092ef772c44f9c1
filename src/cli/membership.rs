//! `membership`: who belongs to which organization.

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    failure::Failure,
    output,
};
use crate::base::{fault::Fault, messages::text};
use hyper::Method;
use serde_json::{Map, Value, json};

#[derive(clap::Subcommand)]
pub enum Command {
    Add {
        #[arg(value_name = "PERSON")]
        person: String,
        #[arg(value_name = "ORGANIZATION")]
        organization: String,
        #[arg(long, value_name = "ROLE", default_value = "MEMBER", value_parser = ["OWNER", "ADMIN", "STAFF", "MEMBER"])]
        role: String,
    },
    List {
        #[arg(long, value_name = "PERSON")]
        person: Option<String>,
        #[arg(long, value_name = "ORGANIZATION")]
        organization: Option<String>,
    },
    End {
        membership: String,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    match command {
        Command::Add { person, organization, role } => {
            let id = identity(&mut client, &person).await?;
            let data = json!({ "person": id, "organization": organization, "role": role });
            let answer = client.post("/memberships", data).await?;
            let done = Fault::new("cli.membership.added").with("person", person);
            context.done(&answer.data, &done.with("role", role).with("id", word(&answer.data["_id"])))?;
        }
        Command::List { person, organization } => list(context, &mut client, person, organization).await?,
        Command::End { membership } => {
            let path = format!("/memberships/{}", segment(&membership));
            let answer = client.call(Method::DELETE, &path, None).await?;
            context.done(&answer.data, &Fault::new("cli.membership.ended").with("id", membership))?;
        }
    }
    client.close().await
}

async fn list(
    context: &Context,
    client: &mut Client,
    person: Option<String>,
    organization: Option<String>,
) -> Result<(), Failure> {
    let mut filter = Map::new();
    if let Some(person) = person {
        filter.insert("person".to_owned(), identity(client, &person).await?.into());
    }
    if let Some(organization) = organization {
        filter.insert("organization".to_owned(), organization.into());
    }
    let filter = segment(&Value::Object(filter).to_string());
    let all = pages(client, &format!("/memberships?limit=1000&filter={filter}")).await?;
    let fields = ["person", "organization", "role", "status", "_id"];
    let rows: Vec<[String; 5]> = all.iter().map(|one| fields.map(|field| word(&one[field]))).collect();
    let header = [
        "cli.membership.person",
        "cli.membership.organization",
        "cli.membership.role",
        "cli.user.status",
        "cli.user.id",
    ];
    context.answer(&Value::Array(all), || output::table(header.map(|key| text(context.language, key)), &rows))
}

/// The id of a person known by an id, an address or a number.
pub async fn identity(client: &mut Client, who: &str) -> Result<String, Failure> {
    let answer = client.get(&format!("/admin/identities/{}", segment(who))).await?;
    Ok(word(&answer.data["_id"]))
}

/// Every row of a list, page after page.
pub async fn pages(client: &mut Client, path: &str) -> Result<Vec<Value>, Failure> {
    let (mut all, mut next) = (Vec::new(), String::new());
    loop {
        let mut answer = client.get(&format!("{path}{next}")).await?;
        all.append(answer.data.as_array_mut().unwrap_or(&mut Vec::new()));
        match answer.next {
            Some(cursor) => next = format!("&cursor={}", segment(&cursor)),
            None => return Ok(all),
        }
    }
}
