//! Ends that were not in order, and one that was.

use super::world::World;
use crate::appliance::until;
use rustix::process::Signal;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

#[test]
fn killed_again_and_again() {
    let world = World::new(&[]);
    let mut server = world.start();
    world.pass(&server, 60);
    for down in [600, 30, 30] {
        server.signal(Signal::KILL);
        server.wait();
        world.forward(down);
        server = world.start();
        world.pass(&server, 17);
    }
    // What was down is up, where somebody can be told.
    world.ends(&server, &["Down"], 17, || ());
    let known = world.known();
    let firing = |name: &str| known.iter().any(|alert| alert["name"] == name && alert["ended"].is_null());
    assert!(firing("DebrouilleRestarting"), "{known:#?}");
    world.ends(&server, &["Restarting"], 1200, || ());
    server.stop();
}

#[test]
fn a_stop_waits_for_no_telephone() {
    let world = World::new(&[]);
    let (program, asked) = (world.path("gateway"), world.path("asked"));
    fs::write(&program, format!("#!/bin/sh\n: > {}\nexec sleep 300\n", asked.display())).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    world.set("DEBROUILLE_ALERTS_SMS_PROGRAM", program.to_str().unwrap());
    world.set("DEBROUILLE_ALERTS_SMS_NUMBERS", "+243000,+243001");
    let mut server = world.start();
    world.pass(&server, 60);
    server.signal(Signal::KILL);
    server.wait();
    world.forward(600);
    let mut server = world.start();
    let telling = || {
        world.forward(5);
        asked.exists()
    };
    assert!(until(60, telling), "that it was down is told to nobody");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let cut = |event: &serde_json::Value| event["message"].to_string().contains("still in flight are cut");
    assert!(!server.log().iter().any(cut), "the gateway was waited for");
}
