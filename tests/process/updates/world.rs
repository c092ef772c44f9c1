//! An archive's installation with an instance of its own, a supervisor, and a repository that has another release.

use crate::appliance::{Instance, PASSWORD, until, words};
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

pub const OLD: &str = env!("CARGO_PKG_VERSION");
pub const NEW: &str = "0.1.1";
const PROGRAM: &str = "debrouille-appliance";
const BINARY: &str = env!("CARGO_BIN_EXE_debrouille-appliance");

pub struct World {
    instance: Instance,
    place: tempfile::TempDir,
    /// `versions/` and `current`.
    pub root: PathBuf,
    https: u16,
    token: String,
}

pub struct Run {
    pub code: i32,
    pub words: String,
}

/// Documents created one after the other, until told to stop.
pub struct Writer {
    end: Arc<AtomicBool>,
    counts: Arc<(AtomicU64, AtomicU64)>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// Runs [`OLD`]; the repository has [`NEW`], whose program is what `change` makes of a real one.
    pub fn new(change: impl Fn(&Self, PathBuf) -> PathBuf) -> Self {
        let instance = Instance::new();
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("opt");
        let old = root.join("versions").join(OLD);
        fs::create_dir_all(&old).unwrap();
        fs::copy(stripped(), old.join(PROGRAM)).unwrap();
        symlink(Path::new("versions").join(OLD), root.join("current")).unwrap();
        let https = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut world = Self { instance, place, root, https, token: String::new() };
        world.keep();
        world.supervise();
        world.release(change);
        world.configure();
        world.start(OLD);
        world.sign_in();
        world
    }

    /// A recipient of its backups.
    fn keep(&self) {
        let key = self.path("key");
        let keys =
            self.instance.command(&["--json", "backup", "keys", "generate", "-o", key.to_str().unwrap()]).output();
        let keys: Value = serde_json::from_slice(&keys.unwrap().stdout).unwrap();
        let added = self.instance.command(&["backup", "keys", "add", keys["recipient"].as_str().unwrap()]).output();
        assert!(added.unwrap().status.success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// `restart`, `kill` or `halt`, as `update.control` calls it; one after the other, whoever was killed meanwhile.
    fn supervise(&self) {
        let place = self.place.path().display();
        let data = self.instance.data.display();
        let script = format!(
            r#"#!/bin/sh
exec 9>{place}/supervised
flock 9
end() {{
  pid=$(cat {place}/pid 2>/dev/null) || return 0
  kill -"$1" -"$pid" 2>/dev/null || kill -"$1" "$pid" 2>/dev/null
  n=0
  while {{ kill -0 -"$pid" || kill -0 "$pid"; }} 2>/dev/null && [ $n -lt 150 ]; do sleep 0.1; n=$((n + 1)); done
}}
case $1 in
  kill) end KILL ;;
  halt) end TERM ;;
  restart)
    # As systemd does: told at once, done in a moment.
    {{
      sleep 0.3
      end TERM
      setsid {root}/current/{PROGRAM} --config {config} --data-dir {data} serve >>{place}/log 2>&1 </dev/null 9>&- &
      echo $! >{place}/pid
    }} >/dev/null 2>&1 </dev/null &
    ;;
esac
"#,
            root = self.root.display(),
            config = self.config().display(),
        );
        executable(&self.path("control"), &script);
    }

    fn config(&self) -> PathBuf {
        self.instance.data.with_file_name("appliance.toml")
    }

    fn configure(&self) {
        let (place, https) = (self.place.path().display(), self.https);
        let server = format!("[server]\nhttps = \"127.0.0.1:{https}\"\nhttp = \"off\"\nops = \"off\"\n");
        let update = format!(
            "[update]\nsource = \"{place}/repository\"\nroot = \"{place}/root.json\"\ndirectory = \"{place}/updates\"\n\
             control = \"{place}/control\"\nready_seconds = 6\nwatch_minutes = 0\ndelay_minutes = 0\nautomatic = \"apply\"\n"
        );
        let known = fs::read_to_string(self.config()).unwrap();
        assert!(known.contains("[server]\n"), "{known}");
        fs::write(self.config(), format!("{}\n{update}", known.replace("[server]\n", &server))).unwrap();
    }

    /// A signed repository with one archive.
    fn release(&self, change: impl Fn(&Self, PathBuf) -> PathBuf) {
        let name = format!("{PROGRAM}-{NEW}-x86_64-linux");
        let folder = self.path(&name);
        fs::create_dir(&folder).unwrap();
        let program = folder.join(PROGRAM);
        fs::copy(stripped(), &program).unwrap();
        rename(&program);
        change(self, program);
        let archive = self.path(&format!("{name}.tar.gz"));
        let made = Command::new("tar")
            .args(["--use-compress-program=gzip -1", "-cf"])
            .arg(&archive)
            .args(["-C", self.place.path().to_str().unwrap(), &name])
            .status();
        assert!(made.unwrap().success());
        signed(self.place.path(), &archive);
    }

    /// In the place of the real program, which is beside it as `$REAL`: what else it does than serve, it does as that one.
    pub fn script(&self, program: &Path, serve: &str) -> PathBuf {
        let real = program.with_file_name("real");
        fs::rename(program, &real).unwrap();
        let data = self.instance.data.display();
        let text = format!(
            "#!/bin/sh\nDATA={data}; SOCKET={data}/control.sock; REAL=$(dirname \"$(readlink -f \"$0\")\")/real\nexport SOCKET\n\
             case \" $* \" in *' serve '*) ;; *) exec \"$REAL\" \"$@\" ;; esac\n{serve}\n"
        );
        executable(program, &text);
        program.to_owned()
    }

    /// Says that it keeps its database in a later format.
    pub fn later_format(&self, program: &Path) -> PathBuf {
        let real = program.with_file_name("known");
        fs::rename(program, &real).unwrap();
        let text = "#!/bin/sh\nKNOWN=$(dirname \"$(readlink -f \"$0\")\")/known\ncase \" $* \" in\n\
             *' version '*) \"$KNOWN\" \"$@\" | sed 's/\"documents\": [0-9]*/\"documents\": 999/' ;;\n\
             *) exec \"$KNOWN\" \"$@\" ;;\nesac\n";
        executable(program, text);
        program.to_owned()
    }

    /// Where the boot is told that something is under way.
    pub fn mark(&self) -> PathBuf {
        self.path("updates").join("under-way")
    }

    /// What is under way, as it is kept.
    pub fn state(&self) -> PathBuf {
        self.path("updates").join("state.json")
    }

    /// Made by a release that has hung.
    pub fn hung(&self) -> PathBuf {
        self.instance.data.with_extension("hung")
    }

    /// `self-update apply` by the program that began what is under way, as the boot does it.
    pub fn apply_by_first(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new(fs::read_to_string(self.mark()).unwrap());
        let output = self.with(&mut command, &["self-update", "apply"]).args(arguments).output().unwrap();
        Run { code: output.status.code().unwrap_or(-1), words: words(&output) }
    }

    /// Whatever is in place, which is to be this release.
    pub fn start(&self, version: &str) {
        self.control("restart");
        assert!(
            until(30, || self.answers() == version),
            "{}",
            fs::read_to_string(self.path("log")).unwrap_or_default()
        );
    }

    pub fn kill(&self) {
        self.control("kill");
    }

    /// What a start runs.
    pub fn put(&self, version: &str) {
        fs::remove_file(self.root.join("current")).unwrap();
        symlink(Path::new("versions").join(version), self.root.join("current")).unwrap();
    }

    pub fn halt(&self) {
        self.control("halt");
    }

    fn control(&self, word: &str) {
        assert!(Command::new(self.path("control")).arg(word).status().unwrap().success());
    }

    /// As it is at this moment, for a release that puts it back.
    pub fn copy_database(&self) {
        let data = &self.instance.data;
        fs::copy(data.join("documents.sealed"), data.join("database.earlier")).unwrap();
    }

    /// By whatever release is in place.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.root.join("current").join(PROGRAM));
        self.with(&mut command, arguments);
        command
    }

    fn with<'a>(&self, command: &'a mut Command, arguments: &[&str]) -> &'a mut Command {
        command.env_clear().env("PATH", "/usr/bin:/bin").arg("--config").arg(self.config());
        command.arg("--data-dir").arg(&self.instance.data).args(["--lang", "en"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().unwrap();
        Run { code: output.status.code().unwrap_or(-1), words: words(&output) }
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", words(&output)))
    }

    /// The release that answers; empty where none does.
    pub fn answers(&self) -> String {
        let output = self.command(&["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["version"].as_str().unwrap_or_default().to_owned()
    }

    fn sign_in(&mut self) {
        let login = json!({ "data": { "email": "admin@example.cd", "password": PASSWORD } });
        let (_, body) = self.ask("/auth/login", &login);
        self.token = body["data"]["accessToken"].as_str().unwrap().to_owned();
        assert_eq!(self.ask("/collections", &json!({ "data": { "name": "towns" } })).0, 201);
    }

    fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        ask(self.https, &self.instance.data.join("ca.crt"), &self.token, path, body)
    }

    /// One document; its status.
    pub fn write(&self, number: u64) -> u16 {
        self.ask("/collections/towns/documents", &json!({ "data": { "_id": number.to_string() } })).0
    }

    pub fn documents(&self) -> u64 {
        self.json(&["collection", "list"])
            .as_array()
            .and_then(|all| all.iter().find(|collection| collection["name"] == "towns"))
            .and_then(|towns| towns["documents"].as_u64())
            .unwrap_or_default()
    }

    pub fn writer(&self) -> Writer {
        let (end, counts) = (Arc::new(AtomicBool::new(false)), Arc::new((AtomicU64::new(0), AtomicU64::new(0))));
        let (stop, count) = (end.clone(), counts.clone());
        let (https, authority, token) = (self.https, self.instance.data.join("ca.crt"), self.token.clone());
        let thread = std::thread::spawn(move || {
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let document = json!({ "data": { "_id": number.to_string() } });
                let (status, _) = ask(https, &authority, &token, "/collections/towns/documents", &document);
                let counter = if status == 201 { &count.0 } else { &count.1 };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Writer { end, counts, thread: Some(thread) }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new(self.path("control")).arg("kill").status();
    }
}

impl Writer {
    /// Acknowledged, and not.
    pub fn stop(&mut self) -> (u64, u64) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (self.counts.0.load(Ordering::Relaxed), self.counts.1.load(Ordering::Relaxed))
    }
}

fn ask(https: u16, authority: &Path, token: &str, path: &str, body: &Value) -> (u16, Value) {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert"])
        .arg(authority)
        .args(["-H", &format!("authorization: Bearer {token}"), "-H", "content-type: application/json"])
        .args(["--data", &body.to_string(), &format!("https://localhost:{https}/api/v1{path}")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    (status.parse().unwrap_or_default(), serde_json::from_str(body).unwrap_or_default())
}

/// The program without its symbols: a tenth of it, so that it is laid and read in little time.
fn stripped() -> PathBuf {
    static MADE: std::sync::Once = std::sync::Once::new();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stripped-{}", std::process::id()));
    MADE.call_once(|| assert!(Command::new("strip").arg("-o").arg(&path).arg(BINARY).status().unwrap().success()));
    path
}

/// Makes another release of a program.
fn rename(program: &Path) {
    let (old, new) = (format!("{PROGRAM} release {OLD}"), format!("{PROGRAM} release {NEW}"));
    let found = Command::new("grep").args(["--text", "--byte-offset", "--only-matching", &old]).arg(program).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    let places: Vec<_> = found.lines().filter_map(|line| line.split_once(':')).collect();
    assert_eq!(places.len(), 1, "where a program tells its release: {found}");
    let file = fs::OpenOptions::new().write(true).open(program).unwrap();
    file.write_all_at(new.as_bytes(), places[0].0.parse().unwrap()).unwrap();
}

/// `repository/`, with the archive, and the `root.json` it is believed by.
fn signed(place: &Path, archive: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/release-repository");
    fs::write(place.join("passphrase"), "a passphrase").unwrap();
    let say = |words: &str| {
        let mut command = Command::new(&script);
        command.args(["--passphrase-file", "passphrase"]).args(words.split(' ')).current_dir(place);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{words}: {}", crate::appliance::words(&output));
    };
    say("key offline");
    say("key online");
    say("init --root offline.pub --root-threshold 1 --targets offline.pub --targets-threshold 1 \
         --snapshot online.pub --timestamp online.pub");
    say("sign root --key offline --yes");
    say(&format!("add {} --version {NEW}", archive.display()));
    say("sign targets --key offline --yes");
    say("publish --key online");
    fs::copy(place.join("repository/metadata/1.root.json"), place.join("root.json")).unwrap();
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
