//! The habits of the house, enforced: each rule of ARCHITECTURE.md that a machine can check, so nobody has to remember it.

#[path = "tidy/declared.rs"]
mod declared;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/purity.rs"]
mod purity;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/upkeep.rs"]
mod upkeep;
#[path = "tidy/words.rs"]
mod words;

use source::{Complaint, File, Project};

fn hold(rule: fn(&Project) -> Vec<Complaint>) {
    let project = Project::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the work tree is readable");
    assert!(project.product().count() > 10, "the work tree was not found");
    let mut complaints = rule(&project);
    complaints.sort();
    let list: Vec<String> = complaints.iter().map(Complaint::to_string).collect();
    assert!(list.is_empty(), "{} places:\n{}", list.len(), list.join("\n"));
}

/// A small project for the tests of the rules themselves.
fn sample(files: &[(&str, &str)]) -> Project {
    let file =
        |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned(), executable: true };
    Project::of(files.iter().map(file).collect())
}

#[test]
fn floors_import_only_lower_floors_and_crates_stay_in_their_place() {
    hold(floors::check);
}

#[test]
fn files_are_named_opened_and_sized_well() {
    hold(names::check);
}

#[test]
fn shipped_code_neither_reads_the_world_nor_panics() {
    hold(purity::check);
}

#[test]
fn messages_speak_both_languages() {
    hold(words::check);
}

#[test]
fn scripts_dependencies_and_exceptions_are_kept_up() {
    hold(upkeep::check);
}

#[test]
fn migrations_are_numbered_embedded_and_never_changed() {
    hold(declared::check);
}
