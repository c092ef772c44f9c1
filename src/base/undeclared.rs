//! Migrations that no release declares, in builds for tests alone: their interruptions and refusals want more than there
//! are. No shipped binary has this file in it, which `scripts/check-static` sees to.

/// Names a folder of declarations.
const PLACE: &str = "APPLIANCE_TEST_MIGRATIONS";

/// Name and text of each, in order.
pub fn migrations() -> Vec<(String, String)> {
    let entries = std::env::var_os(PLACE).and_then(|folder| std::fs::read_dir(folder).ok());
    let mut all: Vec<(String, String)> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".toml")?.to_owned();
            Some((name, std::fs::read_to_string(path).ok()?))
        })
        .collect();
    all.sort();
    all
}
