//! The root key and secrets of the configuration in a real vault: opened, renewed, rotated, moved; and all the ways in which it
//! does not answer.

mod tokens;

use crate::appliance::{PASSWORD, Server, until, words};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const SECOND: Duration = Duration::from_secs(1);

fn partner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./scripts/test, which starts the servers"))
}

/// The partners' vault, or one of a test's own that it may seal.
struct Vault {
    address: String,
    own: Option<Child>,
    /// What opens it when it is sealed, where it is the test's own.
    unseals: String,
}

impl Vault {
    fn shared() -> Self {
        Self { address: partner("VAULT_URL"), own: None, unseals: String::new() }
    }

    /// In clear, on loopback; sealed once and unsealed again by its one key.
    fn own() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listens = format!("-dev-listen-address=127.0.0.1:{port}");
        let token = format!("-dev-root-token-id={}", partner("VAULT_ROOT_TOKEN"));
        let mut server = Command::new(partner("VAULT_PROGRAM"));
        server.args(["server", "-dev", "-dev-no-store-token", &listens, &token]).env("HOME", std::env::temp_dir());
        let said = tempfile::NamedTempFile::new().unwrap();
        server.stdin(Stdio::null()).stdout(said.reopen().unwrap()).stderr(Stdio::null());
        let (child, unseals) = (server.spawn().unwrap(), String::new());
        let mut vault = Self { address: format!("http://127.0.0.1:{port}"), own: Some(child), unseals };
        assert!(until(30, || vault.try_bao(&["status"]).status.success()), "no vault came up");
        let unseals = || {
            let said = fs::read_to_string(said.path()).unwrap();
            said.lines().find_map(|line| line.strip_prefix("Unseal Key: ")).map(str::to_owned)
        };
        assert!(until(30, || unseals().is_some()), "it does not say what unseals it");
        vault.unseals = unseals().unwrap();
        for enable in [&["secrets", "enable", "transit"][..], &["auth", "enable", "approle"]] {
            vault.bao(enable);
        }
        vault
    }

    fn try_bao(&self, arguments: &[&str]) -> Output {
        let mut bao = Command::new(partner("VAULT_PROGRAM"));
        bao.args(arguments).env("BAO_ADDR", &self.address).env("BAO_TOKEN", partner("VAULT_ROOT_TOKEN"));
        bao.env("BAO_CACERT", partner("VAULT_CA")).env("HOME", std::env::temp_dir()).stdin(Stdio::null());
        bao.output().unwrap()
    }

    fn bao(&self, arguments: &[&str]) -> String {
        let output = self.try_bao(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A role that may do what the documents say; `more` of its settings.
    fn role(&self, name: &str, more: &[&str]) -> Role<'_> {
        let rights = format!(
            r#"path "transit/encrypt/{name}" {{ capabilities = ["update"] }}
               path "transit/decrypt/{name}" {{ capabilities = ["update"] }}
               path "transit/keys/{name}" {{ capabilities = ["read"] }}
               path "transit/keys/{name}/rotate" {{ capabilities = ["update"] }}
               path "kv/data/{name}/*" {{ capabilities = ["read"] }}"#
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), rights).unwrap();
        self.bao(&["policy", "write", name, file.path().to_str().unwrap()]);
        let (place, policies) = (format!("auth/approle/role/{name}"), format!("token_policies={name}"));
        self.bao(&[&["write", &place, &policies][..], more].concat());
        let id = self.bao(&["read", "-field=role_id", &format!("{place}/role-id")]);
        Role { vault: self, name: name.to_owned(), id }
    }

    fn key(&self, name: &str) {
        self.bao(&["write", "-f", &format!("transit/keys/{name}"), "type=aes256-gcm96"]);
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if let Some(child) = &mut self.own {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Role<'v> {
    vault: &'v Vault,
    name: String,
    id: String,
}

impl Role<'_> {
    fn secret(&self) -> String {
        self.vault.bao(&["write", "-f", "-field=secret_id", &format!("auth/approle/role/{}/secret-id", self.name)])
    }
}

/// An instance with a configuration file of the test's own.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new(configuration: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        site.configure(configuration);
        fs::write(site.path("password"), PASSWORD).unwrap();
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(site.path("password"), closed).unwrap();
        site
    }

    /// The root key in the vault, by this role.
    fn of(role: &Role) -> Self {
        Self::new(&Self::settings(role, &format!("transit_key = \"{}\"", role.name)))
    }

    fn settings(role: &Role, more: &str) -> String {
        let (address, id, trusted) = (&role.vault.address, &role.id, partner("VAULT_CA"));
        format!("[tls]\ntrusted = \"{trusted}\"\n[vault]\naddress = \"{address}\"\nrole_id = \"{id}\"\n{more}\n")
    }

    fn configure(&self, more: &str) {
        let head = "[instance]\nenvironment = \"development\"\n[server]\nhostnames = [\"localhost\"]\n";
        fs::write(self.path("appliance.toml"), format!("{head}{more}")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn command(&self, arguments: &[&str], secret: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_debrouille-appliance"));
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        command.args(["--config", "appliance.toml", "--data-dir", "data", "--lang", "en"]).args(arguments);
        if !secret.is_empty() {
            command.env("DEBROUILLE_VAULT_SECRET_ID", secret);
        }
        command
    }

    fn init(&self, secret: &str) -> Output {
        let init = ["init", "--environment", "development", "--hostname", "localhost"];
        let administrator = ["--admin-email", "admin@example.cd", "--admin-password-file", "password"];
        self.command(&[&init[..], &administrator].concat(), secret).output().unwrap()
    }

    fn initialised(self, secret: &str) -> Self {
        let made = self.init(secret);
        assert!(made.status.success(), "{}", words(&made));
        self
    }

    fn serve(&self, secret: &str) -> Command {
        let addresses = ["--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0"];
        self.command(&[&["serve"][..], &addresses].concat(), secret)
    }

    fn start(&self, secret: &str) -> Server {
        Server::of(self.serve(secret), &self.data())
    }

    /// What a command that must succeed says.
    fn run(&self, arguments: &[&str], secret: &str) -> String {
        let output = self.command(arguments, secret).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", words(&output));
        words(&output)
    }

    /// What one that must not says.
    fn fails(&self, mut command: Command, code: i32) -> String {
        let output = command.output().unwrap();
        let words = words(&output);
        assert_eq!(output.status.code(), Some(code), "{words}");
        words
    }

    /// By what each key is wrapped.
    fn wrapped(&self) -> Vec<String> {
        let text = fs::read_to_string(self.data().join("keyring.json")).unwrap();
        let keyring: Value = serde_json::from_str(&text).unwrap();
        let wrapped = keyring["keys"].as_array().unwrap().iter().map(|key| {
            let bytes = STANDARD.decode(key["wrapped"].as_str().unwrap()).unwrap();
            String::from_utf8_lossy(&bytes).split(':').take(2).collect::<Vec<_>>().join(":")
        });
        wrapped.collect()
    }

    fn all_wrapped_by(&self, version: &str) {
        let wrapped = self.wrapped();
        assert!(wrapped.len() >= 7 && wrapped.iter().all(|by| by == version), "{wrapped:?}");
    }
}

fn healthy(server: &Server) {
    let code = server.curl(&["-o", "/dev/null", "-w", "%{http_code}", &server.url("/api/v1/health")]);
    assert_eq!(code, "200");
}

/// What the server's own check of it says.
fn vault_is(server: &Server, level: &str) -> bool {
    let told: Value = serde_json::from_str(&server.ops("/readyz").1).unwrap();
    told["checks"].as_array().unwrap().iter().any(|check| check["check"] == "vault" && check["level"] == level)
}

/// A secret of the role is good for one login here, so each process logs in once, and lives by renewal alone.
#[test]
fn the_root_key_is_opened_by_one_login_that_is_renewed() {
    let vault = Vault::shared();
    vault.key("renewed");
    let role = vault.role("renewed", &["token_ttl=10m", "secret_id_num_uses=1"]);
    let lives = |ttl: &str| drop(vault.bao(&["write", "auth/approle/role/renewed", &format!("token_ttl={ttl}")]));
    let site = Site::of(&role).initialised(&role.secret());
    assert!(!site.data().join("root.key").exists());
    site.all_wrapped_by("vault:v1");
    // At the half of it, it is renewed: a slow machine has that long to start.
    lives("40s");
    let server = site.start(&role.secret());
    lives("10m");
    let source = format!("vault {} transit/renewed", vault.address);
    std::thread::sleep(SECOND * 45);
    assert!(site.run(&["secrets", "status"], "").contains(&source));
    site.run(&["secrets", "rotate", "media", "data"], "");
    site.run(&["secrets", "rewrap"], "");
    site.all_wrapped_by("vault:v2");
    let metrics = server.ops("/metrics").1;
    assert!(metrics.contains("debrouille_job_last_success_timestamp_seconds{job=\"vault_renewal\"}"), "{metrics}");
    assert!(!metrics.contains("job_failures_total{job=\"vault_renewal\"} "), "{metrics}");
    server.stop();

    // As after a stop between the key's next version and the keyring under it: either opens.
    let after = fs::read(site.data().join("keyring.json")).unwrap();
    site.start(&role.secret()).stop();
    vault.bao(&["write", "-f", "transit/keys/renewed/rotate"]);
    site.start(&role.secret()).stop();
    assert_eq!(fs::read(site.data().join("keyring.json")).unwrap(), after);
    // Nobody serves: each command opens it, by a login of its own.
    for command in [&["secrets", "status"][..], &["audit", "verify"], &["secrets", "rewrap"], &["doctor"]] {
        site.run(command, &role.secret());
    }
    site.all_wrapped_by("vault:v4");
}

#[test]
fn a_vault_that_does_not_open_is_said_and_nothing_starts() {
    let vault = Vault::shared();
    let role = vault.role("absent", &["token_ttl=60s"]);
    let secret = role.secret();
    // No such key: one is not made by chance, and nothing is left behind.
    let site = Site::of(&role);
    let told = site.init(&secret);
    assert_eq!(told.status.code(), Some(3), "{}", words(&told));
    assert!(words(&told).contains("bao write -f transit/keys/absent type=aes256-gcm96"), "{}", words(&told));
    assert!(!site.data().exists() || fs::read_dir(site.data()).unwrap().next().is_none());
    vault.bao(&["write", "-f", "transit/keys/absent", "type=rsa-2048"]);
    assert!(words(&site.init(&secret)).contains("of type rsa-2048"));
    vault.bao(&["write", "transit/keys/absent/config", "deletion_allowed=true"]);
    vault.bao(&["delete", "transit/keys/absent"]);
    vault.key("absent");
    let site = site.initialised(&secret);

    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = site.serve(&secret);
    command.env("DEBROUILLE_VAULT_ADDRESS", format!("https://{away}"));
    let start = Instant::now();
    let told = site.fails(command, 6);
    assert!(start.elapsed() > SECOND * 4 && start.elapsed() < SECOND * 60, "{:?}", start.elapsed());
    for wanted in [&away.to_string(), "does not answer", "5 × ", "refused", "auth/approle/login", "vault.address"] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    // Not by an authority that is trusted.
    let mut command = site.serve(&secret);
    command.env("DEBROUILLE_TLS_TRUSTED", authority(&site.path("other.pem")));
    let told = site.fails(command, 6);
    assert!(told.contains("certificate") && told.contains("tls.trusted"), "{told}");

    let told = site.fails(site.serve("00000000-0000-0000-0000-000000000000"), 3);
    assert!(told.contains("refuses the login by AppRole") && told.contains("secret-id"), "{told}");
    assert!(!told.contains("00000000-0000"), "{told}");

    // Each key is bound to what it is: two that changed places open nothing.
    let path = site.data().join("keyring.json");
    let kept = fs::read_to_string(&path).unwrap();
    let mut keyring: Value = serde_json::from_str(&kept).unwrap();
    let wrapped = keyring["keys"][0]["wrapped"].take();
    keyring["keys"][0]["wrapped"] = std::mem::replace(&mut keyring["keys"][1]["wrapped"], wrapped);
    fs::write(&path, keyring.to_string()).unwrap();
    let told = site.fails(site.serve(&secret), 5);
    assert!(told.contains(&format!("vault {} transit/absent", vault.address)), "{told}");
    fs::write(&path, &kept).unwrap();

    // One that was put back from before the keyring: not another key, and no other is tried.
    let ahead = STANDARD.encode("vault:v1:")[..12].to_owned();
    fs::write(&path, kept.replace(&ahead, &STANDARD.encode("vault:v9:")[..12])).unwrap();
    let told = site.fails(site.serve(&secret), 3);
    assert!(told.contains("backup older than the keyring") && told.contains("transit/keys/absent"), "{told}");
    fs::write(&path, kept).unwrap();

    // One that may do nothing.
    vault.bao(&["write", "auth/approle/role/absent", "token_policies=default"]);
    let told = site.fails(site.serve(&secret), 3);
    assert!(told.contains("refuses transit/decrypt/absent") && told.contains("\"update\""), "{told}");
    vault.bao(&["write", "auth/approle/role/absent", "token_policies=absent"]);

    // One whose versions of that time are let go.
    vault.bao(&["write", "-f", "transit/keys/absent/rotate"]);
    vault.bao(&["write", "transit/keys/absent/config", "min_decryption_version=2"]);
    let told = site.fails(site.serve(&secret), 3);
    assert!(told.contains("config min_decryption_version=1"), "{told}");
    vault.bao(&["write", "transit/keys/absent/config", "min_decryption_version=1"]);
    site.start(&secret).stop();

    // A key of the same name that is another.
    vault.bao(&["write", "transit/keys/absent/config", "deletion_allowed=true"]);
    vault.bao(&["delete", "transit/keys/absent"]);
    let told = site.fails(site.serve(&secret), 3);
    assert!(told.contains("has no key transit/decrypt/absent"), "{told}");
    vault.key("absent");
    let told = site.fails(site.serve(&secret), 5);
    assert!(told.contains(&format!("vault {} transit/absent", vault.address)), "{told}");
}

/// A self-signed authority that certified nobody.
fn authority(path: &Path) -> &Path {
    let key = path.with_extension("key");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=other"])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", words(&made));
    path
}

#[test]
fn who_serves_needs_the_vault_for_changes_alone() {
    let vault = Vault::own();
    vault.key("appliance");
    let role = vault.role("appliance", &["token_ttl=4s"]);
    let secret = role.secret();
    let site = Site::of(&role).initialised(&secret);
    let server = site.start(&secret);
    let before = site.wrapped();
    vault.bao(&["operator", "seal"]);
    let told = site.fails(site.command(&["secrets", "rotate", "media"], ""), 6);
    assert!(told.contains("is sealed") && told.contains("bao operator unseal"), "{told}");
    assert_eq!(site.wrapped(), before);
    let log = site.run(&["audit", "list", "--action", "secrets.rotate"], "");
    assert!(!log.contains("media"), "a key that never was is in the log: {log}");
    healthy(&server);
    assert!(site.run(&["secrets", "status"], "").contains("transit/appliance"));
    assert!(until(60, || vault_is(&server, "warning")), "{}", server.ops("/readyz").1);
    assert_eq!(server.ops("/readyz").0, 200);
    // Open again, it is asked again, and all is well.
    vault.bao(&["operator", "unseal", &vault.unseals]);
    assert!(until(90, || vault_is(&server, "ok")), "{}", server.ops("/readyz").1);
    site.run(&["secrets", "rotate", "media"], "");
    vault.bao(&["operator", "seal"]);
    server.stop();
    let start = Instant::now();
    let told = site.fails(site.serve(&secret), 6);
    assert!(told.contains("is sealed") && start.elapsed() < SECOND * 60, "{told}");
}

#[test]
fn the_root_key_moves_into_the_vault_and_out_again() {
    let vault = Vault::shared();
    vault.key("moved");
    let role = vault.role("moved", &["token_ttl=60s"]);
    let secret = role.secret();
    let site = Site::new("").initialised("");
    let inside = Site::settings(&role, "transit_key = \"moved\"");
    site.configure(&inside);
    let server = site.start(&secret);
    assert!(site.run(&["secrets", "status"], "").contains("Root key: file "));
    assert!(site.run(&["doctor"], &secret).contains("secrets rewrap"));
    site.run(&["secrets", "rewrap"], "");
    site.all_wrapped_by("vault:v2");
    server.stop();
    // Until it is destroyed, it opens what was kept of the keyring before.
    let told = site.run(&["doctor"], &secret);
    assert!(told.contains("root.key stayed on this machine"), "{told}");
    fs::remove_file(site.data().join("root.key")).unwrap();
    assert!(!site.run(&["doctor"], &secret).contains("stayed on this machine"));
    site.start(&secret).stop();

    // What comes back from a backup is under the vault's key too.
    let key = site.command(&["--json", "backup", "keys", "generate", "-o", "recipient.key"], "").output().unwrap();
    let key: Value = serde_json::from_slice(&key.stdout).unwrap();
    fs::create_dir(site.path("backups")).unwrap();
    let targets = format!("[backup]\ntargets = [\"backups\"]\nrecipients = [{}]\n", key["recipient"]);
    site.configure(&format!("{inside}{targets}"));
    site.run(&["backup", "create"], &secret);
    let from = ["restore", "--from", "backups", "--identity", "recipient.key", "--environment", "development"];
    site.run(&[&from[..], &["--into", "again", "--any-signer"]].concat(), &secret);
    let again = fs::read_to_string(site.path("again/keyring.json")).unwrap();
    assert!(!site.path("again/root.key").exists() && again.contains(&STANDARD.encode("vault:v2:")));
    // A drill's copy has a key of its own, and needs no vault for it.
    site.run(&["restore", "drill", "--identity", "recipient.key", "--any-signer"], &secret);

    site.run(&["secrets", "rewrap", "--to", "own.key", "--yes"], &secret);
    let told = site.fails(site.serve(&secret), 5);
    assert!(told.contains("does not open"), "{told}");
    site.configure("");
    let mut serve = site.serve("");
    serve.env("DEBROUILLE_ROOT_KEY_FILE", site.path("own.key"));
    Server::of(serve, &site.data()).stop();
}

#[test]
fn secrets_of_the_configuration_are_read_in_the_vault_and_stay_out_of_sight() {
    let vault = Vault::shared();
    let role = vault.role("kept", &["token_ttl=4s"]);
    let (secret, shared) = (role.secret(), "b5U0x2kQmT7vJp9aRz4sWc8dYf1gHn3e");
    let reference = "vault:kv/kept/jwt#secret";
    let settings = |reference: &str| {
        let identity = format!("[identity]\ntoken_algorithm = \"HS256\"\njwt_secret = \"{reference}\"\n");
        format!("{}{identity}[log]\nlevel = \"trace\"\n", Site::settings(&role, ""))
    };
    let site = Site::new(&settings(reference));
    let told = site.init(&secret);
    assert_eq!(told.status.code(), Some(3), "{}", words(&told));
    for wanted in ["appliance.toml:", "identity.jwt_secret", reference, "kv/data/kept/jwt", "bao kv put"] {
        assert!(words(&told).contains(wanted), "{wanted} in {}", words(&told));
    }
    vault.bao(&["kv", "put", "-mount=kv", "kept/jwt", "other=x"]);
    assert!(words(&site.init(&secret)).contains("no field \"secret\""));
    vault.bao(&["kv", "put", "-mount=kv", "kept/jwt", "secret=short"]);
    assert!(words(&site.init(&secret)).contains("it takes at least 32"));
    vault.bao(&["kv", "put", "-mount=kv", "kept/jwt", &format!("secret={shared}")]);
    let site = site.initialised(&secret);

    let server = site.start(&secret);
    let login = format!(r#"{{"data":{{"email":"admin@example.cd","password":"{PASSWORD}"}}}}"#);
    let login = server.curl(&["-H", "content-type: application/json", "-d", &login, &server.url("/api/v1/auth/login")]);
    let login: Value = serde_json::from_str(&login).unwrap();
    let token = login["data"]["accessToken"].as_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, shared.as_bytes());
    aws_lc_rs::hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();

    // Shown as the reference it is; a command to who serves needs no vault.
    let shown = site.run(&["config", "show"], "");
    assert!(shown.contains(reference) && !shown.contains(shared), "{shown}");
    let heard =
        [shown, site.run(&["status"], ""), words(&site.command(&["doctor"], &secret).output().unwrap())].concat();
    // Of the login there is no log yet; there is of what follows it.
    let renewed = || server.ops("/metrics").1.contains("last_success_timestamp_seconds{job=\"vault_renewal\"}");
    assert!(until(60, renewed), "it is not renewed");
    server.stop();
    let logs = fs::read_dir(site.data().join("logs")).unwrap();
    let logs: String = logs.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(logs.len() > 10_000, "the logs are loud");
    let issued = regex::Regex::new(r"\b(hv)?[sb]\.[A-Za-z0-9_-]{20}").unwrap();
    for words in [&heard, &logs] {
        assert!(!words.contains(shared) && !words.contains(&secret), "a secret is told");
        assert!(!issued.is_match(words), "a token is told: {:?}", issued.find(words));
    }
    // Without the vault's answer it is not as if there were no secret.
    vault.bao(&["kv", "delete", "-mount=kv", "kept/jwt"]);
    let told = site.fails(site.serve(&secret), 3);
    assert!(told.contains("identity.jwt_secret") && told.contains(reference), "{told}");
}
