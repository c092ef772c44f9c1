//! What is counted, measured and sampled, in one registry, as OpenMetrics text. Labels are bounded: a caller
//! can never make a new series at will.

pub mod alerts;
pub mod backups;
pub mod plain;
pub mod runtime;
pub mod series;
pub mod shipped;
pub mod waits;

use super::{
    clock::{SharedClock, Timestamp},
    process, release,
};
use alerts::Severity;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        exemplar::HistogramWithExemplars,
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::{Registry, Unit},
};
use runtime::{Looks, Runtime};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use waits::Waited;

/// Series of requests kept apart; the rest are counted under the route `other`.
const MAX_SERIES: usize = 2_000;
/// Up to the service level's 150 ms and 500 ms, and around them.
const LATENCIES: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: Arc<str>,
    method: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: Arc<str>,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    listener: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Collected {
    kind: &'static str,
    fate: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Job {
    job: &'static str,
}

/// The trace of a request of which more is known than its figures.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Exemplar {
    pub trace_id: String,
}

/// The last restore drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drill {
    pub ended: Timestamp,
    pub passed: bool,
    pub rto_seconds: Option<u64>,
    pub rpo_seconds: Option<u64>,
}

/// What jobs sample from time to time. `None` is unknown, and shows no series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    pub stored_bytes: Option<u64>,
    pub volume_free_bytes: Option<u64>,
    pub volume_size_bytes: Option<u64>,
    /// Files there may be more of on it, and in all; some file systems know no such bound.
    pub volume_free_inodes: Option<u64>,
    pub volume_inodes: Option<u64>,
    pub queued_batches: Option<u64>,
    /// From the queue until on disk.
    pub commit_waits: Option<Waited>,
    /// Since the start.
    pub pages_read: Option<u64>,
    pub journal_sequence: Option<u64>,
    pub journal_records: Option<u64>,
    pub journal_bytes: Option<u64>,
    pub read_only: Option<bool>,
    pub backups: Vec<backups::Target>,
    /// Records of the journal that went before every backup target had them.
    pub journal_let_go: Option<u64>,
    pub drill: Option<Drill>,
    /// The number of the newest.
    pub migration: Option<u64>,
    /// What those of this start took.
    pub migration_seconds: Option<u64>,
    pub certificate_end: Option<Timestamp>,
    /// Whether our own is shown where another is wanted.
    pub certificate_fallback: Option<bool>,
    pub certificate_failures: Option<u64>,
    /// Whether its authority says so, where that has somebody answer.
    pub certificate_revoked: Option<bool>,
    /// Each key of the instance, and when the version in use was made.
    pub keys: Vec<(&'static str, Timestamp)>,
    pub audit_entries: Option<u64>,
    /// How far the audit log is behind.
    pub audit_lag_seconds: Option<u64>,
    /// When the witness last had the newest checkpoint.
    pub audit_witnessed: Option<Timestamp>,
    /// Whether it is fit to serve.
    pub ready: Option<bool>,
    /// Starts within an hour after an end that was not in order.
    pub unclean_starts: Option<u64>,
    /// How many fire, by severity.
    pub alerts: Vec<(Severity, u64)>,
    /// Ways by which alerts are told, and failures in a row of each.
    pub alert_channels: Vec<(&'static str, u64)>,
    /// In a row, to send traces and lines to the collector.
    pub collector_failures: Option<u64>,
    /// Of the errors allowed in thirty days, what is left; under 0: more were made.
    pub budget_left: Option<f64>,
}

pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    series: AtomicUsize,
    durations: Family<Route, HistogramWithExemplars<Exemplar>, fn() -> HistogramWithExemplars<Exemplar>>,
    in_flight: Gauge,
    connections: Family<Listener, Gauge>,
    connection_limits: Family<Listener, Gauge>,
    refusals: Family<Refusal, Counter>,
    job_runs: Family<Job, Counter>,
    job_failures: Family<Job, Counter>,
    job_successes: Family<Job, Gauge>,
    panics: Counter,
    collected: Family<Collected, Counter>,
    runtime: Runtime,
    sampled: Arc<Sampled>,
}

impl Metrics {
    pub fn new(clock: SharedClock) -> Arc<Self> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process { start: clock.now() }));
        let sampled = Arc::new(Sampled { clock, sample: Mutex::default() });
        let durations: fn() -> HistogramWithExemplars<Exemplar> = || HistogramWithExemplars::new(LATENCIES.into_iter());
        let mut metrics = Self {
            requests: Family::default(),
            series: AtomicUsize::new(0),
            durations: Family::new_with_constructor(durations),
            in_flight: Gauge::default(),
            connections: Family::default(),
            connection_limits: Family::default(),
            refusals: Family::default(),
            job_runs: Family::default(),
            job_failures: Family::default(),
            job_successes: Family::default(),
            panics: Counter::default(),
            collected: Family::default(),
            runtime: Runtime::default(),
            sampled,
            registry,
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let r = self.registry.sub_registry_with_prefix("debrouille");
        r.register("build", "The release that runs", Info::new(vec![("version", release::version())]));
        r.register("http_requests", "Requests answered, by route and class of status", self.requests.clone());
        let help = "Time from a request's head to its answer's head";
        r.register_with_unit("http_request_duration", help, Unit::Seconds, self.durations.clone());
        r.register("http_requests_in_flight", "Requests not wholly answered yet", self.in_flight.clone());
        r.register("connections_open", "Connections open, by listener", self.connections.clone());
        r.register("connections_limit", "Connections that may be open, by listener", self.connection_limits.clone());
        r.register("connections_refused", "Connections turned away or cut, by reason", self.refusals.clone());
        r.register("job_runs", "Runs of each recurring job", self.job_runs.clone());
        r.register("job_failures", "Runs that failed or panicked", self.job_failures.clone());
        let help = "When each job last succeeded, in Unix seconds";
        r.register("job_last_success_timestamp_seconds", help, self.job_successes.clone());
        let help = "Traces and lines of the log for the collector, by what became of them";
        r.register("collector_items", help, self.collected.clone());
        r.register("panics", "Panics caught: each is a bug", self.panics.clone());
        r.register_collector(Box::new(self.runtime.clone()));
        r.register_collector(Box::new(self.sampled.clone()));
    }

    /// Counts one request in flight until the answer's guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.inc();
        InFlight(self.clone())
    }

    /// `route` is the pattern, never the path; `None` when nothing matched.
    pub fn request(
        &self,
        route: Option<Arc<str>>,
        method: &str,
        status: u16,
        elapsed: Duration,
        exemplar: Option<Exemplar>,
    ) {
        let method = bounded_method(method);
        let route = route.unwrap_or_else(|| "unmatched".into());
        let mut labels = Request { route, method, status: class(status) };
        if self.requests.get(&labels).is_none() && self.series.fetch_add(1, Ordering::Relaxed) >= MAX_SERIES {
            labels.route = "other".into();
        }
        self.requests.get_or_create(&labels).inc();
        let labels = Route { route: labels.route, method };
        self.durations.get_or_create(&labels).observe(elapsed.as_secs_f64(), exemplar, None);
    }

    pub fn connection_opened(self: &Arc<Self>, listener: &'static str) -> OpenConnection {
        self.connections.get_or_create(&Listener { listener }).inc();
        OpenConnection { metrics: self.clone(), listener }
    }

    /// Where open ones come to it, the next wait.
    pub fn connections_limited(&self, listener: &'static str, most: usize) {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.connection_limits.get_or_create(&Listener { listener }).set(most);
    }

    /// Shows how a cache does from now on.
    pub fn watch(&self, cache: &'static str, looks: Arc<Looks>) {
        self.runtime.watch(cache, looks);
    }

    pub fn connection_refused(&self, listener: &'static str, reason: &'static str) {
        self.refusals.get_or_create(&Refusal { listener, reason }).inc();
    }

    pub fn job_ran(&self, job: &'static str, succeeded: Option<Timestamp>) {
        let job = Job { job };
        self.job_runs.get_or_create(&job).inc();
        match succeeded {
            Some(now) => drop(self.job_successes.get_or_create(&job).set(now.seconds())),
            None => drop(self.job_failures.get_or_create(&job).inc()),
        }
    }

    /// `kind`: `traces` or `records`; `fate`: `sent`, `refused`, or `let_go` for want of room.
    pub fn collected(&self, kind: &'static str, fate: &'static str, count: u64) {
        if count > 0 {
            self.collected.get_or_create(&Collected { kind, fate }).inc_by(count);
        }
    }

    pub fn panicked(&self) {
        self.panics.inc();
    }

    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Replaces part of what is sampled.
    pub fn sample(&self, change: impl FnOnce(&mut Sample)) {
        change(&mut self.sampled.sample.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn sampled(&self) -> Sample {
        self.sampled.sample.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// OpenMetrics 1.0 text; its media type is [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.registry).expect("writing to a string");
        text
    }
}

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Dropped when the answer has been sent, or given up.
pub struct InFlight(Arc<Metrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Dropped when the connection closes.
pub struct OpenConnection {
    metrics: Arc<Metrics>,
    listener: &'static str,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.connections.get_or_create(&Listener { listener: self.listener }).dec();
    }
}

fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

pub fn bounded_method(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

struct Sampled {
    clock: SharedClock,
    sample: Mutex<Sample>,
}

impl fmt::Debug for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sampled")
    }
}

impl Collector for Sampled {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.clock.now();
        let seconds = |time: Timestamp| u64::try_from(time.seconds()).unwrap_or_default();
        let age = |time: Timestamp| u64::try_from(now.seconds().saturating_sub(time.seconds())).unwrap_or_default();
        let gauges = [
            ("storage_size_bytes", "The database, on disk", sample.stored_bytes),
            ("storage_read_only", "1 when writes are refused", sample.read_only.map(u64::from)),
            ("volume_free_bytes", "Room left on the data directory's volume", sample.volume_free_bytes),
            ("volume_size_bytes", "Size of the data directory's volume", sample.volume_size_bytes),
            ("volume_free_inodes", "Files that volume may still take", sample.volume_free_inodes),
            ("volume_inodes", "Files it may hold in all", sample.volume_inodes),
            ("commit_queue_depth", "Batches waiting for the writer", sample.queued_batches),
            ("journal_sequence", "The last change recorded", sample.journal_sequence),
            ("journal_records", "Changes the journal keeps", sample.journal_records),
            ("journal_bytes", "What they take", sample.journal_bytes),
            ("journal_let_go", "Changes let go of before every backup target had them", sample.journal_let_go),
            ("migration_applied", "Number of the newest migration the data went through", sample.migration),
            (
                "migration_duration_seconds",
                "What migrating took at this start, in whole seconds",
                sample.migration_seconds,
            ),
            (
                "drill_last_timestamp_seconds",
                "When the last restore drill ended",
                sample.drill.map(|drill| seconds(drill.ended)),
            ),
            (
                "drill_last_age_seconds",
                "How long ago the last restore drill was",
                sample.drill.map(|drill| age(drill.ended)),
            ),
            ("drill_passed", "1 when it passed", sample.drill.map(|drill| u64::from(drill.passed))),
            (
                "drill_rto_seconds",
                "From the first byte read until it could have served",
                sample.drill.and_then(|drill| drill.rto_seconds),
            ),
            (
                "drill_rpo_seconds",
                "Age of what would not have come back",
                sample.drill.and_then(|drill| drill.rpo_seconds),
            ),
            ("audit_entries", "Entries of the audit log", sample.audit_entries),
            ("audit_seal_lag_seconds", "How far the audit log is behind what happens", sample.audit_lag_seconds),
            (
                "audit_witness_age_seconds",
                "Since the witness had the newest checkpoint",
                sample.audit_witnessed.map(age),
            ),
            (
                "certificate_end_timestamp_seconds",
                "When the certificate shown ends",
                sample.certificate_end.map(seconds),
            ),
            (
                "certificate_fallback",
                "1 when the internal authority's is shown where another is wanted",
                sample.certificate_fallback.map(u64::from),
            ),
            (
                "certificate_revoked",
                "1 when its authority has revoked the certificate shown",
                sample.certificate_revoked.map(u64::from),
            ),
            ("ready", "1 when it is fit to serve", sample.ready.map(u64::from)),
            ("unclean_starts", "Starts within an hour after an end that was not in order", sample.unclean_starts),
            ("collector_failing", "Failures in a row to send traces and lines away", sample.collector_failures),
            ("certificate_failures", "Attempts in a row that gave no certificate", sample.certificate_failures),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, value)?;
            }
        }
        if let Some(waited) = sample.commit_waits {
            waited.encode(&mut encoder, "commit_wait", "Time from a batch's place in the queue until it is on disk")?;
        }
        if let Some(pages) = sample.pages_read {
            let counter = ConstCounter::new(pages);
            let help = "Pages of the database read from disk and opened: those that were not in memory";
            counter.encode(encoder.encode_descriptor("storage_pages_read", help, None, counter.metric_type())?)?;
        }
        keys(&sample.keys, &mut encoder)?;
        watched(&sample, &mut encoder)?;
        backups::encode(&sample.backups, now, &mut encoder)
    }
}

/// What the appliance found of itself.
fn watched(sample: &Sample, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let kind = ConstGauge::new(0_i64).metric_type();
    if let Some(left) = sample.budget_left {
        let help = "Of the errors allowed in thirty days, the part that is left";
        let gauge = ConstGauge::new(left);
        gauge.encode(encoder.encode_descriptor("error_budget_left_ratio", help, None, gauge.metric_type())?)?;
    }
    let mut family = encoder.encode_descriptor("alerts_firing", "Alerts that fire", None, kind)?;
    for (severity, count) in &sample.alerts {
        let gauge = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&[("severity", severity.name())])?)?;
    }
    let help = "Failures in a row to tell of alerts";
    let mut family = encoder.encode_descriptor("alert_channel_failing", help, None, kind)?;
    for (channel, count) in &sample.alert_channels {
        let gauge = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
        gauge.encode(family.encode_family(&[("channel", *channel)])?)?;
    }
    Ok(())
}

fn keys(keys: &[(&'static str, Timestamp)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let (name, help) = ("key_created_timestamp_seconds", "When the key in use was made");
    let mut family = encoder.encode_descriptor(name, help, None, ConstGauge::new(0_i64).metric_type())?;
    for (key, created) in keys {
        ConstGauge::new(created.seconds()).encode(family.encode_family(&[("key", *key)])?)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

/// The names every Prometheus client library uses.
#[derive(Debug)]
struct Process {
    start: Timestamp,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let start = u64::try_from(self.start.seconds()).unwrap_or_default();
        gauge(&mut encoder, "process_start_time_seconds", "When this process started", start)?;
        let Some(usage) = process::usage() else { return Ok(()) };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "Processor time used, user and system",
            None,
            cpu.metric_type(),
        )?)?;
        gauge(&mut encoder, "process_resident_memory_bytes", "Memory held", usage.resident_bytes)?;
        gauge(&mut encoder, "process_open_fds", "Files and sockets open", usage.open_files)?;
        gauge(&mut encoder, "process_max_fds", "Files and sockets allowed", usage.open_files_limit)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::clock::FixedClock, *};

    fn metrics() -> Arc<Metrics> {
        Metrics::new(Arc::new(FixedClock(1_795_000_000_000.into())))
    }

    #[test]
    fn shows_what_was_counted_and_sampled() {
        let metrics = metrics();
        let exemplar = Exemplar { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned() };
        metrics.request(Some("/a/:id".into()), "GET", 204, Duration::from_millis(120), None);
        metrics.request(None, "BREW", 599, Duration::from_secs(9), Some(exemplar));
        let guard = metrics.begin();
        let segment =
            backups::Kind { last: Some(Timestamp(1_795_000_000_000 - 90_000)), bytes: 7, ..Default::default() };
        let target = backups::Target { name: "usb".to_owned(), segment, damaged: 1, ..Default::default() };
        metrics.sample(|sample| {
            sample.backups = vec![target];
            sample.keys = vec![("data", Timestamp(1_795_000_000_000))];
        });
        let text = metrics.render();
        for line in [
            r#"debrouille_http_requests_total{route="/a/:id",method="GET",status="2xx"} 1"#,
            r#"debrouille_http_requests_total{route="unmatched",method="other",status="5xx"} 1"#,
            r#"debrouille_http_request_duration_seconds_bucket{le="0.15",route="/a/:id",method="GET"} 1"#,
            r#"debrouille_http_request_duration_seconds_bucket{le="0.1",route="/a/:id",method="GET"} 0"#,
            "debrouille_http_requests_in_flight 1",
            r#"debrouille_http_request_duration_seconds_bucket{le="+Inf",route="unmatched",method="other"} 1 # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 9.0"#,
            r#"debrouille_backup_last_success_age_seconds{target="usb",kind="segment"} 90"#,
            r#"debrouille_backup_last_success_timestamp_seconds{target="usb",kind="segment"} 1794999910"#,
            r#"debrouille_backup_sent_bytes_total{target="usb",kind="segment"} 7"#,
            r#"debrouille_backup_failures_total{target="usb",kind="full"} 0"#,
            r#"debrouille_backup_damaged{target="usb"} 1"#,
            r#"debrouille_key_created_timestamp_seconds{key="data"} 1795000000"#,
            "process_start_time_seconds 1795000000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.contains("\nprocess_open_fds "), "{text}");
        assert!(!text.contains("storage_size"), "an unknown figure was shown");
        assert!(text.ends_with("# EOF\n"));
        drop(guard);
        assert!(metrics.render().contains("debrouille_http_requests_in_flight 0"));
    }

    #[tokio::test]
    async fn what_may_get_tight_is_shown_beside_its_limit() {
        let metrics = metrics();
        metrics.connections_limited("https", 4096);
        let _open = metrics.connection_opened("https");
        let looks = Arc::new(Looks::default());
        metrics.watch("rules", Arc::default());
        metrics.watch("rules", looks.clone());
        looks.hit();
        looks.hit();
        looks.missed();
        let waits = waits::Waits::default();
        for millis in [1, 30, 30, 9000] {
            waits.observe(Duration::from_millis(millis));
        }
        metrics.sample(|sample| (sample.commit_waits, sample.pages_read) = (Some(waits.waited()), Some(7)));
        let idle = metrics.render();
        let (begun, held) = tokio::sync::oneshot::channel::<()>();
        #[allow(clippy::disallowed_methods, reason = "a task to be counted")]
        let task = tokio::spawn(held);
        let text = metrics.render();
        for line in [
            r#"debrouille_connections_limit{listener="https"} 4096"#,
            r#"debrouille_connections_open{listener="https"} 1"#,
            r#"debrouille_cache_hits_total{cache="rules"} 2"#,
            r#"debrouille_cache_misses_total{cache="rules"} 1"#,
            r#"debrouille_commit_wait_seconds_bucket{le="0.001"} 1"#,
            r#"debrouille_commit_wait_seconds_bucket{le="0.025"} 1"#,
            r#"debrouille_commit_wait_seconds_bucket{le="0.05"} 3"#,
            r#"debrouille_commit_wait_seconds_bucket{le="5.0"} 3"#,
            r#"debrouille_commit_wait_seconds_bucket{le="+Inf"} 4"#,
            "debrouille_commit_wait_seconds_count 4",
            "debrouille_commit_wait_seconds_sum 9.061",
            "debrouille_storage_pages_read_total 7",
            "debrouille_runtime_workers 1",
            "debrouille_runtime_tasks_alive 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(idle.contains("debrouille_runtime_tasks_alive 0\n"));
        drop(begun);
        assert!(task.await.unwrap().is_err());
    }

    #[test]
    fn series_are_bounded() {
        let metrics = metrics();
        for route in 0..MAX_SERIES + 500 {
            metrics.request(Some(format!("/{route}").into()), "GET", 200, Duration::ZERO, None);
        }
        let text = metrics.render();
        assert_eq!(text.matches("\ndebrouille_http_requests_total{").count(), MAX_SERIES + 1);
        assert!(text.contains(r#"route="other",method="GET",status="2xx"} 500"#));
    }
}
