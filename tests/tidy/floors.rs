//! Who may import whom: the floors of `crate`, and which floor holds which crate of others.

use super::source::{Complaint, Project, Source, occurrences};

/// Each floor and the floors it may name, itself apart. What is not listed is refused.
const FLOORS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("domain", &["base"]),
    ("ports", &["domain", "base"]),
    ("services", &["ports", "domain", "base"]),
    ("backends", &["ports", "domain", "base"]),
    ("http", &["services", "domain", "base"]),
    ("jobs", &["services", "ports", "domain", "base"]),
    ("server", &["http", "jobs", "services", "backends", "ports", "domain", "base"]),
    ("cli", &["server", "http", "services", "ports", "domain", "base"]),
];

/// Crates that live in one place: where they may be named.
const PLACES: &[(&str, &[&str])] = &[
    ("poem", &["src/http/"]),
    ("poem_openapi", &["src/http/"]),
    ("clap", &["src/cli/"]),
    ("clap_complete", &["src/cli/"]),
    ("clap_mangen", &["src/cli/"]),
    ("indicatif", &["src/cli/"]),
    ("rpassword", &["src/cli/"]),
    ("fast_qr", &["src/cli/"]),
    ("anyhow", &["src/cli/", "src/server/"]),
    ("redb", &["src/backends/documents/embedded/"]),
    ("mongodb", &["src/backends/documents/mongodb/"]),
    ("rcgen", &["src/backends/certificates/"]),
    (
        "hyper",
        &[
            "src/http/",
            "src/server/",
            "src/cli/",
            "src/backends/web/",
            "src/backends/certificates/acme/",
            "src/backends/collector/",
            "src/backends/appliance/",
        ],
    ),
    ("hyper_util", &["src/http/", "src/server/", "src/cli/", "src/backends/web/", "src/backends/appliance/"]),
    ("tokio_rustls", &["src/server/", "src/backends/web/"]),
    ("tonic", &["src/backends/collector/"]),
    ("prost", &["src/backends/collector/"]),
    ("opentelemetry_proto", &["src/backends/collector/"]),
    ("lettre", &["src/backends/mail/"]),
    ("ureq", &["src/backends/objects/s3/", "src/backends/releases/"]),
    ("roxmltree", &["src/backends/objects/s3/"]),
    ("tough", &["src/backends/releases/"]),
    ("mimalloc", &["src/main.rs"]),
    ("listenfd", &["src/base/"]),
    ("sd_notify", &["src/server/", "src/base/"]),
    ("tracing_subscriber", &["src/base/"]),
    ("tracing_appender", &["src/base/"]),
];

pub fn check(project: &Project) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in project.product() {
        imports(source, &mut complaints);
        places(source, &mut complaints);
    }
    complaints
}

fn imports(source: &Source, complaints: &mut Vec<Complaint>) {
    let inside: Vec<&str> = source.path.trim_start_matches("src/").trim_end_matches(".rs").split('/').collect();
    let own = inside[0];
    let allowed: &[&str] = match own {
        "main" => &["cli", "base"],
        "lib" | "testing" => return,
        floor => match FLOORS.iter().find(|(name, _)| *name == floor) {
            Some((_, allowed)) => allowed,
            None => {
                complaints.push(source.complaint(0, format!("src/{own} is no floor of the house")));
                return;
            }
        },
    };
    let mut named: Vec<(usize, String)> = Vec::new();
    for root in ["crate::", "debrouille_appliance::"] {
        named.extend(source.find(root).flat_map(|offset| heads(&source.code, offset + root.len())));
    }
    // `super::` that climbs to the crate's root names a floor as well.
    let depth = inside.len() - usize::from(inside.last() == Some(&"mod"));
    for offset in source.find("super::").filter(|offset| !source.code[..*offset].ends_with("super::")) {
        let climbed = source.code[offset..].split("super::").take_while(|part| part.is_empty()).count();
        if climbed == depth {
            named.extend(heads(&source.code, offset + climbed * "super::".len()));
        }
    }
    for (offset, floor) in named {
        let known = FLOORS.iter().any(|(name, _)| *name == floor) || floor == "testing";
        if known && floor != own && !allowed.contains(&floor.as_str()) {
            complaints.push(source.complaint(offset, format!("{own} may not name {floor}: only lower floors")));
        }
    }
}

/// The first names after a path's root: one, or those of a group `{a::b, c}`.
fn heads(code: &str, from: usize) -> Vec<(usize, String)> {
    let name = |at: usize| -> String { code[at..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    if !code[from..].starts_with('{') {
        return vec![(from, name(from))];
    }
    let mut found = Vec::new();
    let mut depth = 0;
    let mut expecting = true;
    for (at, c) in code[from..].char_indices().map(|(at, c)| (from + at, c)) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expecting = true,
            c if expecting && depth == 1 && (c.is_alphabetic() || c == '_') => {
                found.push((at, name(at)));
                expecting = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn places(source: &Source, complaints: &mut Vec<Complaint>) {
    for (krate, places) in PLACES {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (offset, what) in [format!("{krate}::"), format!("use {krate};")]
            .iter()
            .flat_map(|word| occurrences(&source.code, word).map(move |offset| (offset, word)))
        {
            // `self::poem::` or `x::poem::` is a module of that name, not the crate.
            if !source.is_test(offset) && !source.code[..offset].ends_with("::") {
                let place = places.join(" and ");
                complaints.push(source.complaint(offset, format!("`{what}` outside {place}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sample;

    #[test]
    fn a_lower_floor_may_not_look_up() {
        let bad = [
            ("src/domain/a.rs", "//! A.\nuse crate::services::Error;\n"),
            ("src/domain/b.rs", "//! B.\nuse crate::{base::fault::Fault, ports::{x, documents}};\n"),
            ("src/base/c.rs", "//! C.\nfn c() { super::super::domain::path::Path }\n"),
            ("src/base/d/mod.rs", "//! D.\nuse super::super::http;\n"),
            ("src/services/e.rs", "//! E.\nuse crate::backends::documents;\n"),
            ("src/cli/f.rs", "//! F.\nuse crate::{server, backends};\n"),
            ("src/domain/g.rs", "//! G.\nuse crate::testing::faults;\n"),
            ("src/main.rs", "//! H.\nuse debrouille_appliance::server;\n"),
            ("src/odd/i.rs", "//! I.\n"),
        ];
        for (path, text) in bad {
            assert_eq!(super::check(&sample(&[(path, text)])).len(), 1, "{path} must be refused");
        }
    }

    #[test]
    fn lower_floors_and_tests_may_be_named() {
        let good = "//! A.\nuse crate::{base, domain::{path, services}};\nuse super::documents;\n\
                    #[cfg(test)]\nmod tests {\n    use crate::backends::documents;\n}\n";
        assert_eq!(super::check(&sample(&[("src/services/a.rs", good)])), []);
    }

    #[test]
    fn crates_stay_in_their_place() {
        for (path, text) in [
            ("src/services/a.rs", "//! A.\nuse poem::Request;\n"),
            ("src/http/a.rs", "//! A.\nuse clap::Parser;\n"),
            ("src/server/a.rs", "//! A.\nfn a() -> redb::Database {}\n"),
            ("src/services/b.rs", "//! A.\nuse anyhow;\n"),
        ] {
            assert_eq!(super::check(&sample(&[(path, text)])).len(), 1, "{path} must be refused");
        }
        assert_eq!(super::check(&sample(&[("src/http/a.rs", "//! A.\nuse poem::Request;\n")])), []);
    }
}
