//! `export`: one document a line, or MongoDB's archive of several collections; to stdout or whole into a file.

mod archive;

use super::{
    client::{Client, segment},
    context::Context,
    failure::{Code, Failure, unwritable},
    output::{self, Progress},
    query,
};
use crate::base::{fault::Fault, files, random};
use http_body_util::BodyExt;
use hyper::{Method, Response, body::Incoming};
use serde_json::json;
use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_name = "COLLECTION", required_unless_present = "all")]
    collection: Vec<String>,
    #[arg(long, conflicts_with = "collection")]
    all: bool,
    #[arg(long, value_name = "FORMAT", value_parser = ["ndjson", "archive"], default_value = "ndjson")]
    format: String,
    #[arg(long)]
    gzip: bool,
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let filter = match &arguments.filter {
        Some(filter) => format!("?filter={}", segment(&query::parse("filter", filter)?.to_string())),
        None => String::new(),
    };
    let output = arguments.output.filter(|path| path != Path::new("-"));
    if arguments.format == "archive" {
        let wanted = (!arguments.all).then_some(arguments.collection);
        let archiving = archive::Archiving { collections: wanted, filter, gzip: arguments.gzip, output };
        return archive::run(context, archiving).await;
    }
    match arguments.collection.as_slice() {
        [collection] if !arguments.gzip => lines(context, collection, &filter, output).await,
        _ => Err(Failure::new(Code::Usage, Fault::new("cli.export.archive_only"))),
    }
}

async fn lines(context: &Context, name: &str, filter: &str, output: Option<PathBuf>) -> Result<(), Failure> {
    let collection = segment(name);
    let path = format!("/collections/{collection}/export{filter}");
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let total = count(&mut client, name, filter).await?;
    let response = client.send(Method::GET, &path, "", bytes::Bytes::new()).await?;
    let mut progress = Progress::new(context, total, "cli.progress.documents");
    match output {
        None => {
            let mut lines = Lines::default();
            pour(response, |bytes| {
                progress.at(lines.count(bytes));
                output::write(bytes)
            })
            .await?;
        }
        Some(path) => {
            let documents = to_file(response, &path, &mut progress).await?;
            drop(progress);
            let shown = path.display().to_string();
            let done = Fault::new("cli.export.done").at(&shown).with("documents", documents);
            context.done(&json!({ "collection": name, "documents": documents, "file": shown }), &done)?;
        }
    }
    client.close().await
}

async fn count(client: &mut Client, collection: &str, filter: &str) -> Result<Option<u64>, Failure> {
    let path = format!("/collections/{}/count{filter}", segment(collection));
    Ok(client.get(&path).await?.data["count"].as_u64())
}

/// A file written beside the one it becomes: whoever finds that finds all of it, and only its owner reads it. Nobody can
/// have laid a link under a name that is drawn. Dropped before it is placed, it is gone.
pub struct Staged {
    pub file: BufWriter<File>,
    staged: PathBuf,
    path: PathBuf,
}

impl Staged {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.partial", hex::encode(random::array::<8>())));
        let staged = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged);
        let file = file.map_err(|error| unwritable(path.display(), error))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 18, file), staged, path: path.to_owned() })
    }

    pub fn place(mut self) -> Result<(), Failure> {
        let placed = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        let placed = placed.and_then(|()| std::fs::rename(&self.staged, &self.path));
        let placed = placed.and_then(|()| files::sync_folder(&self.path));
        placed.map_err(|error| unwritable(self.path.display(), error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After it was placed there is nothing of this name.
        let _ = std::fs::remove_file(&self.staged);
    }
}

pub async fn to_file(response: Response<Incoming>, path: &Path, progress: &mut Progress) -> Result<u64, Failure> {
    let mut staged = Staged::open(path)?;
    let mut lines = Lines::default();
    pour(response, |bytes| {
        progress.at(lines.count(bytes));
        staged.file.write_all(bytes).map_err(|error| unwritable(path.display(), error))
    })
    .await?;
    staged.place()?;
    Ok(lines.0)
}

pub async fn pour(
    response: Response<Incoming>,
    mut sink: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        // A stream cut short is an error of the connection: an incomplete export is never reported as done.
        let frame = frame.map_err(|error| super::client::broken(&error))?;
        if let Some(bytes) = frame.data_ref() {
            sink(bytes)?;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Lines(u64);

impl Lines {
    fn count(&mut self, bytes: &[u8]) -> u64 {
        self.0 += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.0
    }
}
