//! Calls of the documented API over the socket for commands, each on a connection of its own.

use crate::ports::{Error, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::UnixStream;

/// An answer is small; whoever sits at the socket must not fill our memory.
const MOST_BYTES: usize = 16 << 20;

/// Where it takes commands, and in which language it is to say what it refuses.
#[derive(Debug, Clone)]
pub struct Socket {
    pub path: PathBuf,
    pub language: &'static str,
}

pub async fn get(socket: &Socket, path: &str, patience: Duration) -> Result<Value> {
    call(socket, ("GET", path), None, patience).await
}

pub async fn post(socket: &Socket, path: &str, data: &Value, patience: Duration) -> Result<Value> {
    call(socket, ("POST", path), Some(data), patience).await
}

/// Whoever answers must be root or the service's user, whose folder it is: what it says decides what root does.
fn known(path: &Path, stream: &UnixStream) -> io::Result<()> {
    let owner = fs::metadata(path.parent().unwrap_or(Path::new("/")))?.uid();
    let peer = stream.peer_cred()?.uid();
    match [0, owner].contains(&peer) {
        true => Ok(()),
        false => Err(io::Error::other(format!("user {peer} answers at {}", path.display()))),
    }
}

/// What it answered under `data`. Whatever else it answered, or that it did not, is `Unavailable`.
async fn call(socket: &Socket, what: (&str, &str), data: Option<&Value>, patience: Duration) -> Result<Value> {
    let answered = tokio::time::timeout(patience, answered(socket, what, data)).await;
    let answered = answered.map_err(|_| Error::Unavailable(format!("no answer in {} s", patience.as_secs())))?;
    answered.map_err(|error| Error::Unavailable(error.to_string()))
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

async fn answered(
    socket: &Socket,
    (method, path): (&str, &str),
    data: Option<&Value>,
) -> std::result::Result<Value, Trouble> {
    let stream = UnixStream::connect(&socket.path).await?;
    known(&socket.path, &stream)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder().method(method).uri(format!("/api/v1{path}")).header(header::HOST, "localhost");
    let request = request.header(header::CONTENT_TYPE, "application/json").header("x-locale", socket.language);
    let body = data.map(|data| json!({ "data": data }).to_string()).unwrap_or_default();
    let exchange = async move {
        let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await?.to_bytes();
        Ok::<_, Trouble>((status, body))
    };
    // The connection is driven until the answer is whole; what goes wrong with it, the exchange tells.
    let (exchanged, _) = tokio::join!(exchange, connection);
    let (status, body) = exchanged?;
    let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    match status.is_success() {
        true => Ok(answer["data"].take()),
        false => Err(format!("{status}: {}", answer["error"]["message"].as_str().unwrap_or("–")).into()),
    }
}
