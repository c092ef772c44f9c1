//! The collector that is configured, and what is kept for it.

use super::{
    problem::{Kind, Problem},
    running::Senses,
};
use crate::{
    backends::{
        collector::{Grpc, Http},
        web::https::Https,
    },
    base::{
        config::{Config, OtlpProtocol},
        fault::Fault,
        telemetry::{About, Record, Waiting, traces::Traces},
        trust,
    },
    ports::{self, web::is_safe},
    services::collector::Collector,
};
use std::{sync::Arc, time::Duration};

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of lines that wait while it is away.
const RECORDS: usize = 8 << 20;

/// What is kept for a collector. Without one, nothing is.
#[derive(Clone, Default)]
pub struct Kept {
    pub traces: Option<Arc<Traces>>,
    pub records: Option<Arc<Waiting<Record>>>,
}

impl Kept {
    pub fn of(config: &Config) -> Self {
        let otlp = &config.otlp;
        let here = otlp.endpoint.is_some();
        Self {
            traces: here.then(|| Traces::new(otlp.traces_percent)),
            records: (here && otlp.logs).then(|| Arc::new(Waiting::new(RECORDS, Record::bytes))),
        }
    }
}

/// Whether the configured collector can be one.
pub fn check(config: &Config) -> Result<(), Fault> {
    match &config.otlp.endpoint {
        Some(endpoint) if is_safe(endpoint) => made(config, endpoint, About::default()).map(drop),
        Some(endpoint) => Err(Fault::new("collector.unsafe").at("otlp.endpoint").with("endpoint", endpoint)),
        None => Ok(()),
    }
}

pub fn collector(config: &Config, about: About, senses: &Senses) -> Result<Option<Arc<Collector>>, Problem> {
    let (Some(endpoint), Some(traces)) = (&config.otlp.endpoint, &senses.kept.traces) else { return Ok(None) };
    check(config).map_err(|fault| Problem::new(Kind::Refused, fault))?;
    let made = made(config, endpoint, about).map_err(|fault| Problem::new(Kind::Refused, fault))?;
    let (records, metrics) = (senses.kept.records.clone(), senses.metrics.clone());
    Ok(Some(Arc::new(Collector::new(made, traces.clone(), records, metrics))))
}

fn made(config: &Config, endpoint: &str, about: About) -> Result<Arc<dyn ports::collector::Collector>, Fault> {
    let roots = trust::roots(config.tls.trusted.as_deref());
    let roots = roots.map_err(|error| Fault::new("instance.file").at("tls.trusted").with("why", error))?;
    let headers = config.otlp.headers.as_ref();
    Ok(match config.otlp.protocol {
        OtlpProtocol::Grpc => Arc::new(Grpc::new((endpoint, roots), headers, about, PATIENCE)?),
        OtlpProtocol::Http => {
            let https = Https::new(roots, PATIENCE);
            let https = https.map_err(|error| Fault::new("server.tls_failed").with("cause", error))?;
            Arc::new(Http::new(https, endpoint, headers, about)?)
        }
    })
}
