//! OTLP over HTTP: protobuf in a POST (OTLP 1.x, "OTLP/HTTP").

use super::{About, encode};
use crate::{
    backends::web::https::Https,
    base::{
        config::Secret,
        fault::Fault,
        telemetry::{Record, traces::Trace},
    },
    ports::{Error, Result, collector::Collector},
};
use http_body_util::Full;
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, trace::v1::ExportTraceServiceResponse,
};
use percent_encoding::percent_decode_str;
use prost::Message;

pub struct Http {
    https: Https,
    /// Without a slash at its end.
    endpoint: String,
    headers: HeaderMap,
    about: About,
}

impl Http {
    pub fn new(
        https: Https,
        endpoint: &str,
        headers: Option<&Secret>,
        about: About,
    ) -> std::result::Result<Self, Fault> {
        let unfit = |why: &dyn std::fmt::Display| {
            Fault::new("collector.endpoint").at("otlp.endpoint").with("endpoint", endpoint).with("why", why)
        };
        let uri = endpoint.parse::<Uri>().map_err(|error| unfit(&error))?;
        if uri.query().is_some() {
            return Err(unfit(&"?"));
        }
        let headers = headers.map(pairs).transpose()?.unwrap_or_default();
        Ok(Self { https, endpoint: endpoint.trim_end_matches('/').to_owned(), headers, about })
    }

    async fn send(&self, path: &str, message: Vec<u8>) -> Result<Bytes> {
        let place = format!("{}/{path}", self.endpoint);
        let request = Request::post(&place).header(CONTENT_TYPE, "application/x-protobuf");
        let mut request =
            request.body(Full::new(Bytes::from(message))).map_err(|error| Error::Backend(Box::new(error)))?;
        request.headers_mut().extend(self.headers.clone());
        let answer = self.https.send(request).await?;
        match answer.status() {
            status if status.is_success() => Ok(answer.into_body()),
            // "Retryable response codes" of the specification.
            status @ (StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(Error::Unavailable(format!("{place}: {status}"))),
            status => Err(refused(&place, &status.to_string())),
        }
    }
}

#[async_trait::async_trait]
impl Collector for Http {
    async fn take_traces(&self, traces: &[Trace]) -> Result<u64> {
        let answer = self.send("v1/traces", encode::traces(&self.about, traces).encode_to_vec()).await?;
        let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
        Ok(partial.map_or(0, |partial| refusals(partial.rejected_spans, &partial.error_message)))
    }

    async fn take_records(&self, records: &[Record]) -> Result<u64> {
        let answer = self.send("v1/logs", encode::records(&self.about, records).encode_to_vec()).await?;
        let partial = ExportLogsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
        Ok(partial.map_or(0, |partial| refusals(partial.rejected_log_records, &partial.error_message)))
    }
}

/// Of what a collector took, what it did not.
pub(super) fn refusals(rejected: i64, why: &str) -> u64 {
    let count = u64::try_from(rejected).unwrap_or_default();
    if count > 0 {
        tracing::debug!(count, why, "the collector refused some of these");
    }
    count
}

pub(super) fn refused(place: &str, why: &str) -> Error {
    Error::Rejected(Fault::new("collector.refused").with("place", place).with("why", why))
}

/// `NAME=VALUE`, with commas between and values percent-encoded where need be, as `OTEL_EXPORTER_OTLP_HEADERS` has them.
pub(super) fn pairs(given: &Secret) -> std::result::Result<HeaderMap, Fault> {
    // Without the words themselves: they are secret.
    let fault = || Fault::new("collector.headers").at("otlp.headers");
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = HeaderName::try_from(name.trim().to_ascii_lowercase()).ok()?;
        let value = percent_decode_str(value.trim()).collect::<Vec<_>>();
        let mut value = HeaderValue::from_bytes(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    let words = given.expose().split(',').map(str::trim).filter(|words| !words.is_empty());
    words.map(|words| pair(words).ok_or_else(fault)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_never_repeated() {
        let read = pairs(&Secret::of("Authorization=Bearer%20a b, x-tenant=santé,")).unwrap();
        assert_eq!(
            (read["authorization"].as_bytes(), read["x-tenant"].as_bytes()),
            (&b"Bearer a b"[..], "santé".as_bytes())
        );
        assert!(read["authorization"].is_sensitive());
        for bad in ["s3cret", "a b=c", "a=b%0Ac", "=x"] {
            let fault = pairs(&Secret::of(bad)).unwrap_err();
            assert_eq!(fault.key, "collector.headers");
            assert!(!format!("{fault:?}").contains(bad), "{fault:?}");
        }
    }
}
