//! `import COLLECTION [FILE|-]`: NDJSON sent in chunks, each durable before the next; what is wrong with a line is
//! reported and the rest goes on. MongoDB's archives and `.bson` files become such lines here.

mod archive;
mod chunks;
mod collections;
mod documents;
mod resume;

use super::{
    client::{Client, segment},
    context::Context,
    failure::{Code, Failure, unreadable, unwritable},
    output::Progress,
};
use crate::base::{fault::Fault, files};
use bytes::Bytes;
use chunks::{Chunk, Chunks};
use http_body_util::BodyExt;
use hyper::Method;
use resume::Mark;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// Faults shown when no file was given for them.
const SHOWN: u64 = 10;

#[derive(clap::Args)]
pub struct Given {
    /// With `--format archive` the file: an archive names its collections itself.
    #[arg(value_name = "COLLECTION")]
    place: String,
    #[command(flatten)]
    lines: Lines,
    #[arg(long, value_name = "FORMAT", value_parser = ["ndjson", "bson", "archive"], default_value = "ndjson")]
    format: String,
    #[arg(long, value_name = "[DB.]C[=NAME]")]
    collection: Vec<String>,
}

/// An import of lines into one collection.
pub struct Arguments {
    pub collection: String,
    pub lines: Lines,
}

/// What every import of lines is told.
#[derive(clap::Args)]
pub struct Lines {
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[arg(long)]
    upsert: bool,
    #[arg(long)]
    resume: bool,
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
}

pub async fn run(context: &Context, given: Given) -> Result<(), Failure> {
    let Given { place, lines, format, collection } = given;
    let usage = |key| Err(Failure::new(Code::Usage, Fault::new(key)));
    if format != "archive" && !collection.is_empty() {
        return usage("cli.import.collections");
    }
    if format != "ndjson" && lines.resume {
        return usage("cli.import.resume_lines");
    }
    match format.as_str() {
        "archive" if lines.file != Path::new("-") => usage("cli.import.archive_place"),
        "archive" => archive::run(context, Path::new(&place), &collection, &lines).await,
        "bson" => archive::run_bson(context, &place, &lines).await,
        _ => ndjson(context, Arguments { collection: place, lines }).await,
    }
}

async fn ndjson(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let collection = segment(&arguments.collection);
    let target = Target {
        path: format!("/collections/{collection}/import"),
        must_be: Some(format!("/collections/{collection}")),
    };
    carry(context, &target, &arguments).await
}

/// Where lines go.
pub struct Target {
    pub path: String,
    /// What must answer before a line is sent.
    pub must_be: Option<String>,
}

/// Sends every line of the source, under the name of a collection of its own.
pub async fn carry(context: &Context, target: &Target, arguments: &Arguments) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let source = Source::open(&arguments.lines.file)?;
    if arguments.lines.resume && source.path.is_none() {
        return Err(Failure::new(Code::Usage, Fault::new("cli.import.resume_stdin")));
    }
    let mark_path =
        source.path.as_ref().map(|path| resume::path(&config.instance.data_dir, &arguments.collection, path));
    let mut report = Report::open(context, &arguments.lines)?;
    let mut client = Client::open(context, config).await?;
    // Absent, the collection is never made silently: the server's own words say how to make it.
    if let Some(path) = &target.must_be {
        client.get(path).await?;
    }
    let mut chunks = Chunks::new(source.reader);
    let mut mark = Mark::default();
    if arguments.lines.resume
        && let Some(found) = mark_path.as_deref().map(resume::read).transpose()?.flatten()
    {
        chunks.skip(&found)?;
        mark = found;
        context.say(&Fault::new("cli.import.resumed").with("line", mark.lines + 1));
    }
    let mut progress = Progress::of_bytes(context, source.bytes);
    progress.at(mark.bytes);
    let mut path = target.path.clone();
    if arguments.lines.upsert {
        path.push_str("?upsert=true");
    }
    while let Some(chunk) = chunks.next()? {
        let (first, lines, bytes) = (chunk.first, chunk.lines, chunk.body.len() as u64);
        let answer = send(&mut client, &path, chunk).await?;
        let counted = report.take(first, answer)?;
        mark.advance(lines, bytes, chunks.digest(), &counted);
        if let Some(path) = &mark_path {
            resume::write(path, &mark)?;
        }
        progress.at(mark.bytes);
    }
    drop(progress);
    report.close()?;
    client.close().await?;
    summary(context, arguments, &mark)
}

fn summary(context: &Context, arguments: &Arguments, mark: &Mark) -> Result<(), Failure> {
    let document = json!({
        "collection": arguments.collection,
        "lines": mark.lines,
        "created": mark.created,
        "updated": mark.updated,
        "failed": mark.failed,
    });
    let done = Fault::new("cli.import.done")
        .with("created", mark.created)
        .with("updated", mark.updated)
        .with("failed", mark.failed)
        .with("collection", &arguments.collection);
    context.done(&document, &done)?;
    if mark.failed == 0 {
        return Ok(());
    }
    Err(Failure::silent(Code::Failed))
}

struct Source {
    reader: Box<dyn Read + Send>,
    /// Absent for stdin, which cannot be resumed.
    path: Option<PathBuf>,
    bytes: Option<u64>,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::new(std::io::stdin()), path: None, bytes: None });
        }
        let failed = |error| unreadable(path.display(), error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // A pipe by name is read once, as stdin is.
        let whole = metadata.is_file();
        let name = path.canonicalize().map_err(failed)?;
        Ok(Self {
            reader: Box::new(BufReader::with_capacity(1 << 20, file)),
            path: whole.then_some(name),
            bytes: whole.then_some(metadata.len()),
        })
    }
}

/// What one chunk came to.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counted {
    created: u64,
    updated: u64,
    failed: u64,
}

impl Counted {
    fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.failed += other.failed;
    }
}

async fn send(client: &mut Client, path: &str, chunk: Chunk) -> Result<Value, Failure> {
    let body = Bytes::from(chunk.body);
    let response = client.send(Method::POST, path, "application/x-ndjson", body).await?;
    let bytes = response.into_body().collect().await.map_err(|error| super::client::broken(&error))?.to_bytes();
    let mut answer: Value = serde_json::from_slice(&bytes).map_err(|error| super::client::broken(&error))?;
    Ok(answer["data"].take())
}

/// Where faults go: a file of one JSON line each, or the first few to the terminal.
struct Report<'a> {
    context: &'a Context,
    /// Whose documents they are, where the source holds those of several.
    of: Option<String>,
    file: Option<(PathBuf, BufWriter<File>)>,
    shown: u64,
}

impl<'a> Report<'a> {
    fn open(context: &'a Context, lines: &Lines) -> Result<Self, Failure> {
        let file = match &lines.errors {
            None => None,
            Some(path) => {
                // A resumed import adds to the report of the one it continues.
                let file = files::private(path, lines.resume).map_err(|error| unwritable(path.display(), error))?;
                Some((path.clone(), BufWriter::new(file)))
            }
        };
        Ok(Self { context, of: None, file, shown: 0 })
    }

    /// Reads a chunk's answer; its faults number their lines from the chunk's start.
    fn take(&mut self, first: u64, mut answer: Value) -> Result<Counted, Failure> {
        let figure = |name: &str| answer[name].as_u64().unwrap_or_default();
        let counted = Counted { created: figure("created"), updated: figure("updated"), failed: figure("failed") };
        for mut fault in answer["errors"].as_array_mut().map(std::mem::take).unwrap_or_default() {
            let number = first + fault["line"].as_u64().unwrap_or(1) - 1;
            fault["line"] = number.into();
            self.fault(number, fault)?;
        }
        // On disk before the mark that says so.
        if let Some((path, file)) = &mut self.file {
            let synced = file.flush().and_then(|()| file.get_ref().sync_all());
            synced.map_err(|error| unwritable(path.display(), error))?;
        }
        Ok(counted)
    }

    fn fault(&mut self, number: u64, mut line: Value) -> Result<(), Failure> {
        if let Some(of) = &self.of {
            line["collection"] = of.as_str().into();
        }
        if let Some((path, file)) = &mut self.file {
            return writeln!(file, "{line}").map_err(|error| unwritable(path.display(), error));
        }
        self.shown += 1;
        if self.shown <= SHOWN {
            let message = line["message"].as_str().unwrap_or_default();
            let fault = match &self.of {
                Some(of) => Fault::new("cli.import.document").with("collection", of),
                None => Fault::new("cli.import.line"),
            };
            self.context.say(&fault.with("line", number).with("message", message));
        } else if self.shown == SHOWN + 1 {
            self.context.say(&Fault::new("cli.import.more"));
        }
        Ok(())
    }

    fn close(self) -> Result<(), Failure> {
        let Some((path, file)) = self.file else { return Ok(()) };
        let failed = |error: std::io::Error| unwritable(path.display(), error);
        file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
    }
}
