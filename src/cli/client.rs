//! The way to the instance: over the local socket when the server runs, else by opening the data under its lock.
//! Either way a command is HTTP calls of the documented API, as a local caller.

use super::{
    context::Context,
    failure::{Code, Failure, is_absent},
};
use crate::base::{config::Config, fault::Fault};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    task::JoinSet,
};

pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    language: &'static str,
    /// Drives the connections.
    tasks: JoinSet<()>,
    way: Way,
}

enum Way {
    Socket(PathBuf),
    /// Opened here.
    Offline(crate::server::Offline),
}

/// What a call answered.
pub struct Answer {
    pub data: Value,
    /// Where the next page of a list starts.
    pub next: Option<String>,
}

impl Client {
    /// Reaches the instance of this configuration.
    pub async fn open(context: &Context, config: Config) -> Result<Self, Failure> {
        let socket = config.control_socket();
        let mut tasks = JoinSet::new();
        let (sender, way) = match UnixStream::connect(&socket).await {
            Ok(stream) => (shake(&mut tasks, stream).await?, Way::Socket(socket)),
            Err(error) => match error.kind() {
                // A server that was killed leaves its socket behind; the lock decides.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    let offline = crate::server::offline(config).await.map_err(super::serve::failure)?;
                    (shake(&mut tasks, offline.connect()).await?, Way::Offline(offline))
                }
                _ => return Err(unreachable(&socket, &error)),
            },
        };
        Ok(Self { sender, language: context.language.tag(), tasks, way })
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        self.sender = match &self.way {
            Way::Offline(offline) => shake(&mut self.tasks, offline.connect()).await?,
            Way::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
                shake(&mut self.tasks, stream).await?
            }
        };
        Ok(())
    }

    /// Ends the connection and closes the data if it was opened here. What was answered is on disk before this.
    pub async fn close(mut self) -> Result<(), Failure> {
        drop(self.sender);
        while self.tasks.join_next().await.is_some() {}
        match self.way {
            Way::Offline(offline) => offline.close().await.map_err(super::serve::failure),
            Way::Socket(_) => Ok(()),
        }
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&mut self, path: &str, data: Value) -> Result<Answer, Failure> {
        self.call(Method::POST, path, Some(data)).await
    }

    pub async fn call(&mut self, method: Method, path: &str, data: Option<Value>) -> Result<Answer, Failure> {
        let body = data.map(|data| Bytes::from(json!({ "data": data }).to_string()));
        let response = self.send(method, path, "application/json", body.unwrap_or_default()).await?;
        let bytes = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
        if bytes.is_empty() {
            return Ok(Answer { data: Value::Null, next: None });
        }
        let mut answer: Value = serde_json::from_slice(&bytes).map_err(|error| broken(&error))?;
        let next = answer["meta"]["page"]["next"].as_str().map(str::to_owned);
        Ok(Answer { data: answer["data"].take(), next })
    }

    /// Sends a body as it is and answers a response that succeeded, its body unread.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        content: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = self.request(method, path);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, content);
        }
        self.answered(request.body(Full::new(body)).map_err(|error| broken(&error))?).await
    }

    /// Lines of documents that lose no type on the way.
    pub async fn canonical(&mut self, path: &str) -> Result<Response<Incoming>, Failure> {
        let request = self.request(Method::GET, path).header(header::ACCEPT, "application/x-ndjson;ejson=canonical");
        self.answered(request.body(Full::default()).map_err(|error| broken(&error))?).await
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, "localhost")
            .header("x-locale", self.language)
    }

    async fn answered(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let response = self.deliver(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
        Err(refused(status, &bytes))
    }

    /// A server closes a connection that rests for long: what it never saw is sent over another.
    async fn deliver(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        if self.sender.ready().await.is_err() {
            self.reconnect().await?;
        }
        let unsent = match self.sender.try_send_request(request).await {
            Ok(response) => return Ok(response),
            Err(mut error) => error.take_message().ok_or_else(|| broken(error.error()))?,
        };
        self.reconnect().await?;
        self.sender.send_request(unsent).await.map_err(|error| broken(&error))
    }
}

/// A connection's first words.
async fn shake<S>(tasks: &mut JoinSet<()>, stream: S) -> Result<SendRequest<Full<Bytes>>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    tasks.spawn(async move {
        // The call that was under way reports what went wrong.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The server's own words, under the exit code its answer stands for.
fn refused(status: u16, body: &[u8]) -> Failure {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &answer["error"];
    let code = match (status, error["details"]["kind"].as_str()) {
        _ if error["details"]["rule"].as_str().is_some_and(is_absent) => Code::Unavailable,
        (_, Some("integrity")) => Code::Integrity,
        (_, Some("safety")) | (401 | 403, _) => Code::Refused,
        (404, _) => Code::NotFound,
        (503 | 507, _) => Code::Unavailable,
        _ => Code::Failed,
    };
    let Some(message) = error["message"].as_str() else {
        return Failure::new(code, Fault::new("cli.answer_unreadable").with("status", status));
    };
    let trace = answer["meta"]["traceId"].as_str().filter(|trace| status >= 500 && !trace.is_empty());
    match trace {
        Some(trace) => Failure::said(code, format!("{message} (trace {trace})")),
        None => Failure::said(code, message.to_owned()),
    }
}

pub fn broken(why: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Unavailable, Fault::new("cli.connection_broken").with("why", why))
}

fn unreachable(socket: &Path, why: &io::Error) -> Failure {
    let (code, key) = match why.kind() {
        io::ErrorKind::PermissionDenied => (Code::Refused, "cli.socket_refused"),
        _ => (Code::Unavailable, "cli.socket_unreachable"),
    };
    Failure::new(code, Fault::new(key).at(socket.display().to_string()).with("why", why))
}

/// A name as one segment of a path, or a value of a query (RFC 3986).
pub fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_holds_one_name() {
        assert_eq!(segment("a/b?c é"), "a%2Fb%3Fc%20%C3%A9");
    }

    #[test]
    fn answers_become_exit_codes() {
        let of = |status, kind: &str| {
            refused(status, json!({ "error": { "message": "x", "details": { "kind": kind } } }).to_string().as_bytes())
                .code
        };
        assert_eq!(of(403, ""), Code::Refused);
        assert_eq!(of(404, ""), Code::NotFound);
        assert_eq!(of(409, ""), Code::Failed);
        assert_eq!(of(409, "safety"), Code::Refused);
        assert_eq!(of(409, "integrity"), Code::Integrity);
        assert_eq!((of(500, "integrity"), of(500, "")), (Code::Integrity, Code::Failed));
        assert_eq!(of(503, ""), Code::Unavailable);
        let absent = json!({ "error": { "message": "x", "details": { "rule": "objects.no_folder" } } });
        assert_eq!(refused(422, absent.to_string().as_bytes()).code, Code::Unavailable);
        assert_eq!(refused(500, b"<html>").code, Code::Failed);
    }
}
