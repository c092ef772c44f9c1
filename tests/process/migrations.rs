//! Migrations of the real binary, with one more than it declares: killed at its syncs, undone, refused by who does not
//! know it, rehearsed beside a server of the release before.

use crate::appliance::{Instance, words};
use bson::{RawDocumentBuf, rawdoc};
use debrouille_appliance::{
    base::{
        clock::{SystemClock, Timestamp},
        config::{Config, Inputs},
    },
    ports::documents::{Batch, COLLECTIONS, Change, Expect, Operation},
    server::open,
};
use serde_json::Value;
use std::{path::Path, process::Command, sync::Arc};

const ROWS: usize = 3000;
const MORE: &str = "name = 'seeds'\nrelease = '9.9.9'\n[[change]]\ndocuments = 'system.seeds'\n[[change.step]]
rename = { from = 'n', to = 'number' }\n[[change.step]]\ndefault = { field = 'fresh', value = true }
[[change]]\ndefinition = 'system.seeds'\n[[change.step]]\nindex = { keys = 'number', unique = true }\n";

/// What no index takes: the copy of it fails, for good.
const STUCK: &str = "name = 'labels'\nrelease = '9.9.9'\n[[change]]\ndocuments = 'system.seeds'\n[[change.step]]
rename = { from = 'n', to = 'number' }\n[[change.step]]\ndefault = { field = 'fresh', value = true }
[[change.step]]\ncopy = { from = 'text', to = 'label' }\n";

/// An instance with many documents of its own, and the folder of what a next release declares.
struct Site {
    instance: Instance,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn new() -> Self {
        Self::of("0002-seeds", MORE, rawdoc! { "indexes": [] }, |n| rawdoc! { "n": n, "text": "é".repeat(200) })
    }

    fn of(name: &str, migration: &str, seeds: RawDocumentBuf, row: impl Fn(i64) -> RawDocumentBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(format!("{name}.toml")), migration).unwrap();
        let site = Self { instance: Instance::new(), folder, runtime: tokio::runtime::Runtime::new().unwrap() };
        site.runtime.block_on(async {
            let opened = open::as_it_is(&site.config(), Arc::new(SystemClock)).await.unwrap();
            let put = |collection: &str, id: String, document: RawDocumentBuf| {
                let (collection, change) = (collection.to_owned(), Change::Put(document));
                Operation { collection, id, expect: Expect::Absent, change }
            };
            let mut all = vec![put(COLLECTIONS, "system.seeds".to_owned(), seeds)];
            all.extend((0..ROWS).map(|n| put("system.seeds", format!("{n:06}"), row(i64::try_from(n).unwrap()))));
            for operations in all.chunks(900) {
                let (origin, operations) = (Default::default(), operations.to_vec());
                let batch = Batch { time: Timestamp(5), origin, operations, check: None, receipt: None };
                opened.documents.commit(batch).await.unwrap();
            }
            opened.documents.close().await.unwrap();
            opened.seals.close().await.unwrap();
        });
        site
    }

    fn config(&self) -> Config {
        Config::load(&Inputs {
            file: self.instance.data.with_file_name("appliance.toml"),
            file_named: true,
            dotenv: None,
            environment: Default::default(),
            flags: vec![("instance.data_dir", "--data-dir", self.instance.data.display().to_string())],
        })
        .unwrap()
    }

    /// What the documents say, by a binary that knows no more than it declares: only where the rest is undone.
    fn seen(&self) -> Vec<bson::Document> {
        self.runtime.block_on(async {
            let opened = open::as_it_is(&self.config(), Arc::new(SystemClock)).await.unwrap();
            let snapshot = opened.documents.snapshot().await.unwrap();
            let rows = snapshot.documents("system.seeds", None, ROWS * 2).unwrap();
            drop(snapshot);
            opened.documents.close().await.unwrap();
            opened.seals.close().await.unwrap();
            let plain = |row: &RawDocumentBuf| {
                let mut row = bson::Document::try_from(row).unwrap();
                row.remove("_rev");
                row.remove("_updatedAt");
                row
            };
            rows.iter().map(plain).collect()
        })
    }

    /// A command of the next release.
    fn next(&self, arguments: &[&str]) -> Command {
        let mut command = self.instance.command(arguments);
        command.env("APPLIANCE_TEST_MIGRATIONS", self.folder.path());
        command
    }

    fn told(&self, arguments: &[&str]) -> Value {
        told(self.next(arguments))
    }

    /// Killed at its `at`th sync; whether it came to that.
    fn killed(&self, arguments: &[&str], at: usize) -> bool {
        let command = self.next(arguments);
        let mut strace = Command::new("strace");
        strace.env_clear().env("APPLIANCE_TEST_MIGRATIONS", self.folder.path());
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
        strace.args(["-e", &format!("inject=fdatasync:signal=KILL:when={at}")]);
        let output = strace.arg(command.get_program()).args(command.get_args()).output().unwrap();
        !output.status.success()
    }
}

/// Every file beneath a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let of = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path),
        false => vec![(path.display().to_string(), std::fs::read(&path).unwrap())],
    };
    entries.flat_map(of).collect()
}

fn told(mut command: Command) -> Value {
    let output = command.arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `doctor` says of migrations.
fn checked(mut doctor: Command) -> (String, Option<String>) {
    let output = doctor.arg("--json").output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = told["checks"].as_array().unwrap();
    let one = checks.iter().find(|one| one["check"] == "migrations").unwrap_or_else(|| panic!("{told}"));
    let text = |name: &str| one[name].as_str().map(str::to_owned);
    (text("level").unwrap(), text("rule"))
}

fn changed(plan: &Value, number: u64) -> u64 {
    let all = plan["migrations"].as_array().unwrap();
    let one = all.iter().find(|one| one["number"] == number);
    one.map_or(0, |one| one["collections"]["system.seeds"]["changed"].as_u64().unwrap())
}

#[test]
fn killed_at_any_sync_a_migration_goes_on_where_it_was() {
    let site = Site::new();
    let before = site.seen();
    assert_eq!(before.len(), ROWS);
    assert_eq!(changed(&site.told(&["migrate", "plan"]), 2), ROWS as u64);
    let mut killed = 0;
    for at in [2, 7, 12, 16, 20, 24, 29, 36, 48] {
        let up = site.killed(&["migrate", "up"], at);
        site.told(&["migrate", "up"]);
        assert_eq!(changed(&site.told(&["migrate", "plan"]), 2), 0, "{at}");
        let plan = site.told(&["migrate", "plan", "--to", "1"]);
        assert_eq!((changed(&plan, 2), &plan["direction"]), (ROWS as u64, &"down".into()), "{at}");
        assert!(!plan.to_string().contains("\"losing\":1"), "{plan}");
        let down = site.killed(&["migrate", "down", "--to", "1", "--yes"], at);
        site.told(&["migrate", "down", "--to", "1", "--yes"]);
        assert!(site.seen() == before, "{at}");
        killed += usize::from(up) + usize::from(down);
    }
    assert!(killed >= 6, "{killed}");
}

#[test]
fn killed_at_any_sync_a_migration_is_undone_from_there() {
    let site = Site::new();
    let before = site.seen();
    let (mut killed, mut half) = (0, 0);
    for at in [4, 9, 14, 18, 22, 26, 31] {
        let up = site.killed(&["migrate", "up"], at);
        let stands = site.told(&["migrate", "status"])["migrations"][1]["stage"].clone();
        half += usize::from(stands == "up");
        let down = site.killed(&["migrate", "down", "--to", "1", "--yes"], at / 2 + 1);
        site.told(&["migrate", "down", "--to", "1", "--yes"]);
        assert!(site.seen() == before, "{at}");
        killed += usize::from(up) + usize::from(down);
    }
    assert!(killed >= 6 && half >= 2, "{killed} {half}");
}

#[test]
fn an_up_that_cannot_end_is_undone_and_the_release_before_runs() {
    let row = |n: i64| {
        let text = "é".repeat(if n == 2000 { 700 } else { 200 });
        // What one that went too far would take away.
        if n % 10 == 3 {
            rawdoc! { "n": n, "text": text, "fresh": false }
        } else {
            rawdoc! { "n": n, "text": text }
        }
    };
    let site = Site::of("0002-labels", STUCK, rawdoc! { "indexes": ["label"] }, row);
    let before = site.seen();
    for at in [4, 8, 12] {
        for mut command in [site.next(&["migrate", "up"]), site.next(&["migrate", "up"])] {
            let output = command.output().unwrap();
            let said = words(&output);
            assert!(output.status.code() == Some(3) && said.contains("migrate down --to 1"), "{output:?}");
        }
        let status = site.told(&["migrate", "status"]);
        assert_eq!(status["migrations"][1]["stage"], "up", "{status}");
        assert_eq!(changed(&site.told(&["migrate", "plan", "--to", "1"]), 2), 2000);
        site.killed(&["migrate", "down", "--to", "1", "--yes"], at);
        site.told(&["migrate", "down", "--to", "1", "--yes"]);
        assert!(site.seen() == before, "{at}");
    }
    let mut serve = site.instance.serve();
    serve.env("APPLIANCE_TEST_MIGRATIONS", site.folder.path());
    let (code, said) = site.instance.refused(serve);
    assert!(code == 3 && said.contains("migrate down --to 1"), "{code} {said}");
    site.told(&["migrate", "down", "--to", "1", "--yes"]);
    assert!(site.seen() == before);
    site.instance.start().stop();
}

#[test]
fn an_index_that_finds_doubles_stops_the_update_and_leaves_a_way_back() {
    // Two of a number: the one unique index of it cannot be.
    let row = |n: i64| rawdoc! { "n": if n == 2500 { 40 } else { n }, "text": "x" };
    let site = Site::of("0002-seeds", MORE, rawdoc! { "indexes": [] }, row);
    let before = site.seen();
    let mut serve = site.instance.serve();
    serve.env("APPLIANCE_TEST_MIGRATIONS", site.folder.path());
    let (code, said) = site.instance.refused(serve);
    for word in ["system.seeds", "number_1", "000040 = 002500", "migrate down --to 1"] {
        assert!(code == 3 && said.contains(word), "{code} {said}");
    }
    assert_eq!(site.told(&["migrate", "status"])["migrations"][1]["stage"], "up");
    let half_done = ("warning".to_owned(), Some("migrations.half_done".to_owned()));
    assert_eq!(checked(site.next(&["doctor"])), half_done);
    site.told(&["migrate", "down", "--to", "1", "--yes"]);
    assert!(site.seen() == before);
    let output = site.next(&["migrate", "validate"]).output().unwrap();
    assert!(output.status.code() == Some(3) && words(&output).contains("000040 = 002500"), "{}", words(&output));
    site.instance.start().stop();
}

#[test]
fn what_a_newer_release_migrated_is_refused_with_the_way_back() {
    let site = Site::new();
    let server = crate::appliance::Server::of(
        {
            let mut serve = site.instance.serve();
            serve.env("APPLIANCE_TEST_MIGRATIONS", site.folder.path());
            serve
        },
        &site.instance.data,
    );
    let status = site.told(&["migrate", "status"]);
    assert_eq!((&status["known"], status["migrations"].as_array().unwrap().len()), (&2.into(), 2), "{status}");
    assert_eq!(status["migrations"][1]["stage"], "applied");
    let output = site.next(&["migrate", "down", "--to", "1", "--yes"]).output().unwrap();
    let said = words(&output);
    assert!(output.status.code() == Some(6) && said.contains("systemctl stop"), "beside a server: {said}");
    assert_eq!(checked(site.next(&["doctor"])), ("ok".to_owned(), None));
    let metrics = server.ops("/metrics").1;
    assert!(metrics.contains("debrouille_migration_applied 2\n"), "{metrics}");
    assert!(metrics.contains("debrouille_migration_duration_seconds "), "{metrics}");
    let newer = ("warning".to_owned(), Some("migrations.newer".to_owned()));
    assert_eq!(checked(site.instance.command(&["doctor"])), newer);
    server.stop();

    assert_eq!(checked(site.instance.command(&["doctor"])), newer);
    assert_eq!(checked(site.next(&["doctor"])), ("ok".to_owned(), None));
    let (code, said) = site.instance.refused(site.instance.serve());
    assert!(code == 3 && said.contains("migrate down --to 1"), "{code} {said}");
    let status = told(site.instance.command(&["migrate", "status"]));
    assert_eq!((&status["known"], &status["migrations"][1]["stage"]), (&1.into(), &"newer".into()));
    let output = site.instance.command(&["user", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", words(&output));

    // Another declaration under the same number.
    std::fs::write(site.folder.path().join("0002-seeds.toml"), MORE.replace("true }", "false }")).unwrap();
    let output = site.next(&["migrate", "up"]).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", words(&output));
    std::fs::write(site.folder.path().join("0002-seeds.toml"), MORE).unwrap();

    site.told(&["migrate", "down", "--to", "1", "--yes"]);
    let server = site.instance.start();
    let metrics = server.ops("/metrics").1;
    assert!(
        metrics.contains("debrouille_migration_applied 1\n") && !metrics.contains("migration_duration"),
        "{metrics}"
    );
    server.stop();
    let log = site.instance.command(&["audit", "list", "--action", "migration.down", "--json"]).output().unwrap();
    assert!(words(&log).contains("0002-seeds"), "{}", words(&log));
}

#[test]
fn a_next_release_rehearses_beside_the_one_that_serves() {
    let site = Site::new();
    let version = told(site.instance.command(&["version"]));
    assert_eq!((&version["formats"]["migrations"], &version["formats"]["documents"]), (&1.into(), &2.into()));
    assert_eq!(site.told(&["version"])["formats"]["migrations"], 2);
    let server = site.instance.start();
    let check = |rehearsed: &Value| {
        assert_eq!(rehearsed["sound"], true, "{rehearsed}");
        assert_eq!((&rehearsed["from"], &rehearsed["to"]), (&1.into(), &2.into()), "{rehearsed}");
        assert_eq!(rehearsed["changed"], ROWS + 1);
        let left = std::fs::read_dir(site.instance.data.join("rehearsals"));
        assert_eq!(left.map_or(0, Iterator::count), 0);
    };
    check(&site.told(&["migrate", "validate"]));
    assert_eq!(changed(&site.told(&["migrate", "plan"]), 2), ROWS as u64);
    server.stop();
    check(&site.told(&["migrate", "validate"]));
    assert_eq!(told(site.instance.command(&["migrate", "plan"]))["migrations"], serde_json::json!([]));
}

#[test]
fn a_backup_rehearses_too_and_a_newer_one_is_refused() {
    let site = Site::new();
    let path = |name: &str| site.instance.data.with_file_name(name).to_str().unwrap().to_owned();
    let key = told(site.instance.command(&["backup", "keys", "generate", "-o", &path("key")]));
    std::fs::create_dir(path("backups")).unwrap();
    let backup = format!("[backup]\ntargets = [{:?}]\nrecipients = [{}]\n", path("backups"), key["recipient"]);
    std::fs::write(path("appliance.toml"), backup).unwrap();
    told(site.instance.command(&["backup", "create"]));
    let place = ["--identity", &path("key"), "--any-signer", "--environment", "development"];
    let rehearsed = site.told(&[&["migrate", "validate"], &place[..]].concat());
    assert_eq!((&rehearsed["sound"], &rehearsed["changed"]), (&true.into(), &(ROWS + 1).into()), "{rehearsed}");
    assert!(!Path::new(&path("data.rehearsal")).exists());
    // A kill leaves the copy, and nothing that opens it.
    let mut left = 0;
    for at in [3, 9, 25, 40] {
        assert!(site.killed(&[&["migrate", "validate"], &place[..]].concat(), at), "{at}");
        let files = files(Path::new(&path("data.rehearsal")));
        left += usize::from(files.iter().any(|(name, _)| name.ends_with("documents.sealed")));
        let open = |bytes: &[u8]| bytes.windows(20).any(|part| part == b"debrouille-root-key-");
        assert!(files.iter().all(|(name, bytes)| !name.ends_with("root.key") && !open(bytes)), "{at}");
    }
    assert!(left >= 2, "{left}");
    assert_eq!(site.told(&[&["migrate", "validate"], &place[..]].concat())["sound"], true);
    assert!(!Path::new(&path("data.rehearsal")).exists());

    site.told(&["migrate", "up"]);
    told(site.next(&["backup", "create"]));
    let (from, into) = (path("backups"), path("again"));
    let restore = [&["restore", "--from", &from, "--into", &into], &place[..]].concat();
    for command in [&restore[..], &[&restore[..], &["--dry-run"]].concat()] {
        let output = site.instance.command(command).output().unwrap();
        assert!(output.status.code() == Some(3) && words(&output).contains("migrate down"), "{}", words(&output));
    }
    assert!(!Path::new(&path("again")).join("instance.json").exists());
    // The first one is of before.
    let list = site.told(&["backup", "list"]);
    let output =
        site.instance.command(&[&restore[..], &["--backup", list[0]["id"].as_str().unwrap()]].concat()).output();
    let output = output.unwrap();
    assert!(output.status.code() == Some(3), "older than the newest: {}", words(&output));
}
