//! `self-update check|download`: only what enough holders signed is believed, and everything else is refused in words, from
//! a folder and over HTTPS.

mod server;
mod world;

use crate::{run, stderr, stdout};
use server::{Server, Weakness};
use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};
use world::{BYTES, FILE, NOTES, World, copy, done, edit, forge, publish, script, sign};

#[test]
fn a_release_is_found_brought_once_and_verified_again() {
    let world = World::new();
    let said = world.run(&["check"]);
    assert!(said.contains("9.1.0") && said.contains("0.1.0") && said.contains(NOTES[1]), "{said}");
    assert!(said.contains("--config appliance.toml self-update download"), "{said}");
    let french = stdout(&run(&mut world.command(&["check", "--lang", "fr"])));
    assert!(french.contains(NOTES[0]) && french.contains("Pour l'apporter"), "{french}");
    let answer = world.answer(&["check"]);
    assert_eq!((&answer["available"], &answer["state"]), (&true.into(), &"newest".into()));
    assert_eq!((&answer["release"]["file"], &answer["release"]["bytes"]), (&FILE.into(), &BYTES.into()));

    let brought = world.path("updates/downloads").join(FILE);
    let answer = world.answer(&["download"]);
    assert_eq!(answer["file"], brought.display().to_string());
    assert_eq!(fs::read(&brought).unwrap(), fs::read(world.path(FILE)).unwrap());
    let again = world.run(&["download"]);
    assert!(again.contains("is here already"), "{again}");
    // What was changed here since is brought anew; what is no longer wanted goes.
    fs::write(&brought, "altered").unwrap();
    fs::write(world.path("updates/downloads/older.tar.gz.partial"), "half").unwrap();
    assert!(world.run(&["download"]).contains("brought and verified"));
    assert_eq!(world.downloads(), [FILE]);
    for name in ["updates", "updates/metadata", "updates/downloads"] {
        assert_eq!(fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777, 0o755, "{name}");
    }
    assert_eq!(fs::metadata(world.path("updates/seed")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn pins_channels_and_stages_hold_a_release_back() {
    let world = World::new();
    world.configure("repository", "pin = \"0.1\"\n");
    assert_eq!(world.answer(&["check"])["state"], "pinned");
    assert!(world.run(&["download"]).contains("update.pin = \"0.1\""));
    world.configure("repository", "pin = \"newest\"\n");
    world.refused(&["check"], 3, "update.pin", "update.pin");
    world.configure("repository", "");
    done(world.place(), &["change", FILE, "--staged", "0"]);
    sign(world.place(), "targets", &["b.pem", "c.pem"]);
    publish(world.place());
    assert_eq!(world.answer(&["check"])["state"], "waiting");
    assert!(world.run(&["download"]).contains("0% of the machines"));
    fs::write(world.path("candidate.tar.gz"), "try").unwrap();
    done(world.place(), &["add", "candidate.tar.gz", "--version", "9.2.0-rc.1", "--channel", "candidate"]);
    sign(world.place(), "targets", &["b.pem", "a.pem"]);
    publish(world.place());
    assert_eq!(world.answer(&["check"])["state"], "waiting");
    world.configure("repository", "channel = \"candidate\"\n");
    assert_eq!(world.answer(&["download"])["release"]["version"], "9.2.0-rc.1");
    assert_eq!(world.downloads(), ["candidate.tar.gz"]);
}

/// Shown good metadata, then this, then the good again: what was seen stays of use.
fn each(world: &World, code: i32, english: &str, french: &str, change: impl FnOnce(&World)) {
    world.run(&["check"]);
    change(world);
    world.refused(&["check"], code, english, french);
    world.refused(&["download"], code, english, french);
    world.renew();
    world.run(&["check"]);
}

#[test]
fn metadata_that_enough_did_not_sign_is_not_believed() {
    let world = World::new();
    let none = ("0 good signature(s) of the 1 required", "0 bonne(s) signature(s) sur 1");
    each(&world, 5, none.0, none.1, |world| {
        edit(&world.metadata("timestamp.json"), |file| file["signatures"] = serde_json::json!([]));
    });
    each(&world, 5, none.0, none.1, |world| {
        edit(&world.metadata("timestamp.json"), |file| file["signatures"][0]["sig"] = "00".repeat(64).into());
    });
    let few = ("1 good signature(s) of the 2 required", "1 bonne(s) signature(s) sur 2");
    each(&world, 5, few.0, few.1, |world| {
        edit(&world.metadata("2.targets.json"), |file| drop(file["signatures"].as_array_mut().unwrap().pop()));
    });
    // The same holder twice is one holder; a key of another role is none.
    each(&world, 5, few.0, few.1, |world| {
        forge(world.place(), "write(read('2.targets.json'), '2.targets.json', ('a.pem', 'a.pem'))");
    });
    each(&world, 5, few.0, few.1, |world| {
        forge(world.place(), "write(read('2.targets.json'), '2.targets.json', ('a.pem', 'online.pem'))");
    });
    let zero = ("0 good signature(s) of the 2 required", "0 bonne(s) signature(s) sur 2");
    each(&world, 5, zero.0, zero.1, |world| {
        edit(&world.metadata("2.targets.json"), |file| {
            file["signed"]["targets"][FILE]["custom"]["version"] = "9.9.9".into()
        });
    });
    each(&world, 5, "2.snapshot.json is not the one announced", "2.snapshot.json n'est pas celui", |world| {
        // Of the announced length, and another content.
        let text = fs::read_to_string(world.metadata("2.snapshot.json")).unwrap();
        let changed = text.replacen("snapshot", "snapshoT", 1);
        assert_ne!(text, changed);
        fs::write(world.metadata("2.snapshot.json"), changed).unwrap();
    });
    each(&world, 5, "cannot be read", "illisibles", |world| {
        let half = fs::read(world.metadata("timestamp.json")).unwrap();
        fs::write(world.metadata("timestamp.json"), &half[..half.len() / 2]).unwrap();
    });
    each(&world, 5, "exceeds 1048576 bytes", "dépasse 1048576 octets", |world| {
        File::options().write(true).open(world.metadata("timestamp.json")).unwrap().set_len(1 << 40).unwrap();
    });
    each(&world, 5, "2.targets.json is missing", "2.targets.json y manque", |world| {
        fs::remove_file(world.metadata("2.targets.json")).unwrap();
    });
    each(&world, 6, "is no repository of releases", "n'est pas un dépôt de versions", |world| {
        fs::remove_dir_all(world.metadata("")).unwrap();
    });
    world.configure("absent", "");
    world.refused(&["check"], 6, "is not there or is no folder", "n'est pas là");
    world.configure("repository", "");
    world.run(&["check"]);
}

const YESTERDAY: &str =
    "t.signed.expires = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(1)";

#[test]
fn nothing_older_expired_or_out_of_time_is_taken() {
    let world = World::new();
    each(&world, 3, "\"timestamp\" metadata older", "« timestamp » plus anciennes", |world| {
        fs::remove_dir_all(world.path("repository")).unwrap();
        copy(&world.path("first"), &world.path("repository"));
    });
    // By whoever got hold of the key of snapshot and timestamp.
    each(&world, 3, "\"snapshot\" metadata older", "« snapshot » plus anciennes", |world| {
        let code = "
t = read('timestamp.json'); t.signed.version = 3; data = open('repository/metadata/1.snapshot.json', 'rb').read()
t.signed.snapshot_meta = MetaFile(1, len(data), {'sha256': hashlib.sha256(data).hexdigest()}); write(t, 'timestamp.json')";
        forge(world.place(), code);
    });
    let hidden = World::new();
    hidden.run(&["check"]);
    fs::remove_dir_all(hidden.path("repository")).unwrap();
    copy(&hidden.path("first"), &hidden.path("repository"));
    (0..2).for_each(|_| publish(hidden.place()));
    hidden.refused(&["check"], 3, "\"targets\" metadata older", "« targets » plus anciennes");

    each(&world, 3, "\"timestamp\" metadata has expired", "« timestamp » sont périmées", |world| {
        forge(
            world.place(),
            &format!("t = read('timestamp.json'); t.signed.version += 1; {YESTERDAY}; write(t, 'timestamp.json')"),
        );
    });
    let world = World::new();
    world.run(&["check"]);
    let signers = "('a.pem', 'b.pem')";
    forge(
        world.place(),
        &format!("t = read('1.root.json'); t.signed.version = 2; {YESTERDAY}; write(t, '2.root.json', {signers})"),
    );
    let late = script(world.place(), &["publish", "--key", "online.pem"]);
    assert!(stderr(&late).contains("root has expired"), "{}", stderr(&late));
    world.refused(&["check"], 3, "\"root\" metadata has expired", "« root » sont périmées");
    // It was followed all the same, and the next one heals it.
    assert!(fs::read_to_string(world.path("updates/metadata/root.json")).unwrap().contains("\"version\":2"));
    done(world.place(), &["rotate"]);
    sign(world.place(), "root", &["c.pem", "b.pem"]);
    publish(world.place());
    world.run(&["check"]);

    // The clock, put back behind the last look, and behind the last signature.
    let world = World::new();
    world.run(&["check"]);
    let time = world.path("updates/metadata/latest_known_time.json");
    let known = fs::read(&time).unwrap();
    fs::write(&time, "\"2199-01-01T00:00:00Z\"").unwrap();
    world.refused(&["check"], 3, "The clock went back", "revenue en arrière");
    fs::write(&time, known).unwrap();
    fs::write(world.path("clock"), (-3 * 86_400_000_i64).to_le_bytes()).unwrap();
    let output = run(world.command(&["check"]).env("APPLIANCE_TEST_CLOCK", world.path("clock")));
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("The clock is behind"), "{}", stderr(&output));
    world.run(&["check"]);
}

#[test]
fn new_keys_are_followed_and_heal_what_a_thief_of_the_old_did() {
    let world = World::new();
    world.run(&["check"]);
    // The thief counts ahead, so that nothing after would be newer.
    forge(
        world.place(),
        "
s = read('2.snapshot.json'); s.signed.version = 5000; write(s, '5000.snapshot.json')
data = open('repository/metadata/5000.snapshot.json', 'rb').read()
t = read('timestamp.json'); t.signed.version = 9000
t.signed.snapshot_meta = MetaFile(5000, len(data), {'sha256': hashlib.sha256(data).hexdigest()}); write(t, 'timestamp.json')",
    );
    world.run(&["check"]);
    world.renew();
    world.refused(&["check"], 3, "\"timestamp\" metadata older", "« timestamp » plus anciennes");
    let place = world.place();
    done(place, &["key", "d.pem"]);
    let people = ["a.pem.pub", "b.pem.pub", "d.pem.pub"];
    let online = ["--snapshot", "online2.pem.pub", "--timestamp", "online2.pem.pub"];
    done(place, &[&["rotate", "--root"][..], &people, &online].concat());
    sign(place, "root", &["a.pem", "d.pem"]);
    let few = script(place, &["publish", "--key", "online2.pem"]);
    assert!(stderr(&few).contains("1 of 2 signatures that the published root asks for"), "{}", stderr(&few));
    sign(place, "root", &["b.pem"]);
    assert!(!script(place, &["publish", "--key", "online.pem"]).status.success(), "the old key publishes");
    done(place, &["publish", "--key", "online2.pem"]);
    assert_eq!(world.answer(&["check"])["state"], "newest");
    // From now on the old keys count no more, even where the new root is kept from view.
    copy(&world.path("repository"), &world.path("good"));
    world.renew();
    world.refused(&["check"], 5, "0 good signature(s) of the 1 required", "0 bonne(s) signature(s) sur 1");
    fs::remove_dir_all(world.path("repository")).unwrap();
    copy(&world.path("good"), &world.path("repository"));
    world.run(&["download"]);
    done(place, &["verify"]);

    // A root that too few of the old holders signed leads nobody away.
    done(place, &["rotate", "--root", "a.pem.pub", "c.pem.pub", "d.pem.pub"]);
    sign(place, "root", &["c.pem", "d.pem"]);
    fs::copy(world.path("repository/staged/root.json"), world.metadata("3.root.json")).unwrap();
    let output = run(&mut world.command(&["check"]));
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("\"root\" metadata bears 1 good"), "{}", stderr(&output));
}

#[test]
fn another_root_is_another_trust() {
    let (world, other) = (World::new(), tempfile::tempdir().unwrap());
    world.run(&["check"]);
    fs::copy(world.path("pass"), other.path().join("pass")).unwrap();
    done(other.path(), &["key", "x.pem"]);
    let x = ["x.pem.pub"; 1];
    let roles = ["--root", "--targets", "--snapshot", "--timestamp"].map(|role| [&[role][..], &x].concat()).concat();
    let one = ["--root-threshold", "1", "--targets-threshold", "1"];
    done(other.path(), &[&["init"][..], &roles, &one].concat());
    ["root", "targets"].iter().for_each(|role| sign(other.path(), role, &["x.pem"]));
    done(other.path(), &["publish", "--key", "x.pem"]);
    let right = fs::read(world.path("root.json")).unwrap();
    let wrong = other.path().join("repository/metadata/1.root.json");
    fs::copy(&wrong, world.path("root.json")).unwrap();
    world.refused(&["check"], 5, "\"timestamp\" metadata bears 0", "« timestamp » portent 0");
    fs::write(world.path("root.json"), &right).unwrap();
    world.run(&["check"]);
    fs::write(world.path("root.json"), &right[..100]).unwrap();
    world.refused(&["check"], 5, "cannot be used", "n'est pas utilisable");
    fs::remove_file(world.path("root.json")).unwrap();
    world.refused(&["check"], 3, "the root.json that trust starts from is missing", "il manque le root.json");
    fs::write(world.path("root.json"), &right).unwrap();
    world.run(&["check"]);
}

#[test]
fn a_file_that_is_not_what_was_signed_is_not_kept() {
    let world = World::new();
    let good = fs::read(world.target()).unwrap();
    let shown = |bytes: &[u8]| fs::write(world.target(), bytes).unwrap();
    let mut altered = good.clone();
    altered[BYTES / 2] ^= 1;
    shown(&altered);
    world.refused(&["download"], 5, "is not what was signed", "n'est pas ce qui a été signé");
    shown(&good[..BYTES - 1]);
    world.refused(&["download"], 5, "is cut short", "est tronqué");
    shown(&[&good[..], b"more"].concat());
    world.refused(&["download"], 5, "is not what was signed", "n'est pas ce qui a été signé");
    fs::remove_file(world.target()).unwrap();
    assert!(!script(world.place(), &["verify"]).status.success());
    world.refused(&["download"], 5, "is incomplete", "est incomplet");
    world.renew();
    world.run(&["download"]);
}

#[test]
fn a_full_disk_leaves_nothing_and_forgets_nothing() {
    let world = World::new();
    let place = world.path("updates");
    fs::create_dir(&place).unwrap();
    let mount =
        |arguments: &[&str]| assert!(Command::new("mount").args(arguments).arg(&place).status().unwrap().success());
    mount(&["-t", "tmpfs", "-o", "size=1m,mode=755", "none"]);
    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.refused(&["download"], 6, "No room left", "Plus de place");
        let seen = fs::read(place.join("metadata/timestamp.json")).unwrap();
        publish(world.place());
        fs::write(place.join("ballast"), []).unwrap();
        let mut ballast = File::options().append(true).open(place.join("ballast")).unwrap();
        while std::io::Write::write(&mut ballast, &[0; 4096]).is_ok() {}
        let output = run(&mut world.command(&["check"]));
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert_eq!(fs::read(place.join("metadata/timestamp.json")).unwrap(), seen);
        fs::remove_file(place.join("ballast")).unwrap();
        mount(&["-o", "remount,size=16m"]);
        world.run(&["download"]);
    }));
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    tried.unwrap();
}

#[test]
fn only_the_administrator_says_where_releases_come_from() {
    let world = World::new();
    world.run(&["check"]);
    for name in ["appliance.toml", "root.json", "updates"] {
        let (path, exposed) = (world.path(name), "somebody else can write it");
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode.mode() | 0o020)).unwrap();
        world.refused(&["check"], 3, exposed, "quelqu'un d'autre peut l'écrire");
        fs::set_permissions(&path, mode).unwrap();
        chown(&path, Some(65_534), None).unwrap();
        world.refused(&["check"], 3, exposed, "quelqu'un d'autre peut l'écrire");
        chown(&path, Some(0), None).unwrap();
    }
    // Nor anybody further up, where a link leads.
    fs::create_dir_all(world.path("open/shut")).unwrap();
    fs::rename(world.path("root.json"), world.path("open/shut/root.json")).unwrap();
    std::os::unix::fs::symlink(world.path("open/shut/root.json"), world.path("root.json")).unwrap();
    world.run(&["check"]);
    fs::set_permissions(world.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    world.refused(&["check"], 3, "/open decides what root installs", "/open décide");
    fs::set_permissions(world.path("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    world.run(&["check"]);
    // Neither does what lies in the folder one happens to stand in.
    fs::write(world.path(".env"), "DEBROUILLE_UPDATE_CHANNEL=candidate\n").unwrap();
    world.run(&["check"]);
    chown(world.path(".env"), Some(65_534), None).unwrap();
    world.refused(&["check"], 3, ".env", ".env");
    fs::remove_file(world.path(".env")).unwrap();
    let lock = File::options().write(true).open(world.path("updates/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    world.refused(&["check"], 6, "Another update is under way", "Une autre mise à jour");
    drop(lock);
    world.run(&["check"]);
}

#[test]
fn a_server_is_spoken_to_by_https_alone_and_a_cut_is_gone_on_from() {
    let world = World::new();
    let server = Server::start(world.path("repository"), &world.path("ca.pem"));
    let tls = format!("\n[tls]\ntrusted = {:?}\n", world.path("ca.pem"));
    world.configure(&server.url(), &tls);
    assert_eq!(world.answer(&["check"])["state"], "newest");
    server.weaken(Weakness::Redirect);
    world.refused(&["check"], 3, "redirects to another address", "renvoie vers une autre adresse");
    server.weaken(Weakness::Fail);
    world.refused(&["check"], 6, "HTTP 500", "HTTP 500");
    server.weaken(Weakness::Endless);
    world.refused(&["download"], 5, "is not what was signed", "n'est pas ce qui a été signé");
    // Connections that end early: each brings some.
    server.weaken(Weakness::Cut(1_000_000));
    assert!(world.run(&["download"]).contains("brought and verified"));
    assert!(server.sent() < 2 * BYTES, "{}", server.sent());
    fs::remove_file(world.path("updates/downloads").join(FILE)).unwrap();
    // A server that goes away: what came stays, and the next try brings the rest.
    server.weaken(Weakness::Die(1_000_000));
    let output = run(&mut world.command(&["download"]));
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("what already came is used"), "{}", stderr(&output));
    assert_eq!(world.downloads(), [format!("{FILE}.partial")]);
    server.weaken(Weakness::None);
    world.run(&["download"]);
    assert!(server.sent() < BYTES, "{}", server.sent());
    assert_eq!(world.downloads(), [FILE]);
    assert_eq!(fs::read(world.path("updates/downloads").join(FILE)).unwrap(), fs::read(world.path(FILE)).unwrap());
    fs::remove_file(world.path("updates/downloads").join(FILE)).unwrap();
    world.configure(&server.url(), "");
    world.refused(&["check"], 6, "cannot be reached", "n'est pas joignable");
    world.configure(&server.url().replace("https", "http"), &tls);
    world.refused(&["check"], 3, "only https://", "seul https://");
}

#[test]
fn what_waits_is_kept_what_ends_is_told_and_a_disk_is_made_whole() {
    let world = World::new();
    let place = world.place();
    fs::write(world.path("next.tar.gz"), "next").unwrap();
    done(place, &["add", "next.tar.gz", "--version", "9.2.0"]);
    done(place, &["rotate", "--targets", "a.pem.pub", "b.pem.pub", "online2.pem.pub"]);
    for role in ["root", "targets"] {
        sign(place, role, &["a.pem", "b.pem"]);
    }
    publish(place);
    assert_eq!(world.answer(&["check"])["release"]["version"], "9.2.0");

    let renewed = done(place, &["renew", "root", "targets", "--days", "20"]);
    assert!(renewed.contains("root.json, version 3") && renewed.contains("targets.json, version 4"), "{renewed}");
    for role in ["root", "targets"] {
        sign(place, role, &["a.pem", "b.pem"]);
    }
    let output = script(place, &["publish", "--key", "online.pem"]);
    assert!(stderr(&output).contains("warning: root expires") && stderr(&output).contains("warning: targets expires"));
    assert!(stdout(&output).contains("(root)"), "the first that expires: {}", stdout(&output));

    done(place, &["export", "disk"]);
    for file in fs::read_dir(world.path("disk/targets")).unwrap() {
        fs::write(file.unwrap().path(), "pulled out too soon").unwrap();
    }
    done(place, &["export", "disk"]);
    fs::remove_dir_all(world.path("repository")).unwrap();
    copy(&world.path("disk"), &world.path("repository"));
    done(place, &["verify"]);
    world.run(&["download"]);
    for verb in [&["merge", "nowhere.json"][..], &["add", "nowhere", "--version", "9.3.0"]] {
        let output = script(place, verb);
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
    }
}

#[test]
fn a_publication_that_is_cut_leaves_the_one_before() {
    let world = World::new();
    fs::write(world.path("next.tar.gz"), "next").unwrap();
    done(world.place(), &["add", "next.tar.gz", "--version", "9.2.0"]);
    sign(world.place(), "targets", &["a.pem", "b.pem"]);
    copy(&world.path("repository"), &world.path("signed"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release_repository.py");
    for (cut, version) in [(1, "9.1.0"), (2, "9.1.0"), (3, "9.1.0"), (4, "9.2.0")] {
        fs::remove_dir_all(world.path("repository")).unwrap();
        copy(&world.path("signed"), &world.path("repository"));
        let code = format!(
            "
import os, runpy, sys
real, left = os.replace, [{cut}]
def replace(old, new):
    left[0] -= 1
    if left[0] == 0:
        os._exit(0)
    real(old, new)
os.replace = replace
sys.argv = ['', '--passphrase-file', 'pass', 'publish', '--key', 'online.pem']
runpy.run_path({script:?}, run_name='__main__')"
        );
        forge(world.place(), &code);
        fs::remove_dir_all(world.path("updates")).ok();
        assert_eq!(world.answer(&["check"])["release"]["version"], version, "cut at {cut}");
        let again = done(world.place(), &["publish", "--key", "online.pem"]);
        assert!(again.contains("targets 3"), "{again}");
        assert_eq!(world.answer(&["check"])["release"]["version"], "9.2.0");
    }
}
