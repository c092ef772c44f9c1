//! `export --format archive`: what `mongorestore --archive` takes, system fields and indexes included.

use super::{Staged, count, pour};
use crate::{
    base::fault::Fault,
    cli::{
        client::{Client, segment},
        collection::word,
        context::Context,
        failure::{Code, Failure, unwritable},
        output::Progress,
        serve::failure,
    },
    domain::json::{Limits, Splitter, parse},
    services::{
        Error,
        archive::{Collection, Index, Metadata, Namespace, Writer},
    },
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

/// The database it is restored to, unless `mongorestore --nsTo` says another.
const DATABASE: &str = "debrouille";
/// The longest line: a document of 16 MiB takes more as text.
const LINE: usize = 256 << 20;

pub struct Archiving {
    /// `None`: every one.
    pub collections: Option<Vec<String>>,
    /// `?filter=…`, of each.
    pub filter: String,
    pub gzip: bool,
    /// `None`: stdout.
    pub output: Option<PathBuf>,
}

/// Where an archive goes.
enum Out {
    File(Staged),
    Stdout(BufWriter<io::Stdout>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(staged) => staged.file.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(staged) => staged.file.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// Compressed or not.
enum Stream {
    Plain(Out),
    Gzip(GzEncoder<Out>),
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(gzip) => gzip.flush(),
        }
    }
}

impl Stream {
    fn finish(self) -> io::Result<Out> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(gzip) => gzip.finish(),
        }
    }
}

pub async fn run(context: &Context, archiving: Archiving) -> Result<(), Failure> {
    let shown = archiving.output.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    let failed = |error: io::Error| unwritable(&shown, error);
    if archiving.output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::new(Code::Usage, Fault::new("cli.export.terminal")));
    }
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let (mut collections, mut total) = (Vec::new(), 0);
    for described in described(&mut client, archiving.collections.as_deref()).await? {
        let name = word(&described["name"]);
        total += count(&mut client, &name, &archiving.filter).await?.unwrap_or_default();
        let metadata = Metadata { indexes: indexes(&described), beyond: Vec::new() }.write(&name);
        let namespace = Namespace { database: DATABASE.to_owned(), collection: name };
        collections.push(Collection { namespace, kind: "collection".to_owned(), metadata });
    }
    let out = match &archiving.output {
        Some(path) => Out::File(Staged::open(path)?),
        None => Out::Stdout(BufWriter::new(io::stdout())),
    };
    let stream = match archiving.gzip {
        true => Stream::Gzip(GzEncoder::new(out, Compression::default())),
        false => Stream::Plain(out),
    };
    let mut progress = Progress::new(context, Some(total), "cli.progress.documents");
    let mut writer = Writer::start(stream, &collections).map_err(failed)?;
    let mut documents = 0;
    for Collection { namespace, .. } in &collections {
        writer.begin(namespace).map_err(failed)?;
        let path = format!("/collections/{}/export{}", segment(&namespace.collection), archiving.filter);
        let response = client.canonical(&path).await?;
        let mut splitter = Splitter::new(LINE);
        pour(response, |bytes| {
            let mut lines = Vec::new();
            splitter.feed(bytes, |line| lines.push(line.text.unwrap_or_default()));
            for line in lines {
                let document = parse(&line, Limits { nesting: usize::MAX });
                let document = document.map_err(|error| failure(Error::from(error).into()))?;
                writer.document(document.as_bytes()).map_err(failed)?;
                documents += 1;
            }
            progress.at(documents);
            Ok(())
        })
        .await?;
    }
    let mut out = writer.finish().and_then(Stream::finish).map_err(failed)?;
    out.flush().map_err(failed)?;
    drop(progress);
    if let Out::File(staged) = out {
        staged.place()?;
        let names: Vec<_> = collections.iter().map(|collection| collection.namespace.collection.clone()).collect();
        let done = Fault::new("cli.export.archived").at(&shown).with("documents", documents);
        let document = json!({ "collections": names, "documents": documents, "file": shown });
        context.done(&document, &done.with("collections", names.len()))?;
    }
    client.close().await
}

async fn described(client: &mut Client, wanted: Option<&[String]>) -> Result<Vec<Value>, Failure> {
    let Some(wanted) = wanted else {
        let all = client.get("/collections").await?.data;
        return Ok(all.as_array().cloned().unwrap_or_default());
    };
    let mut all: Vec<Value> = Vec::new();
    for name in wanted {
        let described = client.get(&format!("/collections/{}", segment(name))).await?.data;
        if !all.iter().any(|other| other["name"] == described["name"]) {
            all.push(described);
        }
    }
    Ok(all)
}

fn indexes(described: &Value) -> Vec<Index> {
    let read = |index: &Value| {
        let keys = index["keys"].as_object()?.iter();
        let keys = keys.map(|(path, way)| (path.clone(), way.as_i64().unwrap_or(1))).collect();
        let unique = index["unique"].as_bool().unwrap_or_default();
        Some(Index { name: index["name"].as_str()?.to_owned(), keys, unique })
    };
    described["indexes"].as_array().into_iter().flatten().filter_map(read).collect()
}
