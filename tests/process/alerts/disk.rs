//! A small disk that is really full: of bytes, of files; and a backup target that stays away meanwhile.

use super::world::{World, login};
use crate::{appliance::Instance, backups::Prepared};
use std::{fs, path::PathBuf};

const DAY: i64 = 24 * 3600;

#[test]
fn a_disk_that_fills_up() {
    let options = "size=400m,nr_inodes=2000";
    debrouille_appliance::testing::on_disk(options, "alerts::disk::filling_up");
}

/// Takes all but so many MiB of what the disk has left, until this is removed.
fn fill(left: u64) -> PathBuf {
    let filler = std::env::current_dir().unwrap().join("filler");
    let free = rustix::fs::statvfs(".").unwrap();
    let free = free.f_bavail * free.f_frsize;
    let file = fs::File::create(&filler).unwrap();
    let taken = free.checked_sub(left << 20).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, taken).unwrap();
    filler
}

#[test]
#[ignore = "run by a_disk_that_fills_up, on a small disk as working directory"]
fn filling_up() {
    let place = std::env::current_dir().unwrap();
    let prepared = Prepared::over(Instance::within(&place, "development", &["localhost"]), "");
    let world = World::of(prepared.instance, &[]);
    let server = world.start();
    world.pass(&server, 120);

    // Of 400 MiB 15 % are 60, 5 % are 20.
    let filler = fill(40);
    world.fires(&server, &["DiskLow"], 120, || ());
    fs::remove_file(&filler).unwrap();
    world.ends(&server, &["DiskLow"], 120, || ());
    let filler = fill(10);
    world.fires(&server, &["DiskFull"], 120, || ());
    fs::remove_file(&filler).unwrap();
    world.ends(&server, &["DiskFull"], 120, || ());

    let many = place.join("many");
    fs::create_dir(&many).unwrap();
    let made = (0..3000).take_while(|number| fs::write(many.join(number.to_string()), "").is_ok()).count();
    assert!(made > 1000, "{made}");
    for number in 0..40 {
        fs::remove_file(many.join(number.to_string())).unwrap();
    }
    world.fires(&server, &["InodesLow"], 120, || ());
    fs::remove_dir_all(&many).unwrap();
    world.ends(&server, &["InodesLow"], 120, || ());

    // What the target never got goes before the disk is at risk.
    fs::rename(world.path("backups"), world.path("away")).unwrap();
    assert_eq!(login(&server), "200");
    world.pass(&server, 2 * DAY);
    let filler = fill(100);
    world.fires(&server, &["JournalLost"], 900, || ());
    fs::remove_file(&filler).unwrap();
    fs::rename(world.path("away"), world.path("backups")).unwrap();
    world.ends(&server, &["JournalLost"], DAY / 4, || ());
    server.stop();
}
