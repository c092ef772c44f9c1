//! The route of updates: what became of one, noted by who made it from beside the service.

use super::{body::Sent, conditions, envelope::Answer, proof::By, spec::Tag};
use crate::{
    base::{clock::Timestamp, fault::Fault},
    services::{
        Error, Result,
        drills::Words,
        updates::{self, Outcome},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

pub struct Routes;

/// A change from one release to another, or back.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct Update {
    /// When it began, milliseconds since 1970
    at: i64,
    from: String,
    to: String,
    /// `applied`, `takenBack`, `rolledBack` or `stays`
    outcome: String,
    /// Who asked for it
    by: String,
    seconds: i64,
    /// Why it was taken back
    #[serde(default)]
    why: Option<UpdateFault>,
    /// What is not there any more
    #[serde(default)]
    missing: Option<UpdateFault>,
}

/// In both languages
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
struct UpdateFault {
    fr: String,
    en: String,
}

#[derive(Serialize, Object)]
struct Noted {
    noted: bool,
}

#[OpenApi(prefix_path = "/api/v1/admin/updates", tag = "Tag::Administration")]
impl Routes {
    /// Note in the audit log what became of an update
    #[oai(path = "/", method = "post", operation_id = "noteUpdate")]
    async fn note(&self, by: By, sent: Sent<Update>, request: &Request) -> Result<Answer<Noted>> {
        conditions::no_attempt(request)?;
        let update = event(sent.read()?)?;
        by.exchange.state.updates.note(&by.caller, &update).await?;
        Answer::value(&by.exchange, &Noted { noted: true })
    }
}

fn event(update: Update) -> Result<updates::Event> {
    let unsound = |field: &str| Error::Invalid(Fault::new("updates.unsound").at(field));
    let version = |text: &str, field: &str| text.parse().map_err(|_| unsound(field));
    let words = |UpdateFault { fr, en }| Words { fr, en };
    let outcome = match update.outcome.as_str() {
        "applied" => Outcome::Applied,
        "takenBack" => Outcome::TakenBack,
        "rolledBack" => Outcome::RolledBack,
        "stays" => Outcome::Stays,
        _ => return Err(unsound("outcome")),
    };
    Ok(updates::Event {
        at: Timestamp(update.at),
        from: version(&update.from, "from")?,
        to: version(&update.to, "to")?,
        outcome,
        by: update.by,
        seconds: update.seconds,
        why: update.why.map(words),
        missing: update.missing.map(words),
    })
}
