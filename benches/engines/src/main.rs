//! Compares storage engines under the same documents: `cargo run --release --features all` prints the table of
//! `docs/decisions/0001-engine.md`, and what PoloDB answers wrongly.
//!
//! `engines [DOCUMENTS]` measures (200,000 by default); `engines child NAME FOLDER` is the process that gets killed.

mod documents;
mod killed;
#[cfg(feature = "polodb")]
mod polodb;
mod redb_engine;
#[cfg(feature = "sled")]
mod sled_engine;
#[cfg(feature = "sqlite")]
mod sqlite;

use documents::Document;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// What is asked of each. Every call that writes returns once its documents are on disk, as far as the engine says so.
pub trait Engine {
    fn insert(&mut self, documents: &[Document]);
    fn get(&self, id: &str) -> bool;
    /// How many documents have this number.
    fn equal(&self, number: i64) -> usize;
    /// The numbers of the first 20 documents in a range, by number.
    fn page(&self, from: i64, to: i64) -> Vec<i64>;
}

type Open = fn(&Path) -> Box<dyn Engine>;

pub fn engines() -> Vec<(&'static str, Open)> {
    vec![
        ("redb", redb_engine::open as Open),
        #[cfg(feature = "sqlite")]
        ("sqlite", sqlite::open as Open),
        #[cfg(feature = "sled")]
        ("sled", sled_engine::open as Open),
        #[cfg(feature = "polodb")]
        ("polodb", polodb::open as Open),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child, name, folder] = &arguments[..]
        && child == "child"
    {
        return killed::child(name, Path::new(folder));
    }
    let count = arguments.first().map_or(200_000, |given| given.parse().expect("a number of documents"));
    println!("{count} documents of about 500 bytes; operations a second (CPU an operation)\n");
    println!("| engine | indexed equality | range + sort + 20 rows | get by id | durable insert, 1,000 a batch |");
    println!("|---|---|---|---|---|");
    for (name, open) in engines() {
        measure(name, open, count);
    }
    println!("\n25 × kill -9 while inserting\n");
    for (name, _) in engines() {
        let (acknowledged, lost) = killed::times(name, 25);
        println!("- {name}: {lost} of {acknowledged} acknowledged documents lost");
    }
    #[cfg(feature = "polodb")]
    polodb::wrong_answers();
}

fn measure(name: &str, open: Open, count: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut engine = open(folder.path());
    let all = documents::make(count);
    let started = Instant::now();
    for batch in all.chunks(1000) {
        engine.insert(batch);
    }
    let inserted = count as f64 / started.elapsed().as_secs_f64();
    let mut turn = 0usize;
    let mut next = || {
        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        &all[(turn >> 33) % count]
    };
    let equal = rate(|| {
        let number = next().number;
        assert!(engine.equal(number) > 0, "{name} does not find {number}");
    });
    let page = rate(|| {
        let from = next().number;
        let found = engine.page(from, from + 1000);
        assert!(found.first() == Some(&from) && found.is_sorted(), "{name} answers {found:?} from {from}");
    });
    let get = rate(|| assert!(engine.get(&next().id), "{name} lost a document"));
    println!("| {name} | {equal} | {page} | {get} | {inserted:.0}/s |");
}

/// Runs for three seconds, or ten operations if these take longer.
fn rate(mut operation: impl FnMut()) -> String {
    let (started, busy) = (Instant::now(), cpu());
    let mut done = 0u32;
    while started.elapsed() < Duration::from_secs(3) || done < 10 {
        operation();
        done += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let each = (cpu() - busy) * 1e6 / f64::from(done);
    format!("{:.1}/s ({each:.0} µs)", f64::from(done) / seconds)
}

/// Seconds of processor this process has used (Linux: 100 ticks a second).
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<f64> = stat
        .rsplit(") ")
        .next()
        .map(|rest| rest.split(' ').map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    (fields[11] + fields[12]) / 100.0
}
