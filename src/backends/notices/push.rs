//! Notices pushed to telephones by a server of the kind of ntfy (<https://docs.ntfy.sh/publish/#publish-as-json>).

use super::post;
use crate::{
    base::{config::Secret, fault::Fault},
    ports::{
        Result,
        notices::{Channel, Notice},
        web::{Body, Request, Web},
    },
};
use serde_json::json;
use std::sync::Arc;

/// Bytes a message may have; longer ones would become a file.
const LONGEST: usize = 4000;
/// Of ntfy's five: rings, and is shown.
const URGENT: u8 = 5;
const ORDINARY: u8 = 3;

pub struct Push {
    web: Arc<dyn Web>,
    /// Without the topic.
    server: String,
    topic: String,
    token: Option<Secret>,
}

impl Push {
    /// `https://SERVER/TOPIC`.
    pub fn new(web: Arc<dyn Web>, url: &Secret, token: Option<Secret>) -> std::result::Result<Self, Fault> {
        let url = url.expose();
        let parts = url.trim_end_matches('/').rsplit_once('/').filter(|(server, topic)| {
            let (_, host) = server.split_once("://").unwrap_or_default();
            !host.is_empty() && !topic.is_empty()
        });
        let (server, topic) = parts.ok_or_else(|| Fault::new("alerts.push_topic").at("alerts.push"))?;
        Ok(Self { web, server: server.to_owned(), topic: topic.to_owned(), token })
    }
}

#[async_trait::async_trait]
impl Channel for Push {
    fn name(&self) -> &'static str {
        "push"
    }

    async fn send(&self, notice: &Notice) -> Result<()> {
        let (mut text, priority) = (notice.text.clone(), if notice.urgent { URGENT } else { ORDINARY });
        text.truncate(text.floor_char_boundary(LONGEST));
        let body = json!({ "topic": self.topic, "title": notice.subject, "message": text, "priority": priority });
        let authorization = self.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let (url, body) = (format!("{}/", self.server), Some(Body::Json(body.to_string())));
        post(&*self.web, Request { url, body, authorization, ..Request::default() }).await
    }
}
