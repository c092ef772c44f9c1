//! Which endpoint answers: the API's under its prefix, the pages elsewhere.

use crate::http::{State, pages, spec};
use poem::{
    Endpoint, IntoEndpoint, PathPattern, Request, Response, Result, Route,
    endpoint::BoxEndpoint,
    error::MethodNotAllowedError,
    http::{HeaderValue, Method, header},
};
use std::{collections::HashMap, sync::Arc};

pub struct Routes {
    api: BoxEndpoint<'static, Response>,
    pages: Route,
    /// By poem's pattern (`/a/:param0`): the reference's pattern (`/a/{id}`) and the methods it takes.
    known: HashMap<Arc<str>, (Arc<str>, HeaderValue)>,
}

impl Routes {
    pub fn new(state: &Arc<State>) -> Self {
        let service = spec::service();
        let pages = pages::routes(state);
        let known = spec::operations().into_iter().map(|(path, methods)| {
            let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
            let allow = HeaderValue::try_from(allow).unwrap_or(HeaderValue::from_static(""));
            (pattern(&path).into(), (path.into(), allow))
        });
        Self { known: known.collect(), api: service.into_endpoint(), pages }
    }

    pub async fn call(&self, request: Request) -> Result<Response> {
        let path = request.uri().path();
        match path.starts_with("/api/") && !pages::holds(path) {
            true => self.api.call(request).await,
            false => self.pages.call(request).await,
        }
    }

    /// Keeps with a refusal what is known of its route, for the metrics and for `Allow` (RFC 9110, 15.5.6).
    pub fn refused(&self, error: &poem::Error, mut response: Response) -> Response {
        let Some(pattern) = error.data::<PathPattern>() else { return response };
        if error.is::<MethodNotAllowedError>() {
            let known = self.known.get(&pattern.0).map(|(_, allow)| allow.clone());
            response.headers_mut().insert(header::ALLOW, known.unwrap_or(pages::METHODS));
        }
        response.set_data(pattern.clone());
        response
    }

    /// The reference's pattern of the route an error comes from.
    pub fn pattern(&self, error: &poem::Error) -> Option<Arc<str>> {
        let pattern = error.data::<PathPattern>()?;
        Some(self.known.get(&pattern.0).map_or_else(|| pattern.0.clone(), |(path, _)| path.clone()))
    }

    /// The route as the reference names it, whatever poem calls it inside.
    pub fn name(&self, response: &mut Response) {
        if let Some((path, _)) = response.data::<PathPattern>().and_then(|pattern| self.known.get(&pattern.0)) {
            let pattern = PathPattern(path.clone());
            response.set_data(pattern);
        }
    }
}

/// What takes as long as it takes: streams end when their client does, a backup when all is written and checked, an order when
/// an authority has looked.
pub fn is_long(request: &Request) -> bool {
    let path = request.uri().path().strip_prefix("/api/v1/").unwrap_or_default();
    let parts: Vec<_> = path.split('/').collect();
    matches!(
        *parts,
        ["admin", "backups" | "certificate" | "migrations" | "secrets" | "subjects", ..]
            | ["admin", "alerts", "test"]
            | ["admin", "identities", "import"]
            | ["audit", "export"]
            | ["collections", _, "import" | "export"]
    )
}

/// Whether it may change something. Questions too long for a URL are asked by POST.
pub fn may_write(request: &Request) -> bool {
    let path = request.uri().path();
    let asks = ["/query", "/access/explain", "/access/who", "/policies/test", "/drills/compare"]
        .iter()
        .any(|end| path.ends_with(end));
    !(request.method().is_safe() || asks && request.method() == Method::POST)
}

/// `/a/{b}/{c}` as poem-openapi registers it: `/a/:param0/:param1`.
fn pattern(path: &str) -> String {
    let mut count = 0;
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => {
            count += 1;
            format!(":param{}", count - 1)
        }
        false => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_write_nothing() {
        let may = |method, path: &str| may_write(&Request::builder().method(method).uri_str(path).finish());
        assert!(may(Method::POST, "/api/v1/collections/c/documents") && may(Method::DELETE, "/api/v1/policies/p"));
        assert!(may(Method::PUT, "/api/v1/policies/test"));
        assert!(!may(Method::GET, "/api/v1/policies/p") && !may(Method::POST, "/api/v1/collections/c/query"));
    }

    #[test]
    fn only_streams_and_backups_are_long() {
        let long = |path: &str| is_long(&Request::builder().uri_str(format!("/api/v1/{path}")).finish());
        for path in [
            "admin/backups",
            "admin/backups/verify",
            "admin/secrets/rewrite",
            "collections/c/import",
            "collections/c/export",
            "admin/identities/import",
            "admin/alerts/test",
            "audit/export",
        ] {
            assert!(long(path), "{path}");
        }
        for path in ["collections/c/documents/import", "collections/export", "admin/identities", ""] {
            assert!(!long(path), "{path}");
        }
    }
}
