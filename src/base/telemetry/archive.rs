//! Log files of days that are over: made small, and let go of in their order.

use flate2::{Compression, write::GzEncoder};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "appliance.";
const SUFFIX: &str = ".log";
const SMALL: &str = ".log.gz";

/// Keeps `keep` files in all, today's (`2026-11-22`) whatever comes, and compresses those of days before. Answers how many
/// it compressed. What goes wrong with one keeps no other from being let go of: a full disk is when it matters.
pub fn tidy(folder: &Path, today: &str, keep: usize) -> io::Result<usize> {
    let current = format!("{PREFIX}{today}{SUFFIX}");
    let mut all = names(folder)?;
    all.retain(|name| **name != *current);
    all.sort();
    let mut outcome = Ok(());
    for name in all.iter().rev().skip(keep.saturating_sub(1)) {
        outcome = outcome.and(fs::remove_file(folder.join(name)));
    }
    let mut done = 0;
    for name in names(folder)? {
        // One of a day to come is still written to, by who began when the clock was ahead.
        if name.ends_with(SUFFIX) && *name < *current {
            let staged = folder.join(format!("{name}.new"));
            match compress(&folder.join(&name), &staged) {
                Ok(()) => done += 1,
                Err(error) => {
                    let _ = fs::remove_file(staged);
                    outcome = outcome.and(Err(error));
                }
            }
        }
    }
    outcome.map(|()| done)
}

/// Every file of the log there is.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let of_ours = |name: &String| name.starts_with(PREFIX) && (name.ends_with(SUFFIX) || name.ends_with(SMALL));
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).filter(of_ours).collect())
}

/// Whole beside it first; what a cut leaves is written over by the next attempt.
fn compress(path: &Path, staged: &Path) -> io::Result<()> {
    let small = PathBuf::from(format!("{}.gz", path.display()));
    let mut encoder = GzEncoder::new(super::super::files::private(staged, false)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(staged, &small)?;
    super::super::files::sync_folder(&small)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn days_that_are_over_are_small_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for day in 10..20 {
            fs::write(path(&format!("appliance.2026-11-{day}.log")), format!("{day}\n").repeat(1000)).unwrap();
        }
        fs::write(path("other.log"), "x").unwrap();
        fs::write(path("appliance.2026-11-12.log.new"), "cut").unwrap();
        assert_eq!(tidy(folder.path(), "2026-11-19", 4).unwrap(), 3);
        assert!(!path("appliance.2026-11-12.log.new").exists() || names(folder.path()).unwrap().len() == 4);
        let mut left: Vec<_> = names(folder.path()).unwrap();
        left.sort();
        assert_eq!(
            left,
            [
                "appliance.2026-11-16.log.gz",
                "appliance.2026-11-17.log.gz",
                "appliance.2026-11-18.log.gz",
                "appliance.2026-11-19.log"
            ]
        );
        assert!(path("other.log").exists());
        let mut text = String::new();
        let small = File::open(path("appliance.2026-11-18.log.gz")).unwrap();
        assert!(small.metadata().unwrap().len() < 200);
        flate2::read::GzDecoder::new(small).read_to_string(&mut text).unwrap();
        assert_eq!(text, "18\n".repeat(1000));
        assert_eq!(tidy(folder.path(), "2026-11-19", 4).unwrap(), 0);
        // Today's stays beside those of days to come, and one that cannot be read holds up nothing.
        fs::write(path("appliance.2030-01-01.log"), "ahead").unwrap();
        fs::create_dir(path("appliance.2026-11-15.log")).unwrap();
        assert!(tidy(folder.path(), "2026-11-19", 9).is_err());
        assert!(tidy(folder.path(), "2026-11-19", 1).is_err());
        let mut left = names(folder.path()).unwrap();
        left.sort();
        assert_eq!(left, ["appliance.2026-11-15.log", "appliance.2026-11-19.log"]);
        assert!(tidy(&path("absent"), "2026-11-19", 4).is_err());
    }
}
