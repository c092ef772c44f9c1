//! Migrations: numbered without a gap, every file embedded, none changed once it is out.

use super::source::{Complaint, Project};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const LIST: &str = "src/domain/migration/mod.rs";
const RELEASED: &str = "migrations/released.txt";

pub fn check(project: &Project) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let complain = |path: &str, what: &str| Complaint { path: path.to_owned(), line: 1, what: what.to_owned() };
    let released: BTreeMap<&str, &str> = project
        .text(RELEASED)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once("  ").map(|(digest, name)| (name, digest)))
        .collect();
    let list = project.text(LIST).unwrap_or_default();
    let inside =
        |path: &str| path.strip_prefix("migrations/").filter(|name| name.ends_with(".toml")).map(str::to_owned);
    let mut names: Vec<(String, &str)> =
        project.files.iter().filter_map(|file| Some((inside(&file.path)?, file.text.as_str()))).collect();
    names.sort();
    for (at, (name, text)) in names.iter().enumerate() {
        let path = format!("migrations/{name}");
        if !name.starts_with(&format!("{:04}-", at + 1)) {
            complaints.push(complain(&path, "numbers follow each other from 0001, each once"));
        }
        if !list.contains(&format!("/{path}\"")) {
            complaints.push(complain(&path, &format!("not embedded in {LIST}")));
        }
        match released.get(name.as_str()) {
            Some(digest) if *digest != hex::encode(Sha256::digest(text)) => {
                complaints.push(complain(&path, "changed after it was released: declare another one"));
            }
            _ => {}
        }
    }
    for name in released.keys().filter(|name| names.iter().all(|(known, _)| known != *name)) {
        complaints.push(complain(RELEASED, &format!("{name} is gone: data it was applied to would be refused")));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use crate::sample;

    #[test]
    fn gaps_strangers_and_changes_are_found() {
        let list =
            ("src/domain/migration/mod.rs", "//! What this is for.\ninclude_str!(\"../migrations/0001-a.toml\")");
        let of = |files: &[(&str, &str)]| super::check(&sample(&[&[list], files].concat())).len();
        assert_eq!(of(&[("migrations/0001-a.toml", "a")]), 0);
        assert_eq!(of(&[("migrations/0002-a.toml", "a")]), 2);
        assert_eq!(of(&[("migrations/0001-a.toml", "a"), ("migrations/0002-b.toml", "b")]), 1);
        let known = ("migrations/released.txt", "00  0001-a.toml\n");
        assert_eq!(of(&[("migrations/0001-a.toml", "a"), known]), 1);
        assert_eq!(of(&[known]), 1);
    }
}
