//! Ends that were not in order.

use super::world::World;
use rustix::process::Signal;

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
