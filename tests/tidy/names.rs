//! How files are named and open, how long they are, and that one noun serves every floor.

use super::source::{Complaint, Project};

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "shared", "stuff"];

/// Lines, tests aside, past which a file says in its opening why it is so long: "Long because …".
const LONG: usize = 500;

pub fn check(project: &Project) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in &project.files {
        let empty = file.path.split('/').map(|part| part.split('.').next().unwrap_or_default());
        for part in empty.filter(|part| EMPTY_NAMES.contains(part)) {
            let what = format!("`{part}` says nothing: name it after what is inside");
            complaints.push(Complaint { path: file.path.clone(), line: 1, what });
        }
    }
    for source in &project.sources {
        let opening = source.opening();
        if opening.first().is_none_or(|line| line.len() < 10) {
            complaints.push(source.complaint(0, "open with `//!`: what this room is for"));
        }
        let length = source.length();
        if length > LONG && !opening.iter().any(|line| line.contains("Long because")) {
            let what = format!("{length} lines: split it, or say \"Long because …\" in the opening");
            complaints.push(source.complaint(0, what));
        }
    }
    complaints.extend(nouns(project));
    complaints
}

/// In tests/capabilities: the harness, and the second half of `documents`.
const NO_NOUNS: &[&str] = &["house", "queries"];

/// A capability's tests bear the name of its service.
fn nouns(project: &Project) -> Vec<Complaint> {
    let stem = |path: &str, folder: &str| -> Option<String> {
        let inside = path.strip_prefix(folder)?;
        let name = inside.split('/').next()?.trim_end_matches(".rs");
        (!["mod", "main"].contains(&name)).then(|| name.to_owned())
    };
    let services: Vec<String> = project.sources.iter().filter_map(|s| stem(&s.path, "src/services/")).collect();
    let routes: Vec<String> = project.sources.iter().filter_map(|s| stem(&s.path, "src/http/")).collect();
    let tests = project.sources.iter().filter_map(|s| Some((s, stem(&s.path, "tests/capabilities/")?)));
    tests
        .filter(|(_, noun)| !NO_NOUNS.contains(&noun.as_str()))
        .filter(|(_, noun)| {
            !services.contains(noun) && !routes.contains(noun) && !routes.iter().any(|r| format!("{r}s") == *noun)
        })
        .map(|(source, noun)| {
            source.complaint(0, format!("no src/services/{noun} nor src/http/{noun}: use the same noun"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::sample;

    #[test]
    fn empty_names_are_refused() {
        for path in ["src/base/utils.rs", "src/helpers/mod.rs", "scripts/common.sh"] {
            assert_eq!(super::check(&sample(&[(path, "//! What this is for.\n")])).len(), 1, "{path}");
        }
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        assert_eq!(super::check(&sample(&[("src/base/a.rs", "fn a() {}\n")])).len(), 1);
        assert_eq!(super::check(&sample(&[("src/base/a.rs", "//! Todo.\n")])).len(), 1);
    }

    #[test]
    fn a_long_file_says_why() {
        let body = "fn a() {}\n".repeat(500);
        let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &body + "}\n";
        assert_eq!(super::check(&sample(&[("src/base/a.rs", &format!("//! What it is for.\n{body}"))])).len(), 1);
        let why = "//! What it is for. Long because it is one table.\n";
        assert_eq!(super::check(&sample(&[("src/base/a.rs", &format!("{why}{body}"))])), []);
        assert_eq!(super::check(&sample(&[("src/base/a.rs", &format!("//! What it is for.\n{tests}"))])), []);
    }

    #[test]
    fn tests_bear_the_name_of_the_capability() {
        let files = [
            ("src/services/backups/mod.rs", "//! What it is for.\n"),
            ("tests/capabilities/backups.rs", "//! What it is for.\n"),
            ("tests/capabilities/saves.rs", "//! What it is for.\n"),
        ];
        let complaints = super::check(&sample(&files));
        assert_eq!(complaints.iter().map(|c| c.path.as_str()).collect::<Vec<_>>(), ["tests/capabilities/saves.rs"]);
    }
}
