//! Collectors that speak OpenTelemetry's protocol (OTLP), over HTTP or gRPC.

mod encode;
mod grpc;
mod http;

pub use grpc::Grpc;
pub use http::Http;

pub use crate::base::telemetry::About;
