//! Log files of days that are over: made small, and let go of in their order.

use flate2::{Compression, write::GzEncoder};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "appliance.";
const SUFFIX: &str = ".log";
const SMALL: &str = ".log.gz";

/// Compresses every file of a day before `today` (`2026-11-22`), and keeps `keep` files in all. Answers how many it
/// compressed.
pub fn tidy(folder: &Path, today: &str, keep: usize) -> io::Result<usize> {
    let current = format!("{PREFIX}{today}{SUFFIX}");
    let mut done = 0;
    for name in names(folder)? {
        let Some(name) = name.to_str().filter(|name| name.ends_with(SUFFIX) && **name < *current) else { continue };
        compress(&folder.join(name))?;
        done += 1;
    }
    let mut all = names(folder)?;
    all.sort();
    for name in all.iter().rev().skip(keep) {
        fs::remove_file(folder.join(name))?;
    }
    Ok(done)
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let of_ours = |name: &OsString| {
        name.to_str().is_some_and(|name| name.starts_with(PREFIX) && (name.ends_with(SUFFIX) || name.ends_with(SMALL)))
    };
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    Ok(names.into_iter().filter(of_ours).collect())
}

/// Whole beside it first; what a cut leaves is written over by the next attempt.
fn compress(path: &Path) -> io::Result<()> {
    let staged = path.with_extension("log.new");
    let small = PathBuf::from(format!("{}.gz", path.display()));
    let mut encoder = GzEncoder::new(super::super::files::private(&staged, false)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&staged, &small)?;
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
        assert_eq!(tidy(folder.path(), "2026-11-19", 4).unwrap(), 9);
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
        assert!(tidy(&path("absent"), "2026-11-19", 4).is_err());
    }
}
