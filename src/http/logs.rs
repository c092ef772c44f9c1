//! The routes of operation logs: how much they say.

use super::{body::Sent, conditions, envelope::Answer, proof::By, spec::Tag};
use crate::{base::telemetry::Raised, services::Result};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

pub struct Routes;

#[derive(Serialize, Object)]
struct LogLevels {
    /// By the configuration
    configured: String,
    /// Modules that say more for a while
    raised: Vec<LogLevel>,
}

#[derive(Serialize, Object)]
struct LogLevel {
    module: String,
    level: String,
    /// RFC 3339
    until: String,
}

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct LogLevelWanted {
    /// `http`, `services::backups`, or another program's `hyper`
    module: String,
    /// `info`, `debug` or `trace`
    level: String,
    /// For how long, a day at most
    seconds: i64,
}

#[OpenApi(prefix_path = "/api/v1/admin/logs", tag = "Tag::Administration")]
impl Routes {
    /// How much is logged of what
    #[oai(path = "/levels", method = "get", operation_id = "listLogLevels")]
    async fn levels(&self, by: By) -> Result<Answer<LogLevels>> {
        let (configured, raised) = by.exchange.state.logs.levels(&by.caller)?;
        let raised = raised.into_iter().map(LogLevel::of).collect();
        Answer::value(&by.exchange, &LogLevels { configured, raised })
    }

    /// Log a module at another level for a while
    #[oai(path = "/levels", method = "post", operation_id = "raiseLogLevel")]
    async fn raise(&self, by: By, sent: Sent<LogLevelWanted>, request: &Request) -> Result<Answer<LogLevel>> {
        conditions::no_attempt(request)?;
        let LogLevelWanted { module, level, seconds } = sent.read()?;
        let raised = by.exchange.state.logs.raise(&by.caller, &module, &level, seconds).await?;
        Answer::value(&by.exchange, &LogLevel::of(raised))
    }
}

impl LogLevel {
    fn of(raised: Raised) -> Self {
        let Raised { module, level, until } = raised;
        Self { module, level, until: until.rfc3339() }
    }
}
