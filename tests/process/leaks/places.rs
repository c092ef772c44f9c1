//! Places that are searched: what a process said and left behind, byte for byte.

use super::secrets::Secrets;
use crate::appliance::words;
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    process::Command,
};

/// Bytes of the shortest secret.
const START: usize = 8;

#[derive(Default)]
pub struct Places(Vec<(String, Vec<u8>)>);

impl Places {
    pub fn add(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        let content = content.into();
        assert!(!content.is_empty(), "{name}: nothing to be searched");
        self.0.push((name.to_owned(), content));
    }

    /// Every file below it but those of these names.
    pub fn folder(&mut self, name: &str, folder: &Path, but: &[&str]) {
        let (mut folders, before) = (vec![folder.to_owned()], self.0.len());
        while let Some(within) = folders.pop() {
            for entry in fs::read_dir(within).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && !but.contains(&entry.file_name().to_str().unwrap()) {
                    let shown = entry.path().strip_prefix(folder).unwrap().display().to_string();
                    self.0.push((format!("{name}: {shown}"), fs::read(entry.path()).unwrap()));
                }
            }
        }
        assert!(self.0.len() > before, "{name}: nothing to be searched");
    }

    /// Unpacked by another's hand.
    pub fn bundle(&mut self, file: &Path) {
        let folder = tempfile::tempdir().unwrap();
        let done = Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(folder.path()).output().unwrap();
        assert!(done.status.success(), "{}", words(&done));
        self.folder("bundle", folder.path(), &[]);
    }

    pub fn hold(&self, text: &str) -> bool {
        self.0.iter().any(|(_, content)| String::from_utf8_lossy(content).contains(text))
    }

    /// Which secret is where. Each place is gone through once: by the first bytes of what is looked for.
    pub fn search(&self, secrets: &Secrets) -> BTreeSet<String> {
        let mut starts: HashMap<[u8; START], Vec<&(String, Vec<u8>)>> = HashMap::new();
        for secret in &secrets.0 {
            let start = secret.1.first_chunk().unwrap_or_else(|| panic!("{}: too short to be looked for", secret.0));
            starts.entry(*start).or_default().push(secret);
        }
        let mut found = BTreeSet::new();
        for (name, content) in &self.0 {
            for at in 0..content.len().saturating_sub(START - 1) {
                let rest = &content[at..];
                let Some(known) = rest.first_chunk().and_then(|start| starts.get(start)) else { continue };
                let here = known.iter().filter(|(_, shape)| rest.starts_with(shape));
                found.extend(here.map(|(what, _)| format!("{what} in {name}")));
            }
        }
        found
    }
}
