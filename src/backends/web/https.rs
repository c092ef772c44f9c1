//! HTTP/1.1 over TLS, a connection per request: what few and small requests need.

use crate::{
    base::telemetry::scope,
    ports::{
        self, Error,
        web::{Body, Request, Response, Web, is_safe},
    },
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const MOST_BYTES: usize = 1 << 20;
const JSON: &str = "application/json";
const OCSP: &str = "application/ocsp-request";

type Trouble = Box<dyn std::error::Error + Send + Sync>;

pub struct Https {
    tls: TlsConnector,
    /// For an answer to be whole.
    patience: Duration,
}

impl Https {
    pub fn new(roots: RootCertStore, patience: Duration) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), patience })
    }

    /// One request to an absolute URL, and its answer; `Unavailable` when there was none in time.
    pub async fn send(&self, request: hyper::Request<Full<Bytes>>) -> ports::Result<hyper::Response<Bytes>> {
        match is_safe(&request.uri().to_string()) {
            true => self.answered(request).await,
            false => Err(Error::Unavailable(format!("{}: neither https nor this machine", place(request.uri())))),
        }
    }

    async fn answered(&self, request: hyper::Request<Full<Bytes>>) -> ports::Result<hyper::Response<Bytes>> {
        let (place, method) = (place(request.uri()), request.method().clone());
        let step = scope::call("http request").with("server.address", request.uri().host().unwrap_or_default());
        // An answer that refuses is one, and the step failed.
        let answer = async {
            match tokio::time::timeout(self.patience, self.exchange(request)).await {
                Ok(Ok(response)) if response.status().as_u16() < 400 => Ok(response),
                Ok(Ok(response)) => Err(Ok(response)),
                Ok(Err(error)) => Err(Err(Error::Unavailable(format!("{place}: {error}")))),
                Err(_) => Err(Err(Error::Unavailable(format!("{place}: no answer in {} s", self.patience.as_secs())))),
            }
        };
        step.with("http.request.method", method.as_str()).run(answer).await.or_else(|refused| refused)
    }

    async fn exchange(&self, request: hyper::Request<Full<Bytes>>) -> Result<hyper::Response<Bytes>, Trouble> {
        let uri = request.uri().clone();
        let host = uri.host().ok_or("no host")?;
        let (secure, name) = (uri.scheme_str() == Some("https"), host.trim_matches(['[', ']']));
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((name, port)).await?;
        if secure {
            let stream = self.tls.connect(ServerName::try_from(name.to_owned())?, stream).await?;
            over(stream, request).await
        } else {
            over(stream, request).await
        }
    }
}

#[async_trait::async_trait]
impl Web for Https {
    async fn fetch(&self, request: Request) -> ports::Result<Response> {
        let malformed = |error: &dyn std::fmt::Display| Error::Unavailable(error.to_string());
        let (kind, body) = match request.body {
            None => (None, Bytes::new()),
            Some(Body::Form(form)) => (Some("application/x-www-form-urlencoded"), form.into()),
            Some(Body::Text(text)) => (Some("text/plain; charset=utf-8"), text.into()),
            Some(Body::Json(text)) => (Some(JSON), text.into()),
            Some(Body::Ocsp(question)) => (Some(OCSP), question.into()),
        };
        let accepted = if kind == Some(OCSP) { "application/ocsp-response" } else { JSON };
        let mut head = hyper::Request::builder().uri(request.url).header(header::ACCEPT, accepted);
        if let Some(authorization) = request.authorization {
            head = head.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in request.headers {
            head = head.header(name, value);
        }
        if let Some(kind) = kind {
            head = head.header(header::CONTENT_TYPE, kind).method("POST");
        }
        let head = head.body(Full::new(body)).map_err(|error| malformed(&error))?;
        let response = if kind == Some(OCSP) { self.answered(head).await? } else { self.send(head).await? };
        Ok(Response { status: response.status().as_u16(), body: response.into_body().to_vec() })
    }
}

/// Without the query, which may say more than a log should hold.
fn place(uri: &hyper::Uri) -> String {
    uri.to_string().split('?').next().unwrap_or_default().to_owned()
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: hyper::Request<Full<Bytes>>,
) -> Result<hyper::Response<Bytes>, Trouble> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let authority = request.uri().authority().ok_or("no host")?.as_str().parse()?;
    request.headers_mut().insert(header::HOST, authority);
    if let Some(parent) = scope::traceparent().and_then(|parent| parent.parse().ok()) {
        request.headers_mut().insert("traceparent", parent);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse()?;
    *request.uri_mut() = path;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
        Ok(hyper::Response::from_parts(head, body))
    };
    // The connection is driven by the same task: nothing of it outlives the request.
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // Many end a connection without saying so: what came whole counts.
        ended = &mut connection => match (exchange.await, ended) {
            (Err(_), Err(ended)) => Err(ended.into()),
            (answer, _) => answer,
        }
    }
}
