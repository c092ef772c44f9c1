//! HTTP/1.1 over TLS, a connection per request: what few and small requests need.

use crate::ports::{
    self, Error,
    web::{Body, Request, Response, Web, is_safe},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 1 << 20;

pub struct Https {
    tls: TlsConnector,
}

impl Https {
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn exchange(&self, request: Request) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        if !is_safe(&request.url) {
            return Err("neither https nor this machine".into());
        }
        let uri: Uri = request.url.parse()?;
        let host = uri.host().ok_or("no host")?;
        let (secure, name) = (uri.scheme_str() == Some("https"), host.trim_matches(['[', ']']));
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((name, port)).await?;
        if secure {
            let stream = self.tls.connect(ServerName::try_from(name.to_owned())?, stream).await?;
            send(stream, &uri, request).await
        } else {
            send(stream, &uri, request).await
        }
    }
}

#[async_trait::async_trait]
impl Web for Https {
    async fn fetch(&self, request: Request) -> ports::Result<Response> {
        // Without the query, which may say more than a log should hold.
        let place = request.url.split('?').next().unwrap_or_default().to_owned();
        match tokio::time::timeout(PATIENCE, self.exchange(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Error::Unavailable(format!("{place}: {error}"))),
            Err(_) => Err(Error::Unavailable(format!("{place}: no answer in {} s", PATIENCE.as_secs()))),
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    request: Request,
) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let authority = uri.authority().ok_or("no host")?.as_str();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = hyper::Request::builder().uri(path).header(header::HOST, authority);
    let (kind, body) = match request.body {
        None => (None, String::new()),
        Some(Body::Form(form)) => (Some("application/x-www-form-urlencoded"), form),
        Some(Body::Text(text)) => (Some("text/plain; charset=utf-8"), text),
    };
    head = head.header(header::ACCEPT, "application/json").method(if kind.is_some() { "POST" } else { "GET" });
    if let Some(authorization) = request.authorization {
        head = head.header(header::AUTHORIZATION, authorization);
    }
    if let Some(kind) = kind {
        head = head.header(header::CONTENT_TYPE, kind);
    }
    let head = head.body(Full::new(Bytes::from(body)))?;
    let exchange = async {
        let response = sender.send_request(head).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await?.to_bytes().to_vec();
        Ok(Response { status, body })
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
