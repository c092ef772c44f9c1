//! The routes of alerts: what is wrong or was of late, and a trial of the ways they are told by.

use super::{conditions, envelope::Answer, proof::By, spec::Tag};
use crate::{
    base::{clock::Timestamp, messages::Language},
    services::{
        Result,
        alerts::{Known, meaning},
    },
};
use poem::Request;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;
use std::collections::BTreeMap;

pub struct Routes;

#[derive(Serialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct Alert {
    name: String,
    /// `critical` or `warning`
    severity: String,
    /// Which of several it is: a backup target, a job
    labels: BTreeMap<String, String>,
    /// What it means, and where to look next
    message: String,
    /// Since when it fires, RFC 3339
    since: String,
    /// When it ended; absent: it fires
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    /// Ways by which it was told
    told: Vec<String>,
}

#[derive(Serialize, Object)]
struct AlertChannel {
    /// `mail`, `webhook`, `push` or `sms`
    channel: String,
    sent: bool,
    /// Why not
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/admin/alerts", tag = "Tag::Administration")]
impl Routes {
    /// Alerts that fire, then those that ended in the last day
    #[oai(path = "/", method = "get", operation_id = "listAlerts")]
    async fn list(&self, by: By) -> Result<Answer<Vec<Alert>>> {
        let alerts = by.exchange.state.status.alerts.list(&by.caller)?;
        let language = by.exchange.language;
        let alerts: Vec<_> = alerts.into_iter().map(|alert| Alert::of(alert, language)).collect();
        Answer::value(&by.exchange, &alerts)
    }

    /// Send a trial notice by every way there is, and say which took it
    #[oai(path = "/test", method = "post", operation_id = "testAlerts")]
    async fn test(&self, by: By, request: &Request) -> Result<Answer<Vec<AlertChannel>>> {
        conditions::no_attempt(request)?;
        let tried = by.exchange.state.status.alerts.test(&by.caller).await?;
        let told = |(channel, error): (&str, Option<String>)| AlertChannel {
            channel: channel.to_owned(),
            sent: error.is_none(),
            error,
        };
        Answer::value(&by.exchange, &tried.into_iter().map(told).collect::<Vec<_>>())
    }
}

impl Alert {
    pub fn of(alert: Known, language: Language) -> Self {
        let labels = alert.place.split(' ').filter_map(|label| label.split_once('='));
        Self {
            message: meaning(language, &alert.name).to_owned(),
            severity: alert.severity.name().to_owned(),
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            since: alert.fired.unwrap_or(alert.since).rfc3339(),
            ended: alert.ended.map(Timestamp::rfc3339),
            told: alert.told.into_keys().collect(),
            name: alert.name,
        }
    }
}
