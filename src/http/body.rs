//! The envelope of a request: `{"data": …, "meta"?: …}` in Extended JSON, read once, straight to BSON.

use super::{Limits, exchange};
use crate::{
    base::fault::Fault,
    domain::json,
    services::{Error, Result},
};
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use poem::{
    Body, Request, RequestBody,
    http::{StatusCode, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::de::DeserializeOwned;
use std::{marker::PhantomData, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a body read before any proof.
const UNPROVEN: usize = 16 << 10;

/// A request's body whose `data` is a `T`.
pub struct Sent<T> {
    envelope: RawDocumentBuf,
    bytes: Bytes,
    /// Given back when the request is answered.
    _room: Option<OwnedSemaphorePermit>,
    data: PhantomData<fn() -> T>,
}

impl<T> Sent<T> {
    /// The document under `data`.
    pub fn data(&self) -> Result<&RawDocument> {
        match self.envelope.get("data") {
            Ok(Some(RawBsonRef::Document(data))) => Ok(data),
            _ => Err(Error::Invalid(Fault::new("http.envelope").at("data"))),
        }
    }

    pub fn read<D: DeserializeOwned>(&self) -> Result<D> {
        bson::deserialize_from_slice(self.data()?.as_bytes())
            .map_err(|error| Error::Invalid(Fault::new("http.data").at("data").with("reason", error)))
    }

    /// As it came, to tell a retry from another request.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Among the small ones are passwords and tokens. What the connection still holds of it is overwritten by what comes next.
impl<T> Drop for Sent<T> {
    fn drop(&mut self) {
        if self.bytes.len() > UNPROVEN {
            return;
        }
        let envelope = std::mem::replace(&mut self.envelope, RawDocumentBuf::new());
        drop(Zeroizing::new(envelope.into_bytes()));
        if let Ok(mut own) = std::mem::take(&mut self.bytes).try_into_mut() {
            own.zeroize();
        }
    }
}

impl<'a, T: Type> ApiExtractor<'a> for Sent<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let mut meta = MetaSchema::new("object");
        let text = String::schema_ref;
        meta.properties = vec![("locale", text()), ("timezone", text()), ("client", text())];
        let mut schema = MetaSchema::new("object");
        schema.required = vec!["data"];
        schema.properties = vec![("data", T::schema_ref()), ("meta", MetaSchemaRef::Inline(Box::new(meta)))];
        let schema = MetaSchemaRef::Inline(Box::new(schema));
        let content = vec![MetaMediaType { content_type: "application/json", schema }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let exchange = exchange::of(request)?;
        if !request.content_type().is_some_and(is_json) {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into());
        }
        let most = most(request.uri().path(), &exchange.state.limits);
        let (bytes, room) = whole(request, body.take()?, most, &exchange.state.bodies).await?;
        let envelope = json::parse(&bytes, json::Limits::default()).map_err(Error::from)?;
        check(&envelope)?;
        Ok(Self { envelope, bytes, _room: room, data: PhantomData })
    }
}

/// Bytes of a body at this address. What nobody has proven themselves for holds an address and a password, or a token.
fn most(path: &str, limits: &Limits) -> usize {
    match path {
        "/api/v1/batch" => limits.batch,
        "/api/v1/invitations/accept" => limits.body.min(UNPROVEN),
        _ if path.starts_with("/api/v1/auth/") => limits.body.min(UNPROVEN),
        _ => limits.body,
    }
}

fn check(envelope: &RawDocument) -> Result<()> {
    let wrong = |name: &str| Error::Invalid(Fault::new("http.envelope").at(name));
    for entry in envelope {
        match entry {
            Ok((name, RawBsonRef::Document(_))) if ["data", "meta"].contains(&name.as_str()) => {}
            Ok((name, _)) => return Err(wrong(name.as_str())),
            Err(_) => return Err(wrong("")),
        }
    }
    Ok(())
}

/// `application/json`, or a kind of it.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Room for large bodies, all requests together, in KiB: without it a few hundred slow uploads would take all memory.
/// A body is counted several times, for it is larger as BSON. Small ones are not counted: they never wait.
pub struct Room(Arc<Semaphore>);

const ROOM: usize = 256 * 1024;
const SMALL: usize = 64 * 1024;
const TIMES: usize = 4;

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

impl Room {
    /// Waits its turn, as long as the request may take.
    async fn take(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>> {
        if bytes <= SMALL {
            return Ok(None);
        }
        let wanted = (bytes / 1024 * TIMES).min(ROOM);
        let taken = self.0.clone().acquire_many_owned(u32::try_from(wanted).unwrap_or(u32::MAX)).await;
        taken.map(Some).map_err(|error| Error::Internal(Box::new(error)))
    }
}

type Held = (Bytes, Option<OwnedSemaphorePermit>);

async fn whole(request: &Request, body: Body, limit: usize, bodies: &Room) -> Result<Held> {
    let too_large = || Error::TooLarge(Fault::new("http.body_size").with("limit", limit));
    let cut = |error: std::io::Error| match error.kind() {
        // The same as for the request whose time is over: which of the two is noticed first is chance.
        std::io::ErrorKind::TimedOut => Error::Unavailable("the body was not whole in time".to_owned()),
        kind => Error::Unreadable(Fault::new("http.body_cut").with("reason", kind)),
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let mut room = bodies.take(length.unwrap_or_default()).await?;
    let mut chunks = Box::pin(body.into_bytes_stream());
    let Some(first) = chunks.try_next().await.map_err(cut)? else { return Ok((Bytes::new(), room)) };
    if length == Some(first.len()) {
        return Ok((first, room));
    }
    let mut whole = BytesMut::from(first);
    while whole.len() <= limit {
        // Of a length not said before.
        if room.is_none() && whole.len() > SMALL {
            room = bodies.take(limit).await?;
        }
        match chunks.try_next().await.map_err(cut)? {
            Some(chunk) => whole.extend_from_slice(&chunk),
            None => return Ok((whole.freeze(), room)),
        }
    }
    Err(too_large())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_its_essence() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["text/json", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
