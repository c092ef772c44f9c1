//! Its store: a disk that takes no more writes, one that is slow, a page that was changed.

use super::world::{Fault, World, login};
use crate::appliance::until;
use std::{fs::File, os::unix::fs::FileExt};

/// Of one cause, by its end in a start on a sound disk.
#[test]
fn a_disk_that_takes_no_writes_and_the_errors_it_makes() {
    let world = World::new(&[]);
    let server = world.start();
    assert_eq!(login(&server), "200");
    let fault = Fault::of(&server, "fdatasync", "error=EIO");
    assert!(login(&server).starts_with('5'), "a session cannot be opened");
    drop(fault);
    let ask = || assert_eq!(login(&server), "503");
    world.fires(&server, &["ReadOnly", "AuditBehind", "JobFailing", "ErrorsFast"], 120, ask);
    world.until(&server, &["ErrorsSlow", "ErrorsCreeping"], true, 900, ask);
    world.end(server);

    let server = world.start();
    assert_eq!(login(&server), "200");
    world.ends(&server, &["ReadOnly", "AuditBehind"], 120, || ());
    let ask = || assert_eq!(login(&server), "200");
    world.ends(&server, &["ErrorsFast", "ErrorsSlow", "ErrorsCreeping", "JobFailing"], 3600, ask);
    server.stop();
}

#[test]
fn a_page_that_is_another_until_it_is_the_right_one_again() {
    let world = World::new(&[]);
    let server = world.start();
    let file = File::options().read(true).write(true).open(world.instance.data.join("documents.sealed")).unwrap();
    // The last that holds anything, once nothing of the start is written any more: what is changed must stay so.
    let look = || {
        let mut page = [0; 4096];
        let length = file.metadata().unwrap().len();
        let last = (1..length / 4096).rev().find(|number| {
            file.read_exact_at(&mut page, number * 4096).unwrap();
            page.iter().any(|byte| *byte != 0)
        });
        (last, page)
    };
    let mut seen = look();
    let still = |seen: &mut (Option<u64>, [u8; 4096])| {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let before = std::mem::replace(seen, look());
        before == *seen
    };
    assert!(until(30, || still(&mut seen)), "it writes and writes");
    let (last, page) = seen;
    let at = last.unwrap() * 4096 + 2000;
    let other = page[2000] ^ 1;
    file.write_all_at(&[other], at).unwrap();
    world.fires(&server, &["Unready"], 30, || ());
    assert_eq!(server.ops("/readyz").0, 503);
    file.write_all_at(&[other ^ 1], at).unwrap();
    world.end(server);
    let server = world.start();
    world.ends(&server, &["Unready"], 120, || ());
    server.stop();
}
