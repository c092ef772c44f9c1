//! The service of this machine: asked over its socket for commands, started and stopped by [`Control`].

mod control;
mod socket;

pub use control::Control;
pub use socket::Socket;

use crate::{
    base::clock::Timestamp,
    domain::holdings::Holdings,
    ports::{
        Error, Result,
        appliance::{Appliance, Seen},
    },
};
use serde_json::{Value, json};
use socket::{get, post};
use std::time::Duration;

/// One that does not say how it is within so long is not well.
const LOOK: Duration = Duration::from_secs(3);
/// A count reads what the journal holds of an update.
const COUNT: Duration = Duration::from_secs(120);
const BACKUP: Duration = Duration::from_secs(6 * 3600);

pub struct Service {
    pub socket: Socket,
    pub control: Control,
}

#[async_trait::async_trait]
impl Appliance for Service {
    async fn look(&self) -> Result<Seen> {
        let status = get(&self.socket, "/admin/status", LOOK).await?;
        seen(&status).ok_or_else(|| Error::Unavailable("its status cannot be read".to_owned()))
    }

    async fn holdings(&self, since: Option<u64>) -> Result<Holdings> {
        let since = since.map(|since| format!("?since={since}")).unwrap_or_default();
        let answer = get(&self.socket, &format!("/admin/status/holdings{since}"), COUNT).await?;
        serde_json::from_value(answer).map_err(|error| Error::Unavailable(error.to_string()))
    }

    async fn back_up(&self) -> Result<()> {
        let answer = post(&self.socket, "/admin/backups", &json!({ "kind": "full" }), BACKUP).await?;
        let faults = answer["targets"].as_array().into_iter().flatten().filter_map(|target| target["fault"].as_str());
        match faults.collect::<Vec<_>>().as_slice() {
            [] => Ok(()),
            faults => Err(Error::Unavailable(faults.join("; "))),
        }
    }

    async fn note(&self, update: &Value) -> Result<()> {
        post(&self.socket, "/admin/updates", update, LOOK).await.map(drop)
    }

    async fn restart(&self, hurry: bool) -> Result<()> {
        self.control.restart(hurry).await
    }

    async fn halt(&self) -> Result<()> {
        self.control.halt().await
    }
}

fn seen(status: &Value) -> Option<Seen> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let checks = status["checks"].as_array()?.iter().filter(|check| check["level"] == "failure");
    let faults = checks.filter_map(|check| check["message"].as_str()).collect::<Vec<_>>().join("; ");
    let backups = status["backups"].as_array().into_iter().flatten();
    let times = backups.flat_map(|target| [&target["fullAt"], &target["segmentAt"]]).filter_map(Value::as_str);
    let times = times.filter_map(|time| bson::DateTime::parse_rfc3339_str(time).ok());
    Some(Seen {
        version: text(&status["version"])?,
        ready: status["ready"] != "unready",
        faults,
        started: text(&status["startedAt"])?,
        requests: status["objectives"]["requests"].as_u64()?,
        failures: status["objectives"]["failures"].as_u64()?,
        // A release from before it told has none.
        answers: status["objectives"]["answers"].as_u64().unwrap_or_default(),
        slow: status["objectives"]["slowAnswers"].as_u64().unwrap_or_default(),
        backed_up: times.map(|time| Timestamp(time.timestamp_millis())).max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_what_is_none_is_not() {
        let status = json!({
            "version": "0.1.0", "startedAt": "a", "ready": "unready",
            "checks": [{ "level": "failure", "message": "no disk" }, { "level": "warning", "message": "old" }],
            "objectives": { "requests": 5, "failures": 1, "answers": 4, "slowAnswers": 2 },
            "backups": [{ "fullAt": "2026-11-22T10:15:00Z" }, { "segmentAt": "2026-11-23T10:15:00Z" }, {}],
        });
        let seen = seen(&status).unwrap();
        assert_eq!((seen.ready, seen.faults.as_str(), seen.requests), (false, "no disk", 5));
        assert_eq!((seen.failures, seen.answers, seen.slow), (1, 4, 2));
        assert_eq!(seen.backed_up.unwrap().rfc3339(), "2026-11-23T10:15:00Z");
        assert_eq!(super::seen(&json!({ "version": "0.1.0" })), None);
    }
}
