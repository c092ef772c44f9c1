//! A backup target that is away and comes back, a backup that rots, drills that are late or fail.

use super::world::{World, login};
use crate::backups::Prepared;
use std::{fs, path::PathBuf};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// With a backup in it.
fn world() -> World {
    let prepared = Prepared::new();
    let config = prepared.folder.join("appliance.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "keep = [\"within_days=3650\"]\n").unwrap();
    World::of(prepared.instance, &[])
}

/// One bit of the first backup is another; its path.
fn rot(world: &World) -> PathBuf {
    let all = fs::read_dir(world.path("backups")).unwrap().map(|entry| entry.unwrap().path());
    // One that is being written begins with a dot.
    let whole = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with('2');
    let first = all.filter(|path| whole(path) && path.to_string_lossy().contains("-full-")).min().unwrap();
    flip(&first);
    first
}

fn flip(backup: &PathBuf) {
    let mut bytes = fs::read(backup).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(backup, bytes).unwrap();
}

#[test]
fn a_target_that_is_away_and_a_backup_that_rots() {
    let world = world();
    let server = world.start();
    world.pass(&server, 120);
    let (there, away) = (world.path("backups"), world.path("away"));
    fs::rename(&there, &away).unwrap();
    // Something to be sent.
    let write = || drop(login(&server));
    world.fires(&server, &["BackupFailing", "BackupOld"], 2 * HOUR, write);
    fs::rename(&away, &there).unwrap();
    world.ends(&server, &["BackupFailing", "BackupOld"], 1200, write);

    // Within a quarter each is read again.
    let rotten = rot(&world);
    world.fires(&server, &["BackupDamaged"], 2 * DAY, || ());
    // Unless retention has let go of it meanwhile.
    let _ = fs::remove_file(rotten);
    world.ends(&server, &["BackupDamaged"], 6 * HOUR, || ());
    server.stop();
}

#[test]
fn a_drill_that_is_late_and_one_that_fails() {
    let world = world();
    let server = world.start();
    let text = |name: &str| world.path(name).to_str().unwrap().to_owned();
    fs::create_dir(world.path("reports")).unwrap();
    let (key, reports) = (text("key"), text("reports"));
    let drill = || world.command(&["restore", "drill", "--identity", &key, "--output", &reports, "--any-signer"]);
    assert!(drill().output().unwrap().status.success());
    world.pass(&server, 35 * DAY);
    world.fires(&server, &["DrillOld"], 1200, || ());
    assert!(drill().output().unwrap().status.success());
    world.ends(&server, &["DrillOld"], 120, || ());

    let all = fs::read_dir(world.path("backups")).unwrap().map(|entry| entry.unwrap().path());
    let all: Vec<_> = all.filter(|path| path.to_string_lossy().ends_with(".backup")).collect();
    all.iter().for_each(flip);
    assert_eq!(drill().output().unwrap().status.code(), Some(5));
    world.fires(&server, &["DrillFailed"], 60, || ());
    all.iter().for_each(flip);
    assert!(drill().output().unwrap().status.success());
    world.ends(&server, &["DrillFailed"], 120, || ());
    server.stop();
}
