//! Machines that prove themselves by client certificates, over real connections: `curl` shows them, the server judges.

use crate::appliance::{Instance, PASSWORD, Server, words};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

const ED25519: &[&str] = &["-algorithm", "ed25519"];
const ELLIPTIC: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A client's certificate, differing as `change` has it.
    fn certify(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "import-job");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().pem()
    }
}

struct Desk {
    instance: Instance,
    authority: Authority,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { instance: Instance::new(), authority: Authority::new("authority of machines") };
        fs::write(desk.path("clients.pem"), &desk.authority.pem).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.instance.data.with_file_name(name)
    }

    fn start(&self) -> Server {
        let mut command = self.instance.serve();
        command.env("DEBROUILLE_SERVER_CLIENT_CA", self.path("clients.pem"));
        Server::of(command, &self.instance.data)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.instance.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A machine with its key, its certificate beside it.
    fn machine(&self, name: &str) -> KeyPair {
        let key = self.key(ED25519);
        self.run(&["user", "add", name, "--machine", "--role", "admin"]);
        let public = self.path("public.pem");
        fs::write(&public, key.public_key_pem()).unwrap();
        self.run(&["token", "create", name, "--name", "2026", "--public-key", public.to_str().unwrap()]);
        self.keep(name, &key, &self.authority.certify(&key, |_| ()));
        key
    }

    /// As `openssl` makes it: other libraries write private keys that it cannot read.
    fn key(&self, algorithm: &[&str]) -> KeyPair {
        let output = Command::new("openssl").arg("genpkey").args(algorithm).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        KeyPair::from_pem(&String::from_utf8(output.stdout).unwrap()).unwrap()
    }

    fn keep(&self, name: &str, key: &KeyPair, certificate: &str) {
        fs::write(self.path(&format!("{name}.crt")), certificate).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// `curl`, showing a certificate where one is named.
    fn curl(&self, shown: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.instance.data.join("ca.crt"));
        if !shown.is_empty() {
            command.arg("--cert").arg(self.path(&format!("{shown}.crt")));
            command.arg("--key").arg(self.path(&format!("{shown}.key")));
        }
        command.args(arguments).output().unwrap()
    }

    fn prove(&self, server: &Server, shown: &str) -> Value {
        let url = server.url("/api/v1/auth/machine");
        let output = self.curl(shown, &["-H", "content-type: application/json", "-d", r#"{"data": {}}"#, &url]);
        assert!(output.status.success(), "{shown}: {}", words(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The status of a request with this token.
    fn ask(&self, server: &Server, shown: &str, token: &str, more: &[&str]) -> String {
        let (bearer, url) = (format!("authorization: Bearer {token}"), server.url("/api/v1/admin/identities"));
        let arguments = [&["-H", &bearer, "-o", "/dev/null", "-w", "%{http_code}"], more, &[&url]].concat();
        String::from_utf8(self.curl(shown, &arguments).stdout).unwrap()
    }

    /// Waits until the audit log has these reasons why proofs of machines failed.
    fn told(&self, reasons: &[&str]) {
        let begun = Instant::now();
        loop {
            let told = self.run(&["--json", "audit", "list", "--outcome", "failed", "--limit", "1000"]);
            if reasons.iter().all(|why| told.contains(why)) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{reasons:?} in {told}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_certificate_stands_for_an_assertion_and_binds_its_token() {
    let desk = Desk::new();
    desk.machine("import-job");
    desk.machine("other-job");
    let server = desk.start();
    // Asked for, never required.
    let body = format!(r#"{{"data": {{"email": "admin@example.cd", "password": "{PASSWORD}"}}}}"#);
    let url = server.url("/api/v1/auth/login");
    let login = desk.curl("", &["-H", "content-type: application/json", "-d", &body, &url]);
    assert!(words(&login).contains("accessToken"), "{}", words(&login));
    assert_eq!(desk.prove(&server, "")["error"]["code"], "AUTH_INVALID_TOKEN");

    let granted = desk.prove(&server, "import-job");
    let token = granted["data"]["accessToken"].as_str().unwrap_or_else(|| panic!("{granted}"));
    assert!(granted["data"]["expiresIn"].as_i64().unwrap() <= 600 && granted["data"]["refreshToken"].is_null());
    for version in [&["--tls-max", "1.2"][..], &["--http1.1"], &[]] {
        assert_eq!(desk.ask(&server, "import-job", token, version), "200", "{version:?}");
    }
    // What a proxy would say of a certificate is nobody's word here.
    let pem = fs::read_to_string(desk.path("import-job.crt")).unwrap().replace('\n', "%0A");
    for name in ["x-client-cert", "x-forwarded-client-cert", "x-ssl-client-cert", "client-cert"] {
        assert_eq!(desk.ask(&server, "", token, &["-H", &format!("{name}: {pem}")]), "401", "{name}");
    }
    assert_eq!(desk.ask(&server, "other-job", token, &[]), "401", "another machine's certificate");
    desk.told(&["bound to a certificate"]);
    server.stop();

    // Where no authority is named, nobody is asked for a certificate.
    let server = desk.instance.start();
    assert_eq!(desk.prove(&server, "import-job")["error"]["code"], "AUTH_INVALID_TOKEN");
    assert_eq!(desk.ask(&server, "import-job", token, &[]), "401");
    server.stop();
}

#[test]
fn a_certificate_that_differs_in_anything_is_refused_and_told() {
    let desk = Desk::new();
    let key = desk.machine("import-job");
    let foreign = Authority::new("another authority");
    desk.keep("foreign", &key, &foreign.certify(&key, |_| ()));
    desk.keep("expired", &key, &desk.authority.certify(&key, |params| params.not_after = date_time_ymd(2020, 1, 1)));
    desk.keep("early", &key, &desk.authority.certify(&key, |params| params.not_before = date_time_ymd(2090, 1, 1)));
    let server_use = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    desk.keep("server", &key, &desk.authority.certify(&key, server_use));
    let unknown = desk.key(ED25519);
    desk.keep("unknown", &unknown, &desk.authority.certify(&unknown, |_| ()));
    let elliptic = desk.key(ELLIPTIC);
    desk.keep("elliptic", &elliptic, &desk.authority.certify(&elliptic, |_| ()));
    let server = desk.start();
    for shown in ["foreign", "expired", "early", "server"] {
        let output = desk.curl(shown, &[&server.url("/api/v1/health")]);
        // In the handshake, or at the first byte after it: the client cannot tell before.
        let cut = [35, 55, 56].contains(&output.status.code().unwrap());
        assert!(cut, "{shown}: {} {}", output.status, words(&output));
    }
    for shown in ["unknown", "elliptic"] {
        assert_eq!(desk.prove(&server, shown)["error"]["code"], "AUTH_INVALID_TOKEN", "{shown}");
    }
    assert!(desk.prove(&server, "import-job")["data"]["accessToken"].is_string());
    desk.told(&[
        "of another authority",
        "expired",
        "of the future",
        "for another purpose",
        "no machine's",
        "not Ed25519",
    ]);
    server.stop();
}

#[test]
fn an_authority_that_cannot_be_read_is_a_refused_start() {
    let desk = Desk::new();
    fs::write(desk.path("empty.pem"), "nothing").unwrap();
    for name in ["absent.pem", "empty.pem"] {
        let mut command = desk.instance.serve();
        command.env("DEBROUILLE_SERVER_CLIENT_CA", desk.path(name));
        let (code, words) = desk.instance.refused(command);
        assert_eq!(code, 3, "{words}");
        assert!(words.contains("server.client_ca") && words.contains(name), "{words}");
    }
}
