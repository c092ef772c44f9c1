//! OTLP over gRPC (OTLP 1.x, "OTLP/gRPC"), on one connection that is made when it is first wanted.

use super::{
    About, encode,
    http::{pairs, refusals, refused},
};
use crate::{
    base::{
        config::Secret,
        fault::Fault,
        telemetry::{Record, traces::Trace},
    },
    ports::{Error, Result, collector::Collector},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::logs_service_client::LogsServiceClient, trace::v1::trace_service_client::TraceServiceClient,
};
use rustls::RootCertStore;
use std::{error::Error as _, time::Duration};
use tonic::{
    Code, Request, Status,
    metadata::MetadataMap,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

/// Between two signs of life.
const ALIVE: Duration = Duration::from_secs(60);

pub struct Grpc {
    channel: Channel,
    endpoint: String,
    headers: MetadataMap,
    about: About,
    patience: Duration,
}

impl Grpc {
    pub fn new(
        (endpoint, roots): (&str, RootCertStore),
        headers: Option<&Secret>,
        about: About,
        patience: Duration,
    ) -> std::result::Result<Self, Fault> {
        let unfit = |error: &dyn std::fmt::Display| {
            Fault::new("collector.endpoint").at("otlp.endpoint").with("endpoint", endpoint).with("why", error)
        };
        let headers = headers.map(pairs).transpose()?.unwrap_or_default();
        let mut made = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| unfit(&error))?;
        if endpoint.starts_with("https://") {
            let tls = ClientTlsConfig::new().trust_anchors(roots.roots);
            made = made.tls_config(tls).map_err(|error| unfit(&error))?;
        }
        let made = made.connect_timeout(patience).timeout(patience);
        // One that a network dropped without a word is noticed.
        let made = made.http2_keep_alive_interval(ALIVE).keep_alive_timeout(patience).keep_alive_while_idle(true);
        let channel = made.connect_lazy();
        Ok(Self {
            channel,
            endpoint: endpoint.to_owned(),
            headers: MetadataMap::from_headers(headers),
            about,
            patience,
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request
    }

    async fn sent<T>(&self, call: impl Future<Output = std::result::Result<tonic::Response<T>, Status>>) -> Result<T> {
        let late = |_| Status::deadline_exceeded("no answer in time");
        // The channel's own patience begins with the connection alone.
        let answer = tokio::time::timeout(self.patience, call).await.map_err(late).flatten();
        answer.map(tonic::Response::into_inner).map_err(|status| self.told(&status))
    }

    /// "Retryable gRPC status codes" of the specification.
    fn told(&self, status: &Status) -> Error {
        let words = format!("{:?} {}", status.code(), status.message());
        match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => Error::Unavailable(format!("{}: {words}", self.endpoint)),
            // A connection that broke has a cause; what the collector says has none.
            _ if status.source().is_some() => Error::Unavailable(format!("{}: {words}", self.endpoint)),
            // Without a word on when, what is too much now is too much later.
            _ => refused(&self.endpoint, &words),
        }
    }
}

#[async_trait::async_trait]
impl Collector for Grpc {
    async fn take_traces(&self, traces: &[Trace]) -> Result<u64> {
        let request = self.request(encode::traces(&self.about, traces));
        let mut client = TraceServiceClient::new(self.channel.clone());
        let partial = self.sent(client.export(request)).await?.partial_success;
        Ok(partial.map_or(0, |partial| refusals(partial.rejected_spans, &partial.error_message)))
    }

    async fn take_records(&self, records: &[Record]) -> Result<u64> {
        let request = self.request(encode::records(&self.about, records));
        let mut client = LogsServiceClient::new(self.channel.clone());
        let partial = self.sent(client.export(request)).await?.partial_success;
        Ok(partial.map_or(0, |partial| refusals(partial.rejected_log_records, &partial.error_message)))
    }
}
