//! Traces and lines as OpenTelemetry's messages (OTLP 1.x), named by its semantic conventions.

use super::About;
use crate::base::{
    clock::Timestamp,
    release,
    telemetry::{Record, Said, scope::Step, traces::Trace},
};
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use tracing::Level;

/// The lowest byte of a span's flags: sampled (W3C Trace Context, 3.2.2.5).
const SAMPLED: u32 = 1;

pub fn traces(about: &About, traces: &[Trace]) -> ExportTraceServiceRequest {
    let spans = traces.iter().flat_map(spans).collect();
    let spans = ScopeSpans { scope: Some(library()), spans, ..Default::default() };
    let spans = ResourceSpans { resource: Some(resource(about)), scope_spans: vec![spans], ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

pub fn records(about: &About, records: &[Record]) -> ExportLogsServiceRequest {
    let records = records.iter().map(record).collect();
    let records = ScopeLogs { scope: Some(library()), log_records: records, ..Default::default() };
    let records = ResourceLogs { resource: Some(resource(about)), scope_logs: vec![records], ..Default::default() };
    ExportLogsServiceRequest { resource_logs: vec![records] }
}

fn spans(trace: &Trace) -> impl Iterator<Item = Span> + '_ {
    let root = Span {
        trace_id: bytes(&trace.trace),
        span_id: bytes(&trace.span),
        parent_span_id: trace.parent.as_deref().map(bytes).unwrap_or_default(),
        name: trace.name.clone(),
        kind: (if trace.answered { SpanKind::Server } else { SpanKind::Internal }).into(),
        start_time_unix_nano: trace.begin,
        end_time_unix_nano: trace.end,
        attributes: attributes(&trace.attributes),
        status: status(trace.failed),
        flags: SAMPLED,
        ..Default::default()
    };
    std::iter::once(root).chain(trace.steps.iter().map(|step| part(trace, step)))
}

fn part(trace: &Trace, step: &Step) -> Span {
    Span {
        trace_id: bytes(&trace.trace),
        span_id: step.id.to_vec(),
        parent_span_id: step.parent.map_or_else(|| bytes(&trace.span), |parent| parent.to_vec()),
        name: step.name.to_owned(),
        kind: (if step.outside { SpanKind::Client } else { SpanKind::Internal }).into(),
        start_time_unix_nano: step.begin,
        end_time_unix_nano: step.end,
        attributes: attributes(&step.attributes),
        status: status(step.failed),
        flags: SAMPLED,
        ..Default::default()
    }
}

fn record(record: &Record) -> LogRecord {
    // OpenTelemetry's numbers of severities, the first of each range.
    let (number, name) = match record.level {
        Level::ERROR => (17, "ERROR"),
        Level::WARN => (13, "WARN"),
        Level::INFO => (9, "INFO"),
        Level::DEBUG => (5, "DEBUG"),
        Level::TRACE => (1, "TRACE"),
    };
    let target = attribute("module", Value::StringValue(record.target.to_owned()));
    let fields = record.fields.iter().map(|(name, value)| attribute(name, said(value)));
    LogRecord {
        time_unix_nano: nanos(record.time),
        observed_time_unix_nano: nanos(record.time),
        severity_number: number,
        severity_text: name.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(record.message.clone())) }),
        attributes: std::iter::once(target).chain(fields).collect(),
        trace_id: record.trace.as_deref().map(bytes).unwrap_or_default(),
        span_id: record.span.as_deref().map(bytes).unwrap_or_default(),
        ..Default::default()
    }
}

fn said(said: &Said) -> Value {
    match said {
        Said::Text(text) => Value::StringValue(text.clone()),
        Said::Whole(number) => Value::IntValue(*number),
        Said::Real(number) => Value::DoubleValue(*number),
        Said::Truth(truth) => Value::BoolValue(*truth),
    }
}

fn resource(about: &About) -> Resource {
    let named = [
        ("service.name", "debrouille-appliance"),
        ("service.version", release::version()),
        ("service.instance.id", &about.instance),
        ("deployment.environment.name", &about.environment),
        ("host.name", &about.host),
    ];
    let named = named.map(|(name, value)| attribute(name, Value::StringValue(value.to_owned())));
    Resource { attributes: named.into(), ..Default::default() }
}

fn library() -> InstrumentationScope {
    InstrumentationScope { name: "debrouille-appliance".to_owned(), ..Default::default() }
}

fn attributes(all: &[(&'static str, Said)]) -> Vec<KeyValue> {
    all.iter().map(|(name, value)| attribute(name, said(value))).collect()
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn status(failed: bool) -> Option<Status> {
    failed.then(|| Status { code: StatusCode::Error.into(), ..Default::default() })
}

/// Ids are made as hex, or were looked at when they came.
fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap_or_default()
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or_default().saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_spans_that_know_their_parent_and_whether_they_failed() {
        let step = Step {
            id: [7; 8],
            parent: None,
            name: "plan",
            outside: false,
            begin: 2,
            end: 3,
            failed: true,
            attributes: vec![("n", Said::Whole(5))],
        };
        let inner = Step { id: [8; 8], parent: Some([7; 8]), outside: true, failed: false, ..step.clone() };
        let trace = Trace {
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span: "00f067aa0ba902b7".to_owned(),
            parent: None,
            name: "GET /x".to_owned(),
            answered: true,
            begin: 1,
            end: 4,
            failed: false,
            attributes: vec![],
            steps: vec![step, inner],
        };
        let request = traces(&About::default(), &[trace]);
        let [root, step, inner] = &request.resource_spans[0].scope_spans[0].spans[..] else { panic!("{request:?}") };
        assert!(root.parent_span_id.is_empty() && root.status.is_none());
        assert_eq!((&step.parent_span_id, &inner.parent_span_id), (&root.span_id, &step.span_id));
        assert_eq!(step.status.as_ref().map(|status| status.code), Some(StatusCode::Error.into()));
        assert_eq!((root.kind, step.kind, inner.kind), (2, 1, 3), "server, internal, client");
        assert!([root, step, inner].iter().all(|span| span.trace_id == root.trace_id && span.trace_id.len() == 16));
        assert_eq!(step.attributes[0].value.as_ref().unwrap().value, Some(Value::IntValue(5)));
    }
}
