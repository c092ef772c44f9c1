//! Time that runs ahead of the machine's, in builds for tests alone: hours of an alert's life pass while a test looks on
//! (decision 0023). No shipped binary has this file in it, which `scripts/check-static` sees to.

use super::clock::Stopwatch;
use std::{fs::File, os::unix::fs::FileExt, sync::OnceLock, time::Duration};

/// Names a file of eight bytes: by how many milliseconds, least byte first. It may be written at any time.
const PLACE: &str = "APPLIANCE_TEST_CLOCK";
const LOOK: Duration = Duration::from_millis(10);

/// Held open: a process that has no file left to open knows the time all the same.
fn file() -> Option<&'static File> {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    FILE.get_or_init(|| File::open(std::env::var_os(PLACE)?).ok()).as_ref()
}

pub fn millis() -> i64 {
    let mut bytes = [0; 8];
    match file().map(|file| file.read_exact_at(&mut bytes, 0)) {
        Some(Ok(())) => i64::from_le_bytes(bytes),
        _ => 0,
    }
}

/// By how much it has run further ahead since.
pub fn since(before: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis() - before).unwrap_or_default())
}

/// Over as soon as that much time has passed, here or ahead.
pub async fn pause(span: Duration) {
    if file().is_none() {
        return tokio::time::sleep(span).await;
    }
    let watch = Stopwatch::start();
    while let Some(left) = span.checked_sub(watch.elapsed()) {
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
