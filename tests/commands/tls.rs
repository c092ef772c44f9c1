//! `tls`: what clients are given to trust, in each form, with what they are to compare.

use crate::{instance::Instance, run, stdout};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

#[test]
fn the_authority_is_handed_out_in_every_form() {
    let instance = Instance::new();
    let pem = stdout(&instance.run(&["tls", "ca", "export"]));
    assert_eq!(pem, std::fs::read_to_string(instance.data().join("ca.crt")).unwrap());
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let certificate = STANDARD.decode(body).unwrap();
    let fingerprint: Vec<_> = Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    let fingerprint = fingerprint.join(":");

    let answer = instance.answer(&["tls", "ca", "export", "--format", "der", "-o", "ca.der"]);
    assert_eq!(answer["fingerprints"], serde_json::json!([fingerprint]));
    assert_eq!(std::fs::read(instance.path("ca.der")).unwrap(), certificate);
    let told = stdout(&instance.run(&["tls", "ca", "export", "--format", "mobileconfig", "-o", "ca.mobileconfig"]));
    assert!(told.contains(&fingerprint), "{told}");
    let profile = instance.read("ca.mobileconfig");
    assert!(profile.contains(&format!("<data>{}</data>", STANDARD.encode(&certificate))), "{profile}");

    instance.failure(&["tls", "ca", "export", "--format", "p12"], 2);
    std::fs::write(instance.data().join("ca.crt"), "no certificate").unwrap();
    instance.failure(&["tls", "ca", "export"], 5);
    // Opened, it is written again.
    assert_eq!(run(&mut instance.command(&["collection", "list"])).status.code(), Some(0));
    assert_eq!(stdout(&instance.run(&["tls", "ca", "export"])), pem);
}
