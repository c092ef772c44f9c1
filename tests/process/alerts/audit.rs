//! A witness that cannot be reached, and nobody who hears of it.

use super::{KEY, Receiver, world::World};
use std::{fs, net::TcpListener};

const HOUR: i64 = 3600;

#[test]
fn a_witness_that_is_away_and_nobody_to_be_told() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let world = World::new(&[("DEBROUILLE_ALERTS_WEBHOOK", &format!("http://127.0.0.1:{port}/hook"))]);
    world.set("DEBROUILLE_ALERTS_WEBHOOK_SECRET", &format!("whsec_{}", KEY));
    world.set("DEBROUILLE_AUDIT_WITNESS", world.path("witness/checkpoint").to_str().unwrap());
    let server = world.start();
    world.pass(&server, 24 * HOUR);
    // Sooner or later than the other: what else fires meanwhile is not told either.
    world.fires(&server, &["AuditUnwitnessed", "AlertsUntold"], 300, || ());

    let receiver = Receiver::at(port);
    fs::create_dir(world.path("witness")).unwrap();
    world.ends(&server, &["AuditUnwitnessed", "AlertsUntold"], 300, || ());
    world.forward(900);
    let told = |status: &str| {
        let notices = receiver.to("/hook");
        let of = |body: &str| body.contains("DebrouilleAuditUnwitnessed") && body.contains(status);
        notices.iter().any(|(_, body)| of(body))
    };
    assert!(crate::appliance::until(60, || told("\"firing\"") && told("\"resolved\"")), "{:?}", receiver.to("/hook"));
    server.stop();
}
