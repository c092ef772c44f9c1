//! What surrounds the code: scripts that run, dependencies that are used and explained, exceptions that still hold.

use super::source::{Complaint, Project};

/// Where each dependency that a reader might question is explained.
const DEPENDENCIES: &str = "docs/decisions/0007-dependencies.md";

pub fn check(project: &Project) -> Vec<Complaint> {
    let mut complaints = scripts(project);
    complaints.extend(dependencies(project));
    complaints.extend(exceptions(project));
    complaints.extend(links(project));
    complaints
}

/// A document's links into the project lead somewhere.
fn links(project: &Project) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in project.files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, line) in file.text.lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = target.split('#').next().unwrap_or_default();
                if target.is_empty() || target.contains(':') {
                    continue;
                }
                let path = std::path::Path::new(folder).join(target);
                if !project.files.iter().any(|file| std::path::Path::new(&file.path) == normal(&path)) {
                    let what = format!("the link to {target} leads nowhere");
                    complaints.push(Complaint { path: file.path.clone(), line: number + 1, what });
                }
            }
        }
    }
    complaints
}

/// The path without `..`.
fn normal(path: &std::path::Path) -> std::path::PathBuf {
    let mut out = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// A script is executable and stops at the first failure.
fn scripts(project: &Project) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in &project.files {
        let script =
            file.path == ".ci/run" || (file.path.starts_with("scripts/") && !file.path[8..].contains(['.', '/']));
        let complain = |what: &str| Complaint { path: file.path.clone(), line: 1, what: what.to_owned() };
        if script && !file.executable {
            complaints.push(complain("not executable"));
        }
        if script && file.text.starts_with("#!/usr/bin/env bash") && !file.text.contains("\nset -euo pipefail\n") {
            complaints.push(complain("without `set -euo pipefail`"));
        }
        if script && !file.text.starts_with("#!") {
            complaints.push(complain("does not say what runs it (`#!`)"));
        }
    }
    complaints
}

/// Each dependency is named by the code, and in the decision that explains them.
fn dependencies(project: &Project) -> Vec<Complaint> {
    let Some(manifest) = project.text("Cargo.toml") else { return Vec::new() };
    let complain = |name: &str, what: &str| {
        let line = manifest.lines().position(|line| line.starts_with(&format!("{name} = "))).map_or(1, |at| at + 1);
        Complaint { path: "Cargo.toml".to_owned(), line, what: format!("{name}: {what}") }
    };
    let table: toml::Table = match manifest.parse() {
        Ok(table) => table,
        Err(error) => return vec![complain("manifest", &error.to_string())],
    };
    let decision = project.text(DEPENDENCIES);
    let mut complaints = Vec::new();
    for (section, folder) in [("dependencies", "src/"), ("dev-dependencies", "")] {
        for name in table.get(section).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys) {
            let ident = name.replace('-', "_");
            let used = project.sources.iter().filter(|source| source.path.starts_with(folder)).any(|source| {
                super::source::occurrences(&source.code, &ident).any(|at| {
                    let rest = source.code[at + ident.len()..].trim_start();
                    rest.starts_with("::") || rest.starts_with(';') || rest.starts_with(" as ")
                })
            });
            if !used {
                complaints.push(complain(name, "no code names it; drop it"));
            }
            if decision.is_some_and(|text| !text.contains(&format!("`{name}`"))) {
                complaints.push(complain(name, &format!("not explained in {DEPENDENCIES}")));
            }
        }
    }
    complaints
}

/// `deny.toml` sets aside the advisories of poem's XML parser because nothing of ours reads XML by it: what S3 servers
/// answer goes through another.
fn exceptions(project: &Project) -> Vec<Complaint> {
    let found = |source: &super::source::Source| -> Vec<Complaint> {
        let places = ["Xml", "quick_xml"].iter().flat_map(|word| source.find(word));
        places.map(|at| source.complaint(at, "reads XML by quick-xml, which deny.toml says we do not")).collect()
    };
    project.product().flat_map(found).collect()
}

#[cfg(test)]
mod tests {
    use crate::{sample, source::File, source::Project};

    #[test]
    fn scripts_run_and_stop_at_failures() {
        let check = |text: &str, executable| {
            let file = File { path: "scripts/a".to_owned(), text: text.to_owned(), executable };
            super::check(&Project::of(vec![file])).len()
        };
        assert_eq!(check("#!/usr/bin/env bash\nset -euo pipefail\n", true), 0);
        assert_eq!(check("#!/usr/bin/env bash\nset -euo pipefail\n", false), 1);
        assert_eq!(check("#!/usr/bin/env bash\nset -eu\n", true), 1);
        assert_eq!(check("set -euo pipefail\n", true), 1);
    }

    #[test]
    fn dependencies_are_used_and_explained() {
        let manifest = ("Cargo.toml", "[dependencies]\na-b = \"1\"\nc = \"2\"\n");
        let code = ("src/base/a.rs", "//! What it is for.\nuse a_b::x;\n");
        let decision = ("docs/decisions/0007-dependencies.md", "`c` and `d`\n");
        let complaints = super::check(&sample(&[manifest, code, decision]));
        let what: Vec<_> = complaints.iter().map(|complaint| (complaint.line, complaint.what.as_str())).collect();
        let unexplained = "a-b: not explained in docs/decisions/0007-dependencies.md";
        assert_eq!(what, [(2, unexplained), (3, "c: no code names it; drop it")]);
    }

    #[test]
    fn an_exception_that_no_longer_holds_is_found() {
        for code in ["use poem::web::Xml;", "use quick_xml::Reader;"] {
            assert_eq!(super::check(&sample(&[("src/http/a.rs", &format!("//! A.\n{code}\n"))])).len(), 1, "{code}");
        }
        assert_eq!(super::check(&sample(&[("src/http/a.rs", "//! A.\nuse roxmltree::Document;\n")])), []);
    }

    #[test]
    fn links_lead_somewhere() {
        let page = ("docs/a/b.md", "[c](../c.md#d) [e](#e) [f](https://f) [g](g.md)\n");
        let complaints = super::check(&sample(&[page, ("docs/c.md", "# C\n")]));
        let what: Vec<_> = complaints.iter().map(|complaint| complaint.what.as_str()).collect();
        assert_eq!(what, ["the link to g.md leads nowhere"]);
    }
}
