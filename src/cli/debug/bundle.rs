//! `debug bundle`: what a person elsewhere needs to understand an instance, and nothing that is anybody's business.

use super::{
    super::{
        client::Client,
        context::Context,
        doctor,
        failure::{Code, Failure, unwritable},
    },
    redact::Redactor,
};
use crate::{
    base::{
        clock::{Clock, SystemClock, Timestamp},
        config::Config,
        fault::Fault,
        files,
        metrics::alerts::duration,
        random, release, telemetry,
    },
    server,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::TcpStream;

/// Bytes of logs, the newest: more is rarely read and hard to send over a weak link.
const MOST_LOGS: usize = 8 << 20;
/// Settings that say who somebody is, in no shape that could be known again.
const PEOPLE: [&str; 7] =
    ["alerts.mail", "alerts.sms_numbers", "acme.contact", "mail.from", "ldap.user_dn", "ldap.service_dn", "ldap.base"];
/// For the server to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub async fn run(context: &Context, output: Option<PathBuf>) -> Result<(), Failure> {
    let now = SystemClock.now();
    let path = output.unwrap_or_else(|| format!("debrouille-debug-{}.tar.gz", compact(now)).into());
    let mut parts = vec![("version.json".to_owned(), pretty(&version(now)))];
    match context.load(Vec::new(), context.file_named) {
        Ok(config) => gather(context, &config, &mut parts).await,
        Err(faults) => {
            let words: Vec<_> = faults.iter().map(|fault| context.words(fault)).collect();
            parts.push(("configuration.txt".to_owned(), words.join("\n")));
        }
    }
    let redactor = Redactor::new(random::array());
    let parts: Vec<_> = parts.into_iter().map(|(name, text)| (name, redactor.redact(&text))).collect();
    write(&path, &parts, now).map_err(|error| unwritable(path.display(), error))?;
    let names: Vec<_> = parts.iter().map(|(name, _)| name.as_str()).collect();
    let shown = path.display().to_string();
    let told = Fault::new("cli.debug.bundled").at(&shown).with("names", names.join(", "));
    context.done(&json!({ "file": shown, "contents": names }), &told)
}

/// What cannot be had is told in its place: the rest may say why.
async fn gather(context: &Context, config: &Config, parts: &mut Vec<(String, String)>) {
    parts.push(("configuration.json".to_owned(), pretty(&configuration(config))));
    parts.push(("machine.json".to_owned(), pretty(&machine(config))));
    parts.push(("doctor.json".to_owned(), pretty(&doctor::rows(context, &server::preconditions(config).await))));
    let status = tokio::time::timeout(PATIENCE, status(context, config)).await;
    let status = match status {
        Ok(Ok(status)) => pretty(&status),
        Ok(Err(failure)) => failure.messages(context.language).join("\n"),
        Err(_) => format!("no answer in {}", duration(10)),
    };
    parts.push(("status.json".to_owned(), status));
    let metrics = tokio::time::timeout(PATIENCE, metrics(config)).await;
    let metrics = metrics.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    parts.push(("metrics.txt".to_owned(), metrics.unwrap_or_else(|error| error.to_string())));
    match logs(&config.log_dir()) {
        Ok(logs) => parts.extend(logs),
        Err(error) => parts.push(("logs.txt".to_owned(), error.to_string())),
    }
}

fn version(now: Timestamp) -> Value {
    json!({ "version": release::version(), "time": now.rfc3339() })
}

/// Each value and where it was set; secrets are masked from the beginning.
fn configuration(config: &Config) -> Value {
    let entry = |entry: &crate::base::config::Entry| {
        let value = match PEOPLE.contains(&entry.setting.key) && !entry.value.is_null() {
            true => "********".into(),
            false => entry.value.clone(),
        };
        json!({ "key": entry.setting.key, "value": value, "origin": entry.origin.to_string() })
    };
    config.entries.iter().map(entry).collect()
}

fn machine(config: &Config) -> Value {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let lines = |path: &str, wanted: &[&str]| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let kept = text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        kept.map(str::to_owned).collect::<Vec<_>>()
    };
    let sizes = |path: &Path| fs::metadata(path).map(|known| known.len()).ok();
    let stores = ["documents.sealed", "subjects.sealed", "alerts.json"];
    let stores = stores.map(|name| (name.to_owned(), json!(sizes(&config.instance.data_dir.join(name)))));
    let pressure = ["cpu", "io", "memory"].map(|kind| text(&format!("/proc/pressure/{kind}")));
    let volume = files::volume(&config.instance.data_dir).ok();
    json!({
        "kernel": text("/proc/version"),
        "system": lines("/etc/os-release", &["PRETTY_NAME"]),
        "processors": std::thread::available_parallelism().map(usize::from).ok(),
        "memory": lines("/proc/meminfo", &["MemTotal", "MemAvailable", "SwapTotal", "SwapFree"]),
        "load": text("/proc/loadavg"),
        "uptimeSeconds": text("/proc/uptime").split(' ').next().unwrap_or_default(),
        "pressure": pressure,
        "volume": volume.map(|volume| json!({ "bytes": volume.size, "free": volume.free, "inodes": volume.inodes })),
        "files": serde_json::Map::from_iter(stores),
    })
}

async fn status(context: &Context, config: &Config) -> Result<Value, Failure> {
    // Data are not opened for this: another may hold them, or they may be what is broken.
    if std::os::unix::net::UnixStream::connect(config.control_socket()).is_err() {
        return Err(Failure::new(Code::Unavailable, Fault::new("cli.debug.no_server")));
    }
    let mut client = Client::open(context, config.clone()).await?;
    let status = client.get("/admin/status").await?.data;
    client.close().await?;
    Ok(status)
}

/// From the listener for operators' tools.
async fn metrics(config: &Config) -> io::Result<String> {
    let address = config.server.ops.address().ok_or_else(|| io::Error::other("server.ops is off"))?;
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    let request = Request::get("/metrics").header("host", address.to_string()).body(Empty::<Bytes>::new());
    let answer = async {
        let answer = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    tokio::pin!(connection);
    tokio::select! {
        answer = answer => answer,
        _ = &mut connection => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

/// The newest lines, file by file, the newest file first. One that cannot be read says so in its place.
fn logs(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let mut names = telemetry::names(folder)?;
    names.sort();
    let (mut left, mut all) = (MOST_LOGS, Vec::new());
    for name in names.iter().rev() {
        if left == 0 {
            break;
        }
        let text = newest(&folder.join(name), left).unwrap_or_else(|error| error.to_string());
        left = left.saturating_sub(text.len());
        all.push((format!("logs/{}", name.trim_end_matches(".gz")), text));
    }
    Ok(all)
}

/// The end of a file, from the beginning of a line: half a token would not be known as one.
fn newest(path: &Path, most: usize) -> io::Result<String> {
    let file = File::open(path)?;
    let mut source: Box<dyn Read> = match path.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(GzDecoder::new(file)),
        false => {
            let mut file = file;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(most as u64 + 1)))?;
            Box::new(file)
        }
    };
    let (mut bytes, mut part) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = source.read(&mut part)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..read]);
        // Never more than twice in memory, however large it is.
        if bytes.len() > 2 * most {
            bytes.drain(..bytes.len() - most - 1);
        }
    }
    let cut = bytes.len().saturating_sub(most);
    let from = if cut == 0 {
        0
    } else {
        bytes[cut - 1..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| cut + at)
    };
    Ok(String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned())
}

/// Nothing is written over, and nothing half written stays; for its maker alone.
fn write(path: &Path, parts: &[(String, String)], now: Timestamp) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    pack(file, parts, now).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

fn pack(file: File, parts: &[(String, String)], now: Timestamp) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in parts {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(now.seconds()).unwrap_or_default());
        archive.append_data(&mut header, format!("debrouille-debug/{name}"), text.as_bytes())?;
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// `20261122-101500`.
fn compact(now: Timestamp) -> String {
    now.rfc3339()
        .chars()
        .take(19)
        .filter(|letter| *letter != ':' && *letter != '-')
        .collect::<String>()
        .replace('T', "-")
}
