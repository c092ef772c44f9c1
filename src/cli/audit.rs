//! `audit`: the log listed, taken away, proven; and verified, with the public key alone.

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    export,
    failure::{Code, Failure, unreadable, unwritable},
    output::{self, Progress},
};
use crate::{
    base::{fault::Fault, files, messages::text},
    domain::checkpoint::{Note, Signer},
    services::audit::{Verdict, Verifier, verify_proof},
};
use hyper::Method;
use serde_json::{Value, json};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

#[derive(clap::Subcommand)]
pub enum Command {
    List(List),
    Export {
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    Verify {
        file: Option<PathBuf>,
        #[arg(long, value_name = "PUBKEY")]
        key: Vec<String>,
        #[arg(long, value_name = "FILE")]
        against: Vec<PathBuf>,
    },
    Prove {
        index: u64,
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    Checkpoint,
    Key,
}

#[derive(clap::Args)]
pub struct List {
    #[arg(long, value_name = "ID")]
    who: Option<String>,
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    #[arg(long, value_name = "OBJECT")]
    object: Option<String>,
    #[arg(long, value_name = "COLLECTION/ID")]
    document: Option<String>,
    #[arg(long, value_name = "OUTCOME", value_parser = ["allowed", "denied", "failed"])]
    outcome: Option<String>,
    #[arg(long, visible_alias = "since", value_name = "TIME")]
    from: Option<String>,
    #[arg(long, visible_alias = "until", value_name = "TIME")]
    to: Option<String>,
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(wanted) => list(context, wanted).await,
        Command::Export { output } => take(context, output.as_deref()).await,
        Command::Verify { file, key, against } => verify(context, file.as_deref(), &key, &against).await,
        Command::Prove { index, output } => prove(context, index, output.as_deref()).await,
        Command::Checkpoint => {
            let data = ask(context, "/audit/checkpoint").await?;
            context.answer(&data, || word(&data["checkpoint"]))
        }
        Command::Key => {
            let data = ask(context, "/audit/checkpoint").await?;
            let keys = data["keys"].as_array().into_iter().flatten().map(word).collect::<Vec<_>>();
            context.answer(&json!({ "keys": keys }), || keys.join("\n"))
        }
    }
}

async fn ask(context: &Context, path: &str) -> Result<Value, Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let answer = client.get(path).await?;
    client.close().await?;
    Ok(answer.data)
}

async fn list(context: &Context, wanted: List) -> Result<(), Failure> {
    let List { who, actor, action, object, document, outcome, from, to, limit } = wanted;
    let mut path = format!("/audit?limit={limit}");
    let given = [
        ("who", who),
        ("actor", actor),
        ("action", action),
        ("object", object),
        ("document", document),
        ("outcome", outcome),
        ("from", from),
        ("to", to),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(&value)));
        }
    }
    let data = ask(context, &path).await?;
    let rows: Vec<[String; 6]> = data
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| ["index", "time", "who", "action", "object", "outcome"].map(|name| word(&entry[name])))
        .collect();
    let header = [
        "cli.audit.index",
        "cli.audit.time",
        "cli.audit.who",
        "cli.audit.action",
        "cli.audit.object",
        "cli.audit.outcome",
    ];
    context.answer(&data, || output::table(header.map(|key| text(context.language, key)), &rows))
}

async fn take(context: &Context, path: Option<&Path>) -> Result<(), Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let response = client.send(Method::GET, "/audit/export", "", bytes::Bytes::new()).await?;
    match path.filter(|path| *path != Path::new("-")) {
        None => export::pour(response, output::write).await?,
        Some(path) => {
            let mut progress = Progress::new(context, None, "cli.progress.entries");
            let lines = export::to_file(response, path, &mut progress).await?;
            drop(progress);
            let shown = path.display().to_string();
            let done = Fault::new("cli.audit.exported").at(&shown).with("lines", lines);
            context.done(&json!({ "lines": lines, "file": shown }), &done)?;
        }
    }
    client.close().await
}

/// The proof, to be kept whole: it is verified without the log.
async fn prove(context: &Context, index: u64, path: Option<&Path>) -> Result<(), Failure> {
    let data = ask(context, &format!("/audit/prove?index={index}")).await?;
    let proof = json!({ "proof": data });
    let written = format!("{proof:#}\n");
    match path {
        None => output::write(written.as_bytes()),
        Some(path) => {
            files::create(path, written.as_bytes(), 0o600).map_err(|error| unwritable(path.display(), error))?;
            let shown = path.display().to_string();
            context.done(&proof, &Fault::new("cli.audit.proven").at(&shown).with("index", index))
        }
    }
}

async fn verify(context: &Context, file: Option<&Path>, keys: &[String], against: &[PathBuf]) -> Result<(), Failure> {
    let key = |key: &String| {
        let fault = || Failure::new(Code::Usage, Fault::new("cli.audit.key").with("key", key));
        key.parse::<Signer>().map_err(|()| fault())
    };
    let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let against = against.iter().map(|path| note(path)).collect::<Result<Vec<_>, _>>()?;
    let verdict = match file {
        Some(path) => from_file(context, path, keys, against)?,
        None => live(context, keys, against).await?,
    };
    tell(context, &verdict)
}

fn note(path: &Path) -> Result<Note, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path.display(), error))?;
    let fault = || Fault::new("cli.audit.note").at(path.display().to_string());
    text.parse().map_err(|()| Failure::new(Code::Usage, fault()))
}

/// An export, or a proof: nothing else is read, and nothing asked.
fn from_file(context: &Context, path: &Path, keys: Vec<Signer>, against: Vec<Note>) -> Result<Verdict, Failure> {
    let failed = |error: std::io::Error| unreadable(path.display(), error);
    let file = File::open(path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let mut lines = BufReader::with_capacity(1 << 20, file);
    let begins = lines.fill_buf().map_err(failed)?;
    if !begins.starts_with(b"{\"audit\":") {
        let proof = serde_json::from_reader(lines).ok();
        let verdict = proof.and_then(|proof: Value| verify_proof(&proof, &keys));
        let fault = || Fault::new("cli.audit.neither").at(path.display().to_string());
        return verdict.ok_or_else(|| Failure::new(Code::Integrity, fault()));
    }
    let mut progress = Progress::of_bytes(context, Some(total));
    let mut verifier = Verifier::new(keys, against);
    let (mut line, mut done, mut shown) = (Vec::new(), 0, 0);
    while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        done += line.len() as u64;
        verifier.line(line.strip_suffix(b"\n").unwrap_or(&line));
        line.clear();
        if done - shown > 1 << 20 {
            progress.at(done);
            shown = done;
        }
    }
    Ok(verifier.finish())
}

/// The log as it is stored, through its own export.
async fn live(context: &Context, keys: Vec<Signer>, against: Vec<Note>) -> Result<Verdict, Failure> {
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let response = client.send(Method::GET, "/audit/export", "", bytes::Bytes::new()).await?;
    let mut progress = Progress::new(context, None, "cli.progress.entries");
    let mut verifier = Verifier::new(keys, against);
    let mut rest = Vec::new();
    let poured = export::pour(response, |bytes| {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(part);
            if rest.last() == Some(&b'\n') {
                verifier.line(rest.strip_suffix(b"\n").unwrap_or(&rest));
                rest.clear();
            }
        }
        let (done, total) = verifier.progress();
        progress.of(done, total);
        Ok(())
    });
    poured.await?;
    client.close().await?;
    Ok(verifier.finish())
}

fn tell(context: &Context, verdict: &Verdict) -> Result<(), Failure> {
    let wrong = verdict.wrong.iter().map(|wrong| {
        json!({
            "index": wrong.index,
            "until": wrong.until,
            "kind": wrong.kind,
            "message": context.words(&wrong.fault()),
        })
    });
    let restored = verdict
        .restored
        .iter()
        .map(|restored| json!({ "lineage": restored.lineage, "from": restored.from, "lost": restored.lost }));
    let document = json!({
        "sound": verdict.wrong.is_empty(),
        "origin": verdict.origin,
        "size": verdict.size,
        "entries": verdict.entries,
        "pruned": verdict.pruned,
        "checkpoints": verdict.checkpoints,
        "root": verdict.root,
        "signer": verdict.signer,
        "vouched": verdict.vouched,
        "wrong": wrong.collect::<Vec<_>>(),
        "more": verdict.more,
        "restored": restored.collect::<Vec<_>>(),
    });
    for restored in &verdict.restored {
        let fault = Fault::new("cli.audit.restored").with("lineage", restored.lineage);
        context.say(&fault.with("from", restored.from).with("lost", restored.lost));
    }
    if let Some(signer) = verdict.signer.as_ref().filter(|_| !verdict.vouched) {
        context.say(&Fault::new("cli.audit.unvouched").with("signer", signer));
    }
    if verdict.wrong.is_empty() {
        let done = Fault::new("cli.audit.sound").with("size", verdict.size).with("entries", verdict.entries);
        return context.done(&document, &done.with("pruned", verdict.pruned).with("origin", &verdict.origin));
    }
    let mut faults: Vec<_> = verdict.wrong.iter().map(|wrong| wrong.fault()).collect();
    if verdict.more > 0 {
        faults.push(Fault::new("cli.audit.more").with("more", verdict.more));
    }
    context.answer(&document, String::new)?;
    context.complain(&Failure::all(Code::Integrity, faults));
    Err(Failure::silent(Code::Integrity))
}
