//! `access explain`: what is decided of a request, and why.

use super::{
    client::Client,
    context::Context,
    failure::Failure,
    policy::{self, Question},
};

#[derive(clap::Subcommand)]
pub enum Command {
    Explain {
        #[command(flatten)]
        question: Question,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let Command::Explain { question } = command;
    let data = question.json()?;
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.post("/access/explain", data).await?;
    client.close().await?;
    policy::decision(context, &answer.data)
}
