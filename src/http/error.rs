//! The one place that knows which code, status and words an error has.

use super::exchange::Exchange;
use crate::{
    base::{
        fault::Fault,
        messages::{Language, render},
    },
    services::{Error, mfa::Owed},
};
use poem::{
    Response,
    error::{MethodNotAllowedError, NotFoundError, ResponseError},
    http::{StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    error::{ParseParamError, ParsePathError},
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde_json::{Map, Value, json};

/// Seconds a caller is asked to wait when nothing better is known.
const RETRY_SECONDS: u64 = 2;

/// An error as a caller is told it.
pub struct Told {
    pub status: StatusCode,
    pub code: &'static str,
    pub fault: Fault,
    retry_after: Option<u64>,
    /// What is owed after a first factor.
    owed: Option<Value>,
    /// `safety` or `integrity`: what sort of refusal or failure, for tools.
    kind: Option<&'static str>,
    /// For the log alone.
    cause: Option<String>,
}

impl Told {
    fn new(status: StatusCode, code: &'static str, fault: Fault) -> Self {
        Self { status, code, fault, retry_after: None, owed: None, kind: None, cause: None }
    }

    /// The cause of a failure is logged, and told to nobody.
    pub fn log(&self) {
        match &self.cause {
            Some(cause) if self.code == "INTERNAL_ERROR" => tracing::error!(cause, "request failed"),
            Some(cause) => tracing::warn!(cause, code = self.code, "request refused"),
            None => {}
        }
    }

    /// `{code, message, details: {path, rule, params}}`, and what is owed.
    pub fn value(&self, language: Language) -> Value {
        let mut details = Map::new();
        if !self.fault.path.is_empty() {
            details.insert("path".to_owned(), self.fault.path.clone().into());
        }
        details.insert("rule".to_owned(), self.fault.key.into());
        if let Some(kind) = self.kind {
            details.insert("kind".to_owned(), kind.into());
        }
        if !self.fault.params.is_empty() {
            let params = self.fault.params.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into()));
            details.insert("params".to_owned(), Value::Object(params.collect()));
        }
        if let Some(Value::Object(owed)) = &self.owed {
            details.extend(owed.clone());
        }
        json!({ "code": self.code, "message": render(language, &self.fault), "details": details })
    }
}

/// What the services say, in HTTP's words.
pub fn tell(error: &Error) -> Told {
    let plain = |status, code, key| Told::new(status, code, Fault::new(key));
    let faulty = |status, code, fault: &Fault| Told::new(status, code, fault.clone());
    match error {
        Error::Unauthorized => plain(StatusCode::UNAUTHORIZED, "AUTH_UNAUTHORIZED", "http.unauthorized"),
        Error::InvalidProof(_) => plain(StatusCode::UNAUTHORIZED, "AUTH_INVALID_TOKEN", "http.invalid_token"),
        Error::SecondFactor(owed) => second_factor(owed),
        Error::Forbidden => plain(StatusCode::FORBIDDEN, "AUTH_FORBIDDEN", "http.forbidden"),
        Error::Barred(fault) => faulty(StatusCode::FORBIDDEN, "AUTH_FORBIDDEN", fault),
        Error::Unreadable(fault) => faulty(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", fault),
        Error::Invalid(fault) => faulty(StatusCode::UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", fault),
        Error::NotFound(fault) => faulty(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", fault),
        Error::Gone(fault) => faulty(StatusCode::GONE, "GONE", fault),
        Error::Conflict(fault) => faulty(StatusCode::CONFLICT, "CONFLICT", fault),
        Error::Refused(fault) => Told { kind: Some("safety"), ..faulty(StatusCode::CONFLICT, "CONFLICT", fault) },
        Error::Damaged(fault) => Told { kind: Some("integrity"), ..faulty(StatusCode::CONFLICT, "CONFLICT", fault) },
        Error::Precondition(fault) => faulty(StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED", fault),
        Error::TooLarge(fault) => faulty(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", fault),
        Error::RateLimit { retry_after } => Told {
            retry_after: Some(*retry_after),
            ..plain(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT", "http.rate_limit")
        },
        Error::Full => Told {
            cause: Some("storage is full".to_owned()),
            ..plain(StatusCode::INSUFFICIENT_STORAGE, "STORAGE_FULL", "http.storage_full")
        },
        Error::Unavailable(why) => Told { cause: Some(why.clone()), ..unavailable() },
        Error::OutOfReach(fault) => {
            Told { retry_after: Some(RETRY_SECONDS), ..faulty(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", fault) }
        }
        Error::Corrupt(what) => Told { kind: Some("integrity"), cause: Some(what.clone()), ..internal() },
        Error::Internal(cause) => Told { cause: Some(chain(&**cause)), ..internal() },
    }
}

fn second_factor(owed: &Owed) -> Told {
    let key = if owed.enrol { "http.mfa_enrol" } else { "http.mfa_required" };
    let told = Told::new(StatusCode::UNAUTHORIZED, "AUTH_MFA_REQUIRED", Fault::new(key));
    let owed = json!({ "challenge": owed.challenge, "methods": owed.methods, "enrol": owed.enrol });
    Told { owed: Some(owed), ..told }
}

fn unavailable() -> Told {
    let told = Told::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", Fault::new("http.unavailable"));
    Told { retry_after: Some(RETRY_SECONDS), ..told }
}

fn internal() -> Told {
    Told::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", Fault::new("http.internal"))
}

/// The answer to a request that panicked; the panic's own hook logs it.
pub fn panicked(exchange: &Exchange) -> Response {
    respond(&Told { cause: Some("a panic was caught".to_owned()), ..internal() }, exchange)
}

/// The envelope of any failure, poem's own included; a cause is logged here, once.
pub fn answer(error: &poem::Error, exchange: &Exchange) -> Response {
    let told = match error.downcast_ref::<Error>() {
        Some(error) => tell(error),
        None => tell_poem(error),
    };
    respond(&told, exchange)
}

fn tell_poem(error: &poem::Error) -> Told {
    let plain = |status, code, key| Told::new(status, code, Fault::new(key));
    if error.is::<NotFoundError>() {
        return plain(StatusCode::NOT_FOUND, "ROUTE_NOT_FOUND", "http.route");
    }
    if error.is::<MethodNotAllowedError>() {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "http.method");
    }
    let parameter = error.downcast_ref::<ParseParamError>().map(|error| error.name);
    if let Some(name) = parameter {
        let fault = Fault::new("http.parameter").at(name);
        return Told::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", fault);
    }
    if error.is::<ParsePathError>() {
        return plain(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "http.path");
    }
    match error.status() {
        StatusCode::NOT_ACCEPTABLE => plain(StatusCode::NOT_ACCEPTABLE, "NOT_ACCEPTABLE", "http.acceptable"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", "http.media_type")
        }
        StatusCode::SERVICE_UNAVAILABLE => unavailable(),
        status if status.is_client_error() => plain(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "http.request"),
        _ => Told { cause: Some(chain(error)), ..internal() },
    }
}

fn respond(told: &Told, exchange: &Exchange) -> Response {
    told.log();
    let body = json!({
        "success": false,
        "error": told.value(exchange.language),
        "meta": { "requestId": exchange.request(), "traceId": exchange.trace() },
    });
    let mut response =
        Response::builder().status(told.status).content_type("application/json; charset=utf-8").body(body.to_string());
    let headers = response.headers_mut();
    if let Some(seconds) = told.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if told.status == StatusCode::UNAUTHORIZED {
        let challenge = if told.code == "AUTH_INVALID_TOKEN" { r#"Bearer error="invalid_token""# } else { "Bearer" };
        headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(challenge));
    }
    response
}

/// An error with everything beneath it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}

impl ResponseError for Error {
    fn status(&self) -> StatusCode {
        tell(self).status
    }
}

/// Any failure, for the reference: the envelope of API.md under `default`.
impl ApiResponse for Error {
    fn meta() -> MetaResponses {
        let object = |required: &[&'static str], properties| {
            let schema = MetaSchema { required: required.to_vec(), properties, ..MetaSchema::new("object") };
            MetaSchemaRef::Inline(Box::new(schema))
        };
        let text = String::schema_ref;
        let details = MetaSchemaRef::Inline(Box::new(MetaSchema::new("object")));
        let error = vec![("code", text()), ("message", text()), ("details", details)];
        let meta = vec![("requestId", text()), ("traceId", text())];
        let envelope = vec![
            ("success", super::envelope::flag(false)),
            ("error", object(&["code", "message", "details"], error)),
            ("meta", object(&["requestId", "traceId"], meta)),
        ];
        let schema = object(&["success", "error", "meta"], envelope);
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Refused or failed: the code says which, the message says what to do.",
                status: None,
                status_range: None,
                content: vec![MetaMediaType { content_type: "application/json; charset=utf-8", schema }],
                headers: super::envelope::headers(),
            }],
        }
    }

    fn register(_: &mut Registry) {}
}
