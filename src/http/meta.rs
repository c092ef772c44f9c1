//! What anyone may ask: which API this is, and whether it is up.

use super::{envelope::Answer, exchange::Public, spec::Tag};
use crate::services::Result;
use poem_openapi::{Object, OpenApi};
use serde::Serialize;

pub struct Routes;

/// Nothing that tells releases apart.
#[derive(Serialize, Object)]
struct Meta {
    prefix: String,
    environment: String,
    locales: Vec<String>,
}

#[derive(Serialize, Object)]
struct Up {
    /// `up` or `down`
    status: String,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Meta")]
impl Routes {
    /// Which API this is
    #[oai(path = "/meta", method = "get", operation_id = "meta")]
    async fn meta(&self, public: Public) -> Result<Answer<Meta>> {
        let meta = Meta {
            prefix: "/api/v1".to_owned(),
            environment: public.0.state.environment.name().to_owned(),
            locales: vec!["fr".to_owned(), "en".to_owned()],
        };
        Answer::value(&public.0, &meta)
    }

    /// Up or not
    #[oai(path = "/health", method = "get", operation_id = "health")]
    async fn health(&self, public: Public) -> Result<Answer<Up>> {
        let status = if public.0.state.health.ready() { "up" } else { "down" };
        Answer::value(&public.0, &Up { status: status.to_owned() })
    }
}
