//! What the appliance says of itself: one line per event, to daily files and to standard output, never blocking; and the
//! traces it keeps.
//!
//! An event bears the ids of the scope it happens in: `request`, `trace` and `span` name the request. Values are
//! escaped, so that nobody can forge a line; secrets are never given to an event in the first place.

mod archive;
mod fields;
mod gathered;
mod levels;
mod line;
mod records;
pub mod scope;
mod syslog;
pub mod traces;
mod waiting;

pub use archive::{names, tidy};
pub use levels::{Levels, Raised};
pub use line::Style;
pub use records::{Record, Said};
pub use waiting::{Part, Waiting};

use super::{
    clock::SharedClock,
    config::{Log, LogFormat, LogOutput},
    fault::Fault,
    files,
    metrics::Metrics,
    trust,
};
use fields::Fields;
use gathered::Gathered;
use log as _;
use std::{
    io::{IsTerminal, Write},
    os::unix::fs::MetadataExt,
    panic,
    path::Path,
    sync::Arc,
};
use syslog::{Origin, Place, Sender};
use tracing::{Event, Subscriber};
use tracing_appender::{
    non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard},
    rolling::{RollingFileAppender, Rotation},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

/// Lines waiting for a slow disk; beyond, lines are lost rather than requests held up.
const WAITING_LINES: usize = 16_384;

/// Writes what is left when dropped: keep it until the very end.
pub struct Telemetry {
    _writers: Vec<WorkerGuard>,
}

/// Whether the central log can be one.
pub fn check(log: &Log, trusted: Option<&Path>) -> Result<(), Fault> {
    log.syslog.as_ref().map_or(Ok(()), |url| place(url, trusted).map(drop))
}

fn place(url: &str, trusted: Option<&Path>) -> Result<Place, Fault> {
    let unread = |error| Fault::new("instance.file").at("tls.trusted").with("why", error);
    Place::new(url, || trust::roots(trusted).map_err(unread))
}

/// Whose lines they are, among those of many that are gathered in one place.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub environment: String,
    pub instance: String,
    pub host: String,
}

/// Starts logging as configured, for the whole process; `records` takes lines for a collector.
pub fn start(
    log: &Log,
    folder: &Path,
    trusted: Option<&Path>,
    (about, records): (About, Option<Arc<Waiting<Record>>>),
    clock: SharedClock,
) -> Result<(Telemetry, Arc<Levels>), Fault> {
    let filter = EnvFilter::builder()
        .parse(&log.level)
        .map_err(|error| Fault::new("telemetry.bad_filter").with("value", &log.level).with("cause", error))?;
    let mut outputs = vec![];
    let mut writers = vec![];
    let mut add = |style, (writer, guard): (NonBlocking, WorkerGuard)| {
        outputs.push(Output { style, writer });
        writers.push(guard);
    };
    add(Style::Json, waiting(Gathered::new(daily_files(folder)?)));
    if log.output == LogOutput::Stdout {
        add(stdout_style(log.format), waiting(Gathered::new(std::io::stdout())));
    }
    if let Some(url) = &log.syslog {
        let origin = Origin { host: about.host.clone(), process: std::process::id() };
        add(Style::Syslog, waiting(Gathered::lines(Sender::new(place(url, trusted)?, origin))));
    }
    let (filter, handle) = reload::Layer::new(filter);
    // Gone with the process alone.
    let levels = Levels::new(&log.level, move |filter| drop(handle.reload(filter)));
    tracing_subscriber::registry()
        .with(Lines { clock, about, outputs, records }.with_filter(filter))
        .try_init()
        .map_err(|error| Fault::new("telemetry.started").with("cause", error))?;
    Ok((Telemetry { _writers: writers }, Arc::new(levels)))
}

fn waiting<W: Write + Send + 'static>(writer: Gathered<W>) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).thread_name("log").finish(writer)
}

/// `appliance.2026-11-22.log`, one a day (UTC); `tidy` lets go of them.
fn daily_files(folder: &Path) -> Result<RollingFileAppender, Fault> {
    let failed = |error: &dyn std::fmt::Display| {
        Fault::new("telemetry.folder").with("folder", folder.display()).with("cause", error)
    };
    files::private_folder(folder).map_err(|error| failed(&error))?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("appliance")
        .filename_suffix("log")
        .build(folder)
        .map_err(|error| failed(&error))
}

fn stdout_style(format: LogFormat) -> Style {
    if std::io::stdout().is_terminal() {
        Style::Text { colour: true }
    } else if to_journal() {
        Style::Journal
    } else {
        match format {
            LogFormat::Json => Style::Json,
            LogFormat::Text => Style::Text { colour: false },
        }
    }
}

/// systemd names the stream it reads by device and inode (systemd.exec(5), `JOURNAL_STREAM`).
#[allow(clippy::disallowed_methods, reason = "what systemd tells about standard output")]
fn to_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stdout) = std::fs::metadata("/proc/self/fd/1") else { return false };
    stream == format!("{}:{}", stdout.dev(), stdout.ino())
}

/// Logs and counts each panic; whoever catches it goes on.
pub fn watch_panics(metrics: Arc<Metrics>) {
    panic::set_hook(Box::new(move |panic| {
        metrics.panicked();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let words = panic.payload_as_str().unwrap_or("a value that is no text");
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace =
            (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(place, words, thread, backtrace, "panic caught");
    }));
}

struct Output {
    style: Style,
    writer: NonBlocking,
}

/// What is said of sending lines away is not sent after them, by us or by the libraries that do it.
fn goes_on(target: &str) -> bool {
    const SENDERS: [&str; 5] = ["h2", "hyper", "rustls", "tonic", "tower"];
    let library = target.split("::").next().unwrap_or_default();
    scope::with(|scope| scope.sent).unwrap_or(true) && !SENDERS.iter().any(|sender| library.starts_with(sender))
}

struct Lines {
    clock: SharedClock,
    about: About,
    outputs: Vec<Output>,
    records: Option<Arc<Waiting<Record>>>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Last: no event names another request than its own.
        scope::with(|scope| {
            fields.text("trace", &scope.trace);
            fields.text("span", &scope.span);
            scope.request.iter().for_each(|request| fields.text("request", request));
            scope.identity().iter().for_each(|identity| fields.text("identity", identity));
        });
        let now = self.clock.now();
        if let Some(records) = self.records.as_ref().filter(|_| goes_on(event.metadata().target())) {
            records.push(Record::new(now, event.metadata(), &fields));
        }
        let lines = line::Lines::new(now, &self.about, event.metadata(), &fields);
        for output in &self.outputs {
            let line = lines.of(output.style);
            // Nobody is left to tell when the log itself cannot be written.
            let _ = output.writer.clone().write_all(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::clock::{FixedClock, Timestamp},
        scope::{Parent, Scope},
        *,
    };
    use tracing_subscriber::Registry;

    fn about() -> About {
        About { environment: "staging".to_owned(), instance: "i-1".to_owned(), host: "h".to_owned() }
    }

    /// What a file output says of the events of `act`.
    fn lines(style: Style, act: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (writer, guard) = waiting(Gathered::new(daily_files(&folder.path().join("logs")).unwrap()));
        let clock = Arc::new(FixedClock(1_795_000_000_123.into()));
        let outputs = vec![Output { style, writer }];
        let subscriber = Registry::default().with(Lines { clock, about: about(), outputs, records: None });
        tracing::subscriber::with_default(subscriber, act);
        drop(guard);
        let file = std::fs::read_dir(folder.path().join("logs")).unwrap().next().unwrap().unwrap();
        assert!(file.file_name().to_str().unwrap().starts_with("appliance."));
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn an_event_is_one_json_line_with_its_request() {
        let parent = Parent { trace: "t-1".to_owned(), span: "p".to_owned(), sampled: false };
        let text = lines(Style::Json, || {
            let scope = Scope::new(Some("r-1".to_owned()), Some(parent), None, Timestamp(1));
            scope.acts_for(|| "~0a".to_owned());
            futures_util::FutureExt::now_or_never(scope.run(async {
                let error = std::io::Error::other("disk \u{1b}[31m gone \"\\");
                tracing::warn!(%error, big = u64::MAX, ok = false, part = 2, request = "another", "it\nhappened");
            }));
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["time"], "2026-11-18T11:06:40.123Z");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["message"], "it\nhappened");
        assert_eq!(
            (&value["request"], &value["trace"], &value["span"]),
            (&"r-1".into(), &"t-1".into(), &value["span"])
        );
        assert_eq!((value["span"].as_str().unwrap().len(), &value["identity"]), (16, &"~0a".into()));
        assert_eq!((&value["environment"], &value["instance"]), (&"staging".into(), &"i-1".into()));
        assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((&value["part"], &value["ok"]), (&2.into(), &false.into()));
        assert_eq!(value["big"], u64::MAX);
        assert_eq!(value["error"], "disk \u{1b}[31m gone \"\\");
        assert!(!text.contains('\u{1b}'), "a raw escape reached the file");
    }

    #[test]
    fn text_and_journal_lines_cannot_be_forged_either() {
        for style in [Style::Text { colour: false }, Style::Journal] {
            let text = lines(style, || tracing::error!(user = "x\n<1> forged\u{7}\u{9b}2J", "bad"));
            assert_eq!(text.matches('\n').count(), 1, "{text}");
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            assert_eq!(text.starts_with("<3>"), style == Style::Journal, "{text}");
        }
    }

    #[test]
    fn what_is_said_of_sending_lines_away_is_not_sent_after_them() {
        let records = Arc::new(Waiting::new(1 << 20, Record::bytes));
        let clock = Arc::new(FixedClock(1_795_000_000_123.into()));
        let lines = Lines { clock, about: about(), outputs: vec![], records: Some(records.clone()) };
        let say = async { tracing::info!(n = 7, "said") };
        tracing::subscriber::with_default(Registry::default().with(lines), || {
            futures_util::FutureExt::now_or_never(Scope::unsent(Timestamp(1)).run(say));
            tracing::info!(target: "hyper::proto", "said by a library");
            let scope = Scope::new(None, None, None, Timestamp(1));
            futures_util::FutureExt::now_or_never(scope.run(async { tracing::warn!(n = 8, "told") }));
        });
        let part = records.take(1 << 20);
        let [told] = part.all() else { panic!("{:?}", part.all()) };
        assert_eq!((&*told.message, &told.fields[..]), ("told", &[("n", Said::Whole(8))][..]));
        assert_eq!(told.trace.as_ref().map(String::len), Some(32));
    }

    #[test]
    fn long_values_are_cut() {
        let text = lines(Style::Json, || tracing::info!(body = "é".repeat(100_000), "long"));
        assert!(text.len() < 10_000 && serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text.len());
    }
}
