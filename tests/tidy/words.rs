//! The catalogue of messages: both languages, the same parameters, every key used and every used key there.

use super::source::{Complaint, Project};
use std::collections::{BTreeMap, BTreeSet};

struct Entry {
    path: String,
    line: usize,
}

pub fn check(project: &Project) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut entries = BTreeMap::new();
    let mut prefixes = BTreeSet::new();
    for file in &project.files {
        if !file.path.starts_with("src/base/messages/") {
            continue;
        }
        let mut complain = |line, what: String| complaints.push(Complaint { path: file.path.clone(), line, what });
        let listed = project.text("src/base/messages.rs").or_else(|| project.text("src/base/messages/mod.rs"));
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if name.ends_with(".rs") {
            continue;
        }
        if listed.is_some_and(|text| !text.contains(&format!("/{name}\""))) {
            complain(1, "not among the FILES of base/messages.rs".to_owned());
        }
        let table: toml::Table = match file.text.parse() {
            Ok(table) => table,
            Err(error) => {
                complain(1, format!("not TOML: {error}"));
                continue;
            }
        };
        for (key, words) in table {
            let line = file.text.lines().position(|line| line == format!("[\"{key}\"]")).map_or(1, |at| at + 1);
            let word =
                |language: &str| words.get(language).and_then(toml::Value::as_str).unwrap_or_default().to_owned();
            let (fr, en) = (word("fr"), word("en"));
            if fr.trim().is_empty() || en.trim().is_empty() {
                complain(line, format!("{key}: both `fr` and `en` must be there"));
            } else if parameters(&fr) != parameters(&en) {
                complain(line, format!("{key}: `fr` and `en` do not use the same parameters"));
            } else if let Some(fault) = typography(&fr) {
                complain(line, format!("{key}: {fault}"));
            }
            prefixes.insert(key.split('.').next().unwrap_or_default().to_owned());
            if entries.insert(key.clone(), Entry { path: file.path.clone(), line }).is_some() {
                complain(line, format!("{key}: said twice"));
            }
        }
    }
    complaints.extend(uses(project, &entries, &prefixes));
    complaints
}

/// Keys that code names and the catalogue lacks, and the other way round.
fn uses(project: &Project, entries: &BTreeMap<String, Entry>, prefixes: &BTreeSet<String>) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for source in project.product() {
        for (offset, text) in &source.strings {
            if entries.contains_key(text) {
                used.insert(text.clone());
                continue;
            }
            let before = source.code[..*offset].trim_end();
            let named = ["Fault::new(", "messages::text(language,"].iter().any(|call| before.ends_with(call));
            let key = text.split_once('.').is_some_and(|(prefix, _)| prefixes.contains(prefix));
            if named && (key || !text.contains(' ')) && !source.is_test(*offset) {
                complaints.push(source.complaint(*offset, format!("\"{text}\" is not in the catalogue")));
            }
        }
    }
    // `format!("setting.{name}")` says every key that begins so.
    let built: Vec<&str> = project
        .product()
        .flat_map(|source| &source.strings)
        .filter_map(|(_, text)| text.split_once('{').map(|(prefix, _)| prefix).filter(|prefix| prefix.ends_with('.')))
        .collect();
    let said = |key: &String| used.contains(key) || built.iter().any(|prefix| key.starts_with(prefix));
    for (key, entry) in entries.iter().filter(|(key, _)| !said(key)) {
        let what = format!("{key}: nothing says this");
        complaints.push(Complaint { path: entry.path.clone(), line: entry.line, what });
    }
    complaints
}

fn parameters(words: &str) -> BTreeSet<&str> {
    let inside = words.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    inside.map(|(name, _)| name).filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect()
}

/// Names with a colon of their own.
const SCHEMES: &[&str] = &["embedded:", "memory:", "folder:", "vault:"];

/// French puts a space before `: ; ! ?` that does not break, and quotes with « ».
fn typography(fr: &str) -> Option<String> {
    if let Some(broken) = [" :", " ;", " !", " ?", " »", "« "].iter().find(|broken| fr.contains(**broken)) {
        return Some(format!(
            "the space of `{broken}` would break: U+00A0 with `:` and quotes, U+202F with the others"
        ));
    }
    // What is between braces is a parameter, or JSON.
    let words: String = fr
        .split('{')
        .enumerate()
        .map(|(n, part)| match n {
            0 => part,
            _ => part.split_once('}').map_or("", |(_, rest)| rest),
        })
        .collect();
    // `Content-Type:` and `"meta":` are not French.
    let french = |word: &&str| word.trim_end_matches([':', ';', '!', '?']).chars().all(char::is_alphabetic);
    let tight =
        words.split_whitespace().filter(french).find(|word| word.len() > 1 && word.ends_with([':', ';', '!', '?']));
    match tight {
        Some(word) if !SCHEMES.contains(&word) => Some(format!("French puts a space within `{word}`")),
        _ => fr.contains("\"{").then(|| "French quotes with « »".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::sample;

    fn complaints(catalogue: &str, code: &str) -> Vec<String> {
        let files = [("src/base/messages/a.toml", catalogue), ("src/services/a.rs", code)];
        super::check(&sample(&files)).into_iter().map(|complaint| complaint.what).collect()
    }

    const GOOD: &str = "[\"a.b\"]\nfr = \"{path} : « {x} »\"\nen = \"{path}: {x}\"\n";

    #[test]
    fn both_languages_say_the_same() {
        let code = "Fault::new(\"a.b\")";
        assert_eq!(complaints(GOOD, code), Vec::<String>::new());
        for bad in [
            "[\"a.b\"]\nfr = \"x\"\n",
            "[\"a.b\"]\nfr = \"x\"\nen = \" \"\n",
            "[\"a.b\"]\nfr = \"{x}\"\nen = \"{y}\"\n",
            "[\"a.b\"]\nfr = \"Ah: x\"\nen = \"Ah: x\"\n",
            "[\"a.b\"]\nfr = '\"{x}\"'\nen = '{x}'\n",
            "[\"a.b\"]\nfr = 'Ah : x'\nen = 'Ah: x'\n",
        ] {
            assert_eq!(complaints(bad, code).len(), 1, "{bad}");
        }
    }

    #[test]
    fn every_key_is_said_and_known() {
        assert_eq!(complaints(GOOD, "Fault::new(\"a.c\"); Fault::new(\"a.b\")"), ["\"a.c\" is not in the catalogue"]);
        assert_eq!(complaints(GOOD, "x()"), ["a.b: nothing says this"]);
        assert_eq!(complaints("no toml", "x()").len(), 1);
    }
}
