//! kill -9: a child inserts and says what was acknowledged; the parent kills it and looks for it all.

use super::{documents::Document, engines};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Inserts until killed, ten documents a batch, going on after the given place.
pub fn child(name: &str, folder: &Path) {
    let (_, open) = engines().into_iter().find(|(known, _)| *known == name).expect("a known engine");
    let mut engine = open(folder);
    let mut place: usize = std::fs::read_to_string(folder.join("place")).map_or(0, |text| text.parse().unwrap_or(0));
    let mut out = std::io::stdout();
    loop {
        let batch: Vec<Document> = (place..place + 10).map(Document::at).collect();
        engine.insert(&batch);
        place += 10;
        writeln!(out, "{place}").and_then(|()| out.flush()).expect("a parent");
    }
}

/// Documents acknowledged, and of these lost.
pub fn times(name: &str, times: u32) -> (usize, usize) {
    let (_, open) = engines().into_iter().find(|(known, _)| *known == name).expect("a known engine");
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged: Vec<std::ops::Range<usize>> = Vec::new();
    let mut place = 0;
    for turn in 0..times {
        // Leaves a gap: what was under way is nobody's.
        std::fs::write(folder.path().join("place"), place.to_string()).expect("a place");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["child", name])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut last = place;
        let mut until = None;
        while let Some(Ok(line)) = lines.next() {
            last = line.parse().expect("a place");
            let until =
                *until.get_or_insert_with(|| Instant::now() + Duration::from_millis(80 + 37 * u64::from(turn % 9)));
            if Instant::now() > until {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        acknowledged.push(place..last);
        place = last + 10_000;
    }
    let engine = open(folder.path());
    let all: Vec<usize> = acknowledged.into_iter().flatten().collect();
    let lost = all.iter().filter(|place| !engine.get(&Document::at(**place).id)).count();
    (all.len(), lost)
}
