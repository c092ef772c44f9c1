//! Witnesses on disks, and real servers on this machine: they get the newest checkpoint, and stop nothing.

use super::*;
use crate::backends::web::https::Https;
use rustls::RootCertStore;
use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::atomic::{AtomicU16, AtomicUsize},
};

/// An HTTP server that answers with a status and keeps what it was sent, head and body. 0: never answers.
struct Server {
    url: String,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<(String, String)>>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}/log?key=hidden", listener.local_addr().unwrap().port());
        let (status, got, asked) = (Arc::new(AtomicU16::new(200)), Arc::default(), Arc::new(AtomicUsize::new(0)));
        let server = Self { url, status: status.clone(), got: Arc::clone(&got), asked: asked.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                asked.fetch_add(1, Relaxed);
                let (tls, status, got) = (tls.clone(), status.load(Relaxed), Arc::clone(&got));
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    match tls {
                        None => serve(stream, status, &got),
                        Some(tls) => {
                            let connection = rustls::ServerConnection::new(tls).unwrap();
                            serve(rustls::StreamOwned::new(connection, stream), status, &got);
                        }
                    }
                });
            }
        });
        server
    }

    fn got(&self) -> Vec<(String, String)> {
        self.got.lock().unwrap().clone()
    }
}

fn serve(mut stream: impl Read + Write, status: u16, got: &Mutex<Vec<(String, String)>>) {
    let (mut sent, mut part) = (Vec::new(), [0; 4096]);
    let text = loop {
        let Ok(read @ 1..) = stream.read(&mut part) else { return };
        sent.extend_from_slice(&part[..read]);
        let text = String::from_utf8(sent.clone()).unwrap();
        let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned);
        let expected: usize = text.lines().find_map(length).map_or(0, |length| length.parse().unwrap());
        if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= expected) {
            break text;
        }
    };
    if status == 0 {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    if status < 300 {
        got.lock().unwrap().push((head.to_owned(), body.to_owned()));
    }
    let cosigned = "— witness.example.org/1 AAAAAA==\n";
    let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{cosigned}", cosigned.len());
    let _ = stream.flush();
}

fn web(roots: RootCertStore) -> Arc<dyn Web> {
    Arc::new(Https::new(roots, std::time::Duration::from_secs(10)).unwrap())
}

impl Log {
    async fn with(witness: Vec<Place>, roots: RootCertStore) -> Self {
        let mut log = Self::open().await;
        log.audit.settings.witness = witness;
        log.audit.settings.token = serde_json::from_value(json!("a secret of both sides")).unwrap();
        log.audit.web = Some(web(roots));
        log.more().await;
        log
    }

    async fn more(&self) {
        self.tell(3).await;
        self.audit.seal().await.unwrap();
    }

    fn wait(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds * 1000, Relaxed);
    }
}

#[tokio::test]
async fn the_witness_gets_the_newest_checkpoint_and_a_lost_disk_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::with(vec![Place::Disk(folder.path().to_owned())], RootCertStore::empty()).await;
    let (done, fault) = log.audit.witness().await.unwrap();
    assert_eq!((done, fault), (Some(Timestamp(START)), None));
    let path = folder.path().join(format!("{}.checkpoint", log.stamp.id));
    let note: Note = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    assert!(note.signed_by(&log.keys()).is_some());
    // Not before a minute has passed.
    log.more().await;
    log.audit.witness().await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().parse::<Note>().unwrap(), note);
    log.audit.settings.witness = vec![Place::Disk("/absent/witness".into())];
    log.wait(60);
    assert_eq!(log.audit.witness().await.unwrap().1.unwrap().key, "audit.witness");
}

#[tokio::test]
async fn a_server_is_sent_the_signed_checkpoint_and_of_many_the_newest() {
    let server = Server::start(None);
    let log = Log::with(vec![Place::Server(server.url.clone())], RootCertStore::empty()).await;
    assert_eq!(log.audit.witness().await.unwrap(), (Some(Timestamp(START)), None));
    let (head, body) = server.got().remove(0);
    assert!(head.starts_with("POST /log?key=hidden HTTP/1.1\r\n"), "{head}");
    for line in ["content-type: text/plain; charset=utf-8", "authorization: Bearer a secret of both sides"] {
        assert!(head.contains(line), "{head}");
    }
    let note: Note = body.parse().unwrap();
    assert!(note.signed_by(&log.keys()).is_some());
    // Down for a while: each try is later than the one before, and the newest alone is sent in the end.
    server.status.store(503, Relaxed);
    let mut tried = Vec::new();
    for second in 0..4000 {
        log.wait(1);
        let before = server.asked.load(Relaxed);
        if second % 50 == 0 {
            log.more().await;
        }
        let (done, fault) = log.audit.witness().await.unwrap();
        if server.asked.load(Relaxed) > before {
            tried.push(second);
            let fault = fault.unwrap();
            assert_eq!(fault.key, "audit.witness_server");
            assert!(fault.to_string().contains("HTTP 503") && !fault.to_string().contains("hidden"), "{fault}");
            assert_eq!(done, Some(Timestamp(START)));
        }
    }
    let pauses: Vec<_> = tried.iter().zip(tried.iter().skip(1)).map(|(one, next)| next - one).collect();
    assert_eq!(pauses, [60, 120, 240, 480, 900, 900, 900]);
    server.status.store(201, Relaxed);
    log.wait(900);
    assert!(log.audit.witness().await.unwrap().1.is_none());
    assert_eq!(server.got().len(), 2);
    let newest = log.audit.state.lock().await.as_ref().unwrap().note.clone();
    assert_eq!(server.got()[1].1, newest);
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_nothing_up() {
    let (server, folder) = (Server::start(None), tempfile::tempdir().unwrap());
    let places = vec![Place::Server(server.url.clone()), Place::Disk(folder.path().join("note"))];
    let log = Log::with(places, RootCertStore::empty()).await;
    log.audit.witness().await.unwrap();
    server.status.store(0, Relaxed);
    log.wait(60);
    log.more().await;
    let sealed = async {
        while server.asked.load(Relaxed) < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        log.more().await;
        // The other witness had it meanwhile.
        while std::fs::read_to_string(folder.path().join("note")).unwrap() == server.got()[0].1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = log.audit.witness() => panic!("answered by nobody"),
        soon = tokio::time::timeout(std::time::Duration::from_secs(5), sealed) => soon.unwrap(),
    }
    // Nor does it a stop, for long.
    let watch = crate::base::clock::Stopwatch::start();
    log.audit.finish().await.unwrap();
    assert!(watch.millis() < 5000, "{}", watch.millis());
}

#[tokio::test]
async fn a_stop_asks_no_server_that_did_not_work() {
    let server = Server::start(None);
    let log = Log::with(vec![Place::Server(server.url.clone())], RootCertStore::empty()).await;
    log.audit.finish().await.unwrap();
    assert_eq!(server.asked.load(Relaxed), 0, "a command alone asks nobody");
    log.audit.witness().await.unwrap();
    log.more().await;
    log.audit.finish().await.unwrap();
    assert_eq!(server.got().len(), 2);
}

#[tokio::test]
async fn a_server_of_an_authority_nobody_trusts_is_sent_nothing() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).unwrap();
    let server = Server::start(Some(Arc::new(config)));
    let mut log = Log::with(vec![Place::Server(server.url.clone())], RootCertStore::empty()).await;
    let (done, fault) = log.audit.witness().await.unwrap();
    assert_eq!((done, server.got().len()), (None, 0));
    assert!(fault.unwrap().to_string().contains("certificate"));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    log.audit.web = Some(web(roots));
    log.wait(60);
    assert_eq!(log.audit.witness().await.unwrap().1, None);
    assert_eq!(server.got().len(), 1);
}
