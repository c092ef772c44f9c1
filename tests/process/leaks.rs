//! Where secrets must not be found: whatever is asked of it, none stands in its log, what it answers or tells, what it leaves on
//! disk or gives to other programs; and its memory is nobody else's.

mod places;
mod secrets;

use crate::{
    alerts::Receiver,
    appliance::{Instance, PASSWORD, Server, words},
    backups::Prepared,
};
use places::Places;
use rustix::process::Signal;
use secrets::{Secrets, totp};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn partner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./scripts/test, which starts the servers"))
}

/// A program of the operator's that fails, and says all it was given: to a file, and to whoever hears its last words.
fn talkative(path: &Path, into: &Path) {
    let into = into.display();
    let script = format!(
        "#!/bin/sh\n{{ cat /proc/$$/environ /proc/$$/cmdline; echo; cat; ls -l /proc/$$/fd; tr '\\0' ' ' </proc/$PPID/cmdline; }} >> {into}\nenv >&2\nexit 1\n"
    );
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// An instance that was told every kind of secret there is.
struct Told {
    instance: Instance,
    folder: PathBuf,
    receiver: Receiver,
    secrets: Secrets,
}

impl Told {
    fn new() -> Self {
        let prepared = Prepared::over(Instance::of("development", &["six.zone.example", "localhost"]), "");
        let (instance, folder) = (prepared.instance, prepared.folder);
        // Where a target is away too, which is signed for with a secret.
        let config = fs::read_to_string(folder.join("appliance.toml")).unwrap();
        let away = format!("targets = [\"s3://plain/x?endpoint={}\", ", partner("S3_URL"));
        fs::write(folder.join("appliance.toml"), config.replacen("targets = [", &away, 1)).unwrap();
        talkative(&folder.join("gateway"), &folder.join("dumped-sms"));
        talkative(&folder.join("hook"), &folder.join("dumped-hook"));
        Self { instance, folder, receiver: Receiver::start(), secrets: Secrets::default() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    /// Some by the environment, some by files it names.
    fn environment(&mut self) -> Vec<(String, String)> {
        let secrets = &mut self.secrets;
        let (folder, port) = (&self.folder, self.receiver.port);
        let mut all = Vec::new();
        let mut plain = |name: &str, value: String| all.push((name.to_owned(), value));
        let filed = |name: &str, value: String| {
            let file = folder.join(format!("{name}.secret"));
            fs::write(&file, value).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            (format!("{name}_FILE"), file.to_str().unwrap().to_owned())
        };
        let hook = secrets.make("path of the webhook");
        plain("DEBROUILLE_ALERTS_WEBHOOK", format!("http://127.0.0.1:{port}/{hook}"));
        plain("DEBROUILLE_ALERTS_WEBHOOK_SECRET", format!("whsec_{}", secrets.make("webhook secret")));
        plain("DEBROUILLE_ALERTS_PUSH", format!("http://127.0.0.1:{port}/garde"));
        plain("AWS_ACCESS_KEY_ID", "put".to_owned());
        plain("AWS_SECRET_ACCESS_KEY", secrets.make("S3 secret key"));
        plain("JWT_SECRET", secrets.make("JWT secret"));
        plain("DEBROUILLE_AUDIT_WITNESS_TOKEN", secrets.make("token of the witness"));
        let given = [
            ("DEBROUILLE_ALERTS_MAIL", "ops@example.cd".to_owned()),
            ("SMTP_URL", "smtps://us@127.0.0.1:1".to_owned()),
            ("DEBROUILLE_ALERTS_SMS_PROGRAM", folder.join("gateway").display().to_string()),
            ("DEBROUILLE_ALERTS_SMS_NUMBERS", "+243000".to_owned()),
            ("DEBROUILLE_AUDIT_WITNESS", format!("http://127.0.0.1:{port}/witness")),
            ("DEBROUILLE_BACKUP_SEGMENT_SECONDS", "1".to_owned()),
            ("DEBROUILLE_TLS_MODE", "acme".to_owned()),
            ("DEBROUILLE_TLS_TRUSTED", partner("ACME_AGREED_CA")),
            ("DEBROUILLE_ACME_AGREE_TERMS", "true".to_owned()),
            ("DEBROUILLE_ACME_ISSUERS", format!("{} eab=appliance", partner("ACME_AGREED_URL"))),
            ("DEBROUILLE_ACME_CHALLENGE", "dns-01".to_owned()),
            ("DEBROUILLE_ACME_DNS_HOOK", folder.join("hook").display().to_string()),
            ("DEBROUILLE_ACME_DNS_WAIT_SECONDS", "0".to_owned()),
            ("OIDC_ISSUER", "http://127.0.0.1:1".to_owned()),
            ("OIDC_CLIENT_ID", "appliance".to_owned()),
            ("OIDC_REDIRECT", "https://example.cd/back".to_owned()),
            ("DEBROUILLE_LDAP_URL", "ldaps://127.0.0.1:1".to_owned()),
            ("DEBROUILLE_LDAP_SERVICE_DN", "cn=us,dc=cd".to_owned()),
            ("DEBROUILLE_LDAP_BASE", "dc=cd".to_owned()),
            ("DEBROUILLE_LDAP_FILTER", "(mail={user})".to_owned()),
            ("DEBROUILLE_SERVER_HOSTNAMES", "six.zone.example,localhost".to_owned()),
            ("DEBROUILLE_LOG", "trace".to_owned()),
        ];
        given.into_iter().for_each(|(name, value)| plain(name, value));
        let eab = partner("ACME_AGREED_KEY");
        secrets.know("EAB key", eab.split_once('=').unwrap().1);
        let files = [
            filed("DEBROUILLE_ACME_EAB_KEYS", eab),
            filed("SMTP_PASSWORD", secrets.make("mail password")),
            filed("DEBROUILLE_ALERTS_PUSH_TOKEN", secrets.make("push token")),
            filed("OIDC_CLIENT_SECRET", secrets.make("client secret")),
            filed("DEBROUILLE_LDAP_SERVICE_PASSWORD", secrets.make("directory password")),
        ];
        all.extend(files);
        all
    }
}

/// Its bodies as they are read by nobody else.
fn ask(server: &Server, instance: &Instance, method: &str, path: &str, bearer: &str, body: &str) -> Value {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "30", "--cacert"]).arg(instance.data.join("ca.crt"));
    curl.args(["-X", method, "-H", &format!("authorization: Bearer {bearer}"), "-H", "content-type: application/json"]);
    if !body.is_empty() {
        curl.args(["--data", body]);
    }
    let output = curl.arg(server.url(path)).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// People and programs at it, rightly and wrongly; what it answered where it refused.
fn used(told: &mut Told, server: &Server) -> String {
    let Told { instance, secrets, .. } = told;
    let wrong = secrets.make("a password mistyped");
    secrets.know("password", PASSWORD);
    let login = json!({"data": {"email": "admin@example.cd", "password": PASSWORD}}).to_string();
    let mut tokens = ask(server, instance, "POST", "/api/v1/auth/login", "", &login)["data"].take();
    let refresh = json!({"data": {"refreshToken": tokens["refreshToken"]}}).to_string();
    for name in ["accessToken", "refreshToken"] {
        secrets.know(name, tokens[name].as_str().unwrap_or_else(|| panic!("{tokens}")));
    }
    tokens = ask(server, instance, "POST", "/api/v1/auth/refresh", "", &refresh)["data"].take();
    for name in ["accessToken", "refreshToken"] {
        secrets.know(&format!("second {name}"), tokens[name].as_str().unwrap());
    }
    let bearer = tokens["accessToken"].as_str().unwrap();
    let wanted = json!({"data": {"name": "k", "password": PASSWORD}}).to_string();
    let key = ask(server, instance, "POST", "/api/v1/auth/keys", bearer, &wanted);
    let key = key["data"]["token"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();
    secrets.know("API key", &key);

    let start = json!({"data": {"password": PASSWORD}}).to_string();
    let begun = ask(server, instance, "POST", "/api/v1/auth/mfa/totp/start", bearer, &start);
    let secret = begun["data"]["secret"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
    secrets.know("TOTP secret", &secret);
    let confirm = json!({"data": {"code": totp(&secret)}}).to_string();
    let codes = ask(server, instance, "POST", "/api/v1/auth/mfa/totp/confirm", bearer, &confirm);
    let codes: Vec<_> = codes["data"]["recoveryCodes"].as_array().unwrap_or_else(|| panic!("{codes}")).clone();
    codes.iter().for_each(|code| secrets.know("recovery code", code.as_str().unwrap()));

    let bad = |secret: &str| {
        vec![
            json!({"data": {"email": "admin@example.cd", "password": secret}}).to_string(),
            json!({"data": {"email": "ana@example.cd", "password": secret, "code": secret}}).to_string(),
            json!({"data": {"email": [secret], "password": {"is": secret}}}).to_string(),
            json!({"data": {"email": "a", "password": secret, "device": {"x": secret}}}).to_string(),
            json!({"data": secret}).to_string(),
            json!({"data": {"refreshToken": secret, "more": secret}}).to_string(),
            format!("{{\"data\": {{\"password\": \"{secret}"),
            format!("{{\"data\": {secret}}}"),
        ]
    };
    let mut answers = String::new();
    for secret in [wrong.as_str(), PASSWORD, &key] {
        for path in
            ["/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/mfa/verify", "/api/v1/auth/oidc/finish"]
        {
            for body in bad(secret) {
                answers += &ask(server, instance, "POST", path, secret, &body).to_string();
            }
        }
        let change = json!({"data": {"current": secret, "new": secret, "x": 1}}).to_string();
        answers += &ask(server, instance, "PUT", "/api/v1/auth/password", bearer, &change).to_string();
        let path = format!("/api/v1/auth/sessions?access_token={secret}");
        answers += &ask(server, instance, "GET", &path, secret, "").to_string();
        answers += &ask(server, instance, "GET", "/api/v1/auth/keys", &key, "").to_string();
    }
    answers += &ask(server, instance, "POST", "/api/v1/auth/oidc/start", "", r#"{"data":{}}"#).to_string();
    answers
}

/// What operators run, and what it says, plain and as JSON.
fn run(told: &Told, environment: &[(String, String)], ops: &str) -> String {
    let bundle = told.path("bundle.tar.gz");
    let (key, reports) = (told.path("key"), told.path("reports"));
    fs::create_dir(&reports).unwrap();
    let commands: &[&[&str]] = &[
        &["config", "show"],
        &["config", "check"],
        &["doctor"],
        &["status"],
        &["secrets", "status"],
        &["secrets", "rotate", "token-signing"],
        &["alert", "test"],
        &["alert", "list"],
        &["tls", "status"],
        &["tls", "renew"],
        &["user", "list"],
        &["token", "list"],
        &["audit", "list"],
        &["audit", "verify"],
        &["backup", "create"],
        &["backup", "list"],
        &["debug", "bundle", "-o", &bundle],
        &["restore", "drill", "--identity", &key, "--output", &reports, "--any-signer"],
    ];
    let mut said = String::new();
    for &command in commands {
        for form in [&[][..], &["--json"]] {
            if command.contains(&"bundle") {
                let _ = fs::remove_file(&bundle);
            }
            let mut command = told.instance.command(&[form, command].concat());
            command.envs(environment.iter().cloned()).env("DEBROUILLE_OPS", ops);
            said += &words(&command.output().unwrap());
        }
    }
    said
}

#[test]
fn no_secret_is_found_where_it_must_not_be() {
    let mut told = Told::new();
    let environment = told.environment();
    let mut serve = told.instance.serve();
    serve.envs(environment.iter().cloned());
    let printed = told.folder.join("printed");
    let server = Server::into_file(serve, &told.instance.data, &printed);
    let answers = used(&mut told, &server);
    let said = run(&told, &environment, &server.ops.to_string());
    let children =
        || [told.path("dumped-sms"), told.path("dumped-hook")].map(|path| fs::read(path).unwrap_or_default());
    assert!(crate::appliance::until(60, || children().iter().all(|text| !text.is_empty())), "no child was started");
    let cmdline = fs::read(format!("/proc/{}/cmdline", server.process())).unwrap();
    let metrics = server.ops("/metrics").1 + &server.ops("/readyz").1;
    server.stop();

    let [sms, hook] = children();
    told.secrets.of_keys(&told.instance.data);
    let mut places = Places::default();
    assert!(String::from_utf8_lossy(&hook).contains("_acme-challenge"), "the hook ran");
    places.add("environment and words of a program", [sms, hook].concat());
    places.add("refusals", answers);
    places.add("what commands say", said);
    places.add("metrics", metrics);
    places.add("command line", cmdline);
    places.add("standard output", fs::read(&printed).unwrap());
    places.add("notices", told.receiver.bodies());
    places.folder("backups", &told.folder.join("backups"), &[]);
    places.folder("reports", &told.folder.join("reports"), &[]);
    places.folder("data directory", &told.instance.data, &["root.key"]);
    places.bundle(&told.folder.join("bundle.tar.gz"));
    assert!(places.hold("debrouille_storage_size_bytes") && places.hold("\"message\":\"stopped\""), "they were read");
    let found = places.search(&told.secrets);
    assert!(found.is_empty(), "{found:#?}");
}

/// A core of a shell, to see that there would be one.
fn core_of_another(folder: &Path) -> Output {
    Command::new("sh").args(["-c", "ulimit -c unlimited; kill -SEGV $$"]).current_dir(folder).output().unwrap()
}

#[test]
fn it_leaves_no_core_and_its_memory_to_nobody() {
    let witness = tempfile::tempdir().unwrap();
    assert!(core_of_another(witness.path()).status.core_dumped(), "no process of this machine leaves a core");
    for signal in [Signal::ABORT, Signal::SEGV] {
        let instance = Instance::new();
        let place = tempfile::tempdir().unwrap();
        let serve = instance.serve();
        let mut command = Command::new("sh");
        command.env_clear().args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\""]).current_dir(place.path());
        command.arg(serve.get_program()).args(serve.get_args()).stdin(Stdio::null());
        let mut server = Server::of(command, &instance.data);
        let limits = fs::read_to_string(format!("/proc/{}/limits", server.process())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_ascii_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "{core}");
        // Rust's own handler looks at the first SEGV, and leaves the next to the system.
        for _ in 0..2 {
            server.signal(signal);
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        let status = server.wait();
        assert!(status.signal() == Some(signal.as_raw()) && !status.core_dumped(), "{status}");
        let left = [place.path(), instance.data.as_path()].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
        let left: Vec<_> = left
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().contains("core"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// As a user of the system, `nobody`, who would read what another process of theirs was told.
#[test]
fn not_even_its_own_user_reads_its_environment() {
    assert!(rustix::process::geteuid().is_root(), "only root becomes somebody else");
    let nobody = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.env_clear().args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command.env("SECRET_OF_TEST", "x").stdin(Stdio::null()).current_dir("/");
        command
    };
    let instance = Instance::new();
    let folder = instance.data.parent().unwrap().to_owned();
    let serve = instance.serve();
    let binary = folder.join("appliance");
    fs::copy(serve.get_program(), &binary).unwrap();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(&folder).output().unwrap();
    assert!(owned.status.success(), "{}", words(&owned));
    let mut command = nobody(&binary);
    command.args(serve.get_args());
    let server = Server::of(command, &instance.data);
    let reads = |process: u32| {
        let file = format!("/proc/{process}/environ");
        nobody(Path::new("cat")).arg(file).output().unwrap().status.success()
    };
    let mut witness = nobody(Path::new("sleep")).arg("60").spawn().unwrap();
    assert!(crate::appliance::until(5, || reads(witness.id())), "nobody reads what is nobody's");
    assert!(!reads(server.process()));
    witness.kill().unwrap();
    witness.wait().unwrap();
    // What it says of itself it still knows.
    assert!(server.ops("/metrics").1.contains("process_open_fds "));
    server.stop();
}
