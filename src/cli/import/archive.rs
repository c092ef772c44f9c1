//! `import --format archive|bson`: what mongodump wrote, compressed or not, one document after the other.

use super::{
    Counted, Lines, Report, Source,
    collections::{Chosen, choose, furnish},
    documents::Documents,
};
use crate::{
    base::fault::Fault,
    cli::{
        client::Client,
        context::Context,
        failure::{Code, Failure, unreadable},
        output::Progress,
        serve::failure,
    },
    services::{
        self,
        archive::{self, Collection, Namespace, Part, Reader},
    },
};
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const GZIP: [u8; 2] = [0x1f, 0x8b];

pub async fn run(context: &Context, path: &Path, wanted: &[String], lines: &Lines) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let source = Source::open(path)?;
    let mut progress = Progress::of_bytes(context, source.bytes);
    let (input, gone) = unpacked(source.reader).map_err(|error| unreadable(path.display(), error))?;
    let mut reader = Reader::open(input).map_err(refused)?;
    let chosen = choose(reader.collections(), wanted).map_err(|faults| Failure::all(Code::Refused, faults))?;
    for collection in reader.collections() {
        if !chosen.iter().any(|chosen| chosen.namespace == collection.namespace) {
            context.say(&Fault::new("cli.import.left").with("collection", &collection.namespace));
        }
    }
    let mut report = Report::open(context, lines)?;
    let mut client = Client::open(context, config).await?;
    for chosen in &chosen {
        furnish(context, &mut client, chosen).await?;
    }
    let mut all: Vec<Documents> = chosen.iter().map(|chosen| Documents::new(&chosen.name, lines.upsert)).collect();
    let place = |namespace: &Namespace| chosen.iter().position(|chosen| chosen.namespace == *namespace);
    let mut current = None;
    let ended = loop {
        let part = match reader.part() {
            Ok(Some(part)) => part,
            Ok(None) => break Ok(()),
            Err(error) => break Err(refused(error)),
        };
        match part {
            Part::Document { namespace, document } => {
                current = place(namespace);
                if let Some(documents) = current.and_then(|place| all.get_mut(place)) {
                    documents.take(context, &mut client, &mut report, &document).await?;
                }
            }
            // Only one collection's wait at a time.
            Part::Pause | Part::Ended(_) => {
                if let Some(documents) = current.take().and_then(|place| all.get_mut(place)) {
                    documents.flush(&mut client, &mut report).await?;
                }
            }
        }
        progress.at(gone.load(Ordering::Relaxed));
    };
    finish(context, client, report, progress, all, ended).await
}

/// A `.bson` file of mongodump into one collection; its `.metadata.json` beside it tells its indexes.
pub async fn run_bson(context: &Context, collection: &str, lines: &Lines) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let source = Source::open(&lines.file)?;
    let mut progress = Progress::of_bytes(context, source.bytes);
    let (input, gone) = unpacked(source.reader).map_err(|error| unreadable(lines.file.display(), error))?;
    let metadata = beside(&lines.file)?;
    let namespace = Namespace { database: String::new(), collection: collection.to_owned() };
    let kind = "collection".to_owned();
    let chosen = choose(&[Collection { namespace, kind, metadata }], &[collection.to_owned()]);
    let chosen: Vec<Chosen> = chosen.map_err(|faults| Failure::all(Code::Refused, faults))?;
    let mut report = Report::open(context, lines)?;
    let mut client = Client::open(context, config).await?;
    for chosen in &chosen {
        furnish(context, &mut client, chosen).await?;
    }
    let mut reader = archive::Documents::new(input);
    let mut documents = Documents::new(collection, lines.upsert);
    let ended = loop {
        match reader.document() {
            Ok(Some(document)) => documents.take(context, &mut client, &mut report, &document).await?,
            Ok(None) => break Ok(()),
            Err(error) => break Err(refused(error)),
        }
        progress.at(gone.load(Ordering::Relaxed));
    };
    finish(context, client, report, progress, vec![documents], ended).await
}

/// What was read before the source went wrong is written, and said before that.
async fn finish(
    context: &Context,
    mut client: Client,
    mut report: Report<'_>,
    progress: Progress,
    mut all: Vec<Documents>,
    ended: Result<(), Failure>,
) -> Result<(), Failure> {
    for documents in &mut all {
        documents.flush(&mut client, &mut report).await?;
    }
    drop(progress);
    report.close()?;
    client.close().await?;
    let row = |documents: &Documents| {
        let Counted { created, updated, failed } = documents.counted;
        json!({ "collection": documents.collection, "created": created, "updated": updated, "failed": failed })
    };
    let rows: Vec<Value> = all.iter().map(row).collect();
    context.answer(&json!({ "collections": rows, "whole": ended.is_ok() }), || {
        let said = |documents: &Documents| {
            let done = Fault::new("cli.import.done").with("collection", &documents.collection);
            let Counted { created, updated, failed } = documents.counted;
            context.words(&done.with("created", created).with("updated", updated).with("failed", failed)) + "\n"
        };
        if context.quiet { String::new() } else { all.iter().map(said).collect() }
    })?;
    if let Err(failure) = ended {
        context.complain(&failure);
        return Err(Failure::silent(failure.code));
    }
    match all.iter().all(|documents| documents.counted.failed == 0) {
        true => Ok(()),
        false => Err(Failure::silent(Code::Failed)),
    }
}

/// `places.metadata.json` beside `places.bson`, compressed as it is; nothing when it is not there.
fn beside(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (name, end) = name.strip_suffix(".gz").map_or((name, ""), |name| (name, ".gz"));
    let Some(name) = name.strip_suffix(".bson") else { return Ok(String::new()) };
    let path: PathBuf = path.with_file_name(format!("{name}.metadata.json{end}"));
    let read = || {
        let (mut input, _) = unpacked(Box::new(std::fs::File::open(&path)?))?;
        let mut text = String::new();
        input.read_to_string(&mut text).map(|_| text)
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| unreadable(path.display(), error)),
    }
}

/// The bytes as they were before `--gzip`, by the source's own beginning; and how many of it were read.
fn unpacked(source: Box<dyn Read + Send>) -> io::Result<(Box<dyn Read + Send>, Arc<AtomicU64>)> {
    let gone = Arc::new(AtomicU64::new(0));
    let mut source = BufReader::with_capacity(1 << 16, Counting { source, gone: gone.clone() });
    let packed = source.fill_buf()?.starts_with(&GZIP);
    let input: Box<dyn Read + Send> = match packed {
        true => Box::new(BufReader::new(MultiGzDecoder::new(source))),
        false => Box::new(source),
    };
    Ok((input, gone))
}

struct Counting {
    source: Box<dyn Read + Send>,
    gone: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(bytes)?;
        self.gone.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn refused(error: services::Error) -> Failure {
    failure(error.into())
}
