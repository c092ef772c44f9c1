//! The file as others read it: the separate reader in Python, and every release to come.

use super::*;
use std::{path::Path, process::Command};

/// `$PYTHON`, which `scripts/services` provides, or `python3`, with the two packages the separate reader needs.
fn python(arguments: &[&str]) -> (i32, Vec<u8>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/read_backup.py");
    let output = Command::new(std::env::var("PYTHON").unwrap_or("python3".to_owned()))
        .arg(script)
        .args(arguments)
        .output()
        .expect("python3 runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !errors.contains("ModuleNotFoundError"),
        "the separate reader needs packages: pip install cryptography zstandard\n{errors}"
    );
    (output.status.code().unwrap(), output.stdout, errors)
}

#[test]
fn the_separate_reader_reads_what_this_one_writes() {
    let instance = instance(Environment::Staging);
    let memory = memory(300);
    let created = instance.back_up(&memory, 0).unwrap();
    let path = instance.place.path().join(&created.name);
    let file = path.to_str().unwrap();
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys.path(), instance.identity.to_file().as_bytes()).unwrap();
    let identity = keys.path().to_str().unwrap();

    let (code, listed, errors) = python(&["list", file]);
    assert_eq!(code, 0, "{errors}");
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!((listed["backup"].as_str(), listed["upto"].as_u64()), (Some(&*created.header.id()), Some(303)));
    let signer = signers(&instance.keyring)[0].to_string();
    assert_eq!(python(&["verify", file, "--signer", &signer]).0, 0);
    // Of an instance that has had several, who knows any of them believes the last.
    for _ in 0..2 {
        instance.keyring.rotate(crate::services::keyring::Purpose::BackupSigning, Timestamp(6));
    }
    let rotated = instance.back_up(&memory, 1).unwrap();
    let rotated = instance.place.path().join(&rotated.name);
    for signer in signers(&instance.keyring) {
        let (code, _, errors) = python(&["verify", rotated.to_str().unwrap(), "--signer", &signer.to_string()]);
        assert_eq!(code, 0, "{errors}");
    }
    let stranger = super::instance(Environment::Staging);
    let stranger = signers(&stranger.keyring)[0].to_string();
    assert_ne!(python(&["verify", rotated.to_str().unwrap(), "--signer", &stranger]).0, 0);

    let (code, text, errors) = python(&["decrypt", file, identity]);
    assert_eq!(code, 0, "{errors}");
    let mut read = Memory { sequence: memory.sequence, ..Memory::default() };
    let mut collection = String::new();
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match lines::parse(line.strip_suffix(b"\n").unwrap(), number as u64).unwrap() {
            lines::Line::Meta(meta) => assert_eq!(meta.backup, created.header.id()),
            lines::Line::Key(key) => assert!(instance.keyring.keys().iter().any(|own| own.material == key.material)),
            lines::Line::Collection { name, .. } => {
                collection = name;
                read.collections.insert(collection.clone(), Vec::new());
            }
            lines::Line::Document(document) => read.collections.get_mut(&collection).unwrap().push(document),
            lines::Line::Record(record) => read.records.push(record),
            lines::Line::Configuration(text) => assert!(text.contains("staging")),
        }
    }
    let told = |record: &&Record| record.after.is_some();
    assert_eq!(read.records.iter().filter(told).count(), 0, "an image is told twice");
    assert!(read.whole() == memory, "the separate reader reads something else");

    // It notices what this one notices.
    let stranger = self::instance(Environment::Staging);
    assert_eq!(python(&["verify", file, "--signer", &signers(&stranger.keyring)[0].to_string()]).0, 5);
    std::fs::write(keys.path(), stranger.identity.to_file().as_bytes()).unwrap();
    assert_eq!(python(&["decrypt", file, identity]).0, 5);
    std::fs::write(keys.path(), instance.identity.to_file().as_bytes()).unwrap();
    let sound = std::fs::read(&path).unwrap();
    for eighth in 0..=8 {
        let mut bytes = sound.clone();
        let place = (sound.len() * eighth / 8).min(sound.len() - 1);
        bytes[place] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(python(&["verify", file]).0, 5, "flip at {place}");
        assert_eq!(python(&["decrypt", file, identity]).0, 5, "flip at {place}");
        std::fs::write(&path, &sound[..place]).unwrap();
        assert_eq!(python(&["verify", file]).0, 5, "cut at {place}");
    }
}

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/backups/v1");

/// A released backup opens forever, and says the same.
#[test]
fn the_first_version_still_opens() {
    let folder = Folder::open(FIXTURES).unwrap();
    let identity = Identity::from_file(&std::fs::read_to_string(format!("{FIXTURES}/identity.txt")).unwrap()).unwrap();
    let name = locate(&folder, None).unwrap();
    let trust = Trust::Signers(identity.signers());
    let verified = verify_open(&folder, &name, &identity, trust).unwrap();
    assert_eq!(verified.header.instance, "0198c0de-0000-7000-8000-000000000001");
    let mut content = open(&folder, &name).unwrap().unseal(&identity).unwrap();
    let (mut text, mut line) = (Vec::new(), Vec::new());
    while content.line(&mut line).unwrap() {
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    assert_eq!(text, std::fs::read(format!("{FIXTURES}/content.ndjson")).unwrap());
}
