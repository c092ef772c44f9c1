//! The acceptor over real sockets.

use super::{
    Limits,
    control::Control,
    network::{self, Network},
    tls::{self, Shown},
};
use crate::{
    backends::certificates::internal::Internal,
    base::{
        clock::{Clock, Stopwatch, SystemClock},
        metrics::Metrics,
        stop::Stopper,
    },
    http::{peer::LocalPeer, serve::App},
    ports::certificates::{Authority, Certificates, Leaf, Proof, Proofs},
    services::certificates::{Bundle, Show},
};
use poem::{Route, get, handler, web::Data};
use rustls::pki_types::{CertificateDer, ServerName};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

const SECOND: Duration = Duration::from_secs(1);

#[handler]
fn hello(peer: Option<Data<&LocalPeer>>) -> String {
    peer.map_or_else(|| "hello".to_owned(), |peer| format!("uid {}", peer.uid))
}

#[handler]
async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(600)).await;
    "done"
}

#[handler]
async fn panics() -> &'static str {
    panic!("on purpose")
}

struct Site {
    address: SocketAddr,
    stopper: Arc<Stopper>,
    metrics: Arc<Metrics>,
    shown: Arc<Shown>,
    internal: Internal,
    authority: String,
    app: App,
}

impl Site {
    async fn start(limits: Limits, tls: bool) -> Self {
        let metrics = Metrics::new(Arc::new(SystemClock));
        let route = Route::new().at("/", get(hello)).at("/slow", get(slow)).at("/panics", get(panics));
        let app = App::new(route, metrics.clone());
        let authority = Authority::create(&[], SystemClock.now()).unwrap();
        let (pem, internal) =
            (Bundle(vec![authority.certificate.clone()]).pem(), Internal::open(authority, 90).unwrap());
        let shown = Arc::new(Shown::default());
        shown.show(&leaf(&internal).await).unwrap();
        let listener = network::bind("https", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let stopper = Arc::new(Stopper::default());
        let config = tls.then(|| tls::config(shown.clone(), None).unwrap());
        let network = Network {
            name: "https",
            listener,
            tls: config,
            machines: None,
            app: app.clone(),
            limits,
            metrics: metrics.clone(),
        };
        let stop = stopper.stop();
        stopper.stop().spawn(network.run(stop));
        Self { address, stopper, metrics, shown, internal, authority: pem, app }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn secure(&self, alpn: &[&str], versions: &[&'static rustls::SupportedProtocolVersion]) -> Secure {
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.authority.as_bytes();
        roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        connector.connect(name, self.connect().await).await.unwrap()
    }
}

type Secure = tokio_rustls::client::TlsStream<TcpStream>;

async fn leaf(internal: &Internal) -> Leaf {
    internal.issue(&["localhost".to_owned()], SystemClock.now()).await.unwrap()
}

async fn ask<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(stream: &mut S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(SECOND * 5, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

/// How long the server lets this silent connection live.
async fn lifetime(stream: &mut TcpStream) -> Duration {
    let start = Stopwatch::start();
    let mut rest = Vec::new();
    let _ = timeout(SECOND * 5, stream.read_to_end(&mut rest)).await.expect("never cut");
    start.elapsed()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn serves_both_tls_versions_with_the_post_quantum_exchange() {
    let site = Site::start(Limits::default(), true).await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut stream = site.secure(&["http/1.1"], &[version]).await;
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            let exchange = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(exchange, rustls::NamedGroup::X25519MLKEM768);
        }
        assert!(ask(&mut stream, GET).await.ends_with("hello"));
    }
    let stream = site.secure(&["h2", "http/1.1"], &[&rustls::version::TLS13]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn cuts_slow_handshakes_and_slow_heads() {
    let limits = Limits { handshake: SECOND / 4, head: SECOND / 2, ..Limits::default() };
    let site = Site::start(limits.clone(), true).await;
    let alive = lifetime(&mut site.connect().await).await;
    assert!(alive >= SECOND / 4 && alive < SECOND, "{alive:?}");
    assert!(site.metrics.render().contains(r#"reason="handshake_timeout"} 1"#));

    let plain = Site::start(limits, false).await;
    let mut stream = plain.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let start = Stopwatch::start();
    // A byte of head now and then does not buy more time.
    while start.elapsed() < SECOND * 3 && stream.write_all(b"a").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(start.elapsed() >= SECOND / 3 && start.elapsed() < SECOND * 2, "{:?}", start.elapsed());
}

#[tokio::test]
async fn cuts_idle_connections_later_than_slow_heads() {
    let limits = Limits { head: SECOND / 4, idle: SECOND * 2, ..Limits::default() };
    let plain = Site::start(limits.clone(), false).await;
    let mut stream = plain.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let alive = lifetime(&mut stream).await;
    assert!(alive >= SECOND * 19 / 10 && alive < SECOND * 3, "{alive:?}");
    let mut stream = plain.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(SECOND / 2).await;
    stream.write_all(b"GET / HT").await.unwrap();
    let alive = lifetime(&mut stream).await;
    assert!(alive < SECOND * 2 / 3, "a second head that never ends lived {alive:?}");

    let secure = Site::start(limits, true).await;
    let mut stream = secure.secure(&["h2"], &[&rustls::version::TLS13]).await;
    // The preface and empty settings, then silence.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let start = Stopwatch::start();
    let _ = timeout(SECOND * 5, stream.read_to_end(&mut Vec::new())).await.expect("never cut");
    assert!(start.elapsed() >= SECOND * 19 / 10, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let site = Site::start(Limits::default(), false).await;
    let mut stream = site.connect().await;
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "a".repeat(40_000));
    assert!(ask(&mut stream, &huge).await.starts_with("HTTP/1.1 431"));
}

/// No wait of the connection's own ends while a request is under way: how long it may take, the routes know.
#[tokio::test]
async fn an_answer_outlasts_every_wait_of_the_connection() {
    let limits = Limits { head: SECOND / 8, idle: SECOND / 8, write: SECOND / 8, ..Limits::default() };
    let site = Site::start(limits, false).await;
    let mut stream = site.connect().await;
    let answer = ask(&mut stream, "GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("done"), "{answer}");
}

#[tokio::test]
async fn turns_away_an_address_that_holds_too_much() {
    let site = Site::start(Limits { per_address: 2, ..Limits::default() }, false).await;
    let _one = site.connect().await;
    let _two = site.connect().await;
    let mut three = site.connect().await;
    assert!(lifetime(&mut three).await < SECOND);
    assert!(site.metrics.render().contains(r#"reason="address"} 1"#));
    let limit = format!(r#"debrouille_connections_limit{{listener="https"}} {}"#, Limits::default().connections);
    assert!(site.metrics.render().lines().any(|line| line == limit), "{limit}");
}

#[tokio::test]
async fn a_panic_is_one_bad_answer_and_nothing_more() {
    let site = Site::start(Limits::default(), false).await;
    let mut stream = site.connect().await;
    let request = "GET /panics HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = ask(&mut stream, &format!("{request}{GET}")).await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("INTERNAL_ERROR"), "{answer}");
    assert!(answer.ends_with("hello"), "the connection did not go on: {answer}");
    let text = site.metrics.render();
    assert!(text.contains(r#"{route="panicked",method="GET",status="5xx"} 1"#), "{text}");
}

#[tokio::test]
async fn the_certificate_is_swapped_live() {
    let site = Site::start(Limits::default(), true).await;
    let seen = |stream: &Secure| -> CertificateDer<'static> {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let mut old = site.secure(&[], &[&rustls::version::TLS13]).await;
    site.shown.show(&leaf(&site.internal).await).unwrap();
    let new = site.secure(&[], &[&rustls::version::TLS13]).await;
    assert_ne!(seen(&old), seen(&new));
    assert!(ask(&mut old, GET).await.ends_with("hello"), "an open connection was cut");
    let mut wrong = leaf(&site.internal).await;
    wrong.key = leaf(&site.internal).await.key;
    assert!(site.shown.show(&wrong).is_err(), "a key that does not fit was taken");
    let kept = site.secure(&[], &[&rustls::version::TLS13]).await;
    assert_eq!(seen(&new), seen(&kept));
}

#[tokio::test]
async fn a_proof_is_shown_to_who_speaks_its_language_and_to_nobody_else() {
    let site = Site::start(Limits::default(), true).await;
    let shown = || async {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let verifier = Arc::new(Blind(provider));
        let mut config = config.unwrap().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![super::tls::PROOF.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, site.connect().await).await.ok()?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        assert!(timeout(SECOND, stream.read_to_end(&mut Vec::new())).await.is_ok(), "it stays open");
        Some(certificate)
    };
    assert_eq!(shown().await, None);
    let (token, authorization) = ("t".to_owned(), "t.a".to_owned());
    let proof = Proof { name: "localhost".to_owned(), token, authorization, digest: [0xa5; 32] };
    site.shown.challenges.show(std::slice::from_ref(&proof)).await.unwrap();
    let der = shown().await.unwrap();
    let (_, read) = x509_parser::parse_x509_certificate(&der).unwrap();
    let extension = read.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
    assert!(extension.critical && extension.value == [&[0x04, 0x20][..], &[0xa5; 32]].concat());
    // Others go on seeing what they saw.
    let _ = site.secure(&["acme-tls/1", "http/1.1"], &[&rustls::version::TLS13]).await;
    site.shown.challenges.withdraw(&[proof]).await.unwrap();
    assert_eq!(shown().await, None);
}

/// Takes any certificate, to look at it.
#[derive(Debug)]
struct Blind(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    // The library cannot read what it is about.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn others_certificate_is_shown_for_its_names_alone() {
    let site = Site::start(Limits::default(), true).await;
    let seen = |stream: &Secure| -> CertificateDer<'static> {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let own = seen(&site.secure(&[], &[&rustls::version::TLS13]).await);
    let foreign =
        Internal::open(Authority::create(&["x.example.cd".to_owned()], SystemClock.now()).unwrap(), 90).unwrap();
    let other = foreign.issue(&["x.example.cd".to_owned()], SystemClock.now()).await.unwrap();
    site.shown.show_public(Some(&other)).unwrap();
    assert_eq!(seen(&site.secure(&[], &[&rustls::version::TLS13]).await), own);
    let ours = leaf(&site.internal).await;
    site.shown.show_public(Some(&ours)).unwrap();
    assert_eq!(seen(&site.secure(&[], &[&rustls::version::TLS13]).await).as_ref(), &ours.chain[0][..]);
    site.shown.show_public(None).unwrap();
    assert_eq!(seen(&site.secure(&[], &[&rustls::version::TLS13]).await), own);
}

#[tokio::test]
async fn the_drain_finishes_what_is_in_flight_and_nothing_else() {
    let site = Site::start(Limits::default(), false).await;
    let mut silent = site.connect().await;
    silent.write_all(b"GET / HT").await.unwrap();
    let mut idle = site.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut busy = site.connect().await;
    let asking = tokio::spawn(async move { ask(&mut busy, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await });
    // Let in before the drain, it asks after: nobody else has its connection.
    let mut late = site.connect().await;
    let late = tokio::spawn(async move {
        tokio::time::sleep(SECOND / 2).await;
        ask(&mut late, GET).await
    });
    tokio::time::sleep(SECOND / 4).await;
    let start = Stopwatch::start();
    assert!(site.stopper.drain(SECOND * 5).await);
    assert!(start.elapsed() < SECOND * 2, "waited for idle connections: {:?}", start.elapsed());
    assert!(asking.await.unwrap().ends_with("done"));
    assert!(late.await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(site.address).await.is_err(), "still accepting");
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut() {
    let site = Site::start(Limits::default(), false).await;
    let mut busy = site.connect().await;
    let asking = tokio::spawn(async move { ask(&mut busy, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await });
    tokio::time::sleep(SECOND / 5).await;
    assert!(!site.stopper.drain(SECOND / 10).await);
    site.stopper.abort(std::time::Duration::from_secs(10)).await;
    assert_eq!(asking.await.unwrap(), "");
}

#[tokio::test]
async fn the_control_socket_knows_its_peer_and_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::start(Limits::default(), false).await;
    let folder = tempfile::tempdir().unwrap();
    let bind = || Control::bind(folder.path(), site.app.clone(), Limits::default(), site.metrics.clone());
    // A socket left behind by a dead run is replaced.
    drop(bind().unwrap());
    let control = bind().unwrap();
    site.stopper.stop().spawn(control.run(site.stopper.stop()));
    let path = folder.path().join(super::control::FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert!(ask(&mut stream, GET).await.ends_with(&format!("uid {own}")));
    assert!(site.stopper.drain(SECOND).await);
    assert!(!path.exists());
}

#[test]
fn a_taken_address_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let first = network::bind("https", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let fault = network::bind("ops", address).unwrap_err();
    assert_eq!(fault.key, "server.port_in_use");
    assert!(fault.to_string().contains(&address.to_string()), "{fault}");
    assert_eq!(network::bind("ops", "203.0.113.1:1".parse().unwrap()).unwrap_err().key, "server.address_absent");
}

#[test]
fn waits_longer_and_at_most_a_second() {
    let mut backoff = super::Backoff::default();
    assert_eq!(backoff.failed(&std::io::ErrorKind::ConnectionReset.into()), None);
    let full = std::io::Error::from_raw_os_error(24);
    let waits: Vec<_> = (0..12).filter_map(|_| backoff.failed(&full)).collect();
    assert_eq!(waits.first(), Some(&Duration::from_millis(10)));
    assert!(waits.is_sorted() && waits.last() == Some(&Duration::from_secs(1)), "{waits:?}");
    backoff.succeeded();
    assert_eq!(backoff.failed(&full), Some(Duration::from_millis(10)));
}
