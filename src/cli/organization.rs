//! `organization`: the organizations of the instance.

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    failure::Failure,
    membership::{identity, pages},
    output,
};
use crate::base::{fault::Fault, messages::text};
use hyper::Method;
use serde_json::{Value, json};

#[derive(clap::Subcommand)]
pub enum Command {
    Add {
        name: String,
        #[arg(long, value_name = "PERSON")]
        owner: String,
        #[arg(long, value_name = "NUMBER")]
        legal_id: Option<String>,
    },
    List,
    Show {
        organization: String,
    },
    Disable {
        organization: String,
    },
    Enable {
        organization: String,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    match command {
        Command::Add { name, owner, legal_id } => {
            let owner = identity(&mut client, &owner).await?;
            let mut data = json!({ "name": name, "owner": owner });
            if let Some(legal_id) = legal_id {
                data["legalId"] = legal_id.into();
            }
            let answer = client.post("/organizations", data).await?;
            let done = Fault::new("cli.organization.added").with("name", word(&answer.data["name"]));
            context.done(&answer.data, &done.with("id", word(&answer.data["_id"])))?;
        }
        Command::List => list(context, &mut client).await?,
        Command::Show { organization } => show(context, &mut client, &organization).await?,
        Command::Disable { organization } => set(context, &mut client, &organization, "disabled").await?,
        Command::Enable { organization } => set(context, &mut client, &organization, "active").await?,
    }
    client.close().await
}

async fn set(context: &Context, client: &mut Client, organization: &str, status: &str) -> Result<(), Failure> {
    // It must be one: the same route disables people.
    client.get(&format!("/organizations/{}", segment(organization))).await?;
    let path = format!("/admin/identities/{}/status", segment(organization));
    let answer = client.call(Method::PUT, &path, Some(json!({ "status": status }))).await?;
    let key = if status == "active" { "cli.organization.enabled" } else { "cli.organization.disabled" };
    context.done(&answer.data, &Fault::new(key).with("id", organization))
}

async fn list(context: &Context, client: &mut Client) -> Result<(), Failure> {
    let all = pages(client, "/organizations?limit=1000").await?;
    let rows: Vec<[String; 4]> =
        all.iter().map(|one| ["name", "legalId", "status", "_id"].map(|field| word(&one[field]))).collect();
    let header = ["cli.user.name", "cli.organization.legal_id", "cli.user.status", "cli.user.id"];
    context.answer(&Value::Array(all), || output::table(header.map(|key| text(context.language, key)), &rows))
}

/// The organization and those who belong to it now.
async fn show(context: &Context, client: &mut Client, organization: &str) -> Result<(), Failure> {
    let mut shown = client.get(&format!("/organizations/{}", segment(organization))).await?.data;
    let filter = segment(&json!({ "organization": organization, "status": "active" }).to_string());
    shown["members"] = pages(client, &format!("/memberships?limit=1000&filter={filter}")).await?.into();
    context.answer(&shown, || format!("{shown:#}"))
}
