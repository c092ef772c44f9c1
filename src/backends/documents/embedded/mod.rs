//! The embedded engine: redb over one sealed file.
//!
//! ```text
//! commit ─► queue ─► writer (one thread): check each batch (stage), apply, one durable transaction for all that wait
//! find, get ─► view: catalogue, counts and tables of the last commit ─► plan ─► read
//! ```

mod build;
mod catalog;
mod fault;
mod journal;
mod load;
mod read;
mod receipts;
mod refill;
pub mod sealed;
mod snapshots;
mod stage;
mod still;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use still::{Examined, Still};
pub use store::{Place, inspect};
pub use tables::FORMAT;

use crate::{
    base::{
        clock::{SharedClock, Stopwatch},
        fault::Fault,
        telemetry::scope,
    },
    domain::{filter::Filter, limits},
    ports::{
        Error, Result,
        documents::{
            Batch, Change, Collection, Committed, Conflict, Documents, Explain, Load, Page, Query, Record, Resealed,
            Retention, Sequence, Snapshot, Statistics, StorageKey,
        },
    },
};
use bson::RawDocumentBuf;
use read::{Reader, Stop};
use std::{collections::BTreeMap, sync::Arc, thread::JoinHandle};
use store::Store;
use tokio::sync::{mpsc, oneshot};
use writer::{Command, Shared, Writer};

/// Operations of a batch, and bytes of their documents.
pub const BATCH_OPERATIONS: usize = 1000;
pub const BATCH_BYTES: usize = 16 << 20;
/// Batches that may wait to be written.
const QUEUE: usize = 4096;
/// Pages a scrub reads at once: 64 MiB.
const SCRUB: u64 = 16_384;
/// What a step calls the collection (OpenTelemetry's semantic conventions).
const COLLECTION: &str = "db.collection.name";
/// Pages sealed anew at once.
const RESEAL: u64 = 4096;

#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of pages kept in memory.
    pub cache: usize,
    /// Bytes of a document, at most [`limits::MAX_DOCUMENT`].
    pub max_document: usize,
    /// Bytes left free on the volume: with less, writes stop.
    pub reserve: u64,
}

/// After a crash: half-written pages of free space are marked as such, so that a scrub speaks of damage only.
fn sweep(sealed: &sealed::Sealed) {
    match sealed.sweep() {
        Ok(pages) => tracing::info!(pages, "swept what a crash left half written"),
        Err(sealed::Error::Closed) => {}
        Err(error) => tracing::warn!(%error, "the sweep after a crash did not end; the next start begins it again"),
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { cache: 64 << 20, max_document: limits::DOCUMENT, reserve: writer::HEADROOM }
    }
}

pub struct Embedded {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    sealed: Option<sealed::Sealed>,
    writer: Option<JoinHandle<()>>,
}

/// Dropped without [`Documents::close`], it closes all the same, and waits for it: nothing of it outlives it, the lock
/// of its file the least.
impl Drop for Embedded {
    fn drop(&mut self) {
        // The writer ends when the last sender goes.
        self.queue = mpsc::channel(1).0;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer panicked");
        }
    }
}

impl Embedded {
    /// Opens the store at a place, or makes it. Reads the file: call it from a blocking thread.
    pub fn open(place: Place, options: Options, clock: SharedClock) -> Result<Self> {
        Self::start(Store::open(place, options.cache)?, options, clock)
    }

    /// On another storage than the sealed file: for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_over(backend: impl redb::StorageBackend, options: Options, clock: SharedClock) -> Result<Self> {
        Self::start(Store::over(backend, options.cache)?, options, clock)
    }

    fn start((store, state): (Store, store::State), options: Options, clock: SharedClock) -> Result<Self> {
        let sealed = store.sealed().cloned();
        let shared = Arc::new(Shared::new(store.view(&state)?, clock));
        let (queue, receiver) = mpsc::channel(QUEUE);
        let max_document = options.max_document.min(limits::MAX_DOCUMENT);
        let writer = Writer {
            store,
            state,
            shared: Arc::clone(&shared),
            queue: receiver,
            max_document,
            reserve: options.reserve.max(writer::HEADROOM),
            background: true,
            loading: false,
        };
        let thread = std::thread::Builder::new().name("documents-writer".to_owned());
        let writer = thread.spawn(move || writer.run()).map_err(|error| Error::Backend(Box::new(error)))?;
        if let Some(sealed) = sealed.clone().filter(sealed::Sealed::unswept) {
            let thread = std::thread::Builder::new().name("documents-sweep".to_owned());
            thread.spawn(move || sweep(&sealed)).map_err(|error| Error::Backend(Box::new(error)))?;
        }
        Ok(Self { shared, queue, sealed, writer: Some(writer) })
    }

    /// The file beneath, for scrubs, key changes and figures.
    pub fn sealed(&self) -> Option<&sealed::Sealed> {
        self.sealed.as_ref()
    }

    /// After a damaged page redb says of everything that it cannot be had now; it will not be had later either.
    fn told(&self, error: Error) -> Error {
        match (error, self.sealed.as_ref().and_then(sealed::Sealed::damaged)) {
            (Error::Unavailable(_), Some(page)) => Error::Corrupt(sealed::Error::Page { page }.to_string()),
            (error, _) => error,
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(command(answer)).map_err(|error| {
            Error::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => "too many writes are waiting".to_owned(),
                mpsc::error::TrySendError::Closed(_) => "the store is closed".to_owned(),
            })
        })?;
        answered.await.unwrap_or_else(|_| Err(Error::Unavailable("the store is closed".to_owned())))
    }

    /// Here and now if it takes few rows, else on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        collection: String,
        filter: Arc<Filter>,
        run: impl Fn(Reader<'_>) -> std::result::Result<T, Stop> + Send + 'static,
    ) -> Result<T> {
        let view = self.shared.view()?;
        let held = view.catalog.get(&collection).cloned();
        let Some(held) = held else { return Err(Error::Conflict(Conflict::Unknown { operation: 0, collection })) };
        let deadline = self.shared.clock.now().plus_seconds(read::SECONDS);
        match run(Reader::new(&view, &held, &filter, &self.shared.clock, deadline, Some(read::INLINE))) {
            Ok(done) => return Ok(done),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Budget) => {}
        }
        let clock = Arc::clone(&self.shared.clock);
        let whole = move || match run(Reader::new(&view, &held, &filter, &clock, deadline, None)) {
            Ok(done) => Ok(done),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Budget) => Err(Error::Backend("a query without a budget ran out of it".into())),
        };
        let scope = scope::carried();
        let read = tokio::task::spawn_blocking(move || scope.enter(whole));
        read.await.map_err(|error| Error::Backend(Box::new(error)))?
    }
}

/// Refuses what is too large before it waits in the queue.
fn weigh(batch: &Batch) -> Result<()> {
    let operations = batch.operations.len();
    if operations > BATCH_OPERATIONS {
        let fault = Fault::new("documents.batch_operations").with("operations", operations);
        return Err(Error::Rejected(fault.with("limit", BATCH_OPERATIONS)));
    }
    let weight = |change: &Change| match change {
        Change::Put(document) => document.as_bytes().len(),
        Change::Update(_) | Change::Delete => 0,
    };
    let bytes: usize = batch.operations.iter().map(|operation| weight(&operation.change) + operation.id.len()).sum();
    if bytes > BATCH_BYTES {
        let fault = Fault::new("documents.batch_bytes").with("bytes", bytes).with("limit", BATCH_BYTES);
        return Err(Error::Rejected(fault));
    }
    Ok(())
}

#[async_trait::async_trait]
impl Documents for Embedded {
    async fn commit(&self, batch: Batch) -> Result<Committed> {
        weigh(&batch)?;
        let since = Stopwatch::start();
        let step = scope::call("documents commit").with("db.operation.batch.size", batch.operations.len() as u64);
        let commit = self.ask(|answer| Command::Commit { batch: Box::new(batch), since, answer });
        step.run(commit).await.map_err(|error| self.told(error))
    }

    async fn get(&self, collection: &str, id: &str) -> Result<Option<RawDocumentBuf>> {
        let read = || {
            let view = self.shared.view()?;
            view.catalog.get(collection).map_or(Ok(None), |held| view.get(held, id))
        };
        let read = scope::call("documents get").with(COLLECTION, collection).enter(read);
        read.map_err(|error| self.told(error))
    }

    async fn find(&self, query: Query) -> Result<Page> {
        let (collection, filter) = (query.collection.clone(), Arc::clone(&query.filter));
        let step = scope::call("documents find").with(COLLECTION, collection.as_str());
        let found = step.run(self.read(collection, filter, move |reader| reader.find(&query)));
        found.await.map_err(|error| self.told(error))
    }

    async fn count(&self, collection: &str, filter: Arc<Filter>) -> Result<(u64, Explain)> {
        let step = scope::call("documents count").with(COLLECTION, collection);
        let counted = step.run(self.read(collection.to_owned(), filter, |reader| reader.count()));
        counted.await.map_err(|error| self.told(error))
    }

    async fn describe(&self, collection: &str) -> Result<Option<Collection>> {
        self.shared.view()?.describe(collection)
    }

    async fn collections(&self) -> Result<Vec<Collection>> {
        let view = self.shared.view()?;
        view.catalog.collections.keys().filter_map(|name| view.describe(name).transpose()).collect()
    }

    async fn records(&self, after: Sequence, limit: usize) -> Result<Vec<Record>> {
        let view = self.shared.view()?;
        let read = tokio::task::spawn_blocking(move || view.records(after, limit));
        read.await.map_err(|error| Error::Backend(Box::new(error)))?
    }

    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        let view = self.shared.view()?;
        Ok(Arc::new(self.shared.snapshots.take(view, self.shared.clock.now().0)))
    }

    async fn load(&self, part: Load) -> Result<()> {
        self.ask(|answer| Command::Load { part: Box::new(part), answer }).await
    }

    async fn statistics(&self) -> Result<Statistics> {
        let view = self.shared.view()?;
        let figure = |figure: Option<std::result::Result<u64, sealed::Error>>| {
            figure.transpose().map(Option::unwrap_or_default).map_err(|error| Error::Backend(Box::new(error)))
        };
        let age = self.shared.snapshots.oldest().map_or(0, |taken| self.shared.clock.now().0 - taken);
        Ok(Statistics {
            sequence: Sequence(view.sequence),
            stored_bytes: figure(self.sealed.as_ref().map(sealed::Sealed::stored))?,
            free_bytes: figure(self.sealed.as_ref().map(sealed::Sealed::headroom))?,
            journal_records: redb::ReadableTableMetadata::len(&view.tables.journal).map_err(fault::failed)?,
            journal_bytes: view.journal_bytes,
            queued_batches: (self.queue.max_capacity() - self.queue.capacity()) as u64,
            commit_waits: self.shared.waits.waited(),
            pages_read: self.sealed.as_ref().map(sealed::Sealed::pages_read),
            oldest_snapshot_seconds: u64::try_from(age / 1000).unwrap_or_default(),
            read_only: self.shared.read_only(),
            damaged: self.sealed.as_ref().and_then(sealed::Sealed::damaged),
        })
    }

    async fn scrub(&self, from: u64) -> Result<u64> {
        let Some(sealed) = self.sealed.clone() else { return Ok(0) };
        let end = from.saturating_add(SCRUB);
        let scrubbed = tokio::task::spawn_blocking(move || sealed.scrub(from..end).map(|_| sealed.pages())).await;
        let scrubbed = scrubbed.map_err(|error| Error::Backend(Box::new(error)))?;
        let pages = scrubbed.map_err(|error| Error::Backend(Box::new(error)))?;
        Ok(if end < pages { end } else { 0 })
    }

    async fn take_keys(&self, keys: Vec<StorageKey>) -> Result<()> {
        let keys = sealed::DataKeys::of(&keys).ok_or_else(|| Error::Backend("no key to seal with".into()))?;
        self.ask(|answer| Command::TakeKeys { keys, answer }).await
    }

    async fn sealed_by(&self) -> Result<BTreeMap<u32, u64>> {
        let Some(sealed) = self.sealed.clone() else { return Ok(BTreeMap::new()) };
        let counted = tokio::task::spawn_blocking(move || sealed.key_versions()).await;
        counted.map_err(|error| Error::Backend(Box::new(error)))?.map_err(store::refused)
    }

    async fn reseal(&self, from: u64) -> Result<Resealed> {
        let Some(sealed) = self.sealed.clone() else { return Ok(Resealed { next: 0, total: 0, moved: 0 }) };
        let end = from.saturating_add(RESEAL);
        let done = tokio::task::spawn_blocking(move || {
            let mut watch = Stopwatch::start();
            // Commits get as much of the disk as this.
            let mut pause = || {
                std::thread::sleep(watch.elapsed());
                watch = Stopwatch::start();
            };
            sealed.reseal(from..end, &mut pause).map(|moved| (moved, sealed.pages()))
        })
        .await;
        let (moved, total) = done.map_err(|error| Error::Backend(Box::new(error)))?.map_err(store::refused)?;
        Ok(Resealed { next: if end < total { end } else { 0 }, total, moved })
    }

    async fn trim(&self, retention: Retention) -> Result<u64> {
        let mut all = 0;
        // Writers get their turn between two parts.
        loop {
            let gone = self.ask(|answer| Command::Trim { retention, answer }).await?;
            all += gone;
            if gone == 0 {
                return Ok(all);
            }
        }
    }

    async fn close(&self) -> Result<()> {
        self.ask(|answer| Command::Close { answer }).await
    }
}
