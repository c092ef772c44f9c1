//! What code that ships may not do: read the world outside `base`, run away with a panic, be unsafe, stay unfinished.

use super::source::{Complaint, Project, Source};

/// Clock, environment, randomness: read in `base`, passed in everywhere else.
const WORLD: &[(&str, &str)] = &[
    ("SystemTime::now", "take a `base::clock`"),
    ("OffsetDateTime::now_utc", "take a `base::clock`"),
    ("UtcDateTime::now", "take a `base::clock`"),
    ("DateTime::now", "take a `base::clock`"),
    ("env::var", "read it in `base::config`"),
    ("env::var_os", "read it in `base::config`"),
    ("env::vars", "read it in `base::config`"),
    ("env::vars_os", "read it in `base::config`"),
    ("env::set_var", "pass it as an argument"),
    ("env::remove_var", "pass it as an argument"),
    ("rand::fill", "use `base::random`"),
    ("SystemRandom", "use `base::random`"),
    ("OsRng", "use `base::random`"),
    ("SysRng", "use `base::random`"),
    ("getrandom::", "use `base::random`"),
    ("Uuid::new_v4", "use `base::random`"),
    ("Uuid::now_v7", "use `base::random`"),
];

/// Ends a request or the process: input must never reach one.
const PANICS: &[(&str, &str)] = &[
    (".unwrap()", "return an error, or `expect` with the invariant that makes it impossible"),
    (".unwrap_err()", "return an error"),
    ("panic!", "return an error"),
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("unreachable!()", "say why it cannot be reached"),
    ("dbg!", "use `tracing`"),
    ("process::exit", "return an exit code"),
    ("process::abort", "return an error"),
];

/// The one file with foreign functions: the static build's name look-ups.
const UNSAFE_FILE: &str = "src/base/nss.rs";

pub fn check(project: &Project) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in project.product() {
        if !source.path.starts_with("src/base/") {
            words(source, WORLD, &mut complaints);
            // tokio's own stands still when a test says so.
            let paused = source.code.lines().any(|line| line.contains("use tokio::time") && line.contains("Instant"));
            if !paused {
                words(source, &[("Instant::now", "take tokio's, or a `base::clock`")], &mut complaints);
            }
        }
        words(source, PANICS, &mut complaints);
        if !source.path.starts_with("src/cli/") && source.path != "src/main.rs" {
            let to = "only `cli` speaks to the terminal; use `tracing`";
            words(source, &[("println!", to), ("print!", to), ("eprintln!", to), ("eprint!", to)], &mut complaints);
        }
        expectations(source, &mut complaints);
    }
    for source in &project.sources {
        unsafety(source, &mut complaints);
    }
    unfinished(project, &mut complaints);
    complaints
}

fn words(source: &Source, refused: &[(&str, &str)], complaints: &mut Vec<Complaint>) {
    for (word, instead) in refused {
        complaints.extend(source.find(word).map(|at| source.complaint(at, format!("`{word}`: {instead}"))));
    }
}

/// `expect` states an invariant, not a hope.
fn expectations(source: &Source, complaints: &mut Vec<Complaint>) {
    // `self.expect(…)` is a parser's own method.
    for at in source.find(".expect(").filter(|at| !source.code[..*at].ends_with("self")) {
        let from = at + ".expect(".len();
        let reason = source
            .strings
            .iter()
            .find(|(offset, _)| source.code[from..].trim_start().len() + offset == source.code.len());
        if reason.is_none_or(|(_, words)| words.split_whitespace().count() < 2) {
            complaints.push(source.complaint(at, "`expect` without the reason that makes it impossible to fail"));
        }
    }
}

fn unsafety(source: &Source, complaints: &mut Vec<Complaint>) {
    let found: Vec<usize> = super::source::occurrences(&source.code, "unsafe").collect();
    if source.path != UNSAFE_FILE {
        complaints.extend(found.iter().map(|at| source.complaint(*at, format!("`unsafe` outside {UNSAFE_FILE}"))));
    } else if let Some(at) = found.iter().filter(|at| source.code[**at..].starts_with("unsafe {")).nth(1) {
        complaints.push(source.complaint(*at, "one unsafe block was agreed on, not two"));
    }
    let allowed = super::source::occurrences(&source.code, "unsafe_code").collect::<Vec<_>>();
    if source.path != UNSAFE_FILE {
        complaints.extend(allowed.iter().map(|at| source.complaint(*at, "nobody else allows `unsafe_code`")));
    }
}

/// Marks of unfinished work, in any file a person wrote.
fn unfinished(project: &Project, complaints: &mut Vec<Complaint>) {
    // In two parts, so that this file does not complain of itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["X", "XX"], ["HA", "CK"]].map(|parts| parts.concat());
    for file in &project.files {
        for (number, line) in file.text.lines().enumerate() {
            if line.starts_with(&"<".repeat(7)) || line.starts_with(&">".repeat(7)) {
                let what = "an unresolved merge".to_owned();
                complaints.push(Complaint { path: file.path.clone(), line: number + 1, what });
            }
            for mark in &marks {
                if super::source::occurrences(line, mark).next().is_some() {
                    let what = format!("`{mark}`: finish it, or write it down where work is planned");
                    complaints.push(Complaint { path: file.path.clone(), line: number + 1, what });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sample;

    fn refused(path: &str, line: &str) -> usize {
        super::check(&sample(&[(path, &format!("//! What it is for.\nfn a() {{ {line} }}\n"))])).len()
    }

    #[test]
    fn the_world_is_read_in_base() {
        for line in [
            "std::time::SystemTime::now()",
            "Instant::now()",
            "std::env::var(\"A\")",
            "Uuid::new_v4()",
            "aws_lc_rs::rand::fill(b)",
        ] {
            assert_eq!(refused("src/services/a.rs", line), 1, "{line}");
            assert_eq!(refused("src/base/a.rs", line), 0, "{line}");
        }
    }

    #[test]
    fn panics_are_refused_outside_tests() {
        for line in ["b.unwrap()", "panic!(\"x\")", "todo!()", "unreachable!()", "std::process::exit(1)", "println!()"]
        {
            assert_eq!(refused("src/services/a.rs", line), 1, "{line}");
            assert_eq!(refused("tests/a.rs", line), 0, "{line}");
        }
        assert_eq!(refused("src/services/a.rs", "b.unwrap_or_default(); unreachable!(\"why\")"), 0);
    }

    #[test]
    fn expectations_give_their_reason() {
        assert_eq!(refused("src/services/a.rs", "b.expect(\"a reason at length\")"), 0);
        assert_eq!(refused("src/services/a.rs", "b\n.expect(\n    \"a reason at length\",\n)"), 0);
        assert_eq!(refused("src/services/a.rs", "b.expect(\"b\")"), 1);
        assert_eq!(refused("src/services/a.rs", "b.expect(&format!(\"a reason at length\"))"), 1);
    }

    #[test]
    fn unsafe_has_one_place() {
        assert_eq!(refused("src/base/a.rs", "unsafe { b() }"), 1);
        assert_eq!(refused("tests/a.rs", "unsafe { b() }"), 1);
        assert_eq!(refused("src/base/nss.rs", "unsafe { b() }"), 0);
        assert_eq!(refused("src/base/nss.rs", "unsafe { b() } unsafe { c() }"), 1);
        assert_eq!(refused("src/base/a.rs", "#[allow(unsafe_code)] {}"), 1);
    }

    #[test]
    fn unfinished_work_shows_itself() {
        for mark in [["TO", "DO"], ["FIX", "ME"]] {
            assert_eq!(super::check(&sample(&[("docs/a.md", &format!("# A\n{} later\n", mark.concat()))])).len(), 1);
        }
        assert_eq!(super::check(&sample(&[("docs/a.md", &format!("# A\n{} ours\n", "<".repeat(7)))])).len(), 1);
    }
}
