//! A certificate in files that nobody renews, then cannot be read, then is as it should be.

use super::world::World;
use crate::appliance::{Instance, words};
use std::{fs, os::unix::fs::PermissionsExt, process::Command};

const HOUR: i64 = 3600;

/// Another hand's, for so many days of the machine's own time.
fn write(world: &World, days: i64) {
    let (key, certificate) = (world.path("site.key"), world.path("site.pem"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=site.example", "-addext", "subjectAltName=DNS:site.example", "-days", &days.to_string()])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", words(&output));
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_certificate_that_nobody_renews() {
    let world = World::of(Instance::of("staging", &["site.example", "localhost"]), &[]);
    write(&world, 2);
    world.set("DEBROUILLE_TLS_MODE", "files");
    world.set("DEBROUILLE_TLS_CERTIFICATE", world.path("site.pem").to_str().unwrap());
    world.set("DEBROUILLE_TLS_KEY", world.path("site.key").to_str().unwrap());
    let server = world.start();
    world.pass(&server, 20 * HOUR);
    world.fires(&server, &["CertificateEnding"], HOUR, || ());
    write(&world, 40);
    world.ends(&server, &["CertificateEnding"], 120, || ());

    fs::write(world.path("site.pem"), "nothing").unwrap();
    world.fires(&server, &["CertificateFailing"], HOUR, || ());
    world.pass(&server, 40 * 24 * HOUR);
    world.until(&server, &["CertificateFallback"], true, 300, || ());
    write(&world, 400);
    world.ends(&server, &["CertificateFailing", "CertificateFallback"], 120, || ());
    server.stop();
}
