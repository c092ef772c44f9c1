//! `debug`: for who looks into what an instance does.

mod bundle;
mod redact;

use super::{
    client::Client,
    collection::word,
    context::Context,
    failure::{Code, Failure},
};
use crate::base::fault::Fault;
use serde_json::json;
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum Command {
    Bundle {
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    LogLevel {
        #[arg(value_name = "MODULE=LEVEL")]
        level: String,
        #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
        lasting: String,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Bundle { output } => bundle::run(context, output).await,
        Command::LogLevel { level, lasting } => raise(context, &level, &lasting).await,
    }
}

async fn raise(context: &Context, wanted: &str, lasting: &str) -> Result<(), Failure> {
    let malformed = || Failure::new(Code::Usage, Fault::new("cli.debug.level_form").with("value", wanted));
    let (module, level) = wanted.split_once('=').ok_or_else(malformed)?;
    let seconds = seconds(lasting)
        .ok_or_else(|| Failure::new(Code::Usage, Fault::new("cli.debug.duration_form").with("value", lasting)))?;
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let sent = json!({ "module": module, "level": level, "seconds": seconds });
    let data = client.post("/admin/logs/levels", sent).await?.data;
    client.close().await?;
    let told = Fault::new("cli.debug.raised").with("module", word(&data["module"]));
    context.done(&data, &told.with("level", word(&data["level"])).with("until", word(&data["until"])))
}

/// `90s`, `10m`, `2h`.
fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    number.parse::<u32>().ok().map(|number| i64::from(number) * unit)
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_read() {
        assert_eq!(["90s", "10m", "2h"].map(super::seconds), [Some(90), Some(600), Some(7200)]);
        for bad in ["", "m", "10", "-1m", "1d", "1é"] {
            assert_eq!(super::seconds(bad), None, "{bad}");
        }
    }
}
