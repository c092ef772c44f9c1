//! The real binary: sockets, signals, refusals, its supervisor, crashes and failing disks.

mod alerts;
mod appliance;
mod backups;
mod certificates;
mod collector;
mod crash;
mod leaks;
mod logs;
mod machines;
mod migrations;
mod restore;
mod secrets;
mod stapling;
mod updates;
mod vault;

use appliance::{Instance, PASSWORD, Server};
use rustix::process::Signal;
use std::{
    io::{BufRead, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    sync::Arc,
    time::{Duration, Instant},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn serves_https_redirects_http_and_shows_its_state() {
    let instance = Instance::new();
    let server = instance.start();
    let code = "%{http_version} %{http_code}";
    let h2 = server.curl(&["--http2", "-o", "/dev/null", "-w", code, &server.url("/api/v1/health")]);
    assert_eq!(h2, "2 200");
    let h1 = server.curl(&["--http1.1", "-o", "/dev/null", "-w", code, &server.url("/api/v1/health")]);
    assert_eq!(h1, "1.1 200");
    assert_eq!(
        server.curl(&["--tlsv1.2", "--tls-max", "1.2", "-o", "/dev/null", "-w", code, &server.url("/")])[..1],
        *"2"
    );

    let plain = format!("http://localhost:{}/a?b=c", server.http.port());
    let redirect = server.curl(&["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", &plain]);
    assert_eq!(redirect, format!("308 {}", server.url("/a?b=c")));
    let foreign = server.curl(&["-H", "host: evil.example", "-o", "/dev/null", "-w", "%{http_code}", &plain]);
    assert_eq!(foreign, "421");

    let (status, body) = server.ops("/readyz");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\"check\":\"certificate\""), "{body}");
    let (_, metrics) = server.ops("/metrics");
    for wanted in [
        "debrouille_http_requests_total{route=\"/api/v1/health\",method=\"GET\",status=\"2xx\"} 2",
        "process_resident_memory_bytes ",
        "debrouille_certificate_end_timestamp_seconds ",
        "debrouille_storage_size_bytes ",
        "debrouille_journal_sequence ",
    ] {
        assert!(metrics.contains(wanted), "{wanted} in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    let socket = std::fs::metadata(instance.data.join("control.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    server.stop();
    assert!(!instance.data.join("control.sock").exists());
}

#[test]
fn logs_name_the_request_and_keep_secrets() {
    let instance = Instance::new();
    let server = instance.start();
    let body = format!(r#"{{"data": {{"email": "admin@example.cd", "password": "{PASSWORD}"}}}}"#);
    let login = server.curl(&["-H", "content-type: application/json", "-d", &body, &server.url("/api/v1/auth/login")]);
    let login: serde_json::Value = serde_json::from_str(&login).unwrap();
    let token = login["data"]["accessToken"].as_str().unwrap_or_else(|| panic!("{login}")).to_owned();
    let refresh = login["data"]["refreshToken"].as_str().unwrap().to_owned();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().nth(4), Some("1"), "a core dump would hold keys: {core}");
    server.signal(Signal::TERM);
    let mut server = server;
    assert!(server.wait().success());
    let log = server.log();
    assert!(log.iter().any(|line| line["message"] == "ready") && log.iter().any(|line| line["message"] == "stopped"));
    for line in &log {
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["level"].is_string(), "{line}");
        for secret in [PASSWORD, &token, &refresh] {
            assert!(!line.to_string().contains(secret), "{line}");
        }
    }
}

#[test]
fn callers_are_limited_by_their_true_address() {
    let instance = Instance::new();
    let start = |proxies: &str| {
        let mut command = instance.serve();
        command.env("DEBROUILLE_LIMITS_REQUESTS_PER_MINUTE", "3").env("DEBROUILLE_LOG", "info,access=debug");
        command.env("DEBROUILLE_SERVER_TRUSTED_PROXIES", proxies);
        Server::of(command, &instance.data)
    };
    let ask = |server: &Server, said: &str| {
        let header = format!("x-forwarded-for: {said}");
        server.curl(&["-H", &header, "-o", "/dev/null", "-w", "%{http_code}", &server.url("/api/v1/meta")])
    };
    let server = start("");
    let codes: Vec<_> = (0..4).map(|n| ask(&server, &format!("198.51.100.{n}"))).collect();
    assert_eq!(codes, ["200", "200", "200", "429"], "a stranger was believed");
    // Over the control socket nobody is.
    for _ in 0..5 {
        assert!(instance.command(&["user", "list"]).output().unwrap().status.success());
    }
    server.stop();

    let server = start("127.0.0.0/8,::1");
    let codes: Vec<_> = (0..4).map(|n| ask(&server, &format!("1.1.1.1, 198.51.100.{n}"))).collect();
    assert_eq!(codes, ["200"; 4]);
    let codes: Vec<_> = (0..3).map(|n| ask(&server, &format!("1.1.1.{n}, 198.51.100.0"))).collect();
    assert_eq!(codes, ["200", "200", "429"]);
    server.signal(Signal::TERM);
    let mut server = server;
    assert!(server.wait().success());
    let log = server.log();
    assert!(log.iter().any(|line| line["address"] == "198.51.100.0" && line["status"] == 429), "{log:?}");

    let mut command = instance.serve();
    command.env("DEBROUILLE_LIMITS_ROUTES", "GET /meta=1").env("DEBROUILLE_TRUST_WEIGHTS", "login.failed=-2");
    let (code, words) = instance.refused(command);
    assert!(code != 0 && words.contains("GET /meta=1"), "{words}");
}

/// How long the peer lets this connection live.
fn lifetime(mut stream: TcpStream) -> Duration {
    stream.set_read_timeout(Some(SECOND * 20)).unwrap();
    let start = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    start.elapsed()
}

#[test]
fn slow_strangers_are_cut() {
    let instance = Instance::new();
    let mut command = instance.serve();
    command.env("DEBROUILLE_SERVER_HANDSHAKE_SECONDS", "1").env("DEBROUILLE_SERVER_HEADER_SECONDS", "2");
    let server = Server::of(command, &instance.data);
    let silent = TcpStream::connect(server.https).unwrap();
    let mut slow = TcpStream::connect(server.http).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost: ").unwrap();
    let handshake = lifetime(silent);
    assert!(handshake >= SECOND / 2 && handshake < SECOND * 5, "{handshake:?}");
    assert!(lifetime(slow) < SECOND * 8);
    assert!(server.ops("/metrics").1.contains(r#"{listener="https",reason="handshake_timeout"} 1"#));
    server.stop();
}

/// A TLS connection that has sent a head and half of its body.
struct HalfSaid {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
}

impl HalfSaid {
    fn new(server: &Server, instance: &Instance) -> Self {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(instance.data.join("ca.crt")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(server.https).unwrap();
        socket.set_read_timeout(Some(SECOND * 20)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, socket);
        let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        write!(stream, "{head}content-length: 12\r\n\r\n{{\"data\"").unwrap();
        stream.flush().unwrap();
        // Until the server has it in hand.
        std::thread::sleep(SECOND / 2);
        Self { stream }
    }

    fn finish(mut self) -> String {
        // The server may have gone meanwhile; then the answer is empty.
        let _ = self.stream.write_all(b":{} }");
        let mut answer = Vec::new();
        let _ = self.stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }
}

#[test]
fn the_drain_finishes_what_is_in_flight() {
    let instance = Instance::new();
    let mut server = instance.start();
    let request = HalfSaid::new(&server, &instance);
    server.signal(Signal::TERM);
    let start = Instant::now();
    while server.ops("/readyz").0 != 503 {
        assert!(start.elapsed() < SECOND * 10, "still ready");
        std::thread::sleep(SECOND / 20);
    }
    assert!(server.ops("/readyz").1.contains("draining"));
    assert_eq!(server.ops("/healthz").0, 200);
    assert!(TcpStream::connect(server.https).is_err(), "still accepting");
    let answer = request.finish();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(server.wait().code(), Some(0));
    // And it opens again.
    instance.start().stop();
}

#[test]
fn a_second_signal_or_the_deadline_cuts_what_is_left() {
    let instance = Instance::new();
    let mut server = instance.start();
    let request = HalfSaid::new(&server, &instance);
    server.signal(Signal::INT);
    std::thread::sleep(SECOND / 2);
    let start = Instant::now();
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    assert!(start.elapsed() < SECOND * 5, "{:?}", start.elapsed());
    assert_eq!(request.finish(), "");

    let mut command = instance.serve();
    command.env("DEBROUILLE_SERVER_DRAIN_SECONDS", "1");
    let mut server = Server::of(command, &instance.data);
    let request = HalfSaid::new(&server, &instance);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(request.finish(), "");
}

/// A vault that takes connections and says nothing is asked five times, 5 s each; who wants to end it does not wait for that.
#[test]
fn a_silent_vault_is_not_waited_for_at_the_end() {
    let instance = Instance::new();
    let vault = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", vault.local_addr().unwrap());
    let file = instance.data.with_file_name("appliance.toml");
    let without = std::fs::read_to_string(&file).unwrap();
    let settings = format!(
        "{without}\n[vault]\naddress = \"{address}\"\ntoken = \"s.one\"\n[mail]\npassword = \"vault:kv/appliance/mail#password\"\n"
    );
    std::fs::write(&file, &settings).unwrap();
    let mut starting = instance.serve().spawn().unwrap();
    let _asked = vault.accept().unwrap();
    let start = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&starting), Signal::TERM).unwrap();
    assert!(starting.wait().unwrap().success());
    assert!(start.elapsed() < SECOND * 8, "{:?}", start.elapsed());

    std::fs::write(&file, without).unwrap();
    let mut server = instance.start();
    std::fs::write(&file, &settings).unwrap();
    server.signal(Signal::HUP);
    let _asked = vault.accept().unwrap();
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(start.elapsed() < SECOND * 8, "{:?}", start.elapsed());
}

#[test]
fn a_taken_address_and_a_second_server_are_refused() {
    let instance = Instance::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let (code, words) =
        instance.refused(instance.command(&["serve", "--https", &address, "--http", "off", "--ops", "off"]));
    assert_eq!(code, 6, "{words}");
    assert!(words.contains(&address) && words.contains("already taken"), "{words}");

    let server = instance.start();
    let (code, words) = instance.refused(instance.serve());
    assert_eq!(code, 6, "{words}");
    assert_eq!(server.ops("/readyz").0, 200, "the first one was disturbed");
    server.stop();
}

/// As systemd hands sockets over (sd_listen_fds(3)): from the fourth descriptor on, told to the process by its id.
const SUPERVISOR: &str = r#"
import os, socket, sys
names, *command = sys.argv[1:]
for number, _ in enumerate(names.split(":")):
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], file=sys.stderr, flush=True)
    os.dup2(listener.fileno(), 10 + number)
    listener.close()
for number, _ in enumerate(names.split(":")):
    os.dup2(10 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(1 + names.count(":")), LISTEN_FDNAMES=names)
os.execv(command[0], command)
"#;

#[test]
fn the_supervisors_sockets_are_served() {
    let instance = Instance::new();
    let handed = |names: &str| {
        let serve = instance.serve();
        let mut command = std::process::Command::new("python3");
        command.env_clear().args(["-c", SUPERVISOR, names]).arg(serve.get_program()).args(serve.get_args());
        command
    };
    let mut command = handed("https:http");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ports = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let mut port = || ports.next().unwrap().unwrap().parse::<u16>().unwrap();
    let (https, http) = (port(), port());
    // Before it is ready: the kernel holds it.
    let early = TcpStream::connect(("127.0.0.1", https)).unwrap();
    let server = Server::by(child, &instance.data);
    assert_eq!((server.https.port(), server.http.port()), (https, http));
    assert_eq!(server.curl(&["-o", "/dev/null", "-w", "%{http_code}", &server.url("/api/v1/health")]), "200");
    let redirect = ["-o", "/dev/null", "-w", "%{redirect_url}", &format!("http://localhost:{http}/x")];
    assert_eq!(server.curl(&redirect), format!("https://localhost:{https}/x"));
    drop(early);
    server.stop();

    for (names, words) in [("https:web", "\"web\""), ("https:https", "\"https\"")] {
        let (code, said) = instance.refused(handed(names));
        assert!(code == 3 && said.contains(words) && said.contains("FileDescriptorName"), "{said}");
    }
    // Whoever chose an address does not find another served.
    let mut elsewhere = std::process::Command::new("python3");
    elsewhere.env_clear().args(["-c", SUPERVISOR, "https"]).arg(instance.serve().get_program());
    let serve = instance.command(&["serve", "--https", "127.0.0.2:0", "--http", "off", "--ops", "off"]);
    let (code, said) = instance.refused({
        elsewhere.args(serve.get_args());
        elsewhere
    });
    assert!(code == 3 && said.contains("127.0.0.2") && said.contains("ListenStream"), "{said}");
}

#[test]
fn an_unhealthy_state_is_refused_with_its_reason() {
    let instance = Instance::new();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&instance.data, open).unwrap();
    let (code, words) = instance.refused(instance.serve());
    assert_eq!(code, 3, "{words}");
    assert!(words.contains("chmod 700"), "{words}");
    std::fs::set_permissions(&instance.data, std::fs::Permissions::from_mode(0o700)).unwrap();

    let mut command = instance.serve();
    command.env("NODE_ENV", "production");
    let (code, words) = instance.refused(command);
    assert_eq!(code, 3, "{words}");
    assert!(words.contains("development") && words.contains("production"), "{words}");

    assert!(rustix::process::geteuid().is_root(), "only root serves what is another's");
    std::os::unix::fs::chown(&instance.data, Some(65_534), None).unwrap();
    let (code, words) = instance.refused(instance.serve());
    assert!(code == 3 && words.contains("65534") && words.contains("runuser"), "{words}");
    std::os::unix::fs::chown(&instance.data, Some(0), None).unwrap();

    std::fs::rename(instance.data.join("root.key"), instance.data.join("elsewhere")).unwrap();
    let (_, words) = instance.refused(instance.serve());
    assert!(words.contains("root.key"), "{words}");
    std::fs::rename(instance.data.join("elsewhere"), instance.data.join("root.key")).unwrap();

    std::fs::remove_dir_all(&instance.data).unwrap();
    let (code, words) = instance.refused(instance.serve());
    assert_eq!(code, 4, "{words}");
    assert!(!instance.data.exists(), "a refused start left something behind");
}

#[test]
fn the_supervisor_is_told() {
    let instance = Instance::new();
    let path = instance.data.with_file_name("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(SECOND * 20)).unwrap();
    let mut command = instance.serve();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let server = Server::of(command, &instance.data);
    let next = |wanted: &str| {
        let mut buffer = [0; 1024];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(wanted) {
                return message;
            }
        }
    };
    assert!(next("READY=1").contains("STATUS=serving on 127.0.0.1"));
    next("WATCHDOG=1");
    next("WATCHDOG=1");
    server.signal(Signal::TERM);
    next("STOPPING=1");
    let mut server = server;
    assert!(server.wait().success());
}

#[test]
fn the_journal_gets_priorities() {
    use std::os::fd::AsRawFd;
    let instance = Instance::new();
    // A stream of ours, named to the program as the journal's: systemd hands it over the same way.
    let file = std::fs::File::create(instance.data.with_file_name("stream")).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    assert!(file.as_raw_fd() > 2);
    let mut command = instance.serve();
    command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino)).stdout(file);
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    let text = loop {
        let text = std::fs::read_to_string(instance.data.with_file_name("stream")).unwrap();
        if text.contains("\"message\":\"ready\"") {
            break text;
        }
        assert!(start.elapsed() < SECOND * 20, "{text}");
        std::thread::sleep(SECOND / 20);
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(text.lines().all(|line| line.starts_with('<') && line[2..].starts_with(">{")), "{text}");
    assert!(text.contains("<6>{\"time\""), "{text}");
}
