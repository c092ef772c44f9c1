//! An https server of files, on loopback, that can be weak: it cuts, goes away, sends without end, sends elsewhere.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    None,
    Redirect,
    Fail,
    /// Files of releases have no end.
    Endless,
    /// Answers end after so many bytes.
    Cut(usize),
    /// Answers end after so many bytes, and no connection is answered after.
    Die(usize),
}

struct State {
    weakness: Weakness,
    dead: bool,
    sent: usize,
}

pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves a folder; writes the authority of its certificate.
    pub fn start(folder: PathBuf, ca: &Path) -> Self {
        let config = Arc::new(config(ca));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { weakness: Weakness::None, dead: false, sent: 0 }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, folder, state) = (config.clone(), folder.clone(), shared.clone());
                // Whoever hangs up is not waited for.
                std::thread::spawn(move || answer(stream, config, &folder, &state).ok());
            }
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn weaken(&self, weakness: Weakness) {
        *self.state.lock().unwrap() = State { weakness, dead: false, sent: 0 };
    }

    /// Bytes of bodies since.
    pub fn sent(&self) -> usize {
        self.state.lock().unwrap().sent
    }
}

fn config(ca: &Path) -> ServerConfig {
    let (mut root, root_key) = (CertificateParams::new(vec![]).unwrap(), KeyPair::generate().unwrap());
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (leaf, key) = (CertificateParams::new(vec!["localhost".to_owned()]).unwrap(), KeyPair::generate().unwrap());
    let issuer = Issuer::from_params(&root, &root_key);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    fs::write(ca, root.self_signed(&root_key).unwrap().pem()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap()
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, folder: &Path, state: &Mutex<State>) -> std::io::Result<()> {
    if state.lock().unwrap().dead {
        return Ok(());
    }
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream));
    loop {
        let (mut path, mut from) = (String::new(), 0_usize);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(rest) = line.strip_prefix("GET /") {
                path = rest.split(' ').next().unwrap().to_owned();
            }
            if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                from = range.trim().trim_end_matches('-').parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let weakness = state.lock().unwrap().weakness;
        let stream = stream.get_mut();
        let head = |status: &str, length: usize, more: &str| {
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{more}\r\n")
        };
        let body = match (weakness, fs::read(folder.join(&path))) {
            (Weakness::Redirect, _) => {
                stream.write_all(head("302 Found", 0, "location: https://localhost:1/\r\n").as_bytes())?;
                continue;
            }
            (Weakness::Fail, _) => {
                stream.write_all(head("500 Failed", 0, "").as_bytes())?;
                continue;
            }
            (_, Err(_)) => {
                stream.write_all(head("404 Not Found", 0, "").as_bytes())?;
                continue;
            }
            (Weakness::Endless, Ok(mut body)) if path.starts_with("targets/") => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
                body.truncate(1 << 20);
                loop {
                    stream.write_all(&body)?;
                }
            }
            (_, Ok(body)) => body,
        };
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let body = &body[from.min(body.len())..];
        stream.write_all(head(status, body.len(), "").as_bytes())?;
        let most = match weakness {
            Weakness::Cut(most) | Weakness::Die(most) => most.min(body.len()),
            _ => body.len(),
        };
        stream.write_all(&body[..most])?;
        stream.flush()?;
        let mut state = state.lock().unwrap();
        state.sent += most;
        state.dead |= matches!(weakness, Weakness::Die(_)) && most < body.len();
        if most < body.len() {
            return Ok(());
        }
    }
}
