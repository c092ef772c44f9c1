//! Certificates that others give, shown by the real binary: of a public authority by each way of proof, of files, and our own
//! while there is none.

use crate::appliance::{Instance, Server, words};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn partner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./scripts/test, which starts the servers"))
}

fn curl(arguments: &[&str]) -> Result<String, String> {
    let mut curl = Command::new("curl");
    let output =
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "20"]).args(arguments).output().unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(words(&output)),
    }
}

/// An instance at an address of its own on this machine, where the authority looks for proofs.
struct Site {
    instance: Instance,
    address: String,
    name: String,
}

impl Site {
    /// `number` is this test's own; its name leads to its address.
    fn new(number: u8, names: &[&str]) -> Self {
        let (address, name) = (format!("127.0.{number}.1"), names[0].to_owned());
        let told = format!(r#"{{"host": "{name}.", "addresses": ["{address}"]}}"#);
        curl(&["--data", &told, &format!("{}/add-a", partner("ACME_NAMES_URL"))]).unwrap();
        let site = Self { instance: Instance::of("staging", names), address, name };
        let authority =
            fs::read_to_string(partner("ACME_CA")).unwrap() + &fs::read_to_string(partner("ACME_AGREED_CA")).unwrap();
        fs::write(site.path("trusted.pem"), authority).unwrap();
        let roots = curl(&["--cacert", &partner("ACME_CA"), &partner("ACME_ROOTS")]).unwrap();
        fs::write(site.path("roots.pem"), roots).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.instance.data.with_file_name(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Adds to the configuration that `init` wrote, in the place of what was added before.
    fn configure(&self, added: &str) {
        let path = self.path("appliance.toml");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let before = before.split("# added\n").next().unwrap();
        fs::write(path, format!("{before}# added\n{added}\n")).unwrap();
    }

    fn acme(&self, issuers: &[&str], more: &str) {
        let issuers = issuers.iter().map(|issuer| format!("\"{issuer}\"")).collect::<Vec<_>>().join(", ");
        let trusted = self.text("trusted.pem");
        self.configure(&format!(
            "[tls]\nmode = \"acme\"\ntrusted = \"{trusted}\"\n[acme]\nagree_terms = true\ndns_wait_seconds = 0\nissuers = [{issuers}]\n{more}"
        ));
    }

    fn start(&self) -> Server {
        let ports = partner("ACME_PORTS");
        let (http, https) = ports.split_once(' ').unwrap();
        let (http, https) = (format!("{}:{http}", self.address), format!("{}:{https}", self.address));
        let serve = ["serve", "--https", &https, "--http", &http, "--ops", "127.0.0.1:0"];
        Server::of(self.instance.command(&serve), &self.instance.data)
    }

    fn status(&self) -> Value {
        let output = self.instance.command(&["--json", "tls", "status"]).output().unwrap();
        assert!(output.status.success(), "{}", words(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What it says once it is as wanted.
    fn until(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut status = Value::Null;
        self.wait("another status", || {
            status = self.status();
            wanted(&status)
        });
        status
    }

    fn wait(&self, what: &str, mut seen: impl FnMut() -> bool) {
        let start = Instant::now();
        while !seen() {
            assert!(start.elapsed() < PATIENCE, "{what} did not come: {:#}", self.status());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn ordered(&self) -> Value {
        self.until(|status| status["fallback"] == false)
    }

    /// Asks by a name, trusting these authorities alone.
    fn ask(&self, server: &Server, name: &str, trusted: &str) -> Result<String, String> {
        let port = server.https.port();
        let resolve = format!("{name}:{port}:{}", self.address);
        curl(&["--cacert", trusted, "--resolve", &resolve, &format!("https://{name}:{port}/api/v1/health")])
    }
}

#[test]
fn a_public_authority_finds_its_proof_on_port_80_and_what_it_gave_outlives_a_restart() {
    let site = Site::new(21, &["one.acme.example", "localhost"]);
    site.acme(&[&partner("ACME_URL")], "contact = \"admin@example.cd\"");
    let server = site.start();
    let (public, own) = (site.text("roots.pem"), site.instance.data.join("ca.crt").display().to_string());
    let first = site.ordered();
    assert_eq!((&first["mode"], &first["names"]), (&"acme".into(), &serde_json::json!(["one.acme.example"])));
    site.ask(&server, "one.acme.example", &public).unwrap();
    assert!(site.ask(&server, "one.acme.example", &own).is_err(), "our own is shown for a name that is certified");
    site.ask(&server, "localhost", &own).unwrap();
    assert!(server.ops("/metrics").1.contains("debrouille_certificate_fallback 0\n"));
    server.stop();

    let server = site.start();
    assert_eq!(site.status()["fingerprint"], first["fingerprint"]);
    site.ask(&server, "one.acme.example", &public).unwrap();
    let renewed = site.instance.command(&["tls", "renew"]).output().unwrap();
    assert!(renewed.status.success(), "{}", words(&renewed));
    assert_ne!(site.status()["fingerprint"], first["fingerprint"]);
    site.ask(&server, "one.acme.example", &public).unwrap();
    server.stop();
}

#[test]
fn a_public_authority_finds_its_proof_in_a_handshake() {
    let site = Site::new(22, &["two.acme.example"]);
    site.acme(&[&partner("ACME_URL")], "challenge = \"tls-alpn-01\"");
    let server = site.start();
    site.ordered();
    site.ask(&server, "two.acme.example", &site.text("roots.pem")).unwrap();
    // Nobody else is answered who speaks its language.
    let port = server.https.port().to_string();
    let mut shake = Command::new("openssl");
    shake.args(["s_client", "-connect", &format!("{}:{port}", site.address), "-servername", "two.acme.example"]);
    let output = shake.args(["-alpn", "acme-tls/1"]).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(!words(&output).contains("BEGIN CERTIFICATE"), "{}", words(&output));
    server.stop();
}

#[test]
fn a_public_authority_finds_records_that_a_program_wrote() {
    let site = Site::new(23, &["three.acme.example", "more.three.acme.example"]);
    let names = partner("ACME_NAMES_URL");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = add ] && word=set-txt || word=clear-txt\n\
         exec curl -fsS -d \"{{\\\"host\\\": \\\"$2.\\\", \\\"value\\\": \\\"$3\\\"}}\" {names}/$word\n"
    );
    fs::write(site.path("hook"), script).unwrap();
    fs::set_permissions(site.path("hook"), fs::Permissions::from_mode(0o755)).unwrap();
    let hook = format!("challenge = \"dns-01\"\ndns_hook = \"{}\"", site.text("hook"));
    site.acme(&[&partner("ACME_URL")], &hook);
    let server = site.start();
    site.ordered();
    for name in ["more.three.acme.example", "three.acme.example"] {
        site.ask(&server, name, &site.text("roots.pem")).unwrap();
    }
    server.stop();
}

#[test]
fn the_next_authority_is_asked_which_finds_records_written_by_signed_updates() {
    let site = Site::new(24, &["four.zone.example", "more.four.zone.example"]);
    let (server, key) = (partner("DNS_SERVER"), partner("DNS_KEY"));
    let records = format!(
        "challenge = \"dns-01\"\ndns_server = \"{server}\"\ndns_key = \"{key}\"\neab_keys = \"{}\"",
        partner("ACME_AGREED_KEY")
    );
    let agreed = format!("{} eab=appliance", partner("ACME_AGREED_URL"));
    site.acme(&["https://127.0.0.1:1/dir", &agreed], &records);
    let server = site.start();
    let status = site.ordered();
    assert_eq!(status["names"], serde_json::json!(["four.zone.example", "more.four.zone.example"]));
    server.stop();

    // A key that the zone does not know, on an instance of its own.
    let site = Site::new(25, &["five.zone.example"]);
    let wrong = records.replace(&key, "hmac-sha256:appliance:d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc=");
    site.acme(&[&agreed], &wrong);
    let server = site.start();
    let status = site.until(|status| status["fault"].is_string());
    assert!(status["fallback"] == true && status["nextAttemptAt"].is_string(), "{status:#}");
    assert!(status["fault"].as_str().unwrap().contains("_acme-challenge.five.zone.example"), "{status:#}");
    let own = site.instance.data.join("ca.crt").display().to_string();
    site.ask(&server, "five.zone.example", &own).unwrap();
    let (code, body) = server.ops("/readyz");
    assert!(code == 200 && body.contains("degraded"), "{body}");
    server.stop();
}

/// A certificate of an authority of the test's own, with its key.
fn write_pair(site: &Site) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![site.name.clone()]).unwrap().self_signed(&key).unwrap();
    fs::write(site.path("chain.pem"), certificate.pem()).unwrap();
    fs::write(site.path("key.pem"), key.serialize_pem()).unwrap();
    fs::set_permissions(site.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_source_changes_without_a_restart_and_the_last_good_one_stays() {
    let site = Site::new(26, &["six.acme.example"]);
    let server = site.start();
    assert_eq!((&site.status()["mode"], &site.status()["fallback"]), (&"internal".into(), &false.into()));
    let files = format!(
        "[tls]\nmode = \"files\"\ncertificate = \"{}\"\nkey = \"{}\"",
        site.text("chain.pem"),
        site.text("key.pem")
    );
    site.configure(&files);
    server.signal(Signal::HUP);
    // They are not there yet.
    let status = site.until(|status| status["mode"] == "files");
    assert!(status["fallback"] == true, "{status:#}");
    write_pair(&site);
    server.signal(Signal::HUP);
    let first = site.until(|status| status["fallback"] == false);
    site.ask(&server, "six.acme.example", &site.text("chain.pem")).unwrap();

    // Half of another pair, then all of it.
    let key = fs::read(site.path("key.pem")).unwrap();
    write_pair(&site);
    let next = fs::read(site.path("key.pem")).unwrap();
    fs::write(site.path("key.pem"), key).unwrap();
    server.signal(Signal::HUP);
    let status = site.until(|status| status["fault"].is_string());
    assert_eq!((&status["fingerprint"], &status["fallback"]), (&first["fingerprint"], &false.into()));
    fs::write(site.path("key.pem"), next).unwrap();
    // Nobody needs to be told.
    site.until(|status| status["fault"].is_null() && status["fingerprint"] != first["fingerprint"]);
    site.ask(&server, "six.acme.example", &site.text("chain.pem")).unwrap();

    // A configuration that does not hold changes nothing.
    for (bad, told) in [("acme", "the source of certificates stays"), ("nothing", "the configuration stays")] {
        site.configure(&format!("[tls]\nmode = \"{bad}\""));
        server.signal(Signal::HUP);
        site.wait("a word in the log", || {
            server.log().iter().any(|line| line["message"].as_str().unwrap_or_default().starts_with(told))
        });
    }
    site.configure(&files);
    assert_eq!(site.status()["mode"], "files");

    site.acme(&[&partner("ACME_URL")], "");
    server.signal(Signal::HUP);
    site.until(|status| status["mode"] == "acme" && status["issuer"].as_str().unwrap().contains("Pebble"));
    site.ask(&server, "six.acme.example", &site.text("roots.pem")).unwrap();
    site.configure("");
    server.signal(Signal::HUP);
    site.until(|status| status["mode"] == "internal");
    site.ask(&server, "six.acme.example", &site.instance.data.join("ca.crt").display().to_string()).unwrap();
    server.stop();
}
