//! `/healthz`, `/readyz`, `/metrics`: for operators' tools, on their own listener; no envelope.

use crate::{
    base::{
        messages::{Language, render},
        metrics::{self, Metrics, plain},
    },
    services::health::{Health, Level},
};
use poem::{IntoEndpoint, Request, Response, Route, get, handler, http::StatusCode, web::Data};
use std::sync::Arc;

/// The ops listener's routes.
pub fn router(health: Arc<Health>, metrics: Arc<Metrics>) -> impl IntoEndpoint {
    use poem::EndpointExt;
    Route::new()
        .at("/healthz", get(alive))
        .at("/readyz", get(ready_detail))
        .at("/metrics", get(scrape))
        .data(health)
        .data(metrics)
}

#[handler]
pub fn alive() -> Response {
    json(StatusCode::OK, &serde_json::json!({ "status": "alive" }))
}

/// Fit to serve or not, and nothing more: what the public listener says.
#[handler]
pub fn ready(health: Data<&Arc<Health>>) -> Response {
    let (status, word) = readiness(&health);
    json(status, &serde_json::json!({ "status": word }))
}

#[handler]
fn ready_detail(health: Data<&Arc<Health>>) -> Response {
    let (status, word) = readiness(&health);
    let checks: Vec<_> = health
        .findings()
        .into_iter()
        .map(|finding| {
            let detail = finding.fault.map(|fault| render(Language::English, &fault));
            serde_json::json!({ "check": finding.check, "level": finding.level, "detail": detail })
        })
        .collect();
    json(status, &serde_json::json!({ "status": word, "phase": health.phase(), "checks": checks }))
}

fn readiness(health: &Health) -> (StatusCode, &'static str) {
    match health.ready() {
        true if health.findings().iter().all(|finding| finding.level == Level::Ok) => (StatusCode::OK, "ready"),
        true => (StatusCode::OK, "degraded"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
    }
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    Response::builder().status(status).content_type("application/json").body(value.to_string())
}

/// OpenMetrics, or Prometheus' older text for who asks for plain text alone.
#[handler]
fn scrape(request: &Request, metrics: Data<&Arc<Metrics>>) -> Response {
    let text = metrics.render();
    match request.header("accept").is_some_and(|accept| accept.starts_with("text/plain")) {
        true => Response::builder().content_type(plain::CONTENT_TYPE).body(plain::plain(&text)),
        false => Response::builder().content_type(metrics::CONTENT_TYPE).body(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{clock::SystemClock, fault::Fault},
        services::health::{Finding, Phase},
    };
    use poem::Endpoint;

    async fn fetch(health: &Arc<Health>, path: &str) -> (StatusCode, String) {
        let router = router(health.clone(), Metrics::new(Arc::new(SystemClock))).into_endpoint();
        let request = Request::builder().uri(path.parse().unwrap()).finish();
        let response = router.get_response(request).await;
        (response.status(), response.into_body().into_string().await.unwrap())
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_names_what_fails() {
        let health = Arc::new(Health::default());
        assert_eq!(fetch(&health, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(fetch(&health, "/healthz").await.0, StatusCode::OK);
        health.enter(Phase::Serving);
        assert_eq!(fetch(&health, "/readyz").await.0, StatusCode::OK);
        health.report(Finding::failure("storage", Fault::new("certificates.no_names")));
        let (status, body) = fetch(&health, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("storage") && body.contains("No host name"), "{body}");
        assert!(fetch(&health, "/metrics").await.1.ends_with("# EOF\n"));
    }
}
