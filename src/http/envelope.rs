//! The envelope of a success, written by hand around the bytes of documents.

use super::exchange::Exchange;
use crate::{
    base::fault::Fault,
    domain::json::{write_canonical, write_relaxed},
    services::{Error, Result, documents::Found},
};
use bson::{RawDocument, RawDocumentBuf};
use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{Any, Type},
};
use serde::Serialize;
use std::{collections::HashMap, marker::PhantomData};

/// A document of any shape.
pub type Free = HashMap<String, Any<serde_json::Value>>;

/// A success whose `data` is a `T`; `STATUS` is the usual one, for the reference.
pub struct Answer<T, const STATUS: u16 = 200> {
    response: Response,
    data: PhantomData<fn() -> T>,
}

impl<T, const STATUS: u16> Answer<T, STATUS> {
    fn new(exchange: &Exchange, body: Vec<u8>) -> Self {
        let kind = match exchange.canonical {
            true => "application/json;ejson=canonical",
            false => "application/json; charset=utf-8",
        };
        let status = StatusCode::from_u16(STATUS).unwrap_or_default();
        let response = Response::builder().status(status).content_type(kind).body(body);
        Self { response, data: PhantomData }
    }

    pub fn document(exchange: &Exchange, document: &RawDocument) -> Result<Self> {
        let mut body = open(document.as_bytes().len() * 2);
        write(exchange, document, &mut body)?;
        close(exchange, &mut body, |_| ());
        Ok(Self::new(exchange, body))
    }

    /// A document under its revision.
    pub fn stored(exchange: &Exchange, document: &RawDocument) -> Result<Self> {
        let answer = Self::document(exchange, document)?;
        Ok(crate::domain::document::revision(document).into_iter().fold(answer, Self::revision))
    }

    pub fn page(exchange: &Exchange, found: &Found) -> Result<Self> {
        let mut body = documents(exchange, &found.documents)?;
        close(exchange, &mut body, |body| {
            body.extend_from_slice(br#","page":{"limit":"#);
            body.extend_from_slice(found.limit.to_string().as_bytes());
            if let Some(next) = &found.next {
                body.extend_from_slice(br#","next":""#);
                body.extend_from_slice(next.as_bytes());
                body.push(b'"');
            }
            if let Some(total) = found.total {
                body.extend_from_slice(br#","total":"#);
                body.extend_from_slice(total.to_string().as_bytes());
            }
            body.push(b'}');
        });
        Ok(Self::new(exchange, body))
    }

    /// A list that is always whole.
    pub fn list(exchange: &Exchange, all: &[RawDocumentBuf]) -> Result<Self> {
        let mut body = documents(exchange, all)?;
        close(exchange, &mut body, |_| ());
        Ok(Self::new(exchange, body))
    }

    pub fn value(exchange: &Exchange, value: &impl Serialize) -> Result<Self> {
        let mut body = open(256);
        serde_json::to_writer(&mut body, value).map_err(|error| Error::Internal(Box::new(error)))?;
        close(exchange, &mut body, |_| ());
        Ok(Self::new(exchange, body))
    }

    /// The same resource as the caller has it: no body.
    pub fn unchanged(exchange: &Exchange) -> Self {
        let mut answer = Self::new(exchange, Vec::new());
        answer.response.set_status(StatusCode::NOT_MODIFIED);
        answer.response.headers_mut().remove(header::CONTENT_TYPE);
        answer
    }

    pub fn revision(mut self, revision: i64) -> Self {
        if let Ok(tag) = HeaderValue::try_from(format!("\"{revision}\"")) {
            self.response.headers_mut().insert(header::ETAG, tag);
        }
        self
    }

    pub fn status(mut self, status: StatusCode) -> Self {
        self.response.set_status(status);
        self
    }

    pub fn location(mut self, path: &str) -> Self {
        if let Ok(path) = HeaderValue::try_from(path) {
            self.response.headers_mut().insert(header::LOCATION, path);
        }
        self
    }
}

fn open(room: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(room + 192);
    body.extend_from_slice(br#"{"success":true,"data":"#);
    body
}

fn close(exchange: &Exchange, body: &mut Vec<u8>, more: impl FnOnce(&mut Vec<u8>)) {
    body.extend_from_slice(br#","meta":{"requestId":""#);
    body.extend_from_slice(exchange.request().as_bytes());
    body.extend_from_slice(br#"","timestamp":"#);
    body.extend_from_slice(exchange.state.clock.now().seconds().to_string().as_bytes());
    body.extend_from_slice(br#","version":"v1""#);
    more(body);
    body.extend_from_slice(b"}}");
}

fn documents(exchange: &Exchange, documents: &[RawDocumentBuf]) -> Result<Vec<u8>> {
    let mut body = open(documents.iter().map(|document| document.as_bytes().len() * 2).sum());
    body.push(b'[');
    for (place, document) in documents.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        write(exchange, document, &mut body)?;
    }
    body.push(b']');
    Ok(body)
}

/// What is stored was checked when it came: a fault here is the store's.
fn write(exchange: &Exchange, document: &RawDocument, body: &mut Vec<u8>) -> Result<()> {
    let write = if exchange.canonical { write_canonical } else { write_relaxed };
    write(document, body).map_err(|fault: Fault| Error::Internal(Box::new(fault)))
}

impl<T, const STATUS: u16> IntoResponse for Answer<T, STATUS>
where
    T: Type,
{
    fn into_response(self) -> Response {
        self.response
    }
}

impl<T: Type, const STATUS: u16> ApiResponse for Answer<T, STATUS> {
    fn meta() -> MetaResponses {
        let mut schema = MetaSchema::new("object");
        schema.required = vec!["success", "data", "meta"];
        schema.properties = vec![("success", flag(true)), ("data", T::schema_ref()), ("meta", meta())];
        let media = MetaMediaType {
            content_type: "application/json; charset=utf-8",
            schema: MetaSchemaRef::Inline(Box::new(schema)),
        };
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Done.",
                status: Some(STATUS),
                status_range: None,
                content: vec![media],
                headers: headers(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// An answer that may also bear another status; 304 is without a body.
pub struct Also<T, const STATUS: u16>(pub Answer<T>);

impl<T: Type, const STATUS: u16> IntoResponse for Also<T, STATUS> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl<T: Type, const STATUS: u16> ApiResponse for Also<T, STATUS> {
    fn meta() -> MetaResponses {
        let mut meta = Answer::<T>::meta();
        for mut other in Answer::<T, STATUS>::meta().responses {
            if STATUS == StatusCode::NOT_MODIFIED.as_u16() {
                other.description = "The revision the caller has is the last.";
                other.content.clear();
            }
            meta.responses.push(other);
        }
        meta
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// What every answer says of the caller and its limit, for the reference.
pub fn headers() -> Vec<MetaHeader> {
    let words = [
        ("X-RateLimit-Limit", "Requests a minute of this caller, on this route"),
        ("X-RateLimit-Remaining", "Requests left now"),
        ("X-RateLimit-Reset", "Seconds until all of them are"),
        ("X-Identity-Id", "Who called, once proven"),
        ("X-Trust-Level", "How far the caller is trusted, 0 to 100"),
    ];
    let header = |(name, description): (&str, &str)| MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: false,
        deprecated: false,
        schema: if name == "X-Identity-Id" { String::schema_ref() } else { u32::schema_ref() },
    };
    words.map(header).into()
}

/// A boolean with one value.
pub fn flag(value: bool) -> MetaSchemaRef {
    let mut schema = MetaSchema::new("boolean");
    schema.enum_items = vec![value.into()];
    MetaSchemaRef::Inline(Box::new(schema))
}

fn meta() -> MetaSchemaRef {
    let mut page = MetaSchema::new("object");
    page.required = vec!["limit"];
    page.properties = vec![("limit", u64::schema_ref()), ("next", String::schema_ref()), ("total", u64::schema_ref())];
    let mut meta = MetaSchema::new("object");
    meta.required = vec!["requestId", "timestamp", "version"];
    meta.properties = vec![
        ("requestId", String::schema_ref()),
        ("timestamp", i64::schema_ref()),
        ("version", String::schema_ref()),
        ("page", MetaSchemaRef::Inline(Box::new(page))),
    ];
    MetaSchemaRef::Inline(Box::new(meta))
}
