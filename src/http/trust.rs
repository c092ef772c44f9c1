//! The routes by which operators see how far an identity is trusted, and correct it.

use super::{body::Sent, conditions, envelope::Answer, proof::By, spec::Tag};
use crate::services::{Result, trust::Record};
use poem::Request;
use poem_openapi::{Object, OpenApi, param::Path};
use serde::{Deserialize, Serialize};

pub struct Routes;

#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct NewLevel {
    /// 0 to 100
    level: u8,
    /// Why; it stays with the identity
    reason: String,
}

#[derive(Serialize, Object)]
struct Standing {
    /// The identity's id
    identity: String,
    /// 0 to 100
    level: u8,
    /// Where everyone begins, and time brings everyone back
    baseline: u8,
    /// What moved it
    events: Vec<Moved>,
    /// The last word of an administrator
    #[serde(skip_serializing_if = "Option::is_none")]
    adjusted: Option<Adjusted>,
}

#[derive(Serialize, Object)]
struct Moved {
    /// `login.failed`, `refresh.replayed`…
    event: String,
    count: i64,
    /// Unix seconds
    last: i64,
}

#[derive(Serialize, Object)]
struct Adjusted {
    level: u8,
    reason: String,
    /// Who said so
    by: String,
    /// Unix seconds
    at: i64,
}

#[OpenApi(prefix_path = "/api/v1/admin/identities", tag = "Tag::Administration")]
impl Routes {
    /// How far a person is trusted, and why; `who` is an id or an email
    #[oai(path = "/:who/trust", method = "get", operation_id = "getTrust")]
    async fn show(&self, by: By, who: Path<String>) -> Result<Answer<Standing>> {
        let state = &by.exchange.state;
        let identity = state.identities.describe(&by.caller, &who).await?;
        let known = state.trust.describe(&state.access, &by.caller, &identity.id)?;
        Answer::value(&by.exchange, &Standing::of(known, state.trust.rules().baseline()))
    }

    /// Set how far a person is trusted, with a reason; `who` is an id or an email
    #[oai(path = "/:who/trust", method = "put", operation_id = "adjustTrust")]
    async fn adjust(
        &self,
        by: By,
        who: Path<String>,
        sent: Sent<NewLevel>,
        request: &Request,
    ) -> Result<Answer<Standing>> {
        conditions::no_attempt(request)?;
        let NewLevel { level, reason } = sent.read()?;
        let state = &by.exchange.state;
        let identity = state.identities.describe(&by.caller, &who).await?;
        let known = state.trust.adjust(&state.access, &by.caller, &identity.id, level, &reason).await?;
        Answer::value(&by.exchange, &Standing::of(known, state.trust.rules().baseline()))
    }
}

impl Standing {
    fn of((level, record): (u8, Record), baseline: u8) -> Self {
        let events = record.events.into_iter().filter(|(_, tally)| tally.count > 0).map(|(event, tally)| Moved {
            event,
            count: tally.count,
            last: tally.last.seconds(),
        });
        let adjusted = record.adjusted.map(|adjusted| Adjusted {
            level: adjusted.level,
            reason: adjusted.reason,
            by: adjusted.by,
            at: adjusted.at.seconds(),
        });
        Self { identity: record.identity, level, baseline, events: events.collect(), adjusted }
    }
}
