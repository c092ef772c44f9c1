//! Documents by the line: NDJSON in and out, never wholly in memory.

use super::{
    conditions,
    envelope::Answer,
    error,
    exchange::{Exchange, text},
    proof::By,
    spec::Tag,
};
use crate::{
    base::{fault::Fault, messages::Language, telemetry::scope},
    domain::json::Splitter,
    services::{
        Error, Result,
        access::Caller,
        documents::{Import, LineFault, Progress, Search},
        export::Export,
    },
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use poem::{Body, IntoResponse, Request, RequestBody, Response, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    param::{Path, Query},
    registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;
use serde_json::Value;
use std::{io, pin::Pin, sync::Arc};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

pub struct Routes;

const NDJSON: &str = "application/x-ndjson";
/// Faults a whole answer lists; the others are only counted. A stream tells them all.
const MOST_FAULTS: usize = 1000;
/// Chunks or events on their way to a slow reader.
const QUEUED: usize = 8;

/// What an import came to, or where it stands.
#[derive(Serialize, Object, Default)]
pub(super) struct Report {
    /// The number of the last line dealt with; documents go on from here with it as `skip`.
    line: u64,
    created: u64,
    updated: u64,
    failed: u64,
    /// `{line, code, message, details}` of each line that was not written.
    #[oai(skip)]
    errors: Vec<Value>,
    /// Everything was read to the end.
    done: bool,
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Documents")]
impl Routes {
    /// Import lines of documents
    ///
    /// Each chunk is on disk before the next is read. With `Accept: application/x-ndjson` a report is streamed after
    /// each chunk; else one report is answered at the end.
    #[oai(path = "/collections/:collection/import", method = "post", operation_id = "importDocuments")]
    async fn import(
        &self,
        by: By,
        collection: Path<String>,
        /// Lines whose id exists replace that document
        upsert: Query<Option<bool>>,
        /// Lines to pass over: those an earlier import dealt with
        skip: Query<Option<u64>>,
        lines: Raw,
        request: &Request,
    ) -> Result<Reported> {
        // Many commits, and a stream of answers: `skip` is how an import goes on.
        conditions::no_attempt(request)?;
        let upload = Upload {
            exchange: by.exchange.clone(),
            caller: by.caller,
            collection: collection.0,
            upsert: upsert.0.unwrap_or_default(),
            skip: skip.0.unwrap_or_default(),
        };
        let streamed = text(request.headers(), "accept").is_some_and(|accept| accept.contains(NDJSON));
        if streamed {
            // Who may not import is told before anything is streamed.
            upload.run(Body::empty()).await?;
            return Ok(Reported(ndjson(upload.streamed(lines.0))));
        }
        let report = upload.whole(lines.0).await?;
        Answer::<Report>::value(&by.exchange, &report).map(|answer| Reported(answer.into_response()))
    }

    /// Export a collection as it stands at one moment
    #[oai(path = "/collections/:collection/export", method = "get", operation_id = "exportDocuments")]
    async fn export(
        &self,
        by: By,
        collection: Path<String>,
        /// MongoDB's filter language, as JSON
        filter: Query<Option<String>>,
    ) -> Result<Exported> {
        let search = Search::of_url(filter.0.as_deref(), None, None)?;
        let state = &by.exchange.state;
        let lines = state.documents.export(&by.caller, &collection, &search, by.exchange.canonical).await?;
        Ok(Exported(ndjson(download(by, lines))))
    }
}

pub(super) fn ndjson(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    Response::builder().content_type(NDJSON).body(Body::from_bytes_stream(chunks))
}

fn received(receiver: mpsc::Receiver<io::Result<Bytes>>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|chunk| (chunk, receiver)) })
}

/// Reads the snapshot on a blocking thread, no faster than the reader takes it; given up when the reader stands still,
/// for a snapshot pins pages. An error cuts the stream, so that a part is never taken for the whole: so does the end
/// of the caller's session, key or right.
pub(super) fn download<E: Export>(by: By, mut export: E) -> impl Stream<Item = io::Result<Bytes>> + use<E> {
    let (sender, receiver) = mpsc::channel(QUEUED);
    let By { caller, exchange } = by;
    let (runtime, tasks) = (Handle::current(), exchange.state.tasks.clone());
    let scope = scope::carried();
    let work = move || {
        let mut pull = || match runtime.block_on(exchange.state.identities.renew(&caller)) {
            Ok(caller) => export.pull(&caller),
            Err(error) => Some(Err(error)),
        };
        while let Some(chunk) = pull() {
            let failed = chunk.is_err();
            let chunk = chunk.map(Bytes::from).map_err(|error| {
                tracing::error!(%error, "export cut");
                io::Error::other("export cut")
            });
            let sent = runtime.block_on(timeout(exchange.state.limits.silence, sender.send(chunk)));
            if failed || !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
    };
    tasks.spawn_blocking(move || scope.enter(work));
    received(receiver)
}

/// An import as it was asked for.
struct Upload {
    exchange: Arc<Exchange>,
    caller: Caller,
    collection: String,
    upsert: bool,
    skip: u64,
}

/// An import under way over a body.
struct Running<'a, S> {
    upload: &'a Upload,
    import: Import<'a>,
    splitter: Splitter,
    chunks: Pin<Box<S>>,
    told: Progress,
    ended: bool,
}

/// What has happened since the last report.
struct Step {
    progress: Progress,
    errors: Vec<Value>,
    done: bool,
}

impl Upload {
    async fn run(&self, body: Body) -> Result<Running<'_, impl Stream<Item = io::Result<Bytes>> + use<>>> {
        let state = &self.exchange.state;
        Ok(Running {
            upload: self,
            import: state.documents.import(&self.caller, &self.collection, self.upsert).await?,
            splitter: Splitter::new(state.limits.line),
            chunks: Box::pin(body.into_bytes_stream()),
            told: Progress::default(),
            ended: false,
        })
    }

    /// One report at the end.
    async fn whole(&self, body: Body) -> Result<Report> {
        let mut running = self.run(body).await?;
        let mut report = Report::default();
        while let Some(step) = running.next().await? {
            report.add(step);
        }
        Ok(report)
    }

    /// Reports as the import goes; the last one is `done`, or an `error` that ended it. The import waits for a reader
    /// that falls behind, and gives up on one that stands still.
    fn streamed(self, body: Body) -> impl Stream<Item = io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(QUEUED);
        let tasks = self.exchange.state.tasks.clone();
        let work = async move {
            let silence = self.exchange.state.limits.silence;
            let ended = async {
                let mut running = self.run(body).await?;
                while let Some(step) = running.next().await? {
                    let mut report = Report::default();
                    report.add(step);
                    if !matches!(timeout(silence, sender.send(Ok(line(&report)))).await, Ok(Ok(()))) {
                        break;
                    }
                }
                Ok::<(), Error>(())
            };
            if let Err(error) = ended.await {
                let told = error::tell(&error);
                told.log();
                let last = line(&serde_json::json!({ "error": told.value(self.exchange.language) }));
                let _ = timeout(silence, sender.send(Ok(last))).await;
            }
        };
        tasks.spawn(scope::carried().run(work));
        received(receiver)
    }
}

impl<S: Stream<Item = io::Result<Bytes>>> Running<'_, S> {
    /// Goes on until there is something to tell; `None` after the end.
    async fn next(&mut self) -> Result<Option<Step>> {
        while !self.ended {
            let chunk = self.chunks.try_next().await.map_err(|error| {
                let fault = Fault::new("http.body_cut").with("reason", error.kind());
                Error::Unreadable(fault.with("line", self.import.progress().line))
            })?;
            let mut lines = Vec::new();
            match &chunk {
                Some(chunk) => self.splitter.feed(chunk, |line| lines.push(line)),
                None => lines.extend(std::mem::replace(&mut self.splitter, Splitter::new(0)).finish()),
            }
            for line in lines.into_iter().filter(|line| line.number > self.upload.skip) {
                if self.import.take(line) {
                    self.write().await?;
                }
            }
            if chunk.is_none() {
                self.ended = true;
                self.write().await?;
            }
            if self.ended || self.import.progress() != self.told {
                return Ok(Some(self.step()));
            }
        }
        Ok(None)
    }

    /// An import may outlast the right it began with, and the token: both are asked for anew.
    async fn write(&mut self) -> Result<()> {
        let caller = self.upload.exchange.state.identities.renew(&self.upload.caller).await?;
        self.import.write(&caller).await
    }

    fn step(&mut self) -> Step {
        let language = self.upload.exchange.language;
        let errors = self.import.faults().iter().map(|fault| told(fault, language)).collect();
        self.told = self.import.progress();
        Step { progress: self.told, errors, done: self.ended }
    }
}

/// What is wrong with a line, under its number.
fn told(fault: &LineFault, language: Language) -> Value {
    let mut value = error::tell(&fault.error).value(language);
    if let Value::Object(fields) = &mut value {
        fields.shift_insert(0, "line".to_owned(), fault.line.into());
    }
    value
}

fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).expect("a report is plain JSON");
    text.push(b'\n');
    text.into()
}

impl Report {
    /// Where another import stands, and what went wrong since the last time.
    pub fn tell(&mut self, progress: Progress, faults: Vec<LineFault>, done: bool, language: Language) {
        let errors = faults.into_iter().map(|fault| told(&fault, language)).collect();
        self.add(Step { progress, errors, done });
    }

    fn add(&mut self, step: Step) {
        let Progress { line, created, updated, failed } = step.progress;
        let room = MOST_FAULTS.saturating_sub(self.errors.len());
        self.errors.extend(step.errors.into_iter().take(room));
        (self.line, self.created, self.updated, self.failed, self.done) = (line, created, updated, failed, step.done);
    }
}

/// A body of lines, read as it comes.
pub(super) struct Raw(pub Body);

impl<'a> ApiExtractor<'a> for Raw {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest { description: None, content: vec![lines_of("object")], required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let kind = request.content_type().unwrap_or(NDJSON).split(';').next().unwrap_or_default().trim();
        if ![NDJSON, "application/jsonl", "application/octet-stream"].contains(&kind) {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into());
        }
        Ok(Self(body.take()?))
    }
}

fn lines_of(ty: &'static str) -> MetaMediaType {
    MetaMediaType { content_type: NDJSON, schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new(ty))) }
}

/// One report under the envelope, or a stream of them.
struct Reported(Response);

/// A stream of documents, of entries, or of what is held about someone.
pub(super) struct Exported(pub(super) Response);

impl IntoResponse for Reported {
    fn into_response(self) -> Response {
        self.0
    }
}

impl IntoResponse for Exported {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for Reported {
    fn meta() -> MetaResponses {
        let mut meta = Answer::<Report>::meta();
        if let Some(answer) = meta.responses.first_mut() {
            answer.content.push(MetaMediaType { content_type: NDJSON, schema: Report::schema_ref() });
        }
        meta
    }

    fn register(registry: &mut Registry) {
        Answer::<Report>::register(registry);
    }
}

impl ApiResponse for Exported {
    fn meta() -> MetaResponses {
        let answer = MetaResponse {
            description: "A line of JSON each: documents in the order of their ids; of the audit log, as docs/audit.md says.",
            status: Some(200),
            status_range: None,
            content: vec![lines_of("object")],
            headers: Vec::new(),
        };
        MetaResponses { responses: vec![answer] }
    }

    fn register(_: &mut Registry) {}
}
