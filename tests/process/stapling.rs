//! What an authority says of a certificate, stapled by the real binary: asked of a real responder (`openssl ocsp`), and judged
//! from outside by OpenSSL and curl.

use crate::{
    alerts::world::{LOOK, World},
    appliance::{Instance, Server, until, words},
};
use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SerialNumber};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

const NAME: &str = "api.example.cd";
const SERIAL: [u8; 2] = [0x41, 0x07];

/// An authority with a certificate that names a responder, which may answer or be away.
struct Site {
    world: World,
    port: u16,
    responder: Option<Child>,
}

impl Site {
    fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let world = World::of(Instance::of("development", &[NAME, "localhost"]), &[]);
        let site = Self { world, port, responder: None };
        site.certify();
        let path = site.path("appliance.toml");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let (chain, key) = (site.path("chain.pem"), site.path("key.pem"));
        let files = format!("[tls]\nmode = \"files\"\ncertificate = {chain:?}\nkey = {key:?}\n");
        fs::write(path, format!("{before}\n{files}")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// A root, who answers for it, and a certificate that says where.
    fn certify(&self) {
        let made = |name: &str, change: &dyn Fn(&mut CertificateParams)| {
            let (mut parameters, key) = (CertificateParams::new(vec![]).unwrap(), KeyPair::generate().unwrap());
            parameters.distinguished_name.push(DnType::CommonName, name);
            change(&mut parameters);
            (parameters, key)
        };
        let (root, root_key) = made("Root", &|root| root.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        let (teller, teller_key) =
            made("Responder", &|teller| teller.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning]);
        let (leaf, leaf_key) = made(NAME, &|leaf| {
            *leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
            leaf.serial_number = Some(SerialNumber::from_slice(&SERIAL));
            let url = format!("http://127.0.0.1:{}/ocsp", self.port);
            let length = url.len() as u8;
            let mut access =
                vec![0x30, length + 14, 0x30, length + 12, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, length];
            access.extend(url.as_bytes());
            leaf.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
        });
        let issuer = Issuer::from_params(&root, &root_key);
        let root = root.self_signed(&root_key).unwrap().pem();
        fs::write(self.path("chain.pem"), leaf.signed_by(&leaf_key, &issuer).unwrap().pem() + &root).unwrap();
        fs::write(self.path("root.pem"), root).unwrap();
        fs::write(self.path("responder.pem"), teller.signed_by(&teller_key, &issuer).unwrap().pem()).unwrap();
        fs::write(self.path("responder.key"), teller_key.serialize_pem()).unwrap();
        fs::write(self.path("key.pem"), leaf_key.serialize_pem()).unwrap();
        fs::set_permissions(self.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// From now on this is answered: `V`, or `R` and since when.
    fn answer(&mut self, word: &str, since: &str) {
        self.hush();
        let line = format!("{word}\t491231235959Z\t{since}\t{}\tunknown\t/CN={NAME}\n", hex::encode_upper(SERIAL));
        fs::write(self.path("index.txt"), line).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["ocsp", "-index"]).arg(self.path("index.txt")).arg("-CA").arg(self.path("root.pem"));
        openssl.arg("-rsigner").arg(self.path("responder.pem")).arg("-rkey").arg(self.path("responder.key"));
        openssl.args(["-ndays", "1", "-port", &self.port.to_string()]);
        let child = openssl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let responder = self.responder.insert(child);
        // One that is connected to and not asked waits for ever: it says itself when it is there.
        let mut line = String::new();
        BufReader::new(responder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ACCEPT"), "{line}");
    }

    fn hush(&mut self) {
        if let Some(mut responder) = self.responder.take() {
            responder.kill().unwrap();
            responder.wait().unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.world.command(arguments).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn staple(&self) -> Value {
        serde_json::from_str::<Value>(&self.run(&["--json", "tls", "status"])).unwrap()["staple"].clone()
    }

    /// What OpenSSL is shown with the certificate.
    fn shown(&self, server: &Server) -> String {
        let mut shake = Command::new("openssl");
        shake.args(["s_client", "-connect", &server.https.to_string(), "-servername", NAME, "-status", "-CAfile"]);
        words(&shake.arg(self.path("root.pem")).stdin(Stdio::null()).output().unwrap())
    }

    /// Whether curl finds the answer there and good.
    fn accepted(&self, server: &Server) -> bool {
        let port = server.https.port();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "20", "--cert-status", "--cacert"]).arg(self.path("root.pem"));
        curl.args(["--resolve", &format!("{NAME}:{port}:127.0.0.1"), &format!("https://{NAME}:{port}/api/v1/health")]);
        curl.output().unwrap().status.success()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.hush();
    }
}

#[test]
fn what_the_authority_says_is_stapled_kept_and_never_when_it_says_revoked() {
    let mut site = Site::new();
    site.answer("V", "");
    let server = site.world.start();
    assert!(until(30, || site.staple()["state"] == "good"), "{:#}", site.staple());
    let shown = site.shown(&server);
    assert!(shown.contains("OCSP Response Status: successful") && shown.contains("Cert Status: good"), "{shown}");
    assert!(site.accepted(&server));
    assert!(site.run(&["tls", "status"]).contains("OCSP: good, says the authority, until"));

    // Away: it stays, and is there at once after a restart.
    site.hush();
    site.run(&["tls", "renew"]);
    let staple = site.staple();
    assert!(staple["state"] == "good" && staple["fault"].as_str().unwrap().contains("/ocsp"), "{staple:#}");
    assert!(site.accepted(&server));
    server.stop();
    let server = site.world.start();
    assert!(site.accepted(&server));
    assert_eq!(site.staple()["thisUpdate"], staple["thisUpdate"]);

    site.answer("R", "261101000000Z,keyCompromise");
    site.run(&["tls", "renew"]);
    let staple = site.staple();
    assert_eq!((&staple["state"], &staple["revokedAt"]), (&"revoked".into(), &"2026-11-01T00:00:00Z".into()));
    let shown = site.shown(&server);
    assert!(shown.contains("OCSP response: no response sent") && shown.contains("BEGIN CERTIFICATE"), "{shown}");
    assert!(!site.accepted(&server));
    assert!(site.run(&["tls", "status"]).contains("revoked this certificate on 2026-11-01"));
    assert!(server.ops("/metrics").1.contains("debrouille_certificate_revoked 1\n"));
    assert!(server.ops("/readyz").1.contains("degraded"));
    let told =
        |line: &Value| line["level"] == "error" && line["message"].as_str().unwrap_or_default().contains("revoked");
    assert!(until(5, || server.log().iter().any(told)), "nothing in the log");
    site.world.fires(&server, &["CertificateRevoked"], LOOK, || {});
    server.stop();

    // Nor after a restart, whoever answers.
    site.hush();
    let server = site.world.start();
    assert!(site.shown(&server).contains("OCSP response: no response sent"));
    assert_eq!(site.staple()["state"], "revoked");

    // Another certificate is another matter.
    site.certify();
    site.answer("V", "");
    site.run(&["tls", "renew"]);
    assert!(until(30, || site.staple()["state"] == "good"), "{:#}", site.staple());
    site.world.ends(&server, &["CertificateRevoked"], 60, || {});
    server.stop();
}
