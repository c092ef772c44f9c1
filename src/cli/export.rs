//! `export COLLECTION`: one document a line, to stdout or whole into a file.

use super::{
    client::{Client, segment},
    context::Context,
    failure::{Failure, unwritable},
    output::{self, Progress},
    query,
};
use crate::base::{fault::Fault, files, random};
use http_body_util::BodyExt;
use hyper::{Method, Response, body::Incoming};
use serde_json::json;
use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

#[derive(clap::Args)]
pub struct Arguments {
    collection: String,
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let collection = segment(&arguments.collection);
    let mut path = format!("/collections/{collection}/export");
    let mut count = format!("/collections/{collection}/count");
    if let Some(filter) = &arguments.filter {
        let filter = format!("?filter={}", segment(&query::parse("filter", filter)?.to_string()));
        path.push_str(&filter);
        count.push_str(&filter);
    }
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let total = client.get(&count).await?.data["count"].as_u64();
    let response = client.send(Method::GET, &path, "", bytes::Bytes::new()).await?;
    let mut progress = Progress::new(context, total, "cli.progress.documents");
    match arguments.output.filter(|path| path != Path::new("-")) {
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
            context
                .done(&json!({ "collection": arguments.collection, "documents": documents, "file": shown }), &done)?;
        }
    }
    client.close().await
}

/// Writes beside the file, then puts it in place: whoever finds the file finds all of it, and only its owner reads it.
/// Nobody can have laid a link under a name that is drawn.
pub async fn to_file(response: Response<Incoming>, path: &Path, progress: &mut Progress) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| unwritable(path.display(), error);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", hex::encode(random::array::<8>())));
    let staged = PathBuf::from(name);
    let mut lines = Lines::default();
    let poured = async {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged);
        let mut file = BufWriter::new(file.map_err(failed)?);
        pour(response, |bytes| {
            progress.at(lines.count(bytes));
            file.write_all(bytes).map_err(failed)
        })
        .await?;
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&staged, path).map_err(failed)?;
        files::sync_folder(path).map_err(failed)
    }
    .await;
    if poured.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    poured.map(|()| lines.0)
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
