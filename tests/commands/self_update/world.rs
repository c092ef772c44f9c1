//! A machine that updates, and the repositories it is shown: made by `scripts/release-repository`, with keys of several
//! holders.

use crate::{appliance, run, stderr, stdout};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};
use tempfile::TempDir;

pub const FILE: &str = "debrouille-appliance-9.1.0.tar.gz";
pub const BYTES: usize = 3_000_000;
pub const NOTES: [&str; 2] = ["Plus rapide.", "Faster."];

/// What the script does in a folder.
pub fn script(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release-repository"));
    let output = command.current_dir(folder).args(["--passphrase-file", "pass"]).args(arguments).output();
    output.expect("the script starts")
}

pub fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = script(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// Python with the repository's library: for what the script refuses to make.
pub fn forge(folder: &Path, code: &str) {
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| std::env::var("HOME").unwrap() + "/.cache");
    let head = "
import datetime, hashlib
from cryptography.hazmat.primitives import serialization
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import *
from tuf.api.serialization.json import JSONSerializer
def key(name):
    return CryptoSigner(serialization.load_pem_private_key(open(name, 'rb').read(), open('pass', 'rb').read()))
def read(name):
    return Metadata.from_file('repository/metadata/' + name)
def write(metadata, name, keys=('online.pem',)):
    metadata.signatures.clear()
    for one in keys:
        metadata.sign(key(one), append=True)
    metadata.to_file('repository/metadata/' + name, JSONSerializer(compact=False))
";
    let mut python = Command::new(format!("{cache}/debrouille-appliance/release-python/bin/python"));
    let output = python.current_dir(folder).args(["-c", &format!("{head}{code}")]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// `first`: published with nothing in it; `repository`: with a release.
fn made() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        fs::write(place.join("pass"), "correct horse battery").unwrap();
        for key in ["a.pem", "b.pem", "c.pem", "online.pem", "online2.pem"] {
            done(place, &["key", key]);
        }
        let people = ["a.pem.pub", "b.pem.pub", "c.pem.pub"];
        let roles = [&["init", "--root"][..], &people, &["--targets"], &people].concat();
        done(place, &[&roles[..], &["--snapshot", "online.pem.pub", "--timestamp", "online.pem.pub"]].concat());
        for role in ["root", "targets"] {
            sign(place, role, &["a.pem", "b.pem"]);
        }
        publish(place);
        copy(&place.join("repository"), &place.join("first"));
        let bytes: Vec<u8> = (0..BYTES as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        fs::write(place.join(FILE), &bytes[..BYTES]).unwrap();
        let [fr, en] = NOTES;
        done(place, &["add", FILE, "--version", "9.1.0", "--notes-fr", fr, "--notes-en", en]);
        // Signed for people to read: to machines no release, whatever its version.
        fs::write(place.join("SHA256SUMS-9.9.0"), "sums").unwrap();
        done(place, &["add", "SHA256SUMS-9.9.0", "--version", "9.9.0"]);
        sign(place, "targets", &["a.pem", "c.pem"]);
        publish(place);
        folder
    });
    folder.path()
}

pub fn sign(folder: &Path, role: &str, keys: &[&str]) {
    for key in keys {
        done(folder, &["sign", role, "--yes", "--key", key]);
    }
}

pub fn publish(folder: &Path) {
    done(folder, &["publish", "--key", "online.pem"]);
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

pub struct World {
    folder: TempDir,
}

impl World {
    /// Beside a copy of all that was made, with nothing seen yet.
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        copy(made(), world.place());
        fs::copy(world.metadata("1.root.json"), world.path("root.json")).unwrap();
        world.configure("repository", "");
        world
    }

    pub fn place(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place().join(name)
    }

    pub fn metadata(&self, name: &str) -> PathBuf {
        self.path("repository/metadata").join(name)
    }

    /// The one release's file, as it is published.
    pub fn target(&self) -> PathBuf {
        let mut files = fs::read_dir(self.path("repository/targets")).unwrap().map(|file| file.unwrap().path());
        files.find(|path| path.to_str().unwrap().ends_with(FILE)).expect("the release's file")
    }

    /// The repository as it was made.
    pub fn renew(&self) {
        fs::remove_dir_all(self.path("repository")).unwrap();
        copy(&made().join("repository"), &self.path("repository"));
    }

    pub fn configure(&self, source: &str, more: &str) {
        let source = if source.contains("://") { source.to_owned() } else { self.path(source).display().to_string() };
        let (root, seen) = (self.path("root.json"), self.path("updates"));
        let text = format!("[update]\nsource = {source:?}\nroot = {root:?}\ndirectory = {seen:?}\n{more}");
        fs::write(self.path("appliance.toml"), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = appliance(self.place());
        command.env("DEBROUILLE_LANG", "en").args(["--config", "appliance.toml", "self-update"]).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        let output = run(&mut self.command(arguments));
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    pub fn answer(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Fails with this code, saying this in both languages; nothing is left, but for what is named.
    pub fn refused(&self, arguments: &[&str], code: i32, english: &str, french: &str) {
        for (language, words) in [("en", english), ("fr", french)] {
            let output = run(self.command(arguments).env("DEBROUILLE_LANG", language));
            let said = stderr(&output).replace(['\u{a0}', '\u{202f}'], " ");
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{}", stdout(&output));
            assert!(said.contains(words), "{arguments:?}: no {words:?} in {said}");
            assert!(said.lines().count() <= 2, "{said}");
        }
        assert_eq!(self.downloads(), Vec::<String>::new());
        assert!(!self.path("updates/metadata/work").exists());
    }

    pub fn downloads(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("updates/downloads")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

/// Changes what a file says.
pub fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
}
