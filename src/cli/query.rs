//! `query COLLECTION`: documents that match, as an administrator.

use super::{
    client::{Client, segment},
    context::Context,
    failure::{Code, Failure},
};
use crate::base::fault::Fault;
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Arguments {
    collection: String,
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    #[arg(long, value_name = "FIELDS", allow_hyphen_values = true)]
    sort: Option<String>,
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
    #[arg(long)]
    explain: bool,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let filter = arguments.filter.as_deref().map(|given| parse("filter", given)).transpose()?;
    let collection = segment(&arguments.collection);
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    if arguments.explain {
        let mut path = format!("/collections/{collection}/explain?limit={}", arguments.limit);
        if let Some(filter) = filter {
            path.push_str(&format!("&filter={}", segment(&filter.to_string())));
        }
        if let Some(sort) = &arguments.sort {
            path.push_str(&format!("&sort={}", segment(sort)));
        }
        let answer = client.get(&path).await?;
        context.answer(&answer.data, || format!("{:#}", answer.data))?;
    } else {
        let mut query = json!({ "limit": arguments.limit });
        if let Some(filter) = filter {
            query["filter"] = filter;
        }
        if let Some(sort) = arguments.sort {
            query["sort"] = sort.into();
        }
        let answer = client.post(&format!("/collections/{collection}/query"), query).await?;
        context.answer(&answer.data, || lines(&answer.data))?;
    }
    client.close().await
}

/// One document a line.
fn lines(data: &Value) -> String {
    data.as_array().into_iter().flatten().map(|document| format!("{document}\n")).collect()
}

pub fn parse(flag: &str, given: &str) -> Result<Value, Failure> {
    serde_json::from_str(given).map_err(|error| {
        Failure::new(Code::Usage, Fault::new("cli.not_json").with("flag", format!("--{flag}")).with("why", error))
    })
}
