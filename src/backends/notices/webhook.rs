//! Notices as signed requests to a program of the operator's, after Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>): the receiver checks
//! `webhook-signature` over id, time and body, and knows by `webhook-id` what it had before.

use super::post;
use crate::{
    base::{config::Secret, fault::Fault},
    ports::{
        Result,
        notices::{Channel, Notice},
        web::{Body, Request, Web},
    },
};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::sync::Arc;

/// Bytes of the secret, as the specification has it.
const FEWEST: usize = 24;

pub struct Webhook {
    web: Arc<dyn Web>,
    url: String,
    key: hmac::Key,
}

impl Webhook {
    /// The secret is `whsec_` and base64, or any other word as it is; of 24 bytes at least.
    pub fn new(web: Arc<dyn Web>, url: String, secret: &Secret) -> std::result::Result<Self, Fault> {
        let word = secret.expose();
        let bytes = match word.strip_prefix("whsec_") {
            Some(rest) => STANDARD.decode(rest).ok(),
            None => Some(word.as_bytes().to_vec()),
        };
        let bytes = bytes.map(zeroize::Zeroizing::new).filter(|bytes| bytes.len() >= FEWEST);
        let bytes = bytes.ok_or_else(|| Fault::new("alerts.webhook_unsigned").at("alerts.webhook_secret"))?;
        Ok(Self { web, url, key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    fn signature(&self, id: &str, time: &str, body: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{id}.{time}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

#[async_trait::async_trait]
impl Channel for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn send(&self, notice: &Notice) -> Result<()> {
        let (time, body) = (notice.time.seconds().to_string(), notice.data.to_string());
        let signature = self.signature(&notice.id, &time, &body);
        let headers =
            vec![("webhook-id", notice.id.clone()), ("webhook-timestamp", time), ("webhook-signature", signature)];
        let request = Request { url: self.url.clone(), body: Some(Body::Json(body)), headers, ..Request::default() };
        post(&*self.web, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    #[async_trait::async_trait]
    impl Web for Nobody {
        async fn fetch(&self, request: Request) -> Result<crate::ports::web::Response> {
            if request.url.contains("away") {
                let place = request.url.split('?').next().unwrap_or_default();
                return Err(crate::ports::Error::Unavailable(format!("{place}: connection refused")));
            }
            Ok(crate::ports::web::Response { status: 503, body: Vec::new() })
        }
    }

    #[tokio::test]
    async fn is_signed_as_the_specification_shows() {
        // The example of its section "Signature scheme", by its reference library.
        let secret = serde_json::from_value(serde_json::json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let webhook = Webhook::new(Arc::new(Nobody), "https://x".to_owned(), &secret).unwrap();
        let signed = webhook.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let request = Request { url: "https://x.cd/token?token=t".to_owned(), ..Request::default() };
        let error = post(&Nobody, request).await.unwrap_err().to_string();
        assert_eq!(error, "unavailable: https://x.cd: status 503");
        let request = Request { url: "https://x.cd/away/token?a".to_owned(), ..Request::default() };
        let error = post(&Nobody, request).await.unwrap_err().to_string();
        assert_eq!(error, "unavailable: https://x.cd: connection refused");
        for short in
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "01234567890123456789012"]
        {
            let short = serde_json::from_value(serde_json::json!(short)).unwrap();
            assert!(Webhook::new(Arc::new(Nobody), "https://x".to_owned(), &short).is_err());
        }
    }
}
